"""Making pictures small by a linear filter: blur and resampling in one product per axis.

A filter is a sum of few products of a vertical and a horizontal one, each a matrix that maps the
samples of an axis to those of the small picture. Dense products are fast everywhere, and a blur
costs nothing beside the resampling it is multiplied into.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vsr.models.image.interpolation import Kernel, imresize

Phase = Literal["centre", "corner"]

_SIGMA = 0.4
"""Of the field's "BD" over the scale: 1.6 for x4."""
_SMALLEST_PART = 1e-2
"""Products of a rotated Gaussian that weigh less than this beside the first are left out."""


@dataclass(frozen=True, slots=True)
class Blur:
    """A Gaussian; sigmas in pixels of the large picture, 0 is none."""

    sigma_x: float = 0.0
    sigma_y: float = 0.0
    angle: float = 0.0
    """Radians by which its axes are turned."""


def shrink(frames: Tensor, scale: int, blur: Blur, kernel: Kernel) -> Tensor:
    """Blur, then resample with an antialiased kernel centred on blocks of pixels.

    Args:
        frames: (..., H, W) float32 on any device; H and W divide by `scale`.
        scale: integer factor.
        blur: the edge is repeated outwards.
        kernel: of the resampling; `box` is the mean over an area.

    Returns:
        (..., H/s, W/s) float32, neither rounded nor clamped.
    """
    height, width = frames.shape[-2:]
    rows, columns = (_resampling(size, scale, kernel) for size in (height, width))
    return _product(
        frames,
        [
            (_after(rows, vertical), _after(columns, horizontal))
            for vertical, horizontal in _separated(blur)
        ],
    )


def gaussian_decimate(frames: Tensor, scale: int, phase: Phase) -> Tensor:
    """Blur by a Gaussian and keep every s-th sample: the field's "BD".

    Its two phases differ by (s-1)/2 pixels, and a network trained on one fails on the other:
    `centre` samples blocks at their centres, where bicubic does (BasicVSR's `BD_degradation.m`:
    an even kernel of 12x12 for x4, edges repeated); `corner` samples their first pixels (DUF, FRVSR
    and others: 13x13, edges mirrored). Sigma is 1.6 for x4, 1.2 for x3, 0.8 for x2.

    Args:
        frames: (..., H, W) float32; H and W divide by `scale`.
        scale: integer factor.
        phase: which of the two.

    Returns:
        (..., H/s, W/s) float32, neither rounded nor clamped.
    """
    rows, columns = (_decimation(size, scale, phase) for size in frames.shape[-2:])
    return _product(frames, [(rows, columns)])


def _product(frames: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum over the parts of rows @ frames @ columns^T."""
    sums = [
        (rows.to(frames.device, non_blocking=True) @ frames)
        @ columns.to(frames.device, non_blocking=True).t()
        for rows, columns in parts
    ]
    return torch.stack(sums).sum(dim=0) if len(sums) > 1 else sums[0]


@lru_cache(maxsize=64)
def _resampling(size: int, scale: int, kernel: Kernel) -> Tensor:
    """(size/s, size) float32."""
    return imresize(torch.eye(size), size=(size // scale, size), kernel=kernel)


@lru_cache(maxsize=64)
def _decimation(size: int, scale: int, phase: Phase) -> Tensor:
    """(size/s, size) float32."""
    sigma = _SIGMA * scale
    if phase == "centre":
        radius = math.ceil(3 * sigma)
        # Blocks of an even side have no pixel in the middle: an even number of taps around it.
        middle = 0.5 if scale % 2 == 0 else 0.0
        offsets = np.arange(-radius, radius + 1 + 2 * middle) - middle
        first = (scale - 1) / 2
    else:
        offsets, first = np.arange(-6, 7.0), 0.0
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((size // scale, size))
    for row in range(size // scale):
        index = np.rint(first + scale * row + offsets).astype(int)
        if phase == "centre":
            index = index.clip(0, size - 1)
        else:
            index = np.abs(index) % (2 * size - 2)
            index = np.minimum(index, 2 * size - 2 - index)
        np.add.at(matrix[row], index, weights)
    return torch.from_numpy(matrix).float()


def _after(matrix: Tensor, taps: NDArray[np.float64]) -> Tensor:
    """A resampling matrix times a filter with repeated edges: filter first, then resample."""
    radius = len(taps) // 2
    if not radius:
        return matrix * float(taps[0])
    kernel = torch.from_numpy(taps.copy()).to(matrix)[None, None]
    # Correlating the rows with flipped taps spreads each weight over the samples it came from.
    spread = F.conv1d(F.pad(matrix[:, None], (2 * radius, 2 * radius)), kernel.flip(-1))[:, 0]
    inner = spread[:, radius:-radius].clone()
    inner[:, 0] += spread[:, :radius].sum(dim=1)
    inner[:, -1] += spread[:, -radius:].sum(dim=1)
    return inner


def _separated(blur: Blur) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """A Gaussian as products of a vertical and a horizontal filter, the weightiest first."""
    if blur.sigma_x <= 0 and blur.sigma_y <= 0:
        return [(np.ones(1), np.ones(1))]
    radius = max(1, math.ceil(3 * max(blur.sigma_x, blur.sigma_y)))
    line = np.arange(-radius, radius + 1.0)
    x, y = np.meshgrid(line, line)
    along = x * math.cos(blur.angle) + y * math.sin(blur.angle)
    across = y * math.cos(blur.angle) - x * math.sin(blur.angle)
    # An axis without blur is as sharp as the pixels' own grid.
    sigmas = (max(blur.sigma_x, 0.1), max(blur.sigma_y, 0.1))
    kernel = np.exp(-0.5 * ((along / sigmas[0]) ** 2 + (across / sigmas[1]) ** 2))
    u, weight, v = np.linalg.svd(kernel / kernel.sum())
    count = int((weight > _SMALLEST_PART * weight[0]).sum())
    parts = [(u[:, k] * weight[k], v[k]) for k in range(count)]
    total = sum(float(vertical.sum() * horizontal.sum()) for vertical, horizontal in parts)
    return [(vertical / total, horizontal) for vertical, horizontal in parts]
