"""Structured pruning: fewer channels, those that carry least left out, the same kind of network.

Channels that are added to each other or meet in a skip are one space, and are kept or left out
together; what lies between two convolutions alone is a space of its own. Of each space the channels
stay whose weights are greatest: the sum of squares over every tensor that makes or takes them (Li
et al., 2017, arXiv 1608.08710, section 3.1, by squares and over both sides).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vsr.errors import ConfigError

_RULES: Mapping[str, tuple[tuple[str, str | None, str | None], ...]] = {
    "edsr": (
        (r"conv_first", "stream", None),
        (r"body\.(\d+)\.conv1", r"inner\1", "stream"),
        (r"body\.(\d+)\.conv2", "stream", r"inner\1"),
        (r"conv_after_body", "stream", "stream"),
        (r"upsample\.(\d+)", r"up\1", "UP"),
        (r"conv_last", None, "LAST"),
    ),
    "msrresnet": (
        (r"conv_first", "stream", None),
        (r"body\.(\d+)\.conv1", r"inner\1", "stream"),
        (r"body\.(\d+)\.conv2", "stream", r"inner\1"),
        (r"upconvs\.(\d+)", r"up\1", "UP"),
        (r"conv_hr", "hr", "LAST"),
        (r"conv_last", None, "hr"),
    ),
    "srvgg": ((r"body\.(\d+)", r"layer\1", "UP"),),
}
"""Family -> for each tensor by its name: the spaces of what it makes and of what it takes. `UP` is
the space before, `LAST` the last one before."""
FAMILIES = tuple(_RULES)
"""That can be slimmed."""

Spaces = dict[str, tuple[str | None, ...]]
"""Tensor -> the space of each of its first two axes; None for colours."""


def slim(
    family: str, tensors: Mapping[str, Tensor], num_channels: int, kept: int
) -> dict[str, Tensor]:
    """Weights of the same network with fewer channels.

    Args:
        family: one of `FAMILIES`.
        tensors: of the network.
        num_channels: that it has.
        kept: that are to stay, in every space.

    Raises:
        ConfigError: the family is not known here, or nothing would be left out.
    """
    if family not in _RULES:
        raise ConfigError(
            f"networks of the family {family} cannot be slimmed",
            hint=f"those of {', '.join(FAMILIES)} can",
        )
    if not 0 < kept < num_channels:
        raise ConfigError(f"of {num_channels} channels, {kept} cannot be kept")
    spaces = _spaces(family, tensors)
    energies: dict[str, Tensor] = defaultdict(lambda: torch.zeros(num_channels))
    for name, tensor in tensors.items():
        for axis, space in enumerate(spaces[name]):
            if space is not None:
                rows = tensor.float().movedim(axis, 0).reshape(tensor.shape[axis], -1)
                energies[space] += rows.square().sum(1).view(num_channels, -1).sum(1)
    chosen = {space: sums.topk(kept).indices.sort().values for space, sums in energies.items()}
    slimmed = {}
    for name, tensor in tensors.items():
        for axis, space in enumerate(spaces[name]):
            if space is not None:
                # A pixel shuffle makes one channel of several that lie side by side.
                several = tensor.shape[axis] // num_channels
                index = chosen[space][:, None] * several + torch.arange(several)
                tensor = tensor.index_select(axis, index.flatten())
        slimmed[name] = tensor.contiguous()
    return slimmed


def _spaces(family: str, tensors: Mapping[str, Tensor]) -> Spaces:
    found: Spaces = {}
    before: str | None = "stream" if family != "srvgg" else None
    last_layer = max(_layer(name) for name in tensors)
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        makes, takes, is_step = _rule(family, layer)
        if family == "srvgg":
            is_conv = tensor.ndim == 4 or f"{layer}.bias" in tensors
            if not is_conv:
                found[name] = (before,)  # slopes of an activation
                continue
            makes = None if _layer(name) == last_layer else makes
        if takes in ("UP", "LAST"):
            takes = before
        found[name] = (makes, takes) if kind == "weight" else (makes,)
        if is_step and kind == "bias":
            before = makes
    return found


def _rule(family: str, layer: str) -> tuple[str | None, str | None, bool]:
    for pattern, makes, takes in _RULES[family]:
        match = re.fullmatch(pattern, layer)
        if match:
            made = None if makes is None else match.expand(makes)
            taken = None if takes is None else match.expand(takes)
            return made, taken, takes == "UP"
    raise ConfigError(f"the layer {layer} is not one of {family} as known here")


def _layer(name: str) -> int:
    numbers: list[Any] = re.findall(r"^body\.(\d+)", name)
    return int(numbers[0]) if numbers else -1
