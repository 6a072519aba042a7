"""BasicVSR (Chan et al., 2021, arXiv 2012.02181), for the public weights of its authors.

Features propagate once backward and once forward through the film, warped along SPyNet's flow, and
are fused (figure 2). Over one call this is the published network exactly. A film in several calls
carries the forward state exactly from call to call; the backward state starts anew, with zeros, at
the end of each call's look-ahead. So what a call loses of the published whole film is what the
backward pass would know of frames beyond its look-ahead, and nothing where the shot ends in it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.flow import warp
from vsr.models.layers import ConvResidualBlocks, compute_dtype
from vsr.models.spynet import SPyNet
from vsr.models.upscaler import State

LEAK = 0.1


class HighResolutionTail(nn.Module):
    """Features to the picture, four times as large; the last layers of the whole family.

    Twice a convolution and a pixel shuffle, two convolutions at full size, and the bilinearly
    enlarged frame added.

    Args:
        num_channels: of the features.
    """

    NUM_CHANNELS = 64
    """At full size, whatever the features have."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        inner = self.NUM_CHANNELS
        self.upconv1 = nn.Conv2d(num_channels, 4 * num_channels, 3, padding=1)
        self.upconv2 = nn.Conv2d(num_channels, 4 * inner, 3, padding=1)
        self.conv_hr = nn.Conv2d(inner, inner, 3, padding=1)
        self.conv_last = nn.Conv2d(inner, 3, 3, padding=1)

    def forward(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) and (B, C, H, W) -> (B, 3, 4*H, 4*W), dtype of the frame."""
        x = feature_BCHW.to(compute_dtype(self))
        for conv in (self.upconv1, self.upconv2):
            x = F.leaky_relu(F.pixel_shuffle(conv(x), 2), LEAK)
        detail: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), LEAK))
        base = F.interpolate(
            frame_BCHW.float(), scale_factor=4, mode="bilinear", align_corners=False
        )
        return (base + detail.float()).to(frame_BCHW.dtype)


class BasicVSR(nn.Module):
    """The network, under the `Upscaler` and `FrameRenderer` contracts.

    Args:
        num_channels: of the features.
        num_blocks: residual blocks of each direction.
    """

    scale = 4

    def __init__(self, *, num_channels: int = 64, num_blocks: int = 30) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.spynet = SPyNet()
        self.backward_trunk = ConvResidualBlocks(3 + num_channels, num_channels, num_blocks)
        self.forward_trunk = ConvResidualBlocks(3 + num_channels, num_channels, num_blocks)
        self.fusion = nn.Conv2d(2 * num_channels, num_channels, 1)
        self.tail = HighResolutionTail(num_channels)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `Upscaler.init_state`.

        Returns:
            The forward state (B, C, H, W) and the previous frame (B, 3, H, W), both zeros: warped
            along any flow, zeros stay the zeros that the published network starts with.
        """
        device = self.fusion.weight.device
        return (
            torch.zeros(batch, self.num_channels, height, width, device=device),
            torch.zeros(batch, 3, height, width, device=device),
        )

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`."""
        features, state = self.propagate(frames_BTCHW, state, num_context)
        results = [
            self.render(frames_BTCHW[:, t], feature_BCHW) for t, feature_BCHW in enumerate(features)
        ]
        return torch.stack(results, dim=1), state

    def propagate(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[list[Tensor], State]:
        """See `FrameRenderer.propagate`: fused features (B, C, H, W) of each frame to write."""
        kept = num_written(frames_BTCHW, num_context)
        frames = list(frames_BTCHW.float().unbind(1))
        # Later frames first, so that each is let go when it is used.
        waiting = self._backward(frames, kept)
        hidden, previous = state
        results = []
        for frame in frames[:kept]:
            hidden = warp(hidden, self.spynet(frame, previous), "zeros")
            hidden = self._step(self.forward_trunk, frame, hidden)
            fused = self.fusion(self._cast(torch.cat((waiting.pop(), hidden), dim=1)))
            results.append(F.leaky_relu(fused, LEAK))
            previous = frame
        return results, (hidden, previous)

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`."""
        result: Tensor = self.tail(frame_BCHW, feature_BCHW)
        return result

    def _backward(self, frames: list[Tensor], kept: int) -> list[Tensor]:
        """Backward features of the frames to write, the last frame's first."""
        batch, _, height, width = frames[0].shape
        hidden = frames[0].new_zeros(batch, self.num_channels, height, width)
        features = []
        for t in reversed(range(len(frames))):
            if t + 1 < len(frames):
                hidden = warp(hidden, self.spynet(frames[t], frames[t + 1]), "zeros")
            hidden = self._step(self.backward_trunk, frames[t], hidden)
            if t < kept:
                features.append(hidden)
        return features

    def _step(self, trunk: nn.Module, frame: Tensor, hidden: Tensor) -> Tensor:
        result: Tensor = trunk(self._cast(torch.cat((frame, hidden), dim=1)))
        return result.float()

    def _cast(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.to(compute_dtype(self))


def num_written(frames_BTCHW: Tensor, num_context: int) -> int:
    """How many frames a call writes.

    Raises:
        ShapeError: none, or the frames are not RGB.
    """
    length, channels = frames_BTCHW.shape[1:3]
    if channels != 3 or not 0 <= num_context < length:
        raise ShapeError(
            f"expected (B, T, 3, H, W) with T > {num_context} context frames, "
            f"got {tuple(frames_BTCHW.shape)}"
        )
    return length - num_context
