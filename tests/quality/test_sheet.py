from __future__ import annotations

import numpy as np

from vsr.quality.sheet import Moment, contact_sheet


def test_pictures_stand_side_by_side_with_the_part_that_differs() -> None:
    one = np.full((90, 160, 3), 60, np.uint8)
    two = np.full((180, 320, 3), 60, np.uint8)
    # A red square far to the lower right of the second alone.
    two[150:170, 280:300] = (250, 0, 0)
    sheet = contact_sheet([Moment("00:00:01.000", (one, two))] * 2)
    # Labels of 28, tiles of 320x180, close-ups of 90 rows twice as large, gaps of 4.
    assert sheet.shape == (2 * (28 + 180 + 4 + 180 + 4), 2 * 320 + 4, 3)
    red = (sheet[..., 0] > 200) & (sheet[..., 1] < 60)
    whole, part = red[28:208], red[212:392]
    assert whole[:, :320].sum() == 0
    assert 300 < whole[:, 324:].sum() <= 440
    # The close-up of the second shows the square at twice its size, that of the first does not.
    assert part[:, :320].sum() == 0
    assert part[:, 324:].sum() == 1600
    assert (sheet[:28] > 200).any()


def test_tiny_pictures_are_no_trouble() -> None:
    sheet = contact_sheet([Moment("x", (np.zeros((3, 5, 3), np.uint8),) * 3)])
    assert sheet.shape[1] == 3 * 5 + 2 * 4
