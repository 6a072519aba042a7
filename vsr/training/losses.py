"""Losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vsr.models.flow import warp


def charbonnier(difference: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Mean of sqrt(d^2 + eps^2): a smooth L1 (Charbonnier et al., 1994; Lai et al., 2017)."""
    return (difference.square() + epsilon**2).sqrt().mean()


def absolute(difference: Tensor) -> Tensor:
    """Mean of |d|: L1."""
    return difference.abs().mean()


def squared(difference: Tensor) -> Tensor:
    """Mean of d^2: MSE."""
    return difference.square().mean()


def total_variation(picture_BCHW: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, across plus down (after Rudin et al., 1992)."""
    return picture_BCHW.diff(dim=-1).abs().mean() + picture_BCHW.diff(dim=-2).abs().mean()


def frequency(difference_BCHW: Tensor) -> Tensor:
    """Mean size of the difference's Fourier coefficients, orthonormal: L1 in frequency."""
    spectrum: Tensor = torch.fft.rfft2(difference_BCHW, norm="ortho")
    return spectrum.abs().mean()


PIXEL_LOSSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "l1": absolute,
    "mse": squared,
    "charbonnier": charbonnier,
}
"""By the name that a configuration uses."""


def luma_weighted(difference: Tensor, chroma_weight: float = 0.35) -> Tensor:
    """RGB difference (..., 3, H, W) as weighted Y, Cb and Cr differences (BT.601).

    Detail lives in luma and video carries chroma at half resolution, so a small network spends
    its capacity better when a chroma error counts less.
    """
    red, green, blue = difference.unbind(-3)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack(
        (luma, chroma_weight * 0.564 * (blue - luma), chroma_weight * 0.713 * (red - luma)), dim=-3
    )


def endpoint_error(flow_B2HW: Tensor, truth_B2HW: Tensor, visible_B1HW: Tensor) -> Tensor:
    """Mean length of the flow error over visible pixels, in pixels."""
    error = (flow_B2HW - truth_B2HW).square().sum(dim=1, keepdim=True).add(1e-6).sqrt()
    return (error * visible_B1HW).sum() / visible_B1HW.sum().clamp(min=1)


def photometric(ref_BCHW: Tensor, other_BCHW: Tensor, flow_B2HW: Tensor) -> Tensor:
    """How badly the warped second picture matches the first, plus edge-aware smoothness.

    Charbonnier to the power 0.45 (Sun et al., 2010, section 3) bounds the weight of occluded
    pixels; four border pixels do not count.
    """
    difference = (ref_BCHW - warp(other_BCHW, flow_B2HW))[..., 4:-4, 4:-4]
    data = (difference.square().mean(dim=1) + 1e-6).pow(0.45).mean()
    smoothness = flow_B2HW.new_zeros(())
    for dim in (-1, -2):
        edge = ref_BCHW.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        smoothness = smoothness + (flow_B2HW.diff(dim=dim).abs() * torch.exp(-20 * edge)).mean()
    return data + 0.02 * smoothness
