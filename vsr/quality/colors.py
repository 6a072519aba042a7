"""Colour difference as people see it, and how far a result's colours have drifted."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vsr.quality.consistency import CODES, Pair

Array = NDArray[np.float64]

_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def rgb_to_lab(rgb_N3: Array) -> Array:
    """sRGB in [0, 1] to CIELAB under D65; a film's own curve and primaries are not looked at.

    Good enough for a difference, which both films' alike treatment hardly touches.
    """
    rgb = np.clip(rgb_N3, 0, 1)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ _TO_XYZ.T / _WHITE
    cut = 6 / 29
    f = np.where(ratio > cut**3, np.cbrt(ratio), ratio / (3 * cut**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(one_N3: Array, two_N3: Array) -> Array:
    """CIEDE2000 of CIELAB colours, weights 1: Sharma, Wu and Dalal (2005), equations 2 to 22.

    About 1 is what people just notice side by side.
    """
    l1, a1, b1 = np.moveaxis(one_N3, -1, 0)
    l2, a2, b2 = np.moveaxis(two_N3, -1, 0)
    mean_c7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - np.sqrt(mean_c7 / (mean_c7 + 25.0**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where(c1 * c2 == 0, 0.0, turn)
    dl, dc = l2 - l1, c2 - c1
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    # The mean hue lies on the shorter way from the one to the other.
    hm = np.where(c1 * c2 == 0, h1 + h2, (h1 + turn / 2) % 360)
    t = (
        1
        - 0.17 * _cosine(hm - 30)
        + 0.24 * _cosine(2 * hm)
        + 0.32 * _cosine(3 * hm + 6)
        - 0.20 * _cosine(4 * hm - 63)
    )
    theta = 30 * np.exp(-(((hm - 275) / 25) ** 2))
    rc = 2 * np.sqrt(cm**7 / (cm**7 + 25.0**7))
    sl = 1 + 0.015 * (lm - 50) ** 2 / np.sqrt(20 + (lm - 50) ** 2)
    sc, sh = 1 + 0.045 * cm, 1 + 0.015 * cm * t
    rt = -np.sin(np.radians(2 * theta)) * rc
    squared = (dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rt * (dc / sc) * (dh / sh)
    difference: Array = np.sqrt(np.maximum(squared, 0))
    return difference


def _cosine(degrees: Array) -> Array:
    cosine: Array = np.cos(np.radians(degrees))
    return cosine


class ColorDrift:
    """Mean colour of a stretch against the source's: CIEDE2000, and codes of R, G and B."""

    def __init__(self) -> None:
        self._sums = np.zeros((2, 3))
        self._count = 0
        self.means = np.full((2, 3), math.nan)
        """Mean RGB of the last frame of source and result, on the scale [0, 1]."""
        self.codes = np.full(3, math.nan)
        """By how much the last frame's mean R, G and B lie above the source's, in 8-bit codes."""

    def update(self, pair: Pair) -> None:
        """Take the next frame; `codes` are then of this frame alone."""
        views = pair.source, pair.result
        self.add(np.stack([view.small_3HW.mean(axis=(1, 2), dtype=np.float64) for view in views]))

    def add(self, means_23: Array) -> None:
        """Take mean colours of source and result on the scale [0, 1] instead of frames."""
        self.means = means_23
        self.codes = (means_23[1] - means_23[0]) * CODES
        self._sums += means_23
        self._count += 1

    def compute(self) -> tuple[float, tuple[float, float, float]]:
        """(CIEDE2000, codes of R, G and B: result less source); NaN without frames."""
        if not self._count:
            return math.nan, (math.nan, math.nan, math.nan)
        source, result = self._sums / self._count
        red, green, blue = (float(v) for v in (result - source) * CODES)
        return float(ciede2000(rgb_to_lab(source), rgb_to_lab(result))), (red, green, blue)
