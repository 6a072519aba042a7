"""What all per-frame networks share: the `Upscaler` contract around a plain image network.

A network of a paper maps nominal samples to nominal samples. The contract asks for more: any
dtype, and codes outside [0, 1] carried through. So the network sees the picture clamped to [0, 1],
and what lies outside is interpolated and added to its result; inside [0, 1] that adds nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from vsr.errors import ShapeError
from vsr.models.image.interpolation import PhaseInterpolation, shuffled
from vsr.models.layers import compute_dtype
from vsr.models.upscaler import State

Colors = Literal["y", "rgb"]

_LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
_LUMA_BLACK = 16 / 255
_RGB_PER_LUMA = 255 / 219


def luma(rgb_BCHW: Tensor) -> Tensor:
    """Y of MATLAB's rgb2ycbcr: BT.601, 16/255 to 235/255 for RGB in [0, 1].

    Args:
        rgb_BCHW: (..., 3, H, W).

    Returns:
        (..., 1, H, W).
    """
    red, green, blue = rgb_BCHW.unbind(-3)
    weighted = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return (weighted + _LUMA_BLACK).unsqueeze(-3)


class PerFrame(nn.Module, ABC):
    """One frame at a time through a network; subclasses write `forward` and `halo_px`.

    A network on Y leaves chroma to interpolation, as the papers of the time did. RGB is linear in
    Y, Cb and Cr, and interpolation is linear, so nothing need be converted back: the result is the
    interpolated RGB plus what the network made of Y, in each channel alike.

    Args:
        scale: integer factor of enlargement.
        colors: whether `forward` maps Y to Y (B, 1, H, W) or RGB to RGB (B, 3, H, W).
    """

    def __init__(self, scale: int, colors: Colors = "rgb") -> None:
        super().__init__()
        self.scale = scale
        self.colors: Colors = colors
        self.tileable = True
        self.interpolation = PhaseInterpolation(scale)

    @property
    def num_colors(self) -> int:
        """Channels of what the network maps."""
        return 1 if self.colors == "y" else 3

    @property
    @abstractmethod
    def halo_px(self) -> int:
        """Receptive radius in source pixels, at least the interpolation's two."""

    def levels(self, x_BCHW: Tensor) -> list[Tensor]:
        """Every picture that training compares with the truth, the full-size one last."""
        return [self(x_BCHW)]

    def enlarge(self, rgb_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) of any range -> (B, 3, s*H, s*W), dtype of the input."""
        picture = rgb_BCHW.float()
        nominal = picture.clamp(0, 1)
        if self.colors == "y":
            y = luma(nominal)
            plain = self._interpolate(torch.cat((picture, y), dim=1))
            detail = self._run(y) - plain[:, 3:]
            result = torch.add(plain[:, :3], detail, alpha=_RGB_PER_LUMA)
        else:
            result = self._run(nominal) + self._interpolate(picture - nominal)
        return result.to(rgb_BCHW.dtype)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The empty state: every frame stands alone."""
        return ()

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        num_frames = frames_BTCHW.shape[1]
        kept = num_frames - num_context
        if kept < 1:
            raise ShapeError(f"{num_frames} frames, {num_context} of them context: none to write")
        # Frame by frame, so that a picture's bits do not depend on what it was batched with.
        results = [self.enlarge(frames_BTCHW[:, t]) for t in range(kept)]
        return torch.stack(results, dim=1), state

    def _run(self, x_BCHW: Tensor) -> Tensor:
        """The network in its weights' dtype; float32 comes back."""
        x = x_BCHW.to(compute_dtype(self), memory_format=torch.channels_last)
        result: Tensor = self(x)
        return result.float()

    def _interpolate(self, x_BCHW: Tensor) -> Tensor:
        return shuffled(self.interpolation.phases(x_BCHW), self.scale)
