"""Borders of tiles that show in sharpness alone: one side is softer and of the same brightness."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.quality.consistency import CODES, Pair
from vsr.quality.views import Picture

Array = NDArray[np.float64]

_SIDE_PX = 8
"""Pixels of the source that are looked at on either side of a line."""
_BANDS, _MOST = 8, 5
"""Along a line; and those of them in which the step must go one way."""
_LEAST = 0.15
"""Natural logarithm of the ratio of energies to either side; clean films have up to 0.08..."""
_TIMES_USUAL = 5.0
"""...and so many times what the film's other columns or rows have."""
_MOST_OF_SOURCE = 0.5
"""By which the source's own energy may change there: more is the edge of a thing."""
_STANDS_OUT = 12.0
"""Of one column's energy over the median of those that are looked at: an edge that stays there."""
_MIN_FRAMES = 8
"""In fewer, what the encoder did to one of them is taken for the film's."""
_LEAST_CODES = 0.3
"""Root mean square step from pixel to pixel; less is flat and tells nothing."""

Steps = list[tuple[int, float]]


class SharpSeams:
    """Steps of steepness along straight lines through the whole film that the source has not.

    Steepness is the energy of the steps from pixel to pixel of the reduced result, over that of
    plain interpolation, so that what the picture shows cancels out; in `_BANDS` bands along each
    column and row, the `_SIDE_PX` pixels before it are held against those behind.
    """

    def __init__(self) -> None:
        self._energies: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        """Of result and of plain interpolation: squared steps across, and down."""
        self._count = 0

    def update(self, pair: Pair) -> None:
        """Take the next frame."""
        for index, luma in enumerate((pair.reduced_HW, pair.plain_HW)):
            steps = luma[:, 1:] - luma[:, :-1], luma[1:] - luma[:-1]
            if len(self._energies) <= index:
                across, down = (np.zeros_like(step) for step in steps)
                self._energies.append((across, down))
            for step, energy in zip(steps, self._energies[index], strict=True):
                cv2.accumulateSquare(step, energy)
        self._count += 1

    def compute(self) -> tuple[Steps, Steps]:
        """(columns, rows): first pixel of the source behind each seam, and how sharper it is there.

        A ratio of steepness less 1; below 0 it is softer.
        """
        if self._count < _MIN_FRAMES:
            return [], []
        result, plain = (across[:-1] + down[:, :-1] for across, down in self._energies)
        least = self._count * (_LEAST_CODES / CODES) ** 2
        return _found(result, plain, least), _found(result.T, plain.T, least)


def _found(result_HW: Picture, plain_HW: Picture, least: float) -> Steps:
    if plain_HW.shape[1] < 8 * _SIDE_PX or plain_HW.shape[0] < _BANDS:
        return []
    (near, source), (far, _) = (_steps(result_HW, plain_HW, least, away) for away in (1, _SIDE_PX))
    step = np.median(near, axis=0)
    limit = max(_LEAST, _TIMES_USUAL * float(np.median(np.abs(step))))
    agree = np.sum(near * np.sign(step) > np.maximum(limit, np.abs(step)) / 2, axis=0)
    stays = np.median(far, axis=0) * np.sign(step) > np.abs(step) / 2
    is_seam = stays & (agree >= _MOST) & (np.abs(np.median(source, axis=0)) < _MOST_OF_SOURCE)
    is_seam &= ~_is_edge(plain_HW, least)
    height = np.where(is_seam, np.abs(step), 0.0)
    found: Steps = []
    while height.size and height[at := int(np.argmax(height))] > limit:
        # Energies are squares of steepness.
        found.append((at + 2 * _SIDE_PX, float(np.exp(step[at] / 2) - 1)))
        height[max(0, at - 2 * _SIDE_PX) : at + 2 * _SIDE_PX] = 0
    return sorted(found)


def _is_edge(plain_HW: Picture, least: float) -> NDArray[np.bool_]:
    """Of each column that `_steps` counts: whether one beside it outdoes the rest in most bands.

    Such an edge is all that its bands tell of, and networks draw it sharper to one side.
    """
    bands = np.stack([b.mean(axis=0, dtype=np.float64) for b in np.array_split(plain_HW, _BANDS)])
    around = np.lib.stride_tricks.sliding_window_view(bands, 2 * _SIDE_PX + 2, axis=1)
    stands_out = around.max(axis=2) > _STANDS_OUT * (np.median(around, axis=2) + least / 100)
    first = _SIDE_PX - 1
    wanted = plain_HW.shape[1] - 4 * _SIDE_PX
    return np.asarray(stands_out.sum(axis=0)[first : first + wanted] >= _BANDS / 2)


def _steps(result_HW: Picture, plain_HW: Picture, least: float, away: int) -> tuple[Array, Array]:
    """Logarithms of what is behind each column over what is before it, so many pixels away.

    Returns:
        Of result over plain interpolation, and of plain interpolation; (bands, columns), 0 where
        either side is flat. Columns are counted from `2 * _SIDE_PX` on.
    """
    sums = []
    for picture in (result_HW, plain_HW):
        bands = np.stack(
            [band.mean(axis=0, dtype=np.float64) for band in np.array_split(picture, _BANDS)]
        )
        total = np.pad(np.cumsum(bands, axis=1), ((0, 0), (1, 0)))
        sums.append((total[:, _SIDE_PX:] - total[:, :-_SIDE_PX]) / _SIDE_PX)
    # sums[..., k] is of the pixels from k to k + _SIDE_PX - 1.
    width = plain_HW.shape[1]
    columns = np.arange(2 * _SIDE_PX, width - 2 * _SIDE_PX)
    before, behind = columns - away - _SIDE_PX, columns + away
    (result_a, plain_a), (result_b, plain_b) = (
        [each[:, at] for each in sums] for at in (before, behind)
    )
    is_known = (plain_a > least) & (plain_b > least)
    floor = least / 100
    source = np.log((plain_b + floor) / (plain_a + floor))
    step = np.log((result_b + floor) / (result_a + floor)) - source
    return np.where(is_known, step, 0.0), np.where(is_known, source, 0.0)
