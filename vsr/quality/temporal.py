"""How steady a result is: what changes along the motion that does not change in the truth.

PSNR looks at one frame at a time and cannot see an error that is another in every frame. Here the
error of a frame is compared with the error of the frame before, carried along by the motion of the
ground truth. That is the flow-warped error of the result against that of the truth: the warp being
linear, (o_t - w(o_t-1)) - (g_t - w(g_t-1)) = (o_t - g_t) - w(o_t-1 - g_t-1). Detail that is missing
in every frame alike scores 0, as does the truth; detail that shimmers, swims or pumps does not.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from torch import Tensor

from vsr.errors import ShapeError
from vsr.models.flow import warp
from vsr.quality.metrics import rgb_to_y

_MIN_PX = 16
"""DIS works on patches of 8 pixels in a picture of half the size."""


class Flicker:
    """Mean over pairs of frames, in 8-bit codes of luma; holds one frame."""

    def __init__(self) -> None:
        self._before: tuple[Tensor, Tensor] | None = None
        self._sum = 0.0
        self._count = 0

    def update(self, result_3HW: Tensor, reference_3HW: Tensor, *, is_scored: bool = True) -> None:
        """Take the next frame of a clip; every frame must come, in order.

        Args:
            result_3HW: RGB in [0, 1], any device.
            reference_3HW: the ground truth, the same shape.
            is_scored: whether the pair of this frame and the one before counts.

        Raises:
            ShapeError: shapes differ, or the picture is smaller than 16x16.
        """
        if result_3HW.shape != reference_3HW.shape:
            raise ShapeError(
                f"cannot compare {tuple(result_3HW.shape)} with {tuple(reference_3HW.shape)}"
            )
        if min(reference_3HW.shape[-2:]) < _MIN_PX:
            raise ShapeError(f"flicker needs pictures of {_MIN_PX}x{_MIN_PX} pixels or more")
        truth_1HW = rgb_to_y(reference_3HW[None].float().cpu())[0]
        error_1HW = rgb_to_y(result_3HW[None].float().cpu())[0] - truth_1HW
        if self._before is not None and is_scored:
            self._sum += _change(truth_1HW, error_1HW, *self._before)
            self._count += 1
        self._before = truth_1HW, error_1HW

    def compute(self) -> float:
        """Mean over all scored pairs; NaN when there were none."""
        return self._sum / self._count if self._count else math.nan


def _change(truth: Tensor, error: Tensor, truth_before: Tensor, error_before: Tensor) -> float:
    flow_2HW, visible_1HW = motion(truth, truth_before)
    carried_1HW = warp(error_before[None], flow_2HW[None])[0]
    change_1HW = (error - carried_1HW).abs() * visible_1HW
    return 255.0 * float(change_1HW.sum() / visible_1HW.sum().clamp(min=1))


def motion(frame_1HW: Tensor, before_1HW: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from a frame to the one before it, and where it can be trusted.

    OpenCV's DIS, preset medium, both ways. A point is visible in both frames when the way there and
    back ends where it began: Sundaram, Brox and Keutzer (2010), equation 5.

    Args:
        frame_1HW: luma in [0, 1], on the CPU.
        before_1HW: likewise.

    Returns:
        (2, H, W) float32 in pixels, and (1, H, W) bool.
    """
    one, two = (
        (picture[0] * 255).round().clamp(0, 255).to(torch.uint8).numpy()
        for picture in (frame_1HW, before_1HW)
    )
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow_2HW, back_2HW = _dis(finder, one, two), _dis(finder, two, one)
    returned_2HW = warp(back_2HW[None], flow_2HW[None])[0]
    error_HW = (flow_2HW + returned_2HW).square().sum(dim=0)
    length_HW = flow_2HW.square().sum(dim=0) + returned_2HW.square().sum(dim=0)
    height, width = one.shape
    x_HW = flow_2HW[0] + torch.arange(width)
    y_HW = flow_2HW[1] + torch.arange(height)[:, None]
    inside_HW = (x_HW >= 0) & (x_HW <= width - 1) & (y_HW >= 0) & (y_HW <= height - 1)
    return flow_2HW, ((error_HW < 0.01 * length_HW + 0.5) & inside_HW)[None]


def _dis(finder: cv2.DISOpticalFlow, one: np.ndarray, two: np.ndarray) -> Tensor:
    # Given none, it starts from whatever lies in memory, and no two runs are alike.
    start = np.zeros((*one.shape, 2), np.float32)
    flow = finder.calc(one, two, start)
    return torch.from_numpy(np.asarray(flow)).permute(2, 0, 1)
