"""Grain: its strength at each brightness and its coarseness, measured beside a scene."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.media.grain import NUM_LEVELS, measure_grain

Picture = NDArray[np.float32]


def scene(side: int = 240) -> Picture:
    """Smooth brightness from dark to light with a few hard edges."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    picture = 0.1 + 0.8 * x
    picture[(20 * x + 30 * y) % 5 < 0.5] *= 0.6
    return np.asarray(picture, np.float32)


def noise(side: int = 240, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)


@pytest.mark.parametrize("codes", [2.0, 6.0, 12.0])
def test_the_strength_is_found(codes: float) -> None:
    found = measure_grain([scene() + codes / 255 * noise()])
    assert found is not None
    assert found.codes == pytest.approx(codes, rel=0.2)
    assert found.correlation < 0.1


def test_a_clean_scene_has_next_to_none() -> None:
    found = measure_grain([scene()])
    assert found is not None and found.codes < 0.5


def test_grain_that_is_stronger_in_the_dark() -> None:
    picture = scene()
    found = measure_grain([picture + (0.04 - 0.03 * picture) * noise()])
    assert found is not None
    assert len(found.sigmas) == NUM_LEVELS
    assert found.sigmas[1] > 1.6 * found.sigmas[-2]


def test_coarse_grain_is_told_from_fine() -> None:
    fine = noise()
    coarse = 0.5 * (fine + np.roll(fine, 1, 0) + np.roll(fine, 1, 1) + np.roll(fine, 1, (0, 1)))
    found = measure_grain([scene() + np.float32(0.03) * coarse])
    assert found is not None and found.correlation > 0.2


def test_too_little_to_tell() -> None:
    assert measure_grain([np.zeros((20, 200), np.float32)]) is None
    assert measure_grain([np.zeros((96, 96), np.float32)]) is None, "black holds no grain"
    assert measure_grain([]) is None
