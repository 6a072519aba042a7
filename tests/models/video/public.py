"""Random weights under the names and shapes that public files have, written down from those files.

Every entry is (name in BasicSR's layout, name in MMagic's, shape).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tests.models.video.plain import Weights

Family = Literal["basicvsr", "basicvsrpp", "realbasicvsr"]
Entry = tuple[str, str, tuple[int, ...]]

FLOW_WIDTHS = (8, 32, 64, 32, 16, 2)
BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")


def _conv(basicsr: str, mmagic: str, into: int, out: int, size: int = 3) -> Iterator[Entry]:
    yield f"{basicsr}.weight", f"{mmagic}.weight", (out, into, size, size)
    yield f"{basicsr}.bias", f"{mmagic}.bias", (out,)


def _trunk(basicsr: str, mmagic: str, into: int, width: int, blocks: int) -> Iterator[Entry]:
    yield from _conv(f"{basicsr}.main.0", f"{mmagic}.main.0", into, width)
    for block in range(blocks):
        for number in (1, 2):
            inner = f"main.2.{block}.conv{number}"
            yield from _conv(f"{basicsr}.{inner}", f"{mmagic}.{inner}", width, width)


def _spynet() -> Iterator[Entry]:
    yield "spynet.mean", "spynet.mean", (1, 3, 1, 1)
    yield "spynet.std", "spynet.std", (1, 3, 1, 1)
    for level in range(6):
        for layer, widths in enumerate(pairwise(FLOW_WIDTHS)):
            name = f"spynet.basic_module.{level}.basic_module"
            yield from _conv(f"{name}.{2 * layer}", f"{name}.{layer}.conv", *widths, 7)


def _tail(width: int) -> Iterator[Entry]:
    yield from _conv("upconv1", "upsample1.upsample_conv", width, 4 * width)
    yield from _conv("upconv2", "upsample2.upsample_conv", width, 256)
    yield from _conv("conv_hr", "conv_hr", 64, 64)
    yield from _conv("conv_last", "conv_last", 64, 3)


def entries(
    family: Family, width: int = 64, blocks: int | None = None, groups: int = 16
) -> list[Entry]:
    """All tensors of a family's file; the sizes are the published ones unless given."""
    found = [*_spynet(), *_tail(width)]
    if family == "basicvsrpp":
        depth = 7 if blocks is None else blocks
        found += _trunk("feat_extract", "feat_extract", 3, width, 5)
        found += _trunk("reconstruction", "reconstruction", 5 * width, width, 5)
        for made, branch in enumerate(BRANCHES):
            name = f"deform_align.{branch}"
            found += _conv(name, name, 2 * width, width)
            inner = f"{name}.conv_offset"
            found += _conv(f"{inner}.0", f"{inner}.0", 3 * width + 4, width)
            found += _conv(f"{inner}.2", f"{inner}.2", width, width)
            found += _conv(f"{inner}.4", f"{inner}.4", width, width)
            found += _conv(f"{inner}.6", f"{inner}.6", width, 27 * groups)
            name = f"backbone.{branch}"
            found += _trunk(name, name, (2 + made) * width, width, depth)
        return found
    depth = {"basicvsr": 30, "realbasicvsr": 20}[family] if blocks is None else blocks
    for direction in ("backward", "forward"):
        found += _trunk(f"{direction}_trunk", f"{direction}_resblocks", 3 + width, width, depth)
    found += _conv("fusion", "fusion", 2 * width, width, 1)
    if family == "realbasicvsr":
        found = [(f"basicvsr.{a}", f"basicvsr.{b}", shape) for a, b, shape in found]
        found += _trunk("image_cleaning.0", "image_cleaning.0", 3, width, depth)
        found += _conv("image_cleaning.1", "image_cleaning.1", width, 3)
    return found


def random_weights(found: list[Entry], seed: int = 0) -> dict[str, Tensor]:
    """Values by BasicSR's names, of a size that keeps signals alive and flows at a few pixels."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, _, shape in found:
        value = torch.randn(shape, generator=generator)
        if name.endswith(".mean"):
            value = torch.tensor((0.485, 0.456, 0.406)).view(shape)
        elif name.endswith(".std"):
            value = torch.tensor((0.229, 0.224, 0.225)).view(shape)
        elif name.endswith(".bias"):
            value = 0.05 * value
        else:
            fan_in = value[0].numel()
            # Corrections are smaller than what they correct; flows are to be seen.
            is_small = name.endswith(("conv2.weight", "cleaning.1.weight"))
            gain = 0.2 if is_small else 3.0 if name.endswith(".8.weight") else 1.0
            value = value * gain / fan_in**0.5
        weights[name] = value
    return weights


def in_mmagic_names(found: list[Entry], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {mmagic: weights[basicsr] for basicsr, mmagic, _ in found}


def as_arrays(weights: dict[str, Tensor]) -> Weights:
    return {name: value.numpy().astype(np.float64) for name, value in weights.items()}
