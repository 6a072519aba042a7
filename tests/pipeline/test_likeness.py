"""What counts as the same picture where sources are still, wild or tiny."""

from __future__ import annotations

import numpy as np
import pytest

from vsr.pipeline.likeness import Likeness
from vsr.pipeline.sampling import Cells, View


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
