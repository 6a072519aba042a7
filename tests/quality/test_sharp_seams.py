"""A border of sharpness is found where it is; edges of things are none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.quality.consistency import Pair
from vsr.quality.sharp_seams import SharpSeams
from vsr.quality.views import View, resize

Picture = NDArray[np.float32]
ROWS, COLUMNS, FRAMES = 96, 160, 10
SMALL = np.zeros((3, 90, 160), np.float32)


def world() -> Picture:
    random = np.random.default_rng(5)
    fine = random.normal(0, 1, (ROWS + 40, COLUMNS + 80)).astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(fine, (0, 0), 1.2), np.float32)
    return np.asarray(0.5 + 0.1 * blurred / blurred.std(), np.float32)


def films(turned: bool = False, num: int = FRAMES) -> list[tuple[Picture, Picture]]:
    """A camera over texture, and the same plainly enlarged."""
    wide, pairs = world(), []
    for k in range(num):
        source = wide[k : k + ROWS, 3 * k : 3 * k + COLUMNS]
        source = np.ascontiguousarray(source.T if turned else source)
        rows, columns = source.shape
        pairs.append((source, resize(source, 2 * rows, 2 * columns)))
    return pairs


def soft(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.float32)


def found(pairs: list[tuple[Picture, Picture]]) -> SharpSeams:
    seams = SharpSeams()
    for source, result in pairs:
        seams.update(Pair.of(View(source, SMALL), View(result, SMALL)))
    return seams


@pytest.mark.parametrize("at", [40, 87, 120])
@pytest.mark.parametrize("turned", [False, True])
def test_where_a_tile_is_softer(at: int, turned: bool) -> None:
    pairs = films(turned)
    for _, result in pairs:
        part = (slice(2 * at, None), slice(None)) if turned else (slice(None), slice(2 * at, None))
        result[part] = soft(result)[part]
    columns, rows = found(pairs).compute()
    steps, none = (rows, columns) if turned else (columns, rows)
    assert none == []
    assert len(steps) == 1
    assert abs(steps[0][0] - at) <= 2
    assert -0.3 < steps[0][1] < -0.05


def test_a_whole_film_that_is_softer_has_no_border() -> None:
    assert found([(source, soft(result)) for source, result in films()]).compute() == ([], [])


def test_the_border_of_a_thing_is_none() -> None:
    """The right half of every frame shows something coarse, in source and result alike."""
    pairs = []
    for source, _ in films():
        source[:, COLUMNS // 2 :] = cv2.GaussianBlur(source, (0, 0), 3)[:, COLUMNS // 2 :]
        pairs.append((source, resize(source, 2 * ROWS, 2 * COLUMNS)))
    assert found(pairs).compute() == ([], [])


def test_a_few_frames_and_no_frames_have_none() -> None:
    few = films(num=7)
    for _, result in few:
        result[:, COLUMNS:] = soft(result)[:, COLUMNS:]
    assert found(few).compute() == ([], [])
    assert SharpSeams().compute() == ([], [])
