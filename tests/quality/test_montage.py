"""Where each picture goes in a montage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from vsr.errors import ShapeError
from vsr.quality.montage import LABEL_PX, Montage, label_strip
from vsr.quality.views import resize


def flat(width: int, height: int, value: float) -> np.ndarray:
    return np.full((3, height, width), value, np.float32)


def test_two_stand_side_by_side_at_the_size_of_the_larger() -> None:
    montage = Montage([(20, 10), (41, 21)])
    assert montage.tile == (41, 21)
    assert montage.size == (86, LABEL_PX + 22)
    drawn = montage.draw([flat(20, 10, 0.25), flat(41, 21, 0.75)], ["A", "B"], 0.0).numpy()
    assert drawn.shape == (3, *montage.size[::-1])
    assert np.allclose(drawn[:, LABEL_PX : LABEL_PX + 21, :41], 0.25, atol=1e-6)
    assert np.allclose(drawn[:, LABEL_PX : LABEL_PX + 21, 45:], 0.75)
    assert not drawn[:, LABEL_PX:, 41:45].any()
    assert drawn[:, :LABEL_PX, :41].max() == drawn[:, :LABEL_PX, 45:].max() == 1


def test_the_smaller_is_enlarged_as_the_report_does_it() -> None:
    random = np.random.default_rng(1)
    small = random.random((3, 12, 16)).astype(np.float32)
    drawn = Montage([(16, 12), (32, 24)]).draw([small, flat(32, 24, 0)], ["", ""], 0.0).numpy()
    for channel in range(3):
        expected = resize(small[channel], 24, 32)
        assert np.allclose(drawn[channel, LABEL_PX : LABEL_PX + 24, :32], expected, atol=1e-6)


def test_many_stand_in_rows() -> None:
    montage = Montage([(10, 8)] * 5)
    values = [0.1, 0.2, 0.3, 0.4, 0.5]
    drawn = montage.draw([flat(10, 8, value) for value in values], [""] * 5, 0.0)
    assert montage.size == (3 * 14 - 4, 2 * (8 + LABEL_PX + 4) - 4)
    found = [
        float(drawn[0, LABEL_PX + 2 + row * (LABEL_PX + 12), 5 + 14 * column])
        for row in range(2)
        for column in range(3)
    ]
    assert found == pytest.approx([*values, 0.0])


def test_a_wipe_goes_from_the_middle_over_both() -> None:
    montage = Montage([(64, 8), (64, 8)], wipe=True, ink=0.5)
    assert montage.size == (64, LABEL_PX + 8)
    borders = [montage.border_px(k / 25) for k in range(200)]
    assert borders[0] == 32
    assert (min(borders), max(borders)) == (0, 64)
    assert max(abs(b - a) for a, b in pairwise(borders)) <= 2
    drawn = montage.draw([flat(64, 8, 0.2), flat(64, 8, 0.8)], ["A", "B"], 1.0).numpy()
    at = montage.border_px(1.0)
    assert np.allclose(drawn[:, LABEL_PX:, : at - 2], 0.2)
    assert np.allclose(drawn[:, LABEL_PX:, at + 2 :], 0.8)
    assert np.allclose(drawn[:, LABEL_PX:, at - 1 : at + 1], 0.5)
    with pytest.raises(ShapeError, match="two films"):
        Montage([(64, 8)] * 3, wipe=True)


def test_a_label_stands_left_or_right_and_is_cut_off() -> None:
    left, right = label_strip("A", 200), label_strip("A", 200, is_right=True)
    assert left[:, :100].any() and not left[:, 100:].any()
    assert right[:, 100:].any() and not right[:, :100].any()
    assert label_strip("A long label" * 9, 50).shape == (LABEL_PX, 50)
