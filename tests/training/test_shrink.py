from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vsr.models.image.interpolation import imresize
from vsr.training.degrade_mixed import KERNELS
from vsr.training.shrink import Blur, Phase, gaussian_decimate, shrink


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(4)) * 255


def filtered(channel: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlation as written in books, edges repeated; odd kernels."""
    radius = len(kernel) // 2
    padded = np.pad(channel, radius, mode="edge")
    result = np.zeros_like(channel)
    for y in range(len(kernel)):
        for x in range(len(kernel)):
            rows, columns = channel.shape
            result += kernel[y, x] * padded[y : y + rows, x : x + columns]
    return result


def gaussian(size: int, sigma: float) -> NDArray[np.float64]:
    line = np.arange(size) - (size - 1) / 2
    kernel: NDArray[np.float64] = np.exp(-(line[:, None] ** 2 + line**2) / (2 * sigma**2))
    return np.asarray(kernel / kernel.sum())


def test_the_centred_decimation_is_matlabs() -> None:
    """imfilter(x, fspecial('gaussian', 12, 1.6), 'replicate') at 2:4:end, counted from 1."""
    large = picture(24, 32)
    kernel = gaussian(12, 1.6)
    for channel, small in zip(large, gaussian_decimate(large, 4, "centre"), strict=True):
        # MATLAB's centre of an even kernel lies before its middle: tap 5, counted from 0.
        padded = np.pad(channel.double().numpy(), ((5, 6), (5, 6)), mode="edge")
        for row in range(6):
            for column in range(8):
                y, x = 1 + 4 * row, 1 + 4 * column
                expected = (padded[y : y + 12, x : x + 12] * kernel).sum()
                assert float(small[row, column]) == pytest.approx(expected, abs=2e-3)


def test_the_cornered_decimation_is_the_other_one() -> None:
    large = picture(24, 32)
    padded = np.pad(large.double().numpy(), ((0, 0), (6, 6), (6, 6)), mode="reflect")
    small = gaussian_decimate(large, 4, "corner")
    for row in range(6):
        for column in range(8):
            window = padded[:, 4 * row : 4 * row + 13, 4 * column : 4 * column + 13]
            expected = (window * gaussian(13, 1.6)).sum(axis=(1, 2))
            assert small[:, row, column].tolist() == pytest.approx(expected.tolist(), abs=2e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_phases_lie_where_their_names_say(scale: int) -> None:
    ramp = torch.arange(20.0 * scale).repeat(20 * scale, 1)
    middles: dict[Phase, float] = {"centre": (scale - 1) / 2, "corner": 0.0}
    for phase, offset in middles.items():
        small = gaussian_decimate(ramp, scale, phase)
        expected = scale * torch.arange(20.0) + offset
        inside = slice(6, -6)
        assert torch.allclose(small[10, inside], expected[inside], atol=1e-3)


def test_no_blur_is_plain_resampling() -> None:
    large = picture(24, 36)
    for kernel in KERNELS:
        small = shrink(large, 3, Blur(), kernel)
        assert torch.allclose(small, imresize(large, scale=1 / 3, kernel=kernel), atol=1e-3)


@pytest.mark.parametrize("blur", [Blur(1.3, 1.3), Blur(1.8, 0.9), Blur(2.0, 1.0, math.pi / 4)])
def test_a_blur_is_what_its_kernel_makes(blur: Blur) -> None:
    large = picture(24, 32)
    radius = math.ceil(3 * blur.sigma_x)
    line = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(line, line)
    along = x * math.cos(blur.angle) + y * math.sin(blur.angle)
    across = y * math.cos(blur.angle) - x * math.sin(blur.angle)
    kernel = np.exp(-0.5 * ((along / blur.sigma_x) ** 2 + (across / blur.sigma_y) ** 2))
    blurred = np.stack([filtered(c.double().numpy(), kernel / kernel.sum()) for c in large])
    expected = imresize(torch.from_numpy(blurred), scale=0.25).float()
    small = shrink(large, 4, blur, "bicubic")
    # Of a turned one the faintest parts are left out.
    assert float((small - expected).abs().max()) < (1.0 if blur.angle else 0.01)
