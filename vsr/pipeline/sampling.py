"""Films reduced to cells that mean the same places in both, so that they can be compared.

A cell is the mean of 2x2 source pixels, by exact area and at any ratio of sizes, in at most 64 rows
of cells spread over the picture: that keeps the fine detail by which neighbours differ, and costs
little beside decoding. Colours are RGB, after each file's own matrix and range, so that a wrong tag
shows like a wrong picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vsr.color import complete, planes_to_rgb
from vsr.frame import ColorSpec, Frame, Plane, PlaneLayout
from vsr.pipeline.declared import DeclaredPicture

_CELL_PX = 2
_MAX_ROWS = 64
_MAX_COLUMNS = 480
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)

Cells = NDArray[np.float32]
Box = tuple[float, float, float, float]
"""x, y, width, height, in pixels."""


@dataclass(frozen=True, slots=True)
class View:
    """A frame as it is compared."""

    rgb: Cells
    """(3, rows, columns), in codes of 0 to 255, not clamped."""
    luma: Cells
    """(rows, columns), the same."""


def _spread(num: int, most: int) -> NDArray[np.int64]:
    """At most `most` of `num` indices, evenly spread."""
    return np.unique(np.linspace(0, num - 1, min(num, most)).round().astype(np.int64))


_SUM_TYPES = {"uint8": np.uint16, "uint16": np.uint32, "float32": np.float32}
"""What holds the sum of a few hundred samples of a type."""


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Cells of one size in whole samples, the rows of them anywhere, without gaps in a row."""

    rows: NDArray[np.int64]
    """All rows of samples that are in cells, cell by cell."""
    height: int
    """Of a cell."""
    left: int
    width: int
    """Of a cell."""
    num: int
    """Cells in a row."""

    @staticmethod
    def of(x: NDArray[np.float64], y: NDArray[np.float64]) -> _Blocks | None:
        """The cells with these edges, if they are such."""
        edges_x, edges_y = np.rint(x).astype(np.int64), np.rint(y).astype(np.int64)
        sizes_x, sizes_y = edges_x[:, 1] - edges_x[:, 0], edges_y[:, 1] - edges_y[:, 0]
        is_whole = np.abs(x - edges_x).max() < 1e-9 and np.abs(y - edges_y).max() < 1e-9
        is_even = np.ptp(sizes_x) == 0 and np.ptp(sizes_y) == 0 and 0 < sizes_y[0] <= 256
        if not (is_whole and is_even and sizes_x[0] > 0):
            return None
        if not np.array_equal(edges_x[1:, 0], edges_x[:-1, 1]):
            return None
        height = int(sizes_y[0])
        rows = (edges_y[:, :1] + np.arange(height)).ravel()
        return _Blocks(rows, height, int(edges_x[0, 0]), int(sizes_x[0]), len(x))

    def means(self, plane: Plane) -> Cells:
        """(rows, columns) of cell means, in codes."""
        taken = plane[self.rows, self.left : self.left + self.width * self.num]
        stacks = taken.reshape(-1, self.height, taken.shape[1])
        sums = np.add.reduce(stacks, axis=1, dtype=_SUM_TYPES[plane.dtype.name])
        share = np.full(self.width, 1 / (self.width * self.height), np.float32)
        means: Cells = sums.astype(np.float32).reshape(-1, self.width) @ share
        return means.reshape(-1, self.num)


class PlaneSampler:
    """Means of one plane over cells whose edges may fall between samples."""

    def __init__(self, x: NDArray[np.float64], y: NDArray[np.float64], size: tuple[int, int]):
        height, width = size
        y = np.clip(y, 0, height)
        x = np.clip(x, 0, width)
        # Most films are enlarged by a whole number: several times as fast.
        self._blocks = _Blocks.of(x, y)
        self._strips: list[tuple[int, int, Cells]] = []
        for low, high in y:
            first, last = math.floor(low), max(math.floor(low) + 1, math.ceil(high))
            edges = np.arange(first, last + 1, dtype=np.float64).clip(low, high)
            weights = np.diff(edges) if high > low else np.ones(1)
            self._strips.append((first, last, (weights / weights.sum()).astype(np.float32)))
        x[:, 1] = np.maximum(x[:, 1], x[:, 0] + 1e-6)
        self._at = np.minimum(np.floor(x), width - 1).astype(np.int64)
        self._rest = x - self._at
        self._widths = x[:, 1] - x[:, 0]

    def means(self, plane: Plane) -> Cells:
        """(rows, columns) of cell means, in codes."""
        if self._blocks is not None:
            return self._blocks.means(plane)
        strips = np.stack(
            [weights @ plane[a:b].astype(np.float32) for a, b, weights in self._strips]
        )
        sums = np.cumsum(strips, axis=1, dtype=np.float64) - strips
        edges = sums[:, self._at] + self._rest * strips[:, self._at]
        means: Cells = ((edges[..., 1] - edges[..., 0]) / self._widths).astype(np.float32)
        return means


class Sampler:
    """Frames of one film -> RGB means of cells that mean the same places in both films.

    Args:
        grid: width and height of the source as shown: in units of its pixels, turned and cropped.
        box: where in this film's frames the grid lies.
        color: of this film, without gaps.
        turn: degrees counter-clockwise by which to turn the frames first.
        flip: whether to mirror them left to right after that.
    """

    def __init__(
        self,
        grid: tuple[float, float],
        box: Box,
        color: ColorSpec,
        *,
        turn: int = 0,
        flip: bool = False,
    ) -> None:
        self._color = color
        self._box = box
        self._quarters, self._flip = turn // 90 % 4, flip
        self._first: tuple[int, int, ColorSpec] | None = None
        cell = _CELL_PX if min(grid) >= 32 else 1
        columns = _spread(math.ceil(grid[0] / cell), _MAX_COLUMNS)
        rows = _spread(math.ceil(grid[1] / cell), _MAX_ROWS)
        self._x = np.stack([columns, columns + 1], 1) * cell / grid[0]
        self._y = np.stack([rows, rows + 1], 1) * cell / grid[1]
        self._x, self._y = np.minimum(self._x, 1.0), np.minimum(self._y, 1.0)
        self._samplers: dict[tuple[int, int, int, int], PlaneSampler] = {}

    def view(self, frame: Frame) -> View | None:
        """Reduce one frame; None for one of another shape than the first, which lies elsewhere.

        Raises:
            UnsupportedVideoError: its colours cannot be told.
        """
        if self._first is None:
            self._first = frame.width, frame.height, frame.color
        width, height, color = self._first
        if abs(frame.width * height - frame.height * width) > max(width, height):
            return None
        if frame.sample_aspect_ratio is not None:
            return None
        if frame.color != color:
            # The source changed its kind on the way; each kind is read by its own tags.
            color, _ = complete(frame.color, frame.width, frame.height, frame.layout)
        else:
            color = self._color
        scale = frame.width / width, frame.height / height
        if self._quarters % 2:
            scale = scale[1], scale[0]
        left, top, across, down = self._box
        box = (left * scale[0], top * scale[1], across * scale[0], down * scale[1])
        layout = frame.layout
        num_planes = 1 if layout.is_gray else 3
        means = [self._plane(frame, index, box) for index in range(num_planes)]
        rgb = planes_to_rgb(*_as_tensors(means, layout, color.full_range), color)
        codes = np.asarray(rgb[0].numpy(), np.float32) * np.float32(255)
        return View(codes, np.tensordot(_LUMA, codes, 1))

    def _plane(self, frame: Frame, index: int, box: Box) -> Cells:
        plane = frame.planes[index]
        layout = frame.layout
        is_chroma = index in (1, 2) and not layout.is_rgb
        ratio_x = 1 << (layout.log2_chroma_w if is_chroma else 0)
        ratio_y = 1 << (layout.log2_chroma_h if is_chroma else 0)
        if self._quarters:
            plane = np.rot90(plane, self._quarters)
        if self._quarters % 2:
            ratio_x, ratio_y = ratio_y, ratio_x
        if self._flip:
            plane = plane[:, ::-1]
        height, width = plane.shape
        key = (width, height, ratio_x, ratio_y)
        if key not in self._samplers:
            left, top, across, down = box
            x = (left + self._x * across) / ratio_x
            y = (top + self._y * down) / ratio_y
            self._samplers[key] = PlaneSampler(x, y, (height, width))
        return self._samplers[key].means(plane)


def _as_tensors(
    means: list[Cells], layout: PlaneLayout, full_range: bool
) -> tuple[list[torch.Tensor], PlaneLayout]:
    """Cell means as planes without subsampling, with 16 bits so that nothing is rounded away."""
    flat = replace(layout, log2_chroma_w=0, log2_chroma_h=0, has_alpha=False)
    if layout.is_float:
        flat = replace(flat, bits=32)
        return [torch.from_numpy(plane[None]) for plane in means], flat
    step = 2.0 ** (layout.bits - 8)
    gain = 65535 / (2.0**layout.bits - 1) if full_range else 2.0 ** (16 - layout.bits)
    planes = []
    for index, plane in enumerate(means):
        is_chroma = index in (1, 2) and not layout.is_rgb
        codes = 32768 + (plane - 128 * step) * gain if is_chroma else plane * gain
        rounded = np.rint(np.clip(codes, 0, 65535)).astype(np.uint16)
        planes.append(torch.from_numpy(rounded[None]))
    return planes, replace(flat, bits=16)


def make_samplers(
    source: tuple[int, int, ColorSpec],
    result: tuple[int, int, ColorSpec],
    picture: DeclaredPicture,
) -> tuple[Sampler, Sampler]:
    """Samplers of source and result.

    Args:
        source: width, height, colour without gaps.
        result: the same.
        picture: what was declared about its place.
    """
    width, height, color = source
    if picture.turn % 180:
        width, height = height, width
    left, top, across, down = (float(v) for v in picture.crop or (0, 0, width, height))
    box = picture.box or (0, 0, result[0], result[1])
    grid = (max(1, round(across)), max(1, round(down)))
    before = Sampler(grid, (left, top, across, down), color, turn=picture.turn, flip=picture.flip)
    return before, Sampler(grid, box, result[2])
