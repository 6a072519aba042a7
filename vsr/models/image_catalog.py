"""The per-frame networks of the catalogue. To add one, add a line to `NETWORKS` and to `SPECS`.

A weight file and its card in `vsr/weights`, under the id given here, make a model ready to run;
without them the catalogue knows it, and `vsr train` can make it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from torch import nn

from vsr.models.upscaler import ModelSpec


@dataclass(frozen=True, slots=True)
class Network:
    """Where a family's class is, and what holds for all of its sizes."""

    module: str
    """In `vsr.models.image`."""
    name: str
    paper: str
    bf16: bool = True
    tileable: bool = True
    capturable: bool = True


NETWORKS: Mapping[str, Network] = {
    # The picture itself runs through these, and bfloat16 has fewer digits than an 8-bit picture.
    "srcnn": Network("srcnn", "SRCNN", "arXiv 1501.00092", bf16=False),
    "espcn": Network("espcn", "ESPCN", "arXiv 1609.05158", bf16=False),
    "fsrcnn": Network("fsrcnn", "FSRCNN", "arXiv 1608.00367", bf16=False),
    "edsr": Network("edsr", "EDSR", "arXiv 1707.02921"),
    "lapsrn": Network("lapsrn", "LapSRN", "arXiv 1704.03915", bf16=False),
    "srvgg": Network("srvgg", "SRVGGNetCompact", "arXiv 2107.10833"),
    "srresnet": Network("srgan", "SRResNet", "arXiv 1609.04802"),
    "msrresnet": Network("srgan", "MSRResNet", "arXiv 1609.04802, modified by 1809.00219"),
    "rrdb": Network("esrgan", "RRDBNet", "arXiv 1809.00219"),
    "dbpn": Network("dbpn", "DBPN", "arXiv 1803.02735"),
    # Cuts the picture itself, and where patches go is known to the host.
    "classsr": Network("classsr", "ClassSR", "arXiv 2103.04039", False, False, False),
}
"""Family -> its network."""


def build_network(family: str, **params: Any) -> nn.Module:
    """A network of `NETWORKS` with weights to start training from; imports it now."""
    network = NETWORKS[family]
    module: nn.Module = getattr(import_module(f"vsr.models.image.{network.module}"), network.name)(
        **params
    )
    return module


def builder(family: str) -> Callable[..., nn.Module]:
    """`ModelSpec.build` of a family."""
    return partial(build_network, family)


def _spec(
    model_id: str, halo_px: int, *, parent: str | None = None, family: str = "", **params: Any
) -> ModelSpec:
    family = family or model_id.split("-", maxsplit=1)[0]
    network = NETWORKS[family]
    return ModelSpec(
        id=model_id,
        family=family,
        scale=params["scale"],
        kind="image",
        build=builder(family),
        params=params,
        weights=model_id,
        paper=network.paper,
        halo_px=halo_px,
        tileable=network.tileable,
        capturable=network.capturable,
        bf16=network.bf16,
        invents_detail=parent is not None,
        parent=parent,
    )


_SRRESNET_X4: Mapping[str, Any] = {"scale": 4, "num_channels": 48, "num_blocks": 8}
_RRDB_6_X4: Mapping[str, Any] = {"scale": 4, "num_channels": 32, "num_blocks": 6, "growth": 8}

SPECS: tuple[ModelSpec, ...] = (
    _spec("srcnn-x4", 4, scale=4),
    _spec("fsrcnn-x4", 9, scale=4),
    _spec("espcn-x2", 4, scale=2),
    _spec("espcn-x4", 4, scale=4),
    _spec("lapsrn-x4", 11, scale=4, num_convs=5),
    _spec("edsr-x2", 36, scale=2, num_channels=32),
    _spec("edsr-x4", 36, scale=4),
    _spec("srvgg-x2", 18, scale=2, num_channels=32),
    _spec("srvgg-x4", 18, scale=4, num_channels=32),
    _spec("srresnet-x4", 19, family="msrresnet", **_SRRESNET_X4),
    _spec("srgan-x4", 19, parent="srresnet-x4", family="msrresnet", **_SRRESNET_X4),
    _spec("dbpn-s-x4", 11, scale=4, num_features=128, num_channels=32, num_stages=2),
    _spec("rrdb-6-x4", 94, **_RRDB_6_X4),
    _spec("esrgan-6-x4", 94, parent="rrdb-6-x4", family="rrdb", **_RRDB_6_X4),
    _spec("classsr-x4", 32, scale=4, branch="msrresnet", widths=(16, 32, 48), num_blocks=8),
)
