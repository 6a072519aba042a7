"""Defects that have a shape of their own: frames that stand still or are black, seams, blocks.

They take pairs of frames as the measures of `consistency` do.
"""

from __future__ import annotations

import math

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
    brightness stays what it is beyond it; neither holds for edges of things in the picture. Seen
    are steps of brightness that stay where they are; for those of sharpness see `sharp_seams`.
    """

    def __init__(self, min_codes: float = 1.0) -> None:
        self._min_codes = min_codes
        self._error: NDArray[np.float32] | None = None
        self._count = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        # A seam is a small step in every frame; one broken frame must not outweigh them.
        error = np.clip(pair.error, -_SEAM_MAX, _SEAM_MAX)
        if self._error is None:
            self._error = error
        else:
            cv2.accumulate(error, self._error)
        self._count += 1

    def compute(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """(columns, rows): the first pixel of the source after each seam, and its step in codes."""
        if self._error is None:
            return [], []
        mean = self._error * np.float32(CODES / self._count)
        return self._found(mean), self._found(mean.T)

    def _found(self, error: Picture) -> list[tuple[int, float]]:
        if error.shape[1] < 8 * _SEAM_PX or error.shape[0] < _SEAM_BANDS:
            return []
        bands = np.stack([b.mean(axis=0) for b in np.array_split(error, _SEAM_BANDS)])
        sums = np.cumsum(bands, axis=1, dtype=np.float64)
        means = (sums[:, _SEAM_PX:] - sums[:, :-_SEAM_PX]) / _SEAM_PX
        # near[:, k] and far[:, k] lie before pixel k + 1 + 2 * _SEAM_PX: those at the edge are left
        # out, which every kernel extrapolates in another way.
        near = (means[:, _SEAM_PX:] - means[:, :-_SEAM_PX])[:, _SEAM_PX:-_SEAM_PX]
        far = means[:, 3 * _SEAM_PX :] - means[:, : -3 * _SEAM_PX]
        step = np.median(near, axis=0)
        least = max(self._min_codes, 4.0 * float(np.median(np.abs(near))))
        # The whole step within a band, or half of it where it begins or ends there.
        agree = np.sum(near * np.sign(step) > least / 2, axis=0)
        stays = np.median(far, axis=0) * np.sign(step) > np.abs(step) / 2
        found: list[tuple[int, float]] = []
        height = np.where(stays & (agree >= _SEAM_MOST), np.abs(step), 0.0)
        while height.size and (at := int(np.argmax(height))) >= 0 and height[at] > least:
            found.append((at + 1 + 2 * _SEAM_PX, float(step[at])))
            height[max(0, at - _SEAM_PX) : at + _SEAM_PX + 1] = 0
        return sorted(found)


class Blockiness:
    """Steps at every eighth pixel against those between: ratio of the result over the source's.

    Both ways, from the corner of the picture, as most codecs cut it. About 1 when no blocks were
    added; NaN for flat films.
    """

    def __init__(self) -> None:
        self._sums = np.zeros((2, 2))
        """Of source and result: mean step at borders, and elsewhere."""

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        for number, luma in enumerate((pair.source.luma_HW, pair.result.luma_HW)):
            for plane in (luma, luma.T):
                steps = np.abs(plane[:, 1:] - plane[:, :-1]).mean(axis=0, dtype=np.float64)
                at = np.arange(1, steps.size + 1) % _GRID_PX == 0
                if at.any():
                    self._sums[number] += steps[at].mean(), steps[~at].mean()

    def compute(self) -> float:
        """Ratio over all frames."""
        if not self._sums.all():
            return math.nan
        source, result = self._sums[:, 0] / self._sums[:, 1]
        return float(result / source)
