"""Blur: taps, the operator, and what is estimated of pictures whose blur is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vsr.errors import ShapeError
from vsr.models.blur import BICUBIC, GaussianBlur, estimate_blur, separated, shrink, taps
from vsr.models.image.interpolation import imresize


def natural(side: int = 384, seed: int = 0) -> Tensor:
    """A picture whose power falls as 1/f^2, (1, 1, side, side) about 0.5."""
    generator = torch.Generator().manual_seed(seed)
    line = torch.fft.fftfreq(side)
    radius = (line[:, None].square() + line[None, :].square()).sqrt().clamp(min=1 / side)
    white = torch.fft.fft2(torch.randn(side, side, generator=generator))
    picture = torch.fft.ifft2(white / radius).real
    scaled: Tensor = 0.5 + 0.12 * picture / picture.std()
    return scaled[None, None]


def estimated(blur: GaussianBlur, scale: int, seed: int = 0) -> GaussianBlur:
    small = shrink(natural(384, seed), taps(blur, scale), scale)
    found = estimate_blur([small[0]], scale)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("scale", "blur"),
    [
        (2, GaussianBlur(0.8, 0.45, 0.5)),
        (2, GaussianBlur(0.6, 0.6)),
        (3, GaussianBlur(0.75, 0.4, 2.2)),
        (4, GaussianBlur(0.8, 0.5, 1.2)),
    ],
)
def test_a_known_blur_is_found(scale: int, blur: GaussianBlur) -> None:
    found = estimated(blur, scale)
    true, guess = taps(blur, scale), taps(found, scale)
    # Pictures of the test are sharp to the pixel, and photographs are not quite.
    assert (guess - true).norm() / true.norm() < 0.2
    if blur.major > 1.3 * blur.minor:
        turn = abs(found.angle - blur.angle) % math.pi
        assert min(turn, math.pi - turn) < 0.15


def test_several_frames_say_more_than_one() -> None:
    blur = GaussianBlur(0.7, 0.5, 0.3)
    smalls = [shrink(natural(256, seed), taps(blur, 4), 4)[0] for seed in range(4)]
    found = estimate_blur(smalls, 4)
    assert found is not None
    assert found.major == pytest.approx(0.7, abs=0.12)


def test_bicubic_shrinking_is_recognised() -> None:
    for scale in (2, 4):
        found = estimate_blur([imresize(natural(), scale=1 / scale)[0]], scale)
        assert found is not None
        assert 0.25 < found.minor <= found.major < 0.58


def test_nothing_is_told_of_flat_or_tiny_pictures() -> None:
    assert estimate_blur([torch.full((1, 64, 64), 0.5)], 4) is None
    assert estimate_blur([torch.rand(1, 20, 64)], 4) is None
    assert estimate_blur([], 4) is None


def test_it_can_be_estimated_where_nothing_is_learnt() -> None:
    with torch.inference_mode():
        small = imresize(natural(128), scale=0.5)
        assert estimate_blur([small[0]], 2) is not None


def test_taps_sit_in_the_middle_and_sum_to_one() -> None:
    for scale in (1, 2, 3, 4):
        kernel = taps(GaussianBlur(0.7, 0.4, 0.7), scale)
        assert float(kernel.sum()) == pytest.approx(1)
        assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-7)
        assert (len(kernel) - scale) % 2 == 0


def test_shrinking_keeps_a_ramp_in_place() -> None:
    ramp = torch.arange(48.0).expand(1, 1, 48, 48)
    for scale in (2, 3, 4):
        small = shrink(ramp, taps(BICUBIC, scale), scale)
        inside = slice(4, 48 // scale - 4)
        expected = (torch.arange(48 // scale) * scale + (scale - 1) / 2)[inside]
        assert torch.allclose(small[0, 0, 8, inside], expected, atol=1e-3)


def test_shrinking_refuses_what_does_not_divide() -> None:
    with pytest.raises(ShapeError):
        shrink(torch.zeros(1, 1, 9, 8), taps(BICUBIC, 2), 2)


def test_parts_add_up_to_the_kernel() -> None:
    kernel = taps(GaussianBlur(0.9, 0.4, 0.6), 4, 21)
    total = torch.stack([rows[:, None] * columns for rows, columns in separated(kernel)]).sum(0)
    assert (total - kernel).norm() < 0.01 * kernel.norm()
    assert len(separated(taps(GaussianBlur(0.5, 0.5), 4, 21))) == 1
