"""Grain and noise of a picture: how strong at each brightness, and how coarse.

Seen where the scene itself is flat: blocks of the picture, from each of which a plane is taken
away, sorted by what is left; the flattest of each brightness hold grain and little else. Needs no
torch, so that whoever decodes can measure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_PX = 12
NUM_LEVELS = 8
_FLATTEST = 0.1
"""Share of the blocks of a brightness that are taken for flat."""
_MIN_BLOCKS = 8
"""Blocks without which a brightness borrows from its neighbours."""
_MOST = 2.0
"""Times the least of all brightnesses: more than that is texture where nothing was flat."""
_CLIPPED = 2 / 255
"""This near to black and white, codes cannot swing."""

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grain:
    """What was measured."""

    sigmas: tuple[float, ...]
    """Deviation at each of `NUM_LEVELS` brightnesses from black to white, of samples in [0, 1]."""
    correlation: float
    """Of neighbouring samples, along rows and columns alike: 0 for noise of single pixels."""

    @property
    def codes(self) -> float:
        """Mean deviation in 8-bit codes."""
        return 255.0 * sum(self.sigmas) / len(self.sigmas)

    @property
    def least_codes(self) -> float:
        """Deviation where there is least of it: what is surely not the scene."""
        return 255.0 * min(self.sigmas)


def measure_grain(lumas_HW: Iterable[_Array]) -> Grain | None:
    """Measure the grain of pictures of one film.

    Args:
        lumas_HW: luma, nominally [0, 1]; one picture or several.

    Returns:
        None where no picture has room for enough blocks.
    """
    parts = [_blocks(luma) for luma in lumas_HW if min(luma.shape) >= 2 * BLOCK_PX]
    if not parts:
        return None
    means = np.concatenate([part[0] for part in parts])
    rests = np.concatenate([part[1] for part in parts])
    usable = (means > _CLIPPED) & (means < 1 - _CLIPPED)
    means, rests = means[usable], rests[usable]
    if len(means) < _MIN_BLOCKS:
        return None
    variances = rests.astype(np.float64).var(axis=(1, 2))
    level_of = np.minimum((means * NUM_LEVELS).astype(int), NUM_LEVELS - 1)
    sigmas: list[float | None] = []
    flat = np.zeros(len(means), dtype=bool)
    for level in range(NUM_LEVELS):
        here = np.flatnonzero(level_of == level)
        if len(here) < _MIN_BLOCKS:
            sigmas.append(None)
            continue
        order = here[np.argsort(variances[here])]
        chosen = order[: max(_MIN_BLOCKS // 2, int(_FLATTEST * len(order)))]
        flat[chosen] = True
        # The flattest blocks are so by chance, too: their median is nearer to the truth.
        sigmas.append(float(np.sqrt(np.median(variances[chosen]))))
    if not flat.any():
        return None
    return Grain(_filled(sigmas), _correlation(rests[flat]))


def _blocks(luma_HW: _Array) -> tuple[_Array, _Array]:
    """Means (N,) and what is left of each block without its plane, (N, BLOCK_PX, BLOCK_PX)."""
    rows, columns = (size // BLOCK_PX for size in luma_HW.shape)
    cut = luma_HW[: rows * BLOCK_PX, : columns * BLOCK_PX].astype(np.float32)
    blocks = cut.reshape(rows, BLOCK_PX, columns, BLOCK_PX).swapaxes(1, 2)
    flat = blocks.reshape(-1, BLOCK_PX, BLOCK_PX)
    line = np.arange(BLOCK_PX, dtype=np.float32) - (BLOCK_PX - 1) / 2
    line /= np.sqrt(BLOCK_PX * (line * line).sum())
    means = flat.mean(axis=(1, 2))
    rest = flat - means[:, None, None]
    across = (rest * line[None, None, :]).sum(axis=(1, 2))
    down = (rest * line[None, :, None]).sum(axis=(1, 2))
    rest -= across[:, None, None] * line[None, None, :] + down[:, None, None] * line[None, :, None]
    return means, rest


def _filled(sigmas: list[float | None]) -> tuple[float, ...]:
    """Brightnesses that were not seen, from those nearest to them."""
    known = [index for index, sigma in enumerate(sigmas) if sigma is not None]
    values = [sigma for sigma in sigmas if sigma is not None]
    filled = np.interp(np.arange(len(sigmas)), known, values)
    # Near black and white codes are cut off, and little is left of any grain.
    inner = [sigma for sigma in sigmas[1:-1] if sigma is not None]
    most = _MOST * min(inner, default=max(values))
    return tuple(float(min(sigma, most)) for sigma in filled)


def _correlation(rests: _Array) -> float:
    """Of neighbours, from 0 to 0.95."""
    power = float((rests * rests).mean())
    if power <= 0:
        return 0.0
    across = float((rests[:, :, 1:] * rests[:, :, :-1]).mean())
    down = float((rests[:, 1:] * rests[:, :-1]).mean())
    return min(0.95, max(0.0, 0.5 * (across + down) / power))
