"""Is the result the same picture as its source? Measures that need no ground truth.

A result that is enlarged and nothing else gives its source back when it is reduced again. What
is left over is an error at the source's own scale; what reducing takes away is detail that was
added. Every measure takes pairs of frames in order, at constant memory, and says its figure of the
last pair as it goes. Codes are of 8 bits, from black to white: 255 times the scale of `View`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vsr.quality.metrics import PSNR_CEILING_DB, SSIM_MIN_PX, ssim
from vsr.quality.views import Picture, View, resize

CODES = 255.0
_MAP = (18, 32)
"""Most rows and columns of a map of where something lies."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A frame of the source, its result, and each at the other's size."""

    source: View
    result: View
    reduced_HW: Picture
    """Luma of the result at the size of the source."""
    enlarged_HW: Picture
    """Luma of the result at the size of the source, enlarged again: without the new detail."""
    plain_HW: Picture
    """Luma of the source, enlarged by plain interpolation and reduced: the least to be expected."""

    @classmethod
    def of(cls, source: View, result: View) -> Pair:
        """Reduce and enlarge once for all measures."""
        reduced = resize(result.luma_HW, *source.luma_HW.shape)
        enlarged = cv2.resize(reduced, result.luma_HW.shape[::-1], interpolation=cv2.INTER_CUBIC)
        plain = plainly(source.luma_HW, *result.luma_HW.shape)
        return cls(source, result, reduced, np.asarray(enlarged, np.float32), plain)

    @property
    def error(self) -> Picture:
        """Luma of the reduced result less the source's."""
        return self.reduced_HW - self.source.luma_HW

    @property
    def plain_error(self) -> Picture:
        """The same by plain interpolation."""
        return self.plain_HW - self.source.luma_HW


def plainly(picture_HW: Picture, height: int, width: int) -> Picture:
    """The same, enlarged by bicubic interpolation to this size and reduced again.

    Both steps together are one small separable kernel at the picture's own size, which costs a
    fraction of doing them; exact inside of the picture where sizes are multiples.
    """
    down = _round_trip(picture_HW.shape[0], height)
    across = _round_trip(picture_HW.shape[1], width)
    seen = cv2.sepFilter2D(picture_HW, -1, across, down, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(seen, np.float32)


@lru_cache(maxsize=8)
def _round_trip(small: int, large: int) -> Picture:
    """What becomes of one line of light, enlarged and reduced: 17 weights, sum 1."""
    line = np.zeros((1, 33), np.float32)
    line[0, 16] = 1
    enlarged = resize(line, 1, max(1, round(33 * large / small)))
    weights = resize(enlarged, 1, 33)[0, 8:25]
    return np.asarray(weights / weights.sum(), np.float32)


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
        self.plain_psnr_db = math.nan
        """What plain interpolation would have had in the last frame."""
        self.offset_codes = math.nan
        """By how much the last frame is brighter than its source."""
        self.excess_codes = math.nan
        """Root mean square error of the block that is most worse than plain interpolation..."""
        self.excess_at = 0.0, 0.0
        """...and its middle, as shares of width and height."""
        self.worst_psnr_db = math.inf
        self.worst_map: Picture | None = None
        """Mean squared error in codes², of each block of the worst frame."""
        self.psnr_db = self.ssim = math.nan

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        error = pair.error
        squared, usual = np.square(error), np.square(pair.plain_error)
        self.psnr_db, self.plain_psnr_db = _psnr_db(squared), _psnr_db(usual)
        self.offset_codes = CODES * float(error.mean(dtype=np.float64))
        self._find_excess(blocks(squared), blocks(usual))
        if min(squared.shape) >= SSIM_MIN_PX:
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

    def _find_excess(self, squared: Picture, usual: Picture) -> None:
        # Plain interpolation's own error twice over is what a coder does to the same place.
        excess = np.maximum(squared - 2 * usual, 0)
        row, column = np.unravel_index(int(np.argmax(excess)), excess.shape)
        self.excess_codes = CODES * math.sqrt(float(excess[row, column]))
        self.excess_at = (column + 0.5) / excess.shape[1], (row + 0.5) / excess.shape[0]

    def compute(self) -> tuple[float, float]:
        """(dB, SSIM); NaN without frames."""
        if not self._count:
            return math.nan, math.nan
        return self._psnr / self._count, self._ssim / self._count


def _psnr_db(squared_HW: Picture) -> float:
    mse = float(squared_HW.mean(dtype=np.float64))
    return min(PSNR_CEILING_DB, -10 * math.log10(mse)) if mse else PSNR_CEILING_DB


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
        added = pair.result.luma_HW - pair.enlarged_HW
        energy = blocks(np.square(added, out=added))
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
    """How steep the reduced result is against its source: ratio of gradients, 1 is alike.

    Root mean square step between neighbouring pixels, both ways. NaN where the source is flat.
    """

    def __init__(self) -> None:
        self._steps = [0.0, 0.0]
        self.ratio = math.nan
        self.plain_ratio = math.nan
        """What plain interpolation would have had in the last frame."""

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        source, result = _steepness(pair.source.luma_HW), _steepness(pair.reduced_HW)
        is_known = source * CODES > 0.2
        self.ratio = result / source if is_known else math.nan
        self.plain_ratio = _steepness(pair.plain_HW) / source if is_known else math.nan
        self._steps[0] += source
        self._steps[1] += result

    def compute(self) -> float:
        """Ratio over all frames; NaN for a film without edges."""
        return self._steps[1] / self._steps[0] if self._steps[0] else math.nan


def _steepness(luma_HW: Picture) -> float:
    # Of squares, not of magnitudes: edges count, not the slopes of wide shades.
    down, across = luma_HW[1:] - luma_HW[:-1], luma_HW[:, 1:] - luma_HW[:, :-1]
    squares = float(np.vdot(down, down)) / down.size + float(np.vdot(across, across)) / across.size
    return math.sqrt(squares)


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
        within = cv2.min(cv2.max(result, least, dst=least), most, dst=most)
        self.codes = CODES * cv2.norm(result, within, cv2.NORM_L1) / result.size
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


class Histogram:
    """How much of the films is how bright: shares of 64 equal steps from black to white.

    Of every second pixel of every second row; what lies beyond counts with the outermost steps.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 64))

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        for counts, luma in zip(
            self._counts, (pair.source.luma_HW, pair.result.luma_HW), strict=True
        ):
            steps = np.clip(luma[::2, ::2] * 64, 0, 63).astype(np.uint8)
            counts += cv2.calcHist([steps], [0], None, [64], [0, 64]).ravel()

    def compute(self) -> NDArray[np.float64]:
        """(2, 64): source and result, each of sum 1; NaN without frames."""
        shares: NDArray[np.float64] = self._counts / self._counts.sum(axis=1, keepdims=True)
        return shares
