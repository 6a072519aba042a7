"""Is the result the same picture as its source? Measures that need no ground truth.

A result that is enlarged and nothing else gives its source back when it is reduced again. What
is left over is an error at the source's own scale; what reducing takes away is detail that was
added. Every measure takes pairs of frames in order, at constant memory, and says its figure of the
last pair as it goes. Codes are of 8 bits, from black to white: 255 times the scale of `View`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vsr.quality.metrics import PSNR_CEILING_DB, ssim
from vsr.quality.views import Picture, View, resize

CODES = 255.0
_SSIM_MIN_PX = 11
_MAP = (18, 32)
"""Most rows and columns of a map of where something lies."""
_BLACK = 3.0 / 255
_LIT = 10.0 / 255
_MOVES_CODES = 0.3
"""Mean change below which a source stands still."""
_STANDS_SHARE = 0.1
"""Of the source's change: a result that changes less stands still while the film goes on."""
_GRID_PX = 8
_EDGE_PX = 2


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame of the source, its result, and each at the other's size."""

    source: View
    result: View
    reduced_HW: Picture
    """Luma of the result at the size of the source."""
    enlarged_HW: Picture
    """Luma of the result at the size of the source, enlarged again: without the new detail."""

    @classmethod
    def of(cls, source: View, result: View) -> Pair:
        """Reduce and enlarge once for all measures."""
        reduced = resize(result.luma_HW, *source.luma_HW.shape)
        enlarged = cv2.resize(reduced, result.luma_HW.shape[::-1], interpolation=cv2.INTER_CUBIC)
        return cls(source, result, reduced, np.asarray(enlarged, np.float32))

    @property
    def error(self) -> Picture:
        return self.reduced_HW - self.source.luma_HW


def blocks(picture_HW: Picture) -> Picture:
    """Means of at most 18x32 equal blocks."""
    height, width = picture_HW.shape
    size = min(_MAP[1], width), min(_MAP[0], height)
    return np.asarray(cv2.resize(picture_HW, size, interpolation=cv2.INTER_AREA), np.float32)


class Fidelity:
    """Reduced result against source, luma: PSNR in dB (at most 100) and SSIM, mean over frames."""

    def __init__(self) -> None:
        self._psnr = self._ssim = 0.0
        self._count = 0
        self.worst_psnr_db = math.inf
        self.worst_map: Picture | None = None
        """Mean squared error in codes², of each block of the worst frame."""
        self.psnr_db = self.ssim = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        squared = np.square(pair.error)
        mse = float(squared.mean(dtype=np.float64))
        self.psnr_db = min(PSNR_CEILING_DB, -10 * math.log10(mse)) if mse else PSNR_CEILING_DB
        if min(squared.shape) >= _SSIM_MIN_PX:
            one, two = (
                torch.from_numpy(luma)[None, None]
                for luma in (pair.reduced_HW, pair.source.luma_HW)
            )
            self.ssim = float(ssim(one, two)[0])
        self._psnr += self.psnr_db
        self._ssim += self.ssim
        self._count += 1
        if self.psnr_db < self.worst_psnr_db:
            self.worst_psnr_db = self.psnr_db
            self.worst_map = blocks(squared) * np.float32(CODES**2)

    def compute(self) -> tuple[float, float]:
        """(dB, SSIM); NaN without frames."""
        if not self._count:
            return math.nan, math.nan
        return self._psnr / self._count, self._ssim / self._count


class Detail:
    """Detail beyond the source's scale: root mean square in codes of luma, over all frames.

    That is result - enlarge(reduce(result)). Plain interpolation has next to none; whether what is
    there is true, no figure without ground truth can tell.
    """

    def __init__(self) -> None:
        self._sum: Picture | None = None
        self._count = 0
        self.codes = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        energy = blocks(np.square(pair.result.luma_HW - pair.enlarged_HW))
        self.codes = CODES * math.sqrt(float(energy.mean()))
        self._sum = energy if self._sum is None else self._sum + energy
        self._count += 1

    def compute(self) -> float:
        """Codes; NaN without frames."""
        return (
            CODES * math.sqrt(float(self._sum.mean()) / self._count)
            if self._sum is not None
            else math.nan
        )

    def map_codes(self) -> Picture | None:
        """Root mean square of each block over all frames, in codes."""
        return None if self._sum is None else np.sqrt(self._sum / self._count) * np.float32(CODES)


class Sharpness:
    """How steep the reduced result is against its source: ratio of mean gradients, 1 is alike.

    Mean absolute step between neighbouring pixels, both ways. NaN where the source is flat.
    """

    def __init__(self) -> None:
        self._steps = [0.0, 0.0]
        self.ratio = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        source, result = _steepness(pair.source.luma_HW), _steepness(pair.reduced_HW)
        self.ratio = result / source if source * CODES > 0.2 else math.nan
        self._steps[0] += source
        self._steps[1] += result

    def compute(self) -> float:
        """Ratio over all frames; NaN for a film without edges."""
        return self._steps[1] / self._steps[0] if self._steps[0] else math.nan


def _steepness(luma_HW: Picture) -> float:
    down = float(np.abs(luma_HW[1:] - luma_HW[:-1]).mean(dtype=np.float64))
    across = float(np.abs(luma_HW[:, 1:] - luma_HW[:, :-1]).mean(dtype=np.float64))
    return down + across


class Overshoot:
    """Halos and ringing: by how much the result leaves what the source holds around a place.

    Mean over all pixels, in codes of luma, of the distance to the range between the least and the
    greatest of the 3x3 pixels of the source around. A little of it is sharpness.
    """

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self.codes = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        kernel = np.ones((3, 3), np.uint8)
        size = pair.result.luma_HW.shape[::-1]
        source, result = pair.source.luma_HW, pair.result.luma_HW
        most = cv2.resize(cv2.dilate(source, kernel), size, interpolation=cv2.INTER_NEAREST)
        least = cv2.resize(cv2.erode(source, kernel), size, interpolation=cv2.INTER_NEAREST)
        beyond = np.maximum(result - most, 0) + np.maximum(least - result, 0)
        self.codes = CODES * float(beyond.mean(dtype=np.float64))
        self._sum += self.codes
        self._count += 1

    def compute(self) -> float:
        """Codes, mean over frames; NaN without frames."""
        return self._sum / self._count if self._count else math.nan


class Clipping:
    """Share of pixels at or beyond black or white: the result's less the source's, in [-1, 1]."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self.share = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        self.share = _clipped(pair.result.luma_HW) - _clipped(pair.source.luma_HW)
        self._sum += self.share
        self._count += 1

    def compute(self) -> float:
        """Mean over frames; NaN without frames."""
        return self._sum / self._count if self._count else math.nan


def _clipped(luma_HW: Picture) -> float:
    return float(np.count_nonzero((luma_HW <= 0) | (luma_HW >= 1))) / luma_HW.size


class Standstill:
    """Counts of frames that stand still while the source moves, or are black where it is not."""

    def __init__(self) -> None:
        self._before: tuple[Picture, Picture] | None = None
        self.is_frozen = self.is_black = False
        self.num_frozen = self.num_black = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame; every frame must come, in order."""
        source, result = pair.source.luma_HW, pair.reduced_HW
        self.is_black = bool(result.mean() < _BLACK and source.mean() > _LIT)
        self.is_frozen = False
        if self._before is not None:
            moved = CODES * float(np.abs(source - self._before[0]).mean())
            followed = CODES * float(np.abs(result - self._before[1]).mean())
            self.is_frozen = moved > _MOVES_CODES and followed < _STANDS_SHARE * moved
        self.num_frozen += self.is_frozen
        self.num_black += self.is_black
        self._before = source, result

    def compute(self) -> tuple[int, int]:
        """(frozen, black) frames."""
        return self.num_frozen, self.num_black


class Seams:
    """Steps of brightness along straight lines that the source has not: borders of tiles.

    The error of each column, mean over rows and frames, is smooth unless something ends there. A
    step of more than `min_codes` and of eight times the usual one counts; likewise of rows. Seen
    are steps that stay where they are, of brightness and not of sharpness alone.
    """

    def __init__(self, min_codes: float = 0.5) -> None:
        self._min_codes = min_codes
        self._columns: NDArray[np.float64] | None = None
        self._rows: NDArray[np.float64] | None = None
        self._count = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        error = pair.error
        columns, rows = error.mean(axis=0, dtype=np.float64), error.mean(axis=1, dtype=np.float64)
        if self._columns is None or self._rows is None:
            self._columns, self._rows = columns, rows
        else:
            self._columns, self._rows = self._columns + columns, self._rows + rows
        self._count += 1

    def compute(self) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        """(columns, rows): the first pixel of the source after each seam, and its step in codes."""
        if self._columns is None or self._rows is None:
            return [], []
        return self._found(self._columns), self._found(self._rows)

    def _found(self, profile: NDArray[np.float64]) -> list[tuple[int, float]]:
        steps = np.diff(profile) * CODES / self._count
        # The outermost pixels are extrapolated, by every kernel in another way.
        inner = steps[_EDGE_PX:-_EDGE_PX]
        if inner.size < _GRID_PX:
            return []
        least = max(self._min_codes, 8.0 * float(np.median(np.abs(inner))))
        places = np.flatnonzero(np.abs(inner) > least)
        return [(int(at) + _EDGE_PX + 1, float(inner[at])) for at in places]


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
