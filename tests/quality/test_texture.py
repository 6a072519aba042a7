"""Detail is weighed and its kind compared: too little, too much and the wrong one all show."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.errors import ShapeError
from vsr.quality.metrics import psnr_db
from vsr.quality.texture import (
    GradientEnergy,
    TextureDistance,
    gradient_energy,
    texture_distance,
)


def _grain(seed: int, size: int = 96) -> Tensor:
    """(1, 1, size, size): shades of all sizes, fine ones too, around mid-grey."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.full((1, 1, size, size), 0.5)
    for px in (1, 2, 4, 16):
        noise = torch.randn(1, 1, size // px, size // px, generator=generator) * 0.05
        picture += F.interpolate(noise, size=(size, size), mode="bilinear")
    return picture.clamp(0, 1)


def _blurred(picture: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(picture, (1,) * 4, mode="replicate"), 3, 1)


def _noisy(picture: Tensor, deviation: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(9)
    return picture + deviation * torch.randn(picture.shape, generator=generator)


def _stripes(angle: float, period_px: float = 6.0, size: int = 64) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    along = math.cos(angle) * x + math.sin(angle) * y
    return (0.5 + 0.2 * torch.sin(2 * math.pi * along / period_px))[None, None]


def _energy(result: Tensor, reference: Tensor) -> float:
    meter = GradientEnergy()
    meter.update(result, reference)
    return meter.compute()


def test_gradient_energy_of_a_ramp() -> None:
    ramp = (torch.arange(8) * 0.1).expand(1, 1, 5, 8)
    assert gradient_energy(ramp).tolist() == pytest.approx([0.01])
    assert gradient_energy(ramp + ramp.new_tensor([0.0, 0.3])[:, None, None, None]).shape == (2,)
    down = ramp.transpose(-1, -2)
    assert gradient_energy(down + torch.zeros(1)).tolist() == pytest.approx([0.01])


def test_energy_is_one_for_the_truth_more_for_noise_and_less_for_blur() -> None:
    truth = _grain(1)
    assert _energy(truth, truth) == 1
    assert _energy(_noisy(truth), truth) > 1.2
    assert _energy(_blurred(truth), truth) < 0.8
    assert _energy(0.5 * truth, truth) == pytest.approx(0.25, rel=1e-5)


def test_energy_is_the_ratio_of_sums_so_that_a_flat_frame_takes_nothing() -> None:
    truth, flat = _grain(1), torch.full((1, 1, 96, 96), 0.3)
    meter = GradientEnergy()
    meter.update(0.5 * truth, truth)
    meter.update(flat, flat)
    assert meter.compute() == pytest.approx(0.25, rel=1e-5)
    assert math.isnan(_energy(truth, flat))
    assert math.isnan(GradientEnergy().compute())


def test_texture_is_zero_for_the_truth_and_grows_with_noise_and_blur() -> None:
    truth = _grain(1)
    assert texture_distance(truth, truth).tolist() == [0]
    little, much = (
        float(texture_distance(_noisy(truth, deviation), truth)) for deviation in (0.02, 0.1)
    )
    assert 0.004 < little < 0.2 * much < 0.2
    once, twice = _blurred(truth), _blurred(_blurred(truth))
    distances = [float(texture_distance(picture, truth)) for picture in (once, twice)]
    assert 0.05 < distances[0] < distances[1] < 1
    assert texture_distance(truth, once) == pytest.approx(texture_distance(once, truth))


def test_texture_elsewhere_of_the_right_kind_is_nearer_than_a_blur() -> None:
    """PSNR says the opposite: that is why there is another figure."""
    shades = F.interpolate(_grain(3), size=(192, 192), mode="bicubic")
    fine, other_fine = (F.interpolate(_grain(seed), scale_factor=2) - 0.5 for seed in (1, 2))
    truth, other, blurred = shades + fine, shades + other_fine, _blurred(shades + fine)
    assert float(psnr_db(other, truth)) < float(psnr_db(blurred, truth)) - 3
    assert float(texture_distance(other, truth)) < 0.8 * float(texture_distance(blurred, truth))


def test_texture_sees_which_way_stripes_run_and_how_wide_but_not_where_they_stand() -> None:
    truth = _stripes(0.3)
    moved = truth.roll(3, dims=-1)
    turned, wide = _stripes(0.3 + math.pi / 2), _stripes(0.3, period_px=16)
    # Not at the seam of the roll, and borders are replicated.
    near = float(texture_distance(moved[..., 8:], truth[..., 8:]))
    for unlike in (turned, wide):
        assert float(texture_distance(unlike, truth)) > 3 * near
    mirrored = (truth.flip(-1), turned.flip(-1))
    assert float(texture_distance(mirrored[1], mirrored[0])) == pytest.approx(
        float(texture_distance(turned, truth)), rel=0.15
    )


def test_texture_ignores_brightness_and_what_nobody_sees() -> None:
    truth, flat = _grain(1) * 0.5, torch.full((1, 1, 64, 64), 0.5)
    assert float(texture_distance(truth + 0.25, truth)) < 1e-4
    assert float(texture_distance(_noisy(flat, 0.1 / 255), flat)) < 0.1
    assert float(texture_distance(_noisy(flat), flat)) > 0.4
    assert float(texture_distance(flat, 0 * flat)) < 1e-4


def test_texture_is_the_mean_over_pictures() -> None:
    truth = torch.cat((_grain(1), _grain(2)))
    result = torch.cat((_grain(1), _blurred(_grain(2))))
    each = texture_distance(result, truth)
    meter = TextureDistance()
    meter.update(result[:1], truth[:1])
    meter.update(result[1:], truth[1:])
    assert each[0] == 0 and meter.compute() == pytest.approx(float(each[1]) / 2, rel=1e-5)


def test_pictures_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ShapeError, match="cannot compare"):
        texture_distance(_grain(1, 64), _grain(1, 48))
    with pytest.raises(ShapeError, match="cannot compare"):
        GradientEnergy().update(_grain(1, 64), _grain(1, 48))
    with pytest.raises(ShapeError, match="32x32"):
        texture_distance(torch.zeros(1, 1, 31, 64), torch.zeros(1, 1, 31, 64))
    with pytest.raises(ShapeError, match="2x2"):
        gradient_energy(torch.zeros(1, 1, 1, 9))
