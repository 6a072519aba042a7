"""Measures without ground truth, against scikit-image and against defects put in on purpose."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vsr.quality.colors import ColorDrift, ciede2000, rgb_to_lab
from vsr.quality.consistency import (
    Clipping,
    Detail,
    Fidelity,
    Histogram,
    Overshoot,
    Pair,
    Sharpness,
)
from vsr.quality.defects import Blockiness, Seams, Standstill
from vsr.quality.views import Picture, View, resize

ROWS, COLUMNS = 48, 64


def wave(index: int, rows: int = ROWS, columns: int = COLUMNS) -> Picture:
    """A smooth pattern that moves; the same scene at any size."""
    y, x = np.mgrid[0:rows, 0:columns]
    y, x = (y + 0.5) * ROWS / rows, (x + 0.5) * COLUMNS / columns
    return np.asarray(0.5 + 0.3 * np.sin((x + 2 * index) / 5) * np.cos((y - index) / 4), np.float32)


def view(luma: Picture) -> View:
    return View(luma, np.stack([luma, luma, luma]))


def pair(index: int = 0, change: Picture | float = 0.0) -> Pair:
    """A source, and its scene at twice the size with a change."""
    result = wave(index, 2 * ROWS, 2 * COLUMNS) + np.float32(1) * change
    return Pair.of(view(wave(index)), view(np.asarray(result, np.float32)))


def test_fidelity_is_what_scikit_image_says() -> None:
    noise = np.random.default_rng(1).normal(0, 0.02, (2 * ROWS, 2 * COLUMNS))
    one = pair(3, noise.astype(np.float32))
    measure = Fidelity()
    measure.update(one)
    source = one.source.luma_HW.astype(np.float64)
    result = one.reduced_HW.astype(np.float64)
    psnr = peak_signal_noise_ratio(source, result, data_range=1)  # type: ignore[no-untyped-call]
    similar = structural_similarity(  # type: ignore[no-untyped-call]
        source,
        result,
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert measure.psnr_db == pytest.approx(psnr, abs=1e-4)
    # scikit-image too leaves the border out of the mean.
    assert measure.ssim == pytest.approx(similar, abs=1e-4)


def test_the_worst_frame_and_where_in_it() -> None:
    measure = Fidelity()
    patch = np.zeros((2 * ROWS, 2 * COLUMNS), np.float32)
    patch[20:30, 100:120] = 0.2
    for index, change in enumerate([0 * patch, patch, 0 * patch]):
        measure.update(pair(index, change))
    assert measure.worst_map is not None
    row, column = np.unravel_index(np.argmax(measure.worst_map), measure.worst_map.shape)
    rows, columns = measure.worst_map.shape
    assert 20 / 96 - 1 / rows <= row / rows < 30 / 96
    assert 100 / 128 - 1 / columns <= column / columns < 120 / 128
    assert measure.compute()[0] > measure.worst_psnr_db


def test_enlarging_adds_no_detail_and_noise_does() -> None:
    plain, noisy = Detail(), Detail()
    noise = np.random.default_rng(2).normal(0, 4 / 255, (2 * ROWS, 2 * COLUMNS))
    for index in range(3):
        plain.update(pair(index))
        noisy.update(pair(index, noise.astype(np.float32)))
    assert plain.compute() < 1
    # White noise keeps about a quarter of its energy when reduced by two.
    assert noisy.compute() == pytest.approx(4 * math.sqrt(0.75), rel=0.15)
    assert noisy.map_codes() is not None


def test_blur_is_less_steep() -> None:
    clean, blurred = Sharpness(), Sharpness()
    clean.update(pair())
    source = view(wave(0))
    soft = resize(resize(wave(0), 6, 8), 2 * ROWS, 2 * COLUMNS)
    blurred.update(Pair.of(source, view(soft)))
    assert clean.compute() == pytest.approx(1, abs=0.05)
    assert blurred.compute() < 0.7


def test_overshoot_and_clipping_are_counted() -> None:
    step = np.full((ROWS, COLUMNS), 0.2, np.float32)
    step[:, COLUMNS // 2 :] = 0.8
    large = np.repeat(np.repeat(step, 2, 0), 2, 1)
    ringing = large.copy()
    ringing[:, COLUMNS - 6] -= 0.3
    clean, halo, clip = Overshoot(), Overshoot(), Clipping()
    clean.update(Pair.of(view(step), view(large)))
    halo.update(Pair.of(view(step), view(ringing)))
    clip.update(Pair.of(view(step), view(ringing)))
    assert clean.compute() == 0
    assert halo.compute() == pytest.approx(255 * 0.3 / (2 * COLUMNS), rel=1e-4)
    assert clip.compute() == pytest.approx(1 / (2 * COLUMNS))


def test_a_frozen_and_a_black_frame() -> None:
    measure = Standstill()
    shown = [0, 1, 1, 3, None]
    found = []
    for index, which in enumerate(shown):
        large = np.zeros((2 * ROWS, 2 * COLUMNS), np.float32)
        if which is not None:
            large = wave(which, 2 * ROWS, 2 * COLUMNS)
        measure.update(Pair.of(view(wave(index)), view(large)))
        found.append((measure.is_frozen, measure.is_black))
    assert found == [(False, False)] * 2 + [(True, False), (False, False), (False, True)]
    assert measure.compute() == (1, 1)


def test_a_still_film_is_not_frozen() -> None:
    measure = Standstill()
    for _ in range(4):
        measure.update(pair(0))
    assert measure.compute() == (0, 0)


def test_a_seam_is_found_where_it_is() -> None:
    clean, seamed = Seams(), Seams()
    tile = np.zeros((2 * ROWS, 2 * COLUMNS), np.float32)
    tile[:, 64:] = 2 / 255
    for index in range(8):
        clean.update(pair(index))
        seamed.update(pair(index, tile))
    assert clean.compute() == ([], [])
    columns, rows = seamed.compute()
    assert rows == []
    assert any(abs(at - 32) <= 1 and step > 0.5 for at, step in columns)


def test_an_edge_of_the_picture_is_no_seam_at_a_broken_factor() -> None:
    card = np.zeros((96, 160), np.float32)
    card[:, 60:], card[:, 80:], card[:, 100:] = 0.11, 0.886, 0.338
    large = np.asarray(cv2.resize(card, (208, 124), interpolation=cv2.INTER_AREA), np.float32)
    seamed = large.copy()
    seamed[:, 52:] += np.float32(2 / 255)
    for result, found in ((large, []), (seamed, [40])):
        measure = Seams()
        measure.update(Pair.of(view(card), view(result)))
        columns, rows = measure.compute()
        assert [at for at, _ in columns] == found
        assert rows == []


def test_what_rings_beside_an_edge_is_no_seam() -> None:
    """The error is 3 codes behind the edge, where plain interpolation's swings by 7."""
    card = np.full((ROWS, 80), 0.886, np.float32)
    card[:, 40:] = 0.11
    large = np.asarray(cv2.resize(card, (160, 2 * ROWS), interpolation=cv2.INTER_CUBIC), np.float32)
    for first, found in ((82, []), (112, [56])):
        result = large.copy()
        result[:, first:] -= np.float32(3 / 255)
        measure = Seams()
        measure.update(Pair.of(view(card), view(result)))
        assert [at for at, _ in measure.compute()[0]] == found


def test_blocks_are_seen() -> None:
    clean, blocky = Blockiness(), Blockiness()
    y, x = np.mgrid[0 : 2 * ROWS, 0 : 2 * COLUMNS]
    grid = np.where(((x // 8) + (y // 8)) % 2, 8 / 255, 0).astype(np.float32)
    for index in range(4):
        clean.update(pair(index))
        blocky.update(pair(index, grid))
    assert clean.compute() == pytest.approx(1, abs=0.2)
    assert blocky.compute() > 1.3


def test_color_difference_is_what_scikit_image_says() -> None:
    one, two = np.random.default_rng(3).random((2, 500, 3))
    two = np.clip(one + 0.1 * (two - 0.5), 0, 1)
    assert np.abs(rgb_to_lab(one) - rgb2lab(one)).max() < 0.02
    mine = ciede2000(rgb2lab(one), rgb2lab(two))
    theirs = deltaE_ciede2000(rgb2lab(one), rgb2lab(two))  # type: ignore[no-untyped-call]
    assert np.abs(mine - theirs).max() < 1e-6
    assert float(ciede2000(np.array([50.0, 2.6772, -79.7751]), np.array([50.0, 0.0, -82.7485]))) \
        == pytest.approx(2.0425, abs=1e-4)  # fmt: skip


def test_drift_of_three_codes() -> None:
    measure = ColorDrift()
    for index in range(3):
        source, result = wave(index), wave(index) + np.float32(3 / 255)
        measure.update(Pair.of(view(source), View(result, np.stack([result, source, source]))))
    difference, codes = measure.compute()
    assert codes == pytest.approx((3, 0, 0), abs=1e-3)
    assert 0.3 < difference < 3
    assert math.isnan(ColorDrift().compute()[0])


def test_a_histogram_of_both_films() -> None:
    measure = Histogram()
    source = np.full((8, 8), 0.5, np.float32)
    result = np.full((16, 16), 1.2, np.float32)
    result[:, :4] = -0.1
    measure.update(Pair.of(view(source), view(result)))
    before, after = measure.compute()
    assert before[32] == 1
    assert (after[0], after[63]) == (0.25, 0.75)
