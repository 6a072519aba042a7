"""PSNR, SSIM and MS-SSIM as the super-resolution literature computes them.

Pictures are RGB or one luma plane, in [0, 1], already rounded to whole codes by whoever compares
with published numbers. Each metric is a function of pictures and a pair `update`/`compute` that
averages over the pictures of a clip.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.errors import ShapeError

Channel = Literal["y", "rgb"]

PSNR_CEILING_DB = 100.0
"""What equal pictures score, so that one black frame does not make a clip's mean infinite."""

_SSIM_SIGMA = 1.5
_SSIM_RADIUS = 5
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
SSIM_MIN_PX = 2 * _SSIM_RADIUS + 1
"""The smallest side for `ssim`..."""
MS_SSIM_MIN_PX = SSIM_MIN_PX * 2 ** (len(_MS_WEIGHTS) - 1)
"""...and for `ms_ssim`: 176."""


def rgb_to_y(rgb_BCHW: Tensor) -> Tensor:
    """Luma of the published protocols: BT.601, limited range, not rounded.

    Args:
        rgb_BCHW: (B, 3, H, W), [0, 1].

    Returns:
        (B, 1, H, W), 16/255 for black and 235/255 for white.
    """
    weights = rgb_BCHW.new_tensor([65.481, 128.553, 24.966]) / 255.0
    return (rgb_BCHW * weights[:, None, None]).sum(dim=1, keepdim=True) + 16.0 / 255.0


def round_to_8_bit(image: Tensor) -> Tensor:
    """The nearest of the 256 codes, still on the scale [0, 1]; what lies outside is clamped."""
    return (image.float() * 255.0).round().clamp(0.0, 255.0) / 255.0


def prepare(image_BCHW: Tensor, channel: Channel, crop_px: int) -> Tensor:
    """Take the channel to score and cut the border off.

    Raises:
        ShapeError: nothing would be left.
    """
    height, width = image_BCHW.shape[-2:]
    if min(height, width) <= 2 * crop_px:
        raise ShapeError(f"cropping {crop_px} px leaves nothing of {width}x{height}")
    cropped = image_BCHW[..., crop_px : height - crop_px, crop_px : width - crop_px]
    return rgb_to_y(cropped) if channel == "y" else cropped


def psnr_db(result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture, over all its channels, peak 1.

    Args:
        result_BCHW: (B, C, H, W), [0, 1].
        reference_BCHW: the same shape.

    Returns:
        (B,) float64, dB, at most `PSNR_CEILING_DB`.
    """
    check_shapes(result_BCHW, reference_BCHW)
    mse = (result_BCHW.double() - reference_BCHW.double()).square().mean(dim=(1, 2, 3))
    return (-10.0 * torch.log10(mse)).clamp(max=PSNR_CEILING_DB)


def ssim(result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
    """Structural similarity of each picture, mean over channels and positions.

    Wang et al., 2004: Gaussian window 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, only windows
    that lie inside the picture.

    Args:
        result_BCHW: (B, C, H, W), [0, 1], at least 11x11.
        reference_BCHW: the same shape.

    Returns:
        (B,) float64.

    Raises:
        ShapeError: shapes differ or the pictures are too small.
    """
    check_shapes(result_BCHW, reference_BCHW)
    _check_size(result_BCHW, "SSIM", SSIM_MIN_PX)
    return _similarity(result_BCHW, reference_BCHW)[0]


def ms_ssim(result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
    """Multi-scale structural similarity of each picture.

    Wang, Simoncelli and Bovik, 2003: contrast and structure at five sizes, each half of the one
    before by means of 2x2 pixels, luminance at the last, weighted as found there by experiment.
    Windows as of `ssim`; what is negative counts as 0.

    Args:
        result_BCHW: (B, C, H, W), [0, 1], at least 176x176.
        reference_BCHW: the same shape.

    Returns:
        (B,) float64.

    Raises:
        ShapeError: shapes differ or the pictures are too small.
    """
    check_shapes(result_BCHW, reference_BCHW)
    _check_size(result_BCHW, "MS-SSIM", MS_SSIM_MIN_PX)
    one, two = result_BCHW.float(), reference_BCHW.float()
    product = result_BCHW.new_ones(len(result_BCHW), dtype=torch.float64)
    for size, weight in enumerate(_MS_WEIGHTS):
        if size:
            one, two = (F.avg_pool2d(picture, 2) for picture in (one, two))
        whole, structure = _similarity(one, two)
        is_last = size == len(_MS_WEIGHTS) - 1
        product = product * (whole if is_last else structure).clamp(min=0) ** weight
    return product


def _check_size(image_BCHW: Tensor, name: str, size: int) -> None:
    if min(image_BCHW.shape[-2:]) < size:
        raise ShapeError(f"{name} needs {size}x{size} pixels, got {tuple(image_BCHW.shape[-2:])}")


def _similarity(result_BCHW: Tensor, reference_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM, and its part without luminance: (B,) float64 each."""
    # Second moments around mid-grey instead of black: float32 then keeps small variances.
    a, b = result_BCHW.float() - 0.5, reference_BCHW.float() - 0.5
    mean_a, mean_b, aa, bb, ab = _blur(torch.stack((a, b, a * a, b * b, a * b)))
    variance_a, variance_b = aa - mean_a.square(), bb - mean_b.square()
    covariance = ab - mean_a * mean_b
    mean_a, mean_b = mean_a + 0.5, mean_b + 0.5
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    whole, part = (p.double().mean(dim=(1, 2, 3)) for p in (luminance * structure, structure))
    return whole, part


def _blur(images: Tensor) -> Tensor:
    """Gaussian window, valid positions only; (..., H, W) -> (..., H - 10, W - 10)."""
    taps = [
        math.exp(-(x**2) / (2 * _SSIM_SIGMA**2)) for x in range(-_SSIM_RADIUS, _SSIM_RADIUS + 1)
    ]
    window = [tap / sum(taps) for tap in taps]
    # Sums of shifted pictures in place: a hundred times faster on a CPU than a convolution of
    # one channel, which has no fast path there.
    for axis in (-2, -1):
        length = images.shape[axis] - 2 * _SSIM_RADIUS
        blurred = images.narrow(axis, 0, length) * window[0]
        for shift, weight in enumerate(window[1:], start=1):
            blurred.add_(images.narrow(axis, shift, length), alpha=weight)
        images = blurred
    return images


def check_shapes(result_BCHW: Tensor, reference_BCHW: Tensor) -> None:
    """Refuse to compare pictures of different shapes.

    Raises:
        ShapeError: they are, or there are not four axes.
    """
    if result_BCHW.shape != reference_BCHW.shape or result_BCHW.ndim != 4:
        raise ShapeError(
            f"cannot compare {tuple(result_BCHW.shape)} with {tuple(reference_BCHW.shape)}"
        )


class MeanMetric(ABC):
    """Average of a per-picture score over everything seen."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0

    @abstractmethod
    def score(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """(B,) scores of a batch of pictures."""

    def update(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> None:
        """Add a batch of pictures."""
        scores = self.score(result_BCHW, reference_BCHW)
        self._sum += float(scores.sum())
        self._count += scores.numel()

    def compute(self) -> float:
        """Mean over all pictures; NaN when there were none."""
        return self._sum / self._count if self._count else math.nan


class Psnr(MeanMetric):
    """Mean over pictures of each picture's PSNR in dB."""

    def score(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """See `psnr_db`."""
        return psnr_db(result_BCHW, reference_BCHW)


class Ssim(MeanMetric):
    """Mean over pictures of each picture's SSIM."""

    def score(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """See `ssim`."""
        return ssim(result_BCHW, reference_BCHW)


class MsSsim(MeanMetric):
    """Mean over pictures of each picture's MS-SSIM."""

    def score(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """See `ms_ssim`."""
        return ms_ssim(result_BCHW, reference_BCHW)
