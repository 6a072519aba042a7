"""Dense registration of two pictures without a trained network: Lucas and Kanade on a pyramid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.models.flow import warp

_SMALLEST_PX = 12
"""A level of the pyramid is not made smaller than that."""
_MAX_LEVELS = 5
_WINDOWS = (21, 13, 7)
"""Of the steps of each level: first what the neighbourhood agrees on, then detail."""
_RIDGE = 2e-5
"""Squared gradient, samples in [0, 1], below which there is nothing to hold on to."""
_MAX_STEP_PX = 1.0


def register(ref_B1HW: Tensor, other_B1HW: Tensor) -> Tensor:
    """Flow on the grid of `ref` that says where to sample `other`.

    Lucas and Kanade (1981): over a window, minimise (I_x u + I_y v + I_t)^2; repeated from coarse
    to fine with the second picture warped anew before each step (Bouguet, 2000). What differs: a
    flow for every pixel; gradients of the mean of both pictures; windows that shrink from step to
    step; a ridge that lets the step vanish where there is no texture; and a median over 3x3 pixels
    after each level, which removes what slipped.

    Args:
        ref_B1HW: one channel, float32, nominally [0, 1], any device.
        other_B1HW: the same shape.

    Returns:
        (B, 2, H, W) float32, (dx, dy) in pixels.
    """
    refs, others = [ref_B1HW], [other_B1HW]
    while len(refs) < _MAX_LEVELS and min(refs[-1].shape[-2:]) >= 2 * _SMALLEST_PX:
        for pictures in (refs, others):
            pictures.append(_halved(pictures[-1]))
    coarsest = refs[-1]
    flow = coarsest.new_zeros(len(coarsest), 2, *coarsest.shape[-2:])
    for ref, other in zip(reversed(refs), reversed(others), strict=True):
        if flow.shape[-2:] != ref.shape[-2:]:
            size = ref.shape[-2:]
            flow = 2.0 * F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
        for window in _WINDOWS:
            flow = flow + _step(ref, warp(other, flow), window)
        flow = _median3(flow)
    return flow


def _halved(picture_B1HW: Tensor) -> Tensor:
    """Half the size, rounded up; the last row or column counts twice where it is alone."""
    height, width = picture_B1HW.shape[-2:]
    even = F.pad(picture_B1HW, (0, width % 2, 0, height % 2), mode="replicate")
    return F.avg_pool2d(even, 2)


def _step(ref_B1HW: Tensor, other_B1HW: Tensor, window: int) -> Tensor:
    """One least-squares step, at most `_MAX_STEP_PX` along each axis."""
    mean = F.pad(0.5 * (ref_B1HW + other_B1HW), (1, 1, 1, 1), mode="replicate")
    ix = 0.5 * (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2])
    iy = 0.5 * (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1])
    it = other_B1HW - ref_B1HW
    sums = torch.cat((ix * ix, ix * iy, iy * iy, ix * it, iy * it), dim=1)
    for kernel in ((1, window), (window, 1)):
        padding = (kernel[0] // 2, kernel[1] // 2)
        sums = F.avg_pool2d(sums, kernel, 1, padding, count_include_pad=False)
    xx, xy, yy, xt, yt = torch.split(sums, 1, dim=1)
    xx, yy = xx + _RIDGE, yy + _RIDGE
    step = torch.cat((xy * yt - yy * xt, xy * xt - xx * yt), dim=1) / (xx * yy - xy * xy)
    return step.clamp(-_MAX_STEP_PX, _MAX_STEP_PX)


def _median3(x_BCHW: Tensor) -> Tensor:
    """Median over 3x3 pixels, edges repeated, by sorting three rows and then three columns.

    The median of nine is that of the largest of the columns' smallest, the median of their middle
    ones and the smallest of their largest.
    """
    padded = F.pad(x_BCHW, (1, 1, 1, 1), mode="replicate")
    height, width = x_BCHW.shape[-2:]
    low, middle, high = _sorted3(*(padded[..., y : y + height, :] for y in range(3)))

    def columns(rows: Tensor) -> list[Tensor]:
        return [rows[..., x : x + width] for x in range(3)]

    return _sorted3(
        _sorted3(*columns(low))[2], _sorted3(*columns(middle))[1], _sorted3(*columns(high))[0]
    )[1]


def _sorted3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    middle = torch.minimum(high, c)
    return torch.minimum(low, c), torch.maximum(low, middle), torch.maximum(high, c)
