"""Grain and noise: how strong they are in the source's flat places, and how much the result kept.

Both are looked at in the size of the source, where plain interpolation keeps most of it: what is
finer than that the source never had. A network that takes grain away makes skin and walls look like
plastic; one that makes it stronger sharpens noise.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from vsr.quality.consistency import CODES, Pair
from vsr.quality.views import Picture

_BLOCK_PX = 16
_FLAT_SHARE = 0.1
"""Of all blocks, the flattest are taken: what is left in them is mostly grain."""
_FINE_SIGMA = 1.5
"""Pixels; what a Gaussian of it takes away is grain, what it leaves is the picture."""
_DARK, _BRIGHT = 0.03, 0.97
"""Beyond, grain is cut off."""
_LEAST_CODES = 0.7
"""Below, it is what rounding to whole codes makes."""


class Grain:
    """Root mean square of what is fine in flat places, in codes of luma, and the result's share."""

    def __init__(self) -> None:
        self._energies = np.zeros(3)
        """Of source, result and plain interpolation, over all frames that have grain."""
        self._count = 0
        self.codes = self.kept = self.plain_kept = math.nan
        """Of the last frame: the source's grain, the share that the result kept, and the share that
        plain interpolation would have; NaN where nothing is flat, or has grain."""

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        self.codes = self.kept = self.plain_kept = math.nan
        flat = _flat_blocks(pair.source.luma_HW)
        if flat is None:
            return
        pictures = pair.source.luma_HW, pair.reduced_HW, pair.plain_HW
        energies = np.array([float(_fine_energy(each)[flat].mean()) for each in pictures])
        self.codes = CODES * math.sqrt(energies[0])
        if self.codes < _LEAST_CODES:
            return
        self.kept = math.sqrt(energies[1] / energies[0])
        self.plain_kept = math.sqrt(energies[2] / energies[0])
        self._energies += energies
        self._count += 1

    def compute(self) -> tuple[float, float, float]:
        """The source's grain in codes, and the shares kept; NaN for films without."""
        if not self._count:
            return math.nan, math.nan, math.nan
        source, result, plain = self._energies
        codes = CODES * math.sqrt(source / self._count)
        return codes, math.sqrt(result / source), math.sqrt(plain / source)


def _flat_blocks(luma_HW: Picture) -> np.ndarray | None:
    """Which blocks are flattest, (rows, columns) of bool; None without any."""
    smooth = cv2.GaussianBlur(luma_HW, (0, 0), _FINE_SIGMA)
    across, down = np.zeros_like(smooth), np.zeros_like(smooth)
    across[:, 1:] = smooth[:, 1:] - smooth[:, :-1]
    down[1:] = smooth[1:] - smooth[:-1]
    steepness: Picture = across * across + down * down
    slopes, means = _blocks(steepness), _blocks(np.asarray(smooth, np.float32))
    is_known = (means > _DARK) & (means < _BRIGHT)
    if not is_known.any():
        return None
    limit = np.quantile(slopes[is_known], _FLAT_SHARE)
    return np.asarray(is_known & (slopes <= limit))


def _fine_energy(picture_HW: Picture) -> Picture:
    """Mean square of each block less its picture."""
    fine = picture_HW - cv2.GaussianBlur(picture_HW, (0, 0), _FINE_SIGMA)
    return _blocks(fine * fine)


def _blocks(picture_HW: Picture) -> Picture:
    height, width = picture_HW.shape
    size = max(1, width // _BLOCK_PX), max(1, height // _BLOCK_PX)
    return np.asarray(cv2.resize(picture_HW, size, interpolation=cv2.INTER_AREA), np.float32)
