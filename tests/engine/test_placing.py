"""Pictures turned, resampled, cropped and filled: every sample where it belongs."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from vsr.engine.geometry import Geometry, Orientation, fit_shape, orientation_of
from vsr.engine.placing import place, place_inside, turn

ONE = 1 << 16
PICTURE = torch.arange(12.0).view(1, 1, 3, 4)


@pytest.mark.parametrize(("transpose", "flip_h", "flip_v"), list(product((False, True), repeat=3)))
def test_turning_agrees_with_the_display_matrix_point_by_point(
    transpose: bool, flip_h: bool, flip_v: bool
) -> None:
    across, down = (-ONE if flip_h else ONE), (-ONE if flip_v else ONE)
    a, b, c, d = (0, down, across, 0) if transpose else (across, 0, 0, down)
    orientation = orientation_of((a, b, 0, c, d, 0, 7 * ONE, -5 * ONE, 1 << 30))
    assert orientation == Orientation(transpose=transpose, flip_h=flip_h, flip_v=flip_v)
    turned = turn(PICTURE, orientation)[0, 0]
    assert turned.shape == ((4, 3) if transpose else (3, 4))
    shown = {
        (x, y): ((a * x + c * y) // ONE, (b * x + d * y) // ONE) for x in range(4) for y in range(3)
    }
    left, top = min(x for x, _ in shown.values()), min(y for _, y in shown.values())
    for (x, y), (new_x, new_y) in shown.items():
        assert turned[new_y - top, new_x - left] == PICTURE[0, 0, y, x]


@pytest.mark.parametrize("matrix", [(0,) * 9, (ONE, 9000, 0, -9000, ONE, 0, 0, 0, 1 << 30)])
def test_other_turns_are_not_taken_for_quarter_turns(matrix: tuple[int, ...]) -> None:
    assert orientation_of(matrix) is None


def test_a_quarter_turn_is_shown_as_numpy_turns() -> None:
    quarter = Orientation(transpose=True, flip_v=True)
    assert np.array_equal(turn(PICTURE, quarter)[0, 0].numpy(), np.rot90(PICTURE[0, 0].numpy()))


def test_nothing_to_do_changes_nothing() -> None:
    same = Geometry(picture_width=4, picture_height=3, width=4, height=3)
    assert torch.equal(place(PICTURE, same), PICTURE)


def test_filling_repeats_the_last_row_and_column() -> None:
    filled = place(PICTURE, Geometry(picture_width=4, picture_height=3, width=6, height=4))
    assert filled.shape == (1, 1, 4, 6)
    assert torch.equal(filled[..., :3, :4], PICTURE)
    assert filled[0, 0, 3].tolist() == [8, 9, 10, 11, 11, 11]


def test_cropping_takes_the_middle() -> None:
    middle = Geometry(picture_width=4, picture_height=3, width=2, height=1, crop_left=1, crop_top=1)
    assert place(PICTURE, middle)[0, 0].tolist() == [[5, 6]]


def test_resampling_keeps_a_gradient() -> None:
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 32, 64).contiguous()
    made = place(ramp, Geometry(picture_width=48, picture_height=24, width=48, height=24))
    expected = (torch.arange(48) + 0.5) / 48 * 64 / 63 - 0.5 / 63
    assert (made[0, 0, 12, 4:-4] - expected[4:-4]).abs().max() < 3e-4


def test_a_wide_picture_lies_between_bars() -> None:
    film = Geometry(picture_width=8, picture_height=8, width=8, height=8)
    size = fit_shape(Fraction(2), (8, 8), Fraction(1))
    assert size == (8, 4)
    made = place_inside(torch.ones(1, 3, 4, 8), size, film)
    assert made[0, 0, :, 0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0]
    assert fit_shape(Fraction(1, 2), (8, 8), Fraction(1)) == (4, 8)
    assert fit_shape(Fraction(1001, 1000), (8, 8), Fraction(1)) == (8, 8)
