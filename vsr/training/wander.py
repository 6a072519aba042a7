"""Chance that has a memory: strengths that walk slowly, and where they move a picture to."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def walk(length: int, generator: torch.Generator, pull: float) -> Tensor:
    """A random walk of variance 1 about 0: (length,) float32 on the generator's device.

    Args:
        length: frames, or lines.
        generator: of the start and the steps.
        pull: share by which each step returns to 0, in (0, 1]; small is slow.
    """
    steps = torch.randn(length, generator=generator, device=generator.device)
    keep = 1 - pull
    # Powers of what stays, in one product: a loop over frames is slow on a GPU.
    index = torch.arange(length, device=generator.device)
    lag = index[:, None] - index
    weights = torch.where(lag >= 0, keep ** lag.clamp(min=0).float(), 0.0)
    # The first is where it starts, which is no step.
    weights[:, 1:] *= math.sqrt(1 - keep**2)
    return weights @ steps


def rand(generator: torch.Generator, *shape: int) -> Tensor:
    """float32, uniform in [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def count(mean: float, generator: torch.Generator) -> int:
    """A whole number that is `mean` on average."""
    return int(mean + float(rand(generator, 1)))


def moved(frames_TCHW: Tensor, path_T2: Tensor) -> Tensor:
    """Each frame's content shifted by (x, y) pixels, bilinearly; edges repeated."""
    length, _, height, width = frames_TCHW.shape
    theta = torch.eye(2, 3, device=path_T2.device).repeat(length, 1, 1)
    theta[:, :, 2] = -path_T2 * path_T2.new_tensor([2 / width, 2 / height])
    grid = F.affine_grid(theta, list(frames_TCHW.shape), align_corners=False)
    return F.grid_sample(
        frames_TCHW, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def lines_moved(frames_TCHW: Tensor, shift_TH: Tensor) -> Tensor:
    """Each line's content shifted to the right by its own number of pixels; edges repeated."""
    width = frames_TCHW.shape[-1]
    at_THW = torch.arange(width, device=shift_TH.device) - shift_TH[..., None]
    at_THW = at_THW.clamp(0, width - 1)
    left = at_THW.floor()
    part = (at_THW - left)[:, None]
    index = left.long()[:, None].expand_as(frames_TCHW)
    near = frames_TCHW.gather(-1, index)
    far = frames_TCHW.gather(-1, (index + 1).clamp(max=width - 1))
    return torch.lerp(near, far, part)
