"""Turn, resample, crop and fill pictures: the tensor side of `engine.geometry`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.engine.geometry import Geometry, Orientation
from vsr.models.image.interpolation import imresize


def turn(picture_BCHW: Tensor, orientation: Orientation) -> Tensor:
    """Lay a picture as `orientation` says; exact, no sample changes its value.

    Args:
        picture_BCHW: (..., H, W), any dtype and device.
        orientation: how to lay it.

    Returns:
        (..., H, W) or (..., W, H), contiguous where anything was turned.
    """
    if orientation.is_identity:
        return picture_BCHW
    turned = picture_BCHW.transpose(-1, -2) if orientation.transpose else picture_BCHW
    flipped = [
        axis for axis, flips in ((-1, orientation.flip_h), (-2, orientation.flip_v)) if flips
    ]
    return (turned.flip(flipped) if flipped else turned).contiguous()


def resample(picture_BCHW: Tensor, width: int, height: int) -> Tensor:
    """Resize with the cubic kernel, antialiased where it shrinks; nothing when the size fits.

    Args:
        picture_BCHW: (..., H, W), floating point.
        width: of the result, pixels.
        height: of the result, pixels.
    """
    if tuple(picture_BCHW.shape[-2:]) == (height, width):
        return picture_BCHW
    return imresize(picture_BCHW, size=(height, width), kernel="bicubic")


def place(picture_BCHW: Tensor, geometry: Geometry) -> Tensor:
    """From what the model made to the frame that is encoded: resample once, crop, fill.

    Args:
        picture_BCHW: (B, 3, H, W) RGB, floating point, as turned and enlarged.
        geometry: of the film.

    Returns:
        (B, 3, geometry.height, geometry.width).
    """
    picture = resample(picture_BCHW, geometry.picture_width, geometry.picture_height)
    left, top = geometry.crop_left, geometry.crop_top
    picture = picture[..., top : top + geometry.height, left : left + geometry.width]
    if not geometry.needs_fill:
        return picture
    missing_w = geometry.width - picture.shape[-1]
    missing_h = geometry.height - picture.shape[-2]
    return F.pad(picture, (0, missing_w, 0, missing_h), mode="replicate")


def place_inside(
    picture_BCHW: Tensor, size: tuple[int, int], geometry: Geometry, black: float = 0.0
) -> Tensor:
    """A picture of another shape than the film's, whole, between black bars.

    Args:
        picture_BCHW: (B, 3, H, W) RGB, floating point.
        size: (width, height) at which it is shown, inside the film's picture.
        geometry: of the film.
        black: value of the bars.

    Returns:
        (B, 3, geometry.height, geometry.width).
    """
    width, height = size
    box_w, box_h = geometry.picture_width, geometry.picture_height
    inner = resample(picture_BCHW, width, height)
    if (width, height) != (box_w, box_h):
        full = torch.full(
            (*inner.shape[:-2], box_h, box_w), black, dtype=inner.dtype, device=inner.device
        )
        top, left = (box_h - height) // 2, (box_w - width) // 2
        full[..., top : top + height, left : left + width] = inner
        inner = full
    return place(inner, geometry)
