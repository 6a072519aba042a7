"""The chroma grid: where its samples sit, and the way from it to the luma grid and back.

Chroma is enlarged with the Catmull-Rom cubic and reduced with the same cubic stretched to the
chroma grid, both placed by the chroma location, edges repeated. Away from the edges both reproduce
every polynomial up to the second degree, so that a plane passes through the pair almost unchanged:
a chroma wave of 16 samples comes back with 0.13 codes rms error, against 1.0 to 1.3 for linear
enlargement and triangle reduction, which would save some tenths of a millisecond at 720 lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from vsr.frame import ChromaLocation, ColorSpec, Matrix, PlaneLayout, Primaries

_Taps = tuple[tuple[int, float], ...]
"""(offset in samples, weight) of the samples that make one new sample."""


def chroma_location(color: ColorSpec, layout: PlaneLayout) -> ChromaLocation:
    """Where chroma sits: as tagged, or by the rules of `color.complete`."""
    if color.chroma_location is not ChromaLocation.UNSPECIFIED:
        return color.chroma_location
    if color.primaries is Primaries.BT2020 or color.matrix is Matrix.BT2020_NCL:
        return ChromaLocation.TOPLEFT
    if color.full_range or (layout.log2_chroma_w, layout.log2_chroma_h) == (2, 2):
        return ChromaLocation.CENTER
    return ChromaLocation.LEFT


def upsample_plane(
    plane: Tensor, layout: PlaneLayout, color: ColorSpec, height: int, width: int
) -> Tensor:
    """Enlarge a float chroma plane (B, h, w) to (B, height, width)."""
    x, y = _positions(layout, color)
    out = plane
    if layout.log2_chroma_w:
        out = _upsample(out, -1, 1 << layout.log2_chroma_w, x, width)
    if layout.log2_chroma_h:  # rows last: there a slice is contiguous memory
        out = _upsample(out, -2, 1 << layout.log2_chroma_h, y, height)
    return out


def downsample_plane(plane: Tensor, layout: PlaneLayout, color: ColorSpec) -> Tensor:
    """Reduce a float plane (B, H, W) to the chroma grid."""
    x, y = _positions(layout, color)
    if layout.log2_chroma_h:
        plane = _downsample(plane, -2, 1 << layout.log2_chroma_h, y)
    if layout.log2_chroma_w:
        plane = _downsample(plane, -1, 1 << layout.log2_chroma_w, x)
    return plane


def _positions(layout: PlaneLayout, color: ColorSpec) -> tuple[float, float]:
    """(x, y) of the first chroma sample, in luma samples."""
    location = chroma_location(color, layout)
    ratio_x, ratio_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    at_left = (ChromaLocation.LEFT, ChromaLocation.TOPLEFT, ChromaLocation.BOTTOMLEFT)
    x = 0.0 if location in at_left else (ratio_x - 1) / 2
    if location in (ChromaLocation.TOPLEFT, ChromaLocation.TOP):
        return x, 0.0
    if location in (ChromaLocation.BOTTOMLEFT, ChromaLocation.BOTTOM):
        return x, float(ratio_y - 1)
    return x, (ratio_y - 1) / 2


def _catmull_rom(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


@lru_cache(maxsize=64)
def _up_taps(ratio: int, position: float) -> tuple[_Taps, ...]:
    """Taps on the chroma grid for each of `ratio` phases of the luma grid."""
    phases: list[_Taps] = []
    for phase in range(ratio):
        at = (phase - position) / ratio
        first = math.floor(at) - 1
        taps = [(i, _catmull_rom(at - i)) for i in range(first, first + 4)]
        phases.append(tuple((i, weight) for i, weight in taps if weight))
    return tuple(phases)


@lru_cache(maxsize=64)
def _down_taps(ratio: int, position: float) -> _Taps:
    """Taps on the luma grid, relative to luma sample `ratio` * i, for chroma sample i."""
    first, last = math.ceil(position - 2 * ratio), math.floor(position + 2 * ratio)
    taps = [(i, _catmull_rom((i - position) / ratio)) for i in range(first, last + 1)]
    total = sum(weight for _, weight in taps)
    return tuple((i, weight / total) for i, weight in taps if weight)


def _pad(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Repeat the edge samples along `dim`."""
    parts = [x.narrow(dim, 0, 1)] * before + [x] + [x.narrow(dim, -1, 1)] * after
    return torch.cat(parts, dim) if len(parts) > 1 else x


def _strided(x: Tensor, dim: int, start: int, num: int, step: int) -> Tensor:
    piece = slice(start, start + (num - 1) * step + 1, step)
    return x[..., piece] if dim == -1 else x[..., piece, :]


def _weigh(x: Tensor, dim: int, taps: Sequence[tuple[int, float]], num: int, step: int) -> Tensor:
    """Sum of weight * x[start + step * i] over the taps, for i < num."""
    (start, weight), *rest = taps
    total = _strided(x, dim, start, num, step) * weight
    for start, weight in rest:
        total.add_(_strided(x, dim, start, num, step), alpha=weight)
    return total


def _upsample(x: Tensor, dim: int, ratio: int, position: float, size: int) -> Tensor:
    phases = _up_taps(ratio, position)
    before = max(0, -min(i for taps in phases for i, _ in taps))
    after = max(0, max(i for taps in phases for i, _ in taps))
    padded = _pad(x, dim, before, after)
    shape = list(x.shape)
    shape[dim] = size
    out = x.new_empty(shape)
    for phase, taps in enumerate(phases[:size]):
        num = -(-(size - phase) // ratio)
        shifted = [(i + before, weight) for i, weight in taps]
        _strided(out, dim, phase, num, ratio).copy_(_weigh(padded, dim, shifted, num, 1))
    return out


def _downsample(x: Tensor, dim: int, ratio: int, position: float) -> Tensor:
    size = x.shape[dim]
    num = -(-size // ratio)
    taps = _down_taps(ratio, position)
    before = max(0, -taps[0][0])
    after = max(0, (num - 1) * ratio + taps[-1][0] - (size - 1))
    padded = _pad(x, dim, before, after)
    return _weigh(padded, dim, [(i + before, weight) for i, weight in taps], num, ratio)
