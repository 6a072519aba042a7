"""Photographs are natural; blurred, noisy, blocky and interpolated ones are less so."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from skimage import data

from vsr.quality.consistency import Pair
from vsr.quality.naturalness import (
    FIT_FILE,
    Moments,
    Naturalness,
    distance,
    features,
    normalised,
    photographs,
)
from vsr.quality.views import View

Picture = NDArray[np.float32]
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def score(*pictures: NDArray[Any]) -> float:
    found = Moments()
    for picture in pictures:
        found.add(features(np.asarray(picture, np.float32))[0])
    return distance(found)


@pytest.fixture(scope="module")
def shots() -> list[Picture]:
    """None of them was fitted on."""
    names = ("astronaut", "coffee", "chelsea", "rocket", "camera")
    pictures = [getattr(data, name)() for name in names]
    grays = [p.astype(np.float32) @ LUMA if p.ndim == 3 else np.float32(p) for p in pictures]
    return [np.asarray(gray, np.float32) for gray in grays]


def jpeg(picture: Picture, quality: int) -> Picture:
    codes = np.clip(picture, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE), np.float32)


def test_what_was_done_to_photographs_shows(shots: list[Picture]) -> None:
    random = np.random.default_rng(1)
    clean = score(*shots)
    assert 0 < clean < 5
    blurred = [score(*(cv2.GaussianBlur(p, (0, 0), sigma) for p in shots)) for sigma in (1, 2)]
    noisy = [score(*(p + random.normal(0, codes, p.shape) for p in shots)) for codes in (12, 25)]
    blocky = [score(*(jpeg(p, quality) for p in shots)) for quality in (30, 10)]
    enlarged = [
        score(
            *(
                cv2.resize(
                    cv2.resize(p, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA),
                    p.shape[::-1],
                    interpolation=cv2.INTER_CUBIC,
                )
                for p in shots
            )
        )
        for factor in (2, 4)
    ]
    for little, much in (blurred, noisy, blocky, enlarged):
        assert clean < little < much


def test_normalised_pixels_are_what_the_paper_says() -> None:
    random = np.random.default_rng(2)
    picture = np.asarray(random.normal(100, 30, (40, 50)), np.float32)
    pixels, deviation = normalised(picture)
    offsets = np.arange(-3, 4)
    line = np.exp(-0.5 * (offsets / (7 / 6)) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    around = picture[10:17, 20:27]
    mean = float((window * around).sum())
    spread = math.sqrt(float((window * (around - mean) ** 2).sum()))
    assert deviation[13, 23] == pytest.approx(spread, rel=1e-3)
    assert pixels[13, 23] == pytest.approx((picture[13, 23] - mean) / (spread + 1), abs=1e-3)


def test_the_shape_of_known_noise_is_found() -> None:
    """White Gaussian noise has shape 2, as the normalised pixels of it nearly have."""
    random = np.random.default_rng(3)
    found, _ = features(np.asarray(random.normal(128, 20, (480, 480)), np.float32))
    assert found.shape == (25, 36)
    assert found[:, 0].mean() == pytest.approx(2.6, abs=0.4)
    # Neighbours' products are nearly symmetric where nothing is alike.
    assert np.abs(found[:, 3].mean()) < 0.2


def test_plain_areas_and_small_pictures_say_nothing() -> None:
    assert features(np.full((200, 200), 50, np.float32))[0].shape == (0, 36)
    assert features(np.zeros((95, 400), np.float32))[0].shape == (0, 36)
    assert math.isnan(score(np.full((200, 200), 50, np.float32)))


def test_a_film_is_scored_with_what_plain_interpolation_has(shots: list[Picture]) -> None:
    film = Naturalness()
    small = np.zeros((3, 90, 160), np.float32)
    large = np.asarray(np.tile(shots[0] / 255, (2, 2))[:960, :1000], np.float32)
    source = np.asarray(cv2.resize(large, (500, 480), interpolation=cv2.INTER_AREA), np.float32)
    film.update(Pair.of(View(source, small), View(large, small)))
    result, plain = film.compute()
    assert result < plain


def test_the_fit_says_what_it_was_made_of() -> None:
    mean, covariance = photographs()
    assert mean.shape == (36,)
    assert np.allclose(covariance, covariance.T)
    assert np.linalg.eigvalsh(covariance).min() > -1e-9
    with safe_open(FIT_FILE, "numpy") as file:
        told = file.metadata()
    assert int(told["patches"]) > 500
    assert "CC0-1.0" in told["origins"]
