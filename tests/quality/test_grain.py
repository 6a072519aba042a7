"""Grain is measured in flat places, and what a result kept of it at the source's own size."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.quality.consistency import Pair
from vsr.quality.grain import Grain
from vsr.quality.views import View, resize

Picture = NDArray[np.float32]
ROWS, COLUMNS = 144, 192
SMALL = np.zeros((3, 90, 160), np.float32)


def scene() -> Picture:
    """Wide shades on the left, hard texture on the right."""
    y, x = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
    picture = 0.4 + 0.1 * np.sin(x / 60) * np.cos(y / 50)
    picture[:, COLUMNS // 2 :] += 0.2 * (((x + y) // 3) % 2)[:, COLUMNS // 2 :]
    return np.asarray(picture, np.float32)


def noise(codes: float) -> Picture:
    random = np.random.default_rng(1)
    return np.asarray(random.normal(0, codes / 255, (ROWS, COLUMNS)), np.float32)


def measured(source: Picture, result: Picture) -> Grain:
    grain = Grain()
    grain.update(Pair.of(View(source, SMALL), View(result, SMALL)))
    return grain


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_plain_enlargement_keeps_it_at_any_size(factor: int) -> None:
    source = scene() + noise(6)
    grain = measured(source, resize(source, factor * ROWS, factor * COLUMNS))
    # What is coarser than the limit is not counted: about an eighth of white noise's energy.
    assert grain.codes == pytest.approx(6 * math.sqrt(0.86), rel=0.06)
    assert grain.kept == pytest.approx(grain.plain_kept, abs=0.01)
    # Half of white noise is finer than what interpolation carries to another size and back.
    assert 0.6 < grain.kept < 0.7
    assert grain.compute() == pytest.approx((grain.codes, grain.kept, grain.plain_kept))


def test_half_of_it_is_half_and_none_is_none() -> None:
    source, size = scene() + noise(6), (2 * ROWS, 2 * COLUMNS)
    whole = measured(source, resize(source, *size)).kept
    half = measured(source, resize(scene() + noise(3), *size)).kept
    assert half / whole == pytest.approx(0.5, abs=0.01)
    assert measured(source, resize(scene(), *size)).kept < 0.03
    stronger = measured(source, resize(scene() + noise(12), *size)).kept
    assert stronger / whole == pytest.approx(2, abs=0.02)


def test_texture_and_what_is_clipped_are_no_grain() -> None:
    clean = measured(scene(), resize(scene(), 2 * ROWS, 2 * COLUMNS))
    assert clean.codes < 0.1
    assert math.isnan(clean.kept)
    assert all(math.isnan(value) for value in clean.compute())
    black = np.zeros((ROWS, COLUMNS), np.float32)
    assert math.isnan(measured(black, black).codes)


def test_a_smaller_picture_than_a_block_has_none_or_some() -> None:
    tiny = np.asarray(cv2.resize(scene() + noise(6), (9, 7)), np.float32)
    assert measured(tiny, resize(tiny, 14, 18)).codes >= 0
