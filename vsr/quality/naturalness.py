"""How far pictures are from photographs, without a reference: a score of our own.

The statistics are those of NIQE (Mittal, Soundararajan and Bovik, 2013, sections II A to E): pixels
normalised by what is around them, their distribution and that of neighbours' products in patches of
96 pixels at two sizes, and the distance of the film's multivariate Gaussian to that of photographs.
The photographs are ours (`samples/fit_naturalness.py`), the patches are pooled over a film, and
luma is that of video; so the scores are not NIQE's and must not be put beside them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from vsr.quality.consistency import CODES, Pair
from vsr.quality.views import Picture

Array = NDArray[np.float64]

FIT_FILE = Path(__file__).with_name("naturalness.safetensors")
PATCH_PX = 96
NUM_FEATURES = 36
_WINDOW_PX, _SIGMA = 7, 7 / 6
_EVERY = 48
"""Of so many frames one is looked at: neighbours tell the same, and looking is slow."""
_MIN_PATCHES = 60
"""Fewer say nothing of a covariance of 36 features."""
_LEAST_VARIANCE = 1e-3
"""Of normalised pixels; less is a plain area, such as a black bar."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


def normalised(luma_HW: Picture) -> tuple[Picture, Picture]:
    """Each pixel less the mean around it, over the deviation around it plus 1; and that deviation.

    Args:
        luma_HW: in codes, 0 is black and 255 white.
    """
    size = _WINDOW_PX, _WINDOW_PX
    mean = cv2.GaussianBlur(luma_HW, size, _SIGMA, borderType=cv2.BORDER_REPLICATE)
    square = cv2.GaussianBlur(luma_HW * luma_HW, size, _SIGMA, borderType=cv2.BORDER_REPLICATE)
    deviation = np.sqrt(np.abs(square - mean * mean))
    return (luma_HW - mean) / (deviation + 1), np.asarray(deviation, np.float32)


def features(luma_HW: Picture) -> tuple[Array, Array]:
    """Of each whole patch of a picture: what it looks like, and how sharp it is.

    Args:
        luma_HW: in codes, 0 is black and 255 white.

    Returns:
        (patches, 36) and (patches,), mean deviation in codes; patches without any variation are
        left out. Empty for pictures smaller than a patch.
    """
    rows, columns = (side // PATCH_PX for side in luma_HW.shape)
    if not rows or not columns:
        return np.empty((0, NUM_FEATURES)), np.empty(0)
    whole = np.ascontiguousarray(luma_HW[: rows * PATCH_PX, : columns * PATCH_PX], np.float32)
    half = cv2.resize(whole, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    found, varied = [], np.ones(rows * columns, bool)
    sharpness = np.empty(0)
    for picture, side in ((whole, PATCH_PX), (np.asarray(half, np.float32), PATCH_PX // 2)):
        pixels, deviation = normalised(picture)
        if side == PATCH_PX:
            sharpness = _means(deviation, side)
        varied &= _means(pixels * pixels, side) > _LEAST_VARIANCE
        shape, _, left, right = _asymmetric(pixels, side)
        found += [shape, (left + right) / 2]
        for shift in _SHIFTS:
            product = pixels * np.roll(pixels, shift, (0, 1))
            found += [*_asymmetric(product, side)]
    table = np.stack(found, axis=1)
    varied &= np.isfinite(table).all(axis=1)
    return table[varied], sharpness[varied]


def _means(picture_HW: Picture, side: int) -> Array:
    """Mean of each patch, row by row."""
    rows, columns = picture_HW.shape[0] // side, picture_HW.shape[1] // side
    patches = picture_HW.reshape(rows, side, columns, side)
    return np.asarray(patches.mean(axis=(1, 3), dtype=np.float64)).ravel()


def _asymmetric(values_HW: Picture, side: int) -> tuple[Array, Array, Array, Array]:
    """Shape, mean, left and right scale of an asymmetric generalised Gaussian, by moments."""
    squares = values_HW * values_HW
    is_left = values_HW < 0
    shares = _means(is_left.astype(np.float32), side)
    left_squares = _means(np.where(is_left, squares, np.float32(0)), side)
    all_squares, sizes = _means(squares, side), _means(np.abs(values_HW), side)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(left_squares / shares)
        right = np.sqrt((all_squares - left_squares) / (1 - shares))
        ratio = left / right
        balance = (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
        wanted = sizes**2 / all_squares * balance
        known_shapes, known_ratios = _shapes()
        shape = np.interp(wanted, known_ratios, known_shapes)
        gammas = np.array([[math.gamma(k / a) for k in (1, 2, 3)] for a in shape])
        scale = np.sqrt(gammas[:, 0] / gammas[:, 2])
        left, right = left * scale, right * scale
        mean = (right - left) * gammas[:, 1] / gammas[:, 0]
    return shape, mean, left, right


@lru_cache(maxsize=1)
def _shapes() -> tuple[Array, Array]:
    """Shapes, and the squared mean over the mean square that each has; the latter rises."""
    shapes = np.arange(0.2, 10.0, 0.001)
    ratios = [math.gamma(2 / a) ** 2 / (math.gamma(1 / a) * math.gamma(3 / a)) for a in shapes]
    return shapes, np.array(ratios)


@dataclass(slots=True)
class Moments:
    """Mean and covariance of features, patch by patch at constant memory."""

    count: int = 0
    total: Array = field(default_factory=lambda: np.zeros(NUM_FEATURES))
    products: Array = field(default_factory=lambda: np.zeros((NUM_FEATURES, NUM_FEATURES)))

    def add(self, table: Array) -> None:
        """Take features of patches, (patches, 36)."""
        self.count += len(table)
        self.total += table.sum(axis=0)
        self.products += table.T @ table

    def gaussian(self) -> tuple[Array, Array]:
        """(36,) and (36, 36)."""
        mean = self.total / self.count
        return mean, self.products / self.count - np.outer(mean, mean)


@lru_cache(maxsize=1)
def photographs() -> tuple[Array, Array]:
    """Mean and covariance of our photographs."""
    held = load_file(FIT_FILE)
    return held["mean"].astype(np.float64), held["covariance"].astype(np.float64)


def distance(found: Moments) -> float:
    """From photographs; 0 is alike, NaN for too few patches."""
    if found.count < _MIN_PATCHES:
        return math.nan
    (mean, covariance), (own_mean, own_covariance) = photographs(), found.gaussian()
    step = mean - own_mean
    inverse = np.linalg.pinv((covariance + own_covariance) / 2)
    return math.sqrt(max(0.0, float(step @ inverse @ step)))


class Naturalness:
    """Distance of the result from photographs, at its full size, over the whole film."""

    def __init__(self) -> None:
        self._result, self._plain = Moments(), Moments()
        self._num_seen = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame; one of many is looked at."""
        self._num_seen += 1
        if (self._num_seen - 1) % _EVERY:
            return
        size = pair.result.luma_HW.shape[::-1]
        plain = cv2.resize(pair.source.luma_HW, size, interpolation=cv2.INTER_CUBIC)
        for moments, luma in ((self._result, pair.result.luma_HW), (self._plain, plain)):
            moments.add(features(np.asarray(luma, np.float32) * np.float32(CODES))[0])

    def compute(self) -> tuple[float, float]:
        """Of the result, and of the source plainly enlarged; NaN for too few patches."""
        return distance(self._result), distance(self._plain)
