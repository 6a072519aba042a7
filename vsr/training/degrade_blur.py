"""An unknown blur: a Gaussian of any direction, then every s-th pixel: a test of blind methods."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.models.blur import GaussianBlur, shrink, taps

_MAJOR, _MINOR = (0.5, 0.95), (0.3, 0.55)
"""Deviations in small pixels; 0.4 is what networks trained for bicubic shrinking expect."""


@dataclass(frozen=True, slots=True)
class BlurRecipe:
    """One blur for a whole clip; see `degrade.Recipe`."""

    blur: GaussianBlur

    @property
    def is_per_frame(self) -> bool:
        return True

    def shrink(self, frames_TCHW: Tensor, scale: int) -> Tensor:
        """(T, 3, H, W) float32 -> (T, 3, H/s, W/s)."""
        return shrink(frames_TCHW, taps(self.blur, scale).to(frames_TCHW.device), scale)

    def spoil(self, frames_TCHW: Tensor) -> Tensor:
        """Round to whole codes."""
        return frames_TCHW.round().clamp(0, 255)


def draw_blur(generator: torch.Generator) -> BlurRecipe:
    """A blur whose axes differ, turned at random."""
    one, two, turn = torch.rand(3, generator=generator).tolist()
    major = _MAJOR[0] + one * (_MAJOR[1] - _MAJOR[0])
    minor = _MINOR[0] + two * (_MINOR[1] - _MINOR[0])
    return BlurRecipe(GaussianBlur(max(major, minor), min(major, minor), turn * math.pi))
