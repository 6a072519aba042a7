"""What the measures look at: luma in full, and colours of a small picture.

Luma is a plane of the film itself, so that most of a frame is measured without converting it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from vsr.color import planes_to_rgb
from vsr.frame import ColorSpec, Frame

Picture = NDArray[np.float32]

_SMALL_PX = (160, 90)
"""Most columns and rows of the picture that colours are taken from."""
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)

Box = tuple[Fraction | int, Fraction | int, Fraction | int, Fraction | int]


@dataclass(frozen=True, slots=True)
class View:
    """One frame, ready to be measured."""

    luma_HW: Picture
    """0 is black and 1 is white; not clamped."""
    small_3HW: Picture
    """RGB on the same scale, at most 160x90, block means."""


class Viewer:
    """Frames of one film -> `View`s that mean the same places in source and result.

    Args:
        color: of the film, without gaps.
        turn: degrees counter-clockwise by which to turn the frames first.
        flip: whether to mirror them left to right after that.
        box: x, y, width, height of the part that counts, after turning; None for all of it.
    """

    def __init__(
        self, color: ColorSpec, *, turn: int = 0, flip: bool = False, box: Box | None = None
    ) -> None:
        self._color = color
        self._quarters, self._flip, self._box = turn // 90 % 4, flip, box

    def view(self, frame: Frame) -> View:
        """Take one frame.

        Raises:
            UnsupportedVideoError: its colours cannot be told.
        """
        layout = frame.layout
        num_planes = 1 if layout.is_gray else 3
        planes = [self._place(frame, index) for index in range(num_planes)]
        if layout.is_rgb:
            scaled = [self._scaled(plane, frame) for plane in planes]
            luma = _LUMA[1] * scaled[0] + _LUMA[2] * scaled[1] + _LUMA[0] * scaled[2]
        else:
            luma = self._scaled(planes[0], frame)
        return View(np.ascontiguousarray(luma, np.float32), self._small(planes, frame))

    def rgb(self, frame: Frame) -> NDArray[np.uint8]:
        """All of a frame as 8-bit RGB, for showing."""
        rgb = self._rgb(frame)[0].permute(1, 2, 0)
        codes = (rgb.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return np.ascontiguousarray(self._placed(codes, 1, 1))

    def full_rgb(self, frame: Frame) -> Picture:
        """All of a frame as (3, H, W): R, G, B of full depth, 0 black and 1 white, not clamped."""
        rgb_HW3 = self._rgb(frame)[0].permute(1, 2, 0).numpy()
        return np.ascontiguousarray(self._placed(rgb_HW3, 1, 1).transpose(2, 0, 1), np.float32)

    def _rgb(self, frame: Frame) -> torch.Tensor:
        tensors = [
            torch.from_numpy(np.array(plane))[None]
            for plane in frame.planes[: 1 if frame.layout.is_gray else 3]
        ]
        return planes_to_rgb(tensors, replace(frame.layout, has_alpha=False), self._color)

    def _place(self, frame: Frame, index: int) -> NDArray[np.generic]:
        layout = frame.layout
        is_chroma = index in (1, 2) and not layout.is_rgb
        ratio_x = 1 << (layout.log2_chroma_w if is_chroma else 0)
        ratio_y = 1 << (layout.log2_chroma_h if is_chroma else 0)
        if self._quarters % 2:
            ratio_x, ratio_y = ratio_y, ratio_x
        return self._placed(frame.planes[index], ratio_x, ratio_y)

    def _placed(
        self, plane: NDArray[np.generic], ratio_x: int, ratio_y: int
    ) -> NDArray[np.generic]:
        if self._quarters:
            plane = np.rot90(plane, self._quarters)
        if self._flip:
            plane = plane[:, ::-1]
        if self._box is not None:
            left, top, width, height = self._box
            rows = slice(round(top / ratio_y), max(1, round((top + height) / ratio_y)))
            columns = slice(round(left / ratio_x), max(1, round((left + width) / ratio_x)))
            plane = plane[rows, columns]
        return plane

    def _scaled(self, plane: NDArray[np.generic], frame: Frame) -> Picture:
        """Codes of luma or of R, G, B on the scale from black to white."""
        if frame.layout.is_float:
            return np.asarray(plane, np.float32)
        values: Picture = plane.astype(np.float32)
        bits = frame.layout.bits
        # In place, for `values` are a copy: to make room for two more takes longer than the sums.
        if self._color.full_range:
            values *= np.float32(1 / ((1 << bits) - 1))
            return values
        step = 2.0 ** (bits - 8)
        values -= np.float32(16 * step)
        values *= np.float32(1 / (219 * step))
        return values

    def _small(self, planes: list[NDArray[np.generic]], frame: Frame) -> Picture:
        height, width = planes[0].shape
        size = min(width, _SMALL_PX[0]), min(height, _SMALL_PX[1])
        layout = replace(frame.layout, log2_chroma_w=0, log2_chroma_h=0, has_alpha=False)
        means = []
        for index, plane in enumerate(planes):
            wide = np.ascontiguousarray(plane, np.float32)
            mean = cv2.resize(wide, size, interpolation=cv2.INTER_AREA)
            means.append(self._deep(np.asarray(mean), index, frame))
        layout = replace(layout, bits=32 if layout.is_float else 16)
        rgb = planes_to_rgb([torch.from_numpy(mean[None]) for mean in means], layout, self._color)
        return np.asarray(rgb[0].numpy(), np.float32)

    def _deep(self, mean: NDArray[np.generic], index: int, frame: Frame) -> NDArray[np.generic]:
        """Codes with 16 bits, which is the least that all depths share."""
        layout = frame.layout
        if layout.is_float:
            return mean.astype(np.float32)
        values = mean.astype(np.float32)
        step = 2.0 ** (layout.bits - 8)
        gain = (
            65535 / (2.0**layout.bits - 1) if self._color.full_range else 2.0 ** (16 - layout.bits)
        )
        is_chroma = index in (1, 2) and not layout.is_rgb
        codes = 32768 + (values - 128 * step) * gain if is_chroma else values * gain
        deep: NDArray[np.uint16] = np.rint(np.clip(codes, 0, 65535)).astype(np.uint16)
        return deep


def resize(picture_HW: Picture, height: int, width: int) -> Picture:
    """Bicubic with a = -0.5, antialiased when smaller, edges by what is inside.

    Returns:
        (height, width), not clamped.
    """
    if picture_HW.shape == (height, width):
        return picture_HW
    resized = F.interpolate(
        torch.from_numpy(picture_HW)[None, None],
        size=(height, width),
        mode="bicubic",
        # Without it torch takes a = -0.75, also for enlarging.
        antialias=True,
        align_corners=False,
    )
    return np.asarray(resized[0, 0].numpy(), np.float32)
