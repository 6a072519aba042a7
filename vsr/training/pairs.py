"""Degraded clips beside their truth: what a run draws from that degrades nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_NUM_WAYS = 4
"""Questions that a turn answers."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One of sixteen ways to look at a clip: flips come first, then the transposition."""

    across: bool = False
    """Columns in reverse."""
    down: bool = False
    """Rows in reverse."""
    backwards: bool = False
    """Frames in reverse."""
    transposed: bool = False

    @staticmethod
    def draw(generator: torch.Generator) -> Turn:
        """Each with equal chance, from a generator on the CPU."""
        return Turn(*(torch.rand(_NUM_WAYS, generator=generator) < 0.5).tolist())

    def apply(self, frames_TCHW: Tensor) -> Tensor:
        """A view or a copy of the clip, seen that way."""
        dims = [
            dim
            for dim, chosen in ((-1, self.across), (-2, self.down), (0, self.backwards))
            if chosen
        ]
        turned = frames_TCHW.flip(dims) if dims else frames_TCHW
        return turned.transpose(-1, -2) if self.transposed else turned

    def undo(self, frames_TCHW: Tensor) -> Tensor:
        """The clip again, from what `apply` gave."""
        straight = frames_TCHW.transpose(-1, -2) if self.transposed else frames_TCHW
        return Turn(self.across, self.down, self.backwards).apply(straight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A clip that was degraded whole, and its ground truth in the same frames and places."""

    name: str
    group: str
    """Of the clip, see `data.Clip`."""
    truth: NDArray[np.uint8]
    """(T, H, W, 3) RGB."""
    source: NDArray[np.uint8]
    """(T, H // s, W // s, 3) RGB. Sample (y, x) is of the truth's block from (s*y, s*x) on."""
    turn: Turn
    """How the clip was seen when it was degraded; crops of both are turned likewise."""
    turns_freely: bool
    """Whether the degradation looks alike from all sides, so that crops may be turned at will."""
    is_photo: bool
    """Whether it comes from a photograph."""


def usable_pairs(pairs: Sequence[Pair], crop_px: int) -> tuple[list[Pair], list[Pair]]:
    """Those of photographs and those of videos, as far as a crop fits into them."""
    large = [pair for pair in pairs if min(pair.source.shape[1:3]) >= crop_px]
    photos = [pair for pair in large if pair.is_photo]
    return photos, [pair for pair in large if not pair.is_photo]
