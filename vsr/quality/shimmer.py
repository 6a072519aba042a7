"""Flicker of a result where there is no ground truth: against its source."""

from __future__ import annotations

import math

import cv2
import torch

from vsr.models.flow import warp
from vsr.quality.consistency import CODES, Pair
from vsr.quality.temporal import motion

_FLOW_PX = 320
"""Most columns of the pictures in which motion is looked for."""
_FLOW_MIN_PX = 16


class Shimmer:
    """Change of the error along the source's motion, in codes; `temporal.Flicker` frame by frame.

    In pictures of at most `_FLOW_PX` columns, at the source's own scale or below.
    """

    def __init__(self) -> None:
        self._before: tuple[torch.Tensor, torch.Tensor] | None = None
        self.codes = self.plain_codes = math.nan
        """The second is what plain interpolation would have."""

    def update(self, pair: Pair) -> None:
        """Take the next frame; every frame must come, in order."""
        height, width = pair.source.luma_HW.shape
        factor = min(1.0, _FLOW_PX / width)
        size = max(1, round(height * factor)), max(1, round(width * factor))
        self.codes = self.plain_codes = math.nan
        if min(size) < _FLOW_MIN_PX:
            return
        source, error, plain = (
            torch.from_numpy(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA))[None]
            for picture in (
                pair.source.luma_HW,
                pair.error,
                pair.plain_error,
            )
        )
        errors_2HW = torch.cat((error, plain))
        if self._before is not None:
            flow_2HW, seen_1HW = motion(source, self._before[0])
            carried_2HW = warp(self._before[1][None], flow_2HW[None])[0]
            change_2HW = (errors_2HW - carried_2HW).abs() * seen_1HW
            means = CODES * change_2HW.sum(dim=(1, 2)) / seen_1HW.sum().clamp(min=1)
            self.codes, self.plain_codes = means.tolist()
        self._before = source, errors_2HW
