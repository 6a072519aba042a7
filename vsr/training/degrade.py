"""How training makes small pictures of large ones."""

from __future__ import annotations

from torch import Tensor

from vsr.models.image.interpolation import imresize


def bicubic(frames: Tensor, scale: int) -> Tensor:
    """Shrink as MATLAB's imresize(x, 1/s) does and round to 8 bits: the field's "BI".

    Args:
        frames: (..., H, W) float32 in [0, 255]; H and W divide by `scale`.
        scale: integer factor.

    Returns:
        (..., H/s, W/s) float32, whole numbers in [0, 255].
    """
    return imresize(frames, scale=1 / scale).round_().clamp_(0, 255)
