"""Defects that have a shape of their own: frames that stand still or are black, seams, blocks.

They take pairs of frames as the measures of `consistency` do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.quality.consistency import CODES, Pair
from vsr.quality.views import Picture

_BLACK = 3.0 / 255
_LIT = 10.0 / 255
_MOVES_CODES = 0.5
"""Mean change of a small picture below which a source stands still."""
_MOVES_PX = (64, 36)
"""Columns and rows of that picture, in which most of a film's noise is gone."""
_STIRS_CODES = 0.05
"""The same for what is too dark to move more: there it must be clear that it is no noise."""
_BEHIND = 0.75
"""How much of the way the result is behind: 1 is all of it, 0.5 what is lost of noise."""
_IS_NOISE = -0.25
"""Changes from frame to frame that undo each other so much are noise, which has -0.5."""
_STANDS_SHARE = 0.1
"""Of the source's change: a result that changes less stands still while the film goes on."""
_GRID_PX = 8
_UNSEEN = 0.5 / 255
"""Mean step along a line that says nothing of blocks."""
_EVERY = 4
"""Of so many frames one is looked at for blocks: their grid stays where it is."""
_SEAM_PX = 4
_SEAM_BANDS = 8
_SEAM_MOST = 5
_SEAM_MAX = 8.0 / 255


class Standstill:
    """Counts of frames that stand still while the source moves, or are black where it is not."""

    def __init__(self) -> None:
        self._before: tuple[Picture, Picture] | None = None
        self._change: Picture | None = None
        """Of the source, to the frame before."""
        self._held: Picture | None = None
        """What the source showed when the result last moved."""
        self.is_frozen = self.is_black = False
        self.num_frozen = self.num_black = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame; every frame must come, in order."""
        source, result = pair.source.luma_HW, pair.reduced_HW
        self.is_black = bool(result.mean() < _BLACK and source.mean() > _LIT)
        self.is_frozen = False
        source, result = _thumbnail(source), _thumbnail(result)
        change = None
        if self._before is not None:
            change = source - self._before[0]
            moved = CODES * float(np.abs(change).mean())
            followed = CODES * float(np.abs(result - self._before[1]).mean())
            stands = followed < _STANDS_SHARE * moved
            self.is_frozen = stands and (
                moved > _MOVES_CODES
                or (moved > _STIRS_CODES and self._is_behind(source, result, change))
            )
            if not stands:
                self._held = source
        self._change = change
        self.num_frozen += self.is_frozen
        self.num_black += self.is_black
        self._before = source, result

    def _is_behind(self, source: Picture, result: Picture, change: Picture) -> bool:
        """Whether the result still shows what the source has left by a movement."""
        if self._held is None or self._change is None:
            return False
        way = source - self._held
        way -= way.mean()
        left = source - result
        left -= left.mean()
        behind = float(np.vdot(left, way)) / max(float(np.vdot(way, way)), 1e-12)
        sizes = float(np.linalg.norm(change) * np.linalg.norm(self._change))
        alike = float(np.vdot(change, self._change)) / max(sizes, 1e-12)
        return behind > _BEHIND and alike > _IS_NOISE

    def compute(self) -> tuple[int, int]:
        """(frozen, black) frames."""
        return self.num_frozen, self.num_black


def _thumbnail(luma_HW: Picture) -> Picture:
    size = min(_MOVES_PX[0], luma_HW.shape[1]), min(_MOVES_PX[1], luma_HW.shape[0])
    return np.asarray(cv2.resize(luma_HW, size, interpolation=cv2.INTER_AREA), np.float32)


class Seams:
    """Steps of brightness along straight lines that the source has not: borders of tiles.

    Of the mean error of all frames, the means of `_SEAM_PX` pixels on either side of a line are
    compared, in each of eight bands along it. A seam steps the same way in most of them, and the
    brightness stays what it is beyond it; neither holds for most edges of things in the picture,
    and where plain interpolation's error steps too, or is larger, it is such an edge. Seen are
    steps of brightness that stay where they are; for those of sharpness see `sharp_seams`.
    """

    def __init__(self, min_codes: float = 1.0) -> None:
        self._min_codes = min_codes
        self._errors: list[Picture] = []
        """Sums over all frames: of the result, and of plain interpolation."""
        self._count = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        if not self._errors:
            self._errors = [np.zeros_like(pair.reduced_HW) for _ in range(2)]
        for error, total in zip((pair.error, pair.plain_error), self._errors, strict=True):
            # A seam is a small step in every frame; one broken frame must not outweigh them.
            cv2.accumulate(np.clip(error, -_SEAM_MAX, _SEAM_MAX), total)
        self._count += 1

    def compute(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """(columns, rows): the first pixel of the source after each seam, and its step in codes."""
        if not self._errors:
            return [], []
        error, usual = (total * np.float32(CODES / self._count) for total in self._errors)
        return self._found(error, usual), self._found(error.T, usual.T)

    def _found(self, error: Picture, usual: Picture) -> list[tuple[int, float]]:
        if error.shape[1] < 8 * _SEAM_PX or error.shape[0] < _SEAM_BANDS:
            return []
        near, far = _steps(error)
        step = np.median(near, axis=0)
        least = max(self._min_codes, 4.0 * float(np.median(np.abs(near))))
        # The whole step within a band, or half of it where it begins or ends there.
        agree = np.sum(near * np.sign(step) > least / 2, axis=0)
        stays = np.median(far, axis=0) * np.sign(step) > np.abs(step) / 2
        is_edge = np.abs(np.median(_steps(usual)[0], axis=0)) > np.abs(step) / 2
        # Errors to either side of an edge cancel out in a mean.
        is_edge |= _largest(usual) > np.abs(step)
        found: list[tuple[int, float]] = []
        height = np.where(stays & ~is_edge & (agree >= _SEAM_MOST), np.abs(step), 0.0)
        while height.size and (at := int(np.argmax(height))) >= 0 and height[at] > least:
            found.append((at + 1 + 2 * _SEAM_PX, float(step[at])))
            height[max(0, at - _SEAM_PX) : at + _SEAM_PX + 1] = 0
        return sorted(found)


def _steps(error_HW: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps of the mean from one side of each column to the other, near it and farther away.

    Returns:
        (bands, columns) each, counted from column 1 + 2 * `_SEAM_PX` on: those at the edge are left
        out, which every kernel extrapolates in another way.
    """
    bands = np.stack([b.mean(axis=0) for b in np.array_split(error_HW, _SEAM_BANDS)])
    sums = np.cumsum(bands, axis=1, dtype=np.float64)
    means = (sums[:, _SEAM_PX:] - sums[:, :-_SEAM_PX]) / _SEAM_PX
    near = (means[:, _SEAM_PX:] - means[:, :-_SEAM_PX])[:, _SEAM_PX:-_SEAM_PX]
    return near, means[:, 3 * _SEAM_PX :] - means[:, : -3 * _SEAM_PX]


def _largest(error_HW: Picture) -> NDArray[np.float64]:
    """Largest size of the mean error near each column that `_steps` counts; median of the bands."""
    bands = np.stack([b.mean(axis=0) for b in np.array_split(error_HW, _SEAM_BANDS)])
    around = np.lib.stride_tricks.sliding_window_view(np.abs(bands), 2 * _SEAM_PX, axis=1)
    return np.asarray(np.median(around.max(axis=2), axis=0)[_SEAM_PX + 1 : -_SEAM_PX], np.float64)


class Blockiness:
    """Steps at every eighth pixel against those around: ratio of the result's over the source's.

    Both ways, from the corner of the picture, as most codecs cut it, and of the median line: an
    edge of the picture may lie on the grid too, but not on most of its lines. About 1 when no
    blocks were added; NaN for pictures smaller than two blocks.
    """

    def __init__(self) -> None:
        self._steps: list[NDArray[np.float64]] = []
        """Of source and result, across and down: mean step behind each pixel, summed over those
        frames that were looked at."""
        self._num_seen = self._num_taken = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame; one of a few is looked at."""
        self._num_seen += 1
        if (self._num_seen - 1) % _EVERY:
            return
        self._num_taken += 1
        steps = [s for luma in (pair.source.luma_HW, pair.result.luma_HW) for s in _profiles(luma)]
        if not self._steps:
            self._steps = steps
            return
        for total, each in zip(self._steps, steps, strict=True):
            total += each

    def compute(self) -> float:
        """Ratio over all frames."""
        if not self._steps:
            return math.nan
        means = [steps / self._num_taken for steps in self._steps]
        source, result = _grid_ratio(means[:2]), _grid_ratio(means[2:])
        return result / source


def _profiles(luma_HW: Picture) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean step from each column to the next, and from each row."""
    across = cv2.absdiff(luma_HW[:, 1:], luma_HW[:, :-1])
    down = cv2.absdiff(luma_HW[1:], luma_HW[:-1])
    columns, rows = (
        np.asarray(cv2.reduce(steps, axis, cv2.REDUCE_AVG, dtype=cv2.CV_64F), np.float64)
        for axis, steps in enumerate((across, down))
    )
    return columns.ravel(), rows.ravel()


def _grid_ratio(profiles: Sequence[NDArray[np.float64]]) -> float:
    """Steps on the grid over the mean of the three to either side; NaN for tiny pictures."""
    ratios = []
    for steps in profiles:
        around = np.convolve(steps, [1, 1, 1, 0, 1, 1, 1], "same") / 6
        at = np.arange(_GRID_PX - 1, steps.size - 3, _GRID_PX)
        ratios.append((steps[at] + _UNSEEN) / (around[at] + _UNSEEN))
    known = np.concatenate(ratios)
    return float(np.median(known)) if known.size else math.nan
