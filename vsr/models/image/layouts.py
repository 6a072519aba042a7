"""Public weights of per-frame networks: which network a state dict is of, and its keys in ours.

Projects name the same layers differently, count activations or not, and train on samples from 0 to
1 or from 0 to 255; what the tensors do not say, the names do. Such weights are never shipped and
carry their authors' licences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from vsr.models.image_catalog import NETWORKS, builder
from vsr.models.upscaler import ModelSpec

_Tensors = Mapping[str, Tensor]
_Params = dict[str, Any]
_RANGE = 255.0

SPECS: Mapping[str, ModelSpec] = {
    family: ModelSpec(
        id=f"{family}-public",
        family=family,
        scale=4,
        kind="image",
        build=builder(family),
        weights=f"{family}-public",
        paper=NETWORKS[family].paper,
        tileable=NETWORKS[family].tileable,
        capturable=NETWORKS[family].capturable,
        # Those who name a public network want its published pictures.
        bf16=False,
    )
    for family in (
        "srcnn",
        "fsrcnn",
        "lapsrn",
        "edsr",
        "srvgg",
        "msrresnet",
        "rrdb",
        "dbpn",
        "classsr",
    )
}
"""Family -> spec; scale, sizes and what follows from them come from the file."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How one project writes one family."""

    family: str
    marks: tuple[str, ...]
    """Names that only this layout has."""
    rename: Callable[[str], str]
    """A name in the file -> ours; an empty one drops the tensor."""
    sizes: Callable[[_Tensors], _Params]
    """Arguments of the network's class, read off the tensors under our names."""
    is_255: bool = False
    """Trained on samples from 0 to 255."""


def recognise(tensors: _Tensors) -> tuple[ModelSpec, dict[str, Tensor]] | None:
    """The network that a public state dict belongs to.

    Args:
        tensors: out of their file's boxes and prefixes, see `vsr.models.pickled`.

    Returns:
        Its spec, with the sizes read off the tensors, and the tensors under our names; None when it
        is none of these networks. Whether all are there is left to `checkpoint.load_weights`.
    """
    for layout in _LAYOUTS:
        if not all(mark in tensors for mark in layout.marks):
            continue
        ours = {layout.rename(name): tensor for name, tensor in tensors.items()}
        ours.pop("", None)
        try:
            params = layout.sizes(ours)
        except (KeyError, IndexError, ValueError, ZeroDivisionError):
            continue  # another network, which shares a few names
        if layout.is_255:
            ours = _to_unit_range(ours)
        return replace(SPECS[layout.family], params=params), _spread_slopes(ours)
    return None


def _to_unit_range(ours: _Tensors) -> dict[str, Tensor]:
    """The same network for samples from 0 to 1: only its two ends know the range."""
    factors = {
        "conv_first.weight": _RANGE,
        "conv_last.weight": 1 / _RANGE,
        "conv_last.bias": 1 / _RANGE,
    }
    return {name: tensor * factors.get(name, 1.0) for name, tensor in ours.items()}


_SLOPE = re.compile(r"\b(head|shrink|mapping|expand)\.(\d+)\.weight$")


def _spread_slopes(ours: _Tensors) -> dict[str, Tensor]:
    """FSRCNN's PReLU with one slope for all channels, as one with as many equal ones."""
    spread = dict(ours)
    for name, tensor in ours.items():
        found = _SLOPE.search(name)
        if found and tensor.shape == (1,):
            conv = f"{name[: found.start(2)]}{int(found[2]) - 1}.weight"
            if conv in ours:
                spread[name] = tensor.repeat(len(ours[conv]))
    return spread


def _renamer(*pairs: tuple[str, str]) -> Callable[[str], str]:
    """A function that applies all of these patterns, in order."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in pairs]

    def rename(name: str) -> str:
        for pattern, replacement in compiled:
            name = pattern.sub(replacement, name)
        return name

    return rename


def _count(ours: _Tensors, pattern: str) -> int:
    """How many names a pattern matches in whole."""
    return sum(re.fullmatch(pattern, name) is not None for name in ours)


def _root(number: int) -> int:
    """Square root of a square.

    Raises:
        ValueError: it is none.
    """
    root = math.isqrt(number)
    if root * root != number or not root:
        raise ValueError(f"{number} is no square")
    return root


# -- names ----------------------------------------------------------------------------------------


def _edsr_pytorch(name: str) -> str:
    found = re.fullmatch(r"body\.(\d+)\.body\.([02])\.(\w+)", name)
    if found:
        return f"body.{found[1]}.conv{1 if found[2] == '0' else 2}.{found[3]}"
    return _EDSR_PYTORCH(name)


_EDSR_PYTORCH = _renamer(
    (r"^(sub|add)_mean\..*", ""),  # the mean colour that our network has by itself
    (r"^head\.0\.", "conv_first."),
    (r"^body\.\d+\.(weight|bias)$", r"conv_after_body.\1"),
    (r"^tail\.0\.", "upsample."),
    (r"^tail\.1\.", "conv_last."),
)


def _edsr_mmagic(name: str) -> str:
    found = re.fullmatch(r"upsample\.(\d+)\.upsample_conv\.(\w+)", name)
    # MMagic counts convolutions, the others also the shuffles between them.
    return f"upsample.{2 * int(found[1])}.{found[2]}" if found else name


def _numbered_upconvs(name: str) -> str:
    found = re.fullmatch(r"upconv(\d)\.(\w+)", name)
    return f"upconvs.{int(found[1]) - 1}.{found[2]}" if found else name


_MSRRESNET = _renamer(
    (r"^(recon_trunk|trunk_net)\.", "body."),
    (r"^upsample(\d)\.upsample_conv\.", r"upconv\1."),
    (r"^HRconv\.", "conv_hr."),
)


def _msrresnet(name: str) -> str:
    return _numbered_upconvs(_MSRRESNET(name))


_RRDB = _renamer(
    (r"^RRDB_trunk\.", "body."),
    (r"^trunk_conv\.", "conv_body."),
    (r"^upconv(\d)\.", r"conv_up\1."),
    (r"^HRconv\.", "conv_hr."),
    (r"\.RDB(\d)\.", r".rdb\1."),
)
_RRDB_NUMBERED = _renamer(
    (r"^model\.0\.", "conv_first."),
    (r"^model\.1\.sub\.(\d+)\.(weight|bias)$", r"conv_body.\2"),
    (r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"^model\.3\.", "conv_up1."),
    (r"^model\.6\.", "conv_up2."),
    (r"^model\.8\.", "conv_hr."),
    (r"^model\.10\.", "conv_last."),
)


def _lapsrn(name: str) -> str:
    found = re.fullmatch(r"convt_([FIR])(\d)\.(?:0\.cov_block\.(\d+)\.)?(\w+)", name)
    if found is None:
        return name.replace("conv_input.", "conv_first.")
    group = {"F": "features", "I": "doubling", "R": "residual"}[found[1]]
    layer = f"{found[3]}." if found[3] else ""
    return f"{group}.{int(found[2]) - 1}.{layer}{found[4]}"


def _fsrcnn(name: str) -> str:
    found = re.fullmatch(r"body_conv\.(\d+)\.(?:(\d)\.)?(\w+)", name)
    if found is None:
        return name.replace("head_conv.", "head.").replace("tail_conv.", "deconv.")
    number, inner, last = int(found[1]), found[2], found[3]
    if inner is None:
        return f"mapping.{number - 1}.{last}"
    return f"{'shrink' if number == 0 else 'expand'}.{inner}.{last}"


def _classsr(name: str) -> str:
    found = re.match(r"net(\d)\.", name)
    if found:
        inner = name[found.end() :]
        return f"branches.{int(found[1]) - 1}.{_msrresnet(_fsrcnn(inner))}"
    name = name.replace("classifier.CondNet.", "classifier.layers.")
    return name.replace("classifier.lastOut.", "classifier.last.")


# -- sizes ----------------------------------------------------------------------------------------


def _edsr_sizes(ours: _Tensors) -> _Params:
    num_channels = len(ours["conv_first.weight"])
    scale = 1
    for name, tensor in ours.items():
        if re.fullmatch(r"upsample\.\d+\.weight", name):
            scale *= _root(len(tensor) // num_channels)
    return {
        "scale": scale,
        "num_channels": num_channels,
        "num_blocks": _count(ours, r"body\.\d+\.conv1\.weight"),
        # Nothing in the file says it; as published, the large network alone has 0.1.
        "residual_scale": 0.1 if num_channels >= 256 else 1.0,
    }


def _msrresnet_sizes(ours: _Tensors) -> _Params:
    return {
        "scale": 2 ** _count(ours, r"upconvs\.\d\.weight"),
        "num_channels": len(ours["conv_first.weight"]),
        "num_blocks": _count(ours, r"body\.\d+\.conv1\.weight"),
    }


def _rrdb_sizes(ours: _Tensors) -> _Params:
    return {
        "scale": 4 // _root(ours["conv_first.weight"].shape[1] // 3),
        "num_channels": len(ours["conv_first.weight"]),
        "num_blocks": _count(ours, r"body\.\d+\.rdb1\.conv1\.weight"),
        "growth": len(ours["body.0.rdb1.conv1.weight"]),
    }


def _srvgg_sizes(ours: _Tensors) -> _Params:
    convs = {
        int(name.split(".")[1]): tensor
        for name, tensor in ours.items()
        if re.fullmatch(r"body\.\d+\.weight", name) and tensor.ndim == 4
    }
    return {
        "scale": _root(len(convs[max(convs)]) // 3),
        "num_channels": len(convs[0]),
        "num_convs": len(convs) - 2,
    }


def _srcnn_sizes(ours: _Tensors) -> _Params:
    weights = [ours[f"conv{number}.weight"] for number in (1, 2, 3)]
    return {
        "scale": 4,  # nothing in the file says it: the picture is enlarged before the network
        "kernel_sizes": [weight.shape[-1] for weight in weights],
        "colors": "rgb" if weights[0].shape[1] == 3 else "y",
    }


def _fsrcnn_sizes(ours: _Tensors) -> _Params:
    first = ours["head.0.weight"]
    return {
        "scale": 4,  # the padding of the public network fits no other
        "num_features": len(first),
        "num_shrunk": len(ours["shrink.0.weight"]),
        "num_mapping": sum(
            re.fullmatch(r"mapping\.\d+\.weight", name) is not None and tensor.ndim == 4
            for name, tensor in ours.items()
        ),
        "mapping_activations": False,
        "colors": "rgb" if first.shape[1] == 3 else "y",
    }


def _lapsrn_sizes(ours: _Tensors) -> _Params:
    first = ours["conv_first.weight"]
    return {
        "scale": 2 ** _count(ours, r"doubling\.\d\.weight"),
        "num_channels": len(first),
        "num_convs": _count(ours, r"features\.0\.\d+\.weight") - 1,
        "bias": "conv_first.bias" in ours,
        "colors": "rgb" if first.shape[1] == 3 else "y",
    }


def _dbpn_sizes(ours: _Tensors) -> _Params:
    kernel = ours["up1.up_conv1.deconv.weight"]
    return {
        "scale": {6: 2, 8: 4, 12: 8}[kernel.shape[-1]],
        "num_features": len(ours["feat0.conv.weight"]),
        "num_channels": len(kernel),
        "num_stages": _count(ours, r"up\d+\.up_conv1\.deconv\.weight"),
        "residual": False,  # off unless asked for in the authors' program
    }


def _classsr_sizes(ours: _Tensors) -> _Params:
    branch = "fsrcnn" if "branches.0.head.0.weight" in ours else "msrresnet"
    first = "head.0.weight" if branch == "fsrcnn" else "conv_first.weight"
    count = len(ours["classifier.last.weight"])
    widths = [len(ours[f"branches.{number}.{first}"]) for number in range(count)]
    sizes: dict[str, Any] = {"scale": 4, "branch": branch, "widths": widths}
    if branch == "msrresnet":
        sizes["num_blocks"] = _count(ours, r"branches\.0\.body\.\d+\.conv1\.weight")
    return sizes


def _same(name: str) -> str:
    return name


def _quiet_msrresnet_sizes(ours: _Tensors) -> _Params:
    """MMagic's network has no activation after its shuffles, and its tensors are the same."""
    return _msrresnet_sizes(ours) | {"shuffle_activations": False}


_LAYOUTS = (
    _Layout("classsr", ("classifier.CondNet.0.weight",), _classsr, _classsr_sizes),
    _Layout("dbpn", ("feat0.conv.weight",), _same, _dbpn_sizes),
    _Layout("lapsrn", ("conv_input.weight", "convt_I1.weight"), _lapsrn, _lapsrn_sizes),
    _Layout("fsrcnn", ("head_conv.0.weight", "tail_conv.weight"), _fsrcnn, _fsrcnn_sizes),
    # EDSR-PyTorch, MMagic, BasicSR.
    _Layout("edsr", ("head.0.weight", "tail.1.weight"), _edsr_pytorch, _edsr_sizes, is_255=True),
    _Layout(
        "edsr",
        ("conv_after_body.weight", "upsample.0.upsample_conv.weight"),
        _edsr_mmagic,
        _edsr_sizes,
    ),
    _Layout(
        "edsr", ("conv_after_body.weight", "upsample.0.weight"), _same, _edsr_sizes, is_255=True
    ),
    _Layout("rrdb", ("conv_body.weight", "conv_up1.weight"), _RRDB, _rrdb_sizes),
    _Layout("rrdb", ("RRDB_trunk.0.RDB1.conv1.weight",), _RRDB, _rrdb_sizes),
    _Layout("rrdb", ("model.1.sub.0.RDB1.conv1.0.weight",), _RRDB_NUMBERED, _rrdb_sizes),
    _Layout("msrresnet", ("trunk_net.0.conv1.weight",), _msrresnet, _quiet_msrresnet_sizes),
    _Layout("msrresnet", ("recon_trunk.0.conv1.weight",), _msrresnet, _msrresnet_sizes),
    _Layout("msrresnet", ("body.0.conv1.weight", "upconv1.weight"), _msrresnet, _msrresnet_sizes),
    _Layout("srvgg", ("body.0.weight", "body.1.weight"), _same, _srvgg_sizes),
    _Layout("srcnn", ("conv1.weight", "conv2.weight", "conv3.weight"), _same, _srcnn_sizes),
)
