from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from vsr.errors import ShapeError
from vsr.quality.metrics import (
    PSNR_CEILING_DB,
    Psnr,
    Ssim,
    ms_ssim,
    prepare,
    psnr_db,
    rgb_to_y,
    round_to_8_bit,
    ssim,
)


def _pair(channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    reference = torch.rand(2, channels, 40, 53, generator=generator)
    reference[:, :, 10:30, 10:40] *= 0.02  # nearly flat: where float32 variances go wrong
    noise = torch.randn(reference.shape, generator=generator) * 0.03
    return round_to_8_bit(reference + noise), round_to_8_bit(reference)


def test_luma_of_black_white_and_primaries() -> None:
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    got = rgb_to_y(colours.float()[:, :, None, None]).flatten() * 255
    assert got.tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-4)


def test_psnr_of_known_errors() -> None:
    reference = torch.zeros(2, 3, 4, 4)
    result = reference.clone()
    result[0] += 0.1
    result[1, 0, 0, 0] = 1.0
    expected = [20.0, 10 * math.log10(48)]
    assert psnr_db(result, reference).tolist() == pytest.approx(expected, abs=1e-5)
    assert psnr_db(reference, reference).tolist() == [PSNR_CEILING_DB] * 2


@pytest.mark.parametrize("channels", [1, 3])
def test_psnr_and_ssim_equal_scikit_image(channels: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    result, reference = _pair(channels)
    for got_psnr, got_ssim, a, b in zip(
        psnr_db(result, reference), ssim(result, reference), result, reference, strict=True
    ):
        x, y = a.double().numpy(), b.double().numpy()
        assert float(got_psnr) == pytest.approx(
            metrics.peak_signal_noise_ratio(y, x, data_range=1), abs=1e-6
        )
        _, full = metrics.structural_similarity(
            y,
            x,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=0,
            full=True,
        )
        expected = full[:, 5:-5, 5:-5].mean()
        assert float(got_ssim) == pytest.approx(expected, abs=2e-6)


def test_ssim_of_equal_pictures_is_one() -> None:
    _, reference = _pair(3)
    assert ssim(reference, reference).tolist() == pytest.approx([1.0, 1.0], abs=1e-7)


@pytest.mark.parametrize("metric", [Psnr, Ssim])
def test_update_in_parts_equals_the_whole(metric: type[Psnr] | type[Ssim]) -> None:
    result, reference = _pair(3)
    whole, parts = metric(), metric()
    whole.update(result, reference)
    for index in range(2):
        parts.update(result[index : index + 1], reference[index : index + 1])
    assert parts.compute() == pytest.approx(whole.compute(), abs=1e-9)
    assert math.isnan(metric().compute())


def test_mean_is_over_pictures_not_over_pixels() -> None:
    metric = Psnr()
    metric.update(torch.full((1, 1, 2, 2), 0.1), torch.zeros(1, 1, 2, 2))
    metric.update(torch.full((1, 1, 9, 9), 0.01), torch.zeros(1, 1, 9, 9))
    assert metric.compute() == pytest.approx(30.0, abs=1e-5)


def test_prepare_crops_and_picks_the_channel() -> None:
    image = torch.arange(2 * 3 * 8 * 9, dtype=torch.float32).view(2, 3, 8, 9)
    assert torch.equal(prepare(image, "rgb", 2), image[..., 2:6, 2:7])
    assert prepare(image, "y", 0).shape == (2, 1, 8, 9)
    with pytest.raises(ShapeError, match="leaves nothing of 9x8"):
        prepare(image, "y", 4)


def test_rounding_is_to_codes_and_clamps() -> None:
    image = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.3])
    assert (round_to_8_bit(image) * 255).tolist() == pytest.approx([0, 0, 1, 255, 255])
    assert np.isclose(float(round_to_8_bit(torch.tensor(77.0 / 255))), 77 / 255, atol=0)


def test_shapes_are_checked() -> None:
    with pytest.raises(ShapeError):
        psnr_db(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    with pytest.raises(ShapeError, match="SSIM needs 11x11"):
        ssim(torch.zeros(1, 1, 10, 20), torch.zeros(1, 1, 10, 20))


def test_ms_ssim_equals_torchmetrics() -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(2, 1, 23, 31, generator=generator)
    reference = torch.nn.functional.interpolate(coarse, size=(180, 240), mode="bicubic").clamp(0, 1)
    noise = (
        torch.randn(reference.shape, generator=generator)
        * torch.tensor([0.02, 0.2])[:, None, None, None]
    )
    result = (reference + noise).clamp(0, 1)
    expected = [
        float(
            image.multiscale_structural_similarity_index_measure(
                result[k : k + 1], reference[k : k + 1], data_range=1.0
            )
        )
        for k in range(2)
    ]
    assert ms_ssim(result, reference).tolist() == pytest.approx(expected, abs=1e-4)
    assert expected[1] < expected[0] < 1
    assert ms_ssim(reference, reference).tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
    with pytest.raises(ShapeError, match="MS-SSIM needs 176x176"):
        ms_ssim(torch.zeros(1, 1, 175, 200), torch.zeros(1, 1, 175, 200))
