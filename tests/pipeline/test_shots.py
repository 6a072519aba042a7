"""Hard cuts are found at their frame; fades, flashes, pans and noise are not cuts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray

from vsr.frame import ColorSpec, Frame, PlaneLayout
from vsr.pipeline.shots import CutDetector, thumbnail

HEIGHT, WIDTH = 90, 160


def texture(seed: int, width: int = WIDTH) -> NDArray[np.float64]:
    """Smooth random picture in [0.1, 0.9]."""
    coarse = np.random.default_rng(seed).random((HEIGHT // 10 + 2, width // 10 + 2))
    rows = np.linspace(0, coarse.shape[0] - 1.001, HEIGHT)
    columns = np.linspace(0, coarse.shape[1] - 1.001, width)
    top, left = rows.astype(int), columns.astype(int)
    y, x = (rows - top)[:, None], (columns - left)[None, :]
    upper = coarse[top][:, left] * (1 - x) + coarse[top][:, left + 1] * x
    lower = coarse[top + 1][:, left] * (1 - x) + coarse[top + 1][:, left + 1] * x
    picture: NDArray[np.float64] = 0.1 + 0.8 * (upper * (1 - y) + lower * y)
    return picture


def frame(luma: NDArray[np.float64], bits: int = 8, pts: int = 0) -> Frame:
    layout = PlaneLayout(bits=bits, is_gray=True)
    top = (1 << bits) - 1
    plane = np.clip(np.round(luma * top), 0, top).astype(layout.dtype)
    return Frame(planes=(plane,), layout=layout, color=ColorSpec(), pts=pts)


def cuts_of(pictures: Iterable[NDArray[np.float64]], bits: int = 8) -> tuple[int, ...]:
    detector = CutDetector()
    for picture in pictures:
        detector.push(thumbnail(frame(picture, bits)))
    return detector.finish()


def pan(seed: int, count: int, step: int = 2) -> list[NDArray[np.float64]]:
    wide = texture(seed, WIDTH + step * count)
    return [wide[:, step * index : step * index + WIDTH] for index in range(count)]


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_hard_cuts_are_found_at_their_frame(bits: int) -> None:
    film = pan(1, 12) + pan(2, 9) + pan(3, 20)
    assert cuts_of(film, bits) == (12, 21)


def test_a_dark_cut_is_found() -> None:
    film = [0.15 * picture for picture in pan(1, 10) + pan(2, 10)]
    assert cuts_of(film) == (10,)


@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_cuts_near_the_ends_are_found(length: int) -> None:
    assert cuts_of(pan(1, length) + pan(2, 12)) == (length,)
    assert cuts_of(pan(1, 12) + pan(2, length)) == (12,)


def test_one_shot_has_no_cut() -> None:
    assert cuts_of(pan(4, 40, step=6)) == ()
    assert cuts_of([texture(5)] * 20) == ()
    assert cuts_of([]) == ()
    assert cuts_of([texture(5)]) == ()


def test_a_whip_pan_is_no_cut() -> None:
    assert cuts_of(pan(4, 30, step=40)) == ()


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_flash_is_no_cut(length: int) -> None:
    film = pan(6, 30, step=1)
    for index in range(12, 12 + length):
        film[index] = 0.3 * film[index] + 0.7
    assert cuts_of(film) == ()
    for index in range(12, 12 + length):
        film[index] = np.ones((HEIGHT, WIDTH))
    assert cuts_of(film) == ()


def test_fades_and_a_dissolve_are_no_cuts() -> None:
    film = pan(7, 40)
    to_black = [picture * max(0.0, 1 - index / 24) for index, picture in enumerate(film)]
    assert cuts_of(to_black) == ()
    assert cuts_of(to_black[::-1]) == ()
    other = pan(8, 40)
    mix = [min(1.0, max(0.0, (index - 8) / 20)) for index in range(40)]
    dissolve = [(1 - m) * a + m * b for a, b, m in zip(film, other, mix, strict=True)]
    assert cuts_of(dissolve) == ()


def test_a_cut_blended_over_two_frames_is_one_cut() -> None:
    film = pan(1, 10) + pan(2, 10)
    film[10] = 0.4 * film[9] + 0.6 * film[10]
    assert cuts_of(film) in ((10,), (11,))


def test_noise_is_no_cut() -> None:
    random = np.random.default_rng(9)
    film = [picture + random.normal(0, 0.05, picture.shape) for picture in pan(9, 30)]
    assert cuts_of(film) == ()


def test_a_cut_to_black_and_back_to_another_scene() -> None:
    film = pan(1, 10) + [np.zeros((HEIGHT, WIDTH))] * 10 + pan(2, 10)
    assert cuts_of(film) == (10, 20)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (17, 31), (19, 33)])
def test_any_size_gives_a_thumbnail(size: tuple[int, int]) -> None:
    small = thumbnail(frame(np.full(size, 0.5)))
    assert small.shape == (min(18, size[0]), min(32, size[1]))
    assert np.allclose(small, 128 / 255)


def test_the_detector_holds_a_handful_of_pictures() -> None:
    detector = CutDetector()
    small = thumbnail(frame(texture(1)))
    for _ in range(1000):
        detector.push(small)
    assert len(detector._pictures) <= 10
