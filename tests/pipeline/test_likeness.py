"""What counts as the same picture where sources are still, wild or tiny."""

from __future__ import annotations

import numpy as np
import pytest

from vsr.pipeline.likeness import Cells, Likeness, View, _PlaneSampler


def view(rgb: Cells) -> View:
    return View(rgb.astype(np.float32), rgb.mean(axis=0).astype(np.float32))


def noise(amount: float, seed: int, cells: int = 32) -> Cells:
    """The same for all colours."""
    drawn = np.random.default_rng(seed).normal(0, amount, (1, cells, cells))
    return np.repeat(drawn, 3, axis=0).astype(np.float32)


GREY: Cells = np.full((3, 32, 32), 120, np.float32)


def judged(own: Cells, other: Cells, result: Cells) -> Likeness:
    found = Likeness()
    found.add(0, 0, view(result), {0: view(own), 1: view(other)})
    return found


def test_noise_of_the_sources_codec_does_not_tell_still_pictures_apart() -> None:
    error = noise(3.5, 1)
    own, other = GREY + noise(1.0, 2), GREY - noise(0.5, 3)
    assert judged(own, other, other + error).num_misplaced == 0


def test_pictures_that_differ_by_more_are_told_apart() -> None:
    error = noise(3.5, 1)
    own, other = GREY + noise(3.0, 2), GREY
    assert judged(own, other, other + error).num_misplaced == 1
    assert judged(own, other, own + error).num_misplaced == 0


@pytest.mark.parametrize(("spread", "num_wrong"), [(20.0, 1), (150.0, 0)])
def test_wild_colours_may_be_off_by_more(spread: float, num_wrong: int) -> None:
    wild = GREY + noise(spread, 4)
    assert judged(wild, wild, wild + 14).num_discolored == num_wrong


def test_what_flows_over_the_edge_of_a_tiny_field_is_no_wrong_colour() -> None:
    # Of 16 cells, a quarter is 4 wide; beside it, one column differs by chroma of its neighbour.
    source = np.full((3, 16, 16), 120, np.float32)
    result = source.copy()
    result[0, :, 3] += 60
    assert judged(source, source, result).num_discolored == 0
    large = np.full((3, 64, 64), 120, np.float32)
    wrong = large.copy()
    wrong[0, :, :16] += 15
    assert judged(large, large, wrong).num_discolored == 1


def test_colours_that_nobody_sees_do_not_count() -> None:
    beyond = np.full((3, 64, 64), -150, np.float32)
    assert judged(beyond, beyond, beyond + 40).num_discolored == 0
    assert judged(beyond, beyond, beyond + 170).num_discolored == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(("width", "height"), [(6.0, 4.0), (2.0, 8.0), (3.5, 4.0), (6.0, 2.25)])
def test_cells_are_means_by_area(width: float, height: float, dtype: type) -> None:
    x = np.stack([np.arange(10.0), np.arange(1.0, 11.0)], 1) * np.float64(width)
    # Rows of cells may be left out.
    y = np.array([[0.0, 1.0], [1.0, 2.0], [3.0, 4.0]]) * np.float64(height)
    size = int(np.ceil(y.max())) + 2, int(np.ceil(x.max())) + 1
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    plane: np.ndarray = (np.random.default_rng(3).random(size) * top).astype(dtype)
    # A grid so fine that every edge falls between its samples.
    fine = np.repeat(np.repeat(plane.astype(np.float64), 4, axis=0), 4, axis=1)
    expected = [
        [fine[round(4 * a) : round(4 * b), round(4 * c) : round(4 * d)].mean() for c, d in x]
        for a, b in y
    ]
    found = _PlaneSampler(x, y, size).means(plane)
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 2e-6 * top
