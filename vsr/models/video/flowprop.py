"""flowprop: flow-aligned recurrent super-resolution.

After the BasicVSR family (Chan et al., 2021, arXiv 2012.02181, figure 2): features propagate from
frame to frame, warped by optical flow, through residual blocks. With w the warp, f the flow, T the
trunk, x_t the frame and g the gate:

    h_t = T(x_t, a_t, ...),    a_t = g_t * w(h_{t-1}, f_{t,t-1}) + (1 - g_t) * h_0

What differs from BasicVSR:
- a small flow network of our own in place of SPyNet, a tenth to a thirtieth of its cost;
- the warped state is gated by how well the warped neighbour matches (occlusion), and falls back to
  a learned state h_0, which is also the state at the beginning of a shot;
- every convolution runs at the source's resolution: one 3x3 convolution gives the s*s phases of
  the result's residual, and the phases of bicubic interpolation are added before one pixel shuffle;
- sizes with two directions feed the backward features into the forward trunk (as IconVSR's coupled
  propagation does, ibid., section 3.3) in place of a fusion layer;
- sizes with one direction look one frame ahead, at the flow-aligned next frame.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.flow import FlowNet, warp
from vsr.models.image.interpolation import PhaseInterpolation
from vsr.models.layers import ConvResidualBlocks, compute_dtype
from vsr.models.upscaler import State

Direction = Literal["none", "forward", "both"]


class Propagation(nn.Module):
    """One direction of the recurrence: gate the warped state, then run the trunk."""

    def __init__(self, in_channels: int, num_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.trunk = ConvResidualBlocks(in_channels + num_channels, num_channels, num_blocks)
        self.initial = nn.Parameter(torch.zeros(num_channels))
        # gate = sigmoid(offset - slope * error): open where the neighbour matches to a few codes.
        self.gate_offset = nn.Parameter(torch.full((num_channels,), 3.0))
        self.gate_slope = nn.Parameter(torch.full((num_channels,), 30.0))

    def initial_state(self, batch: int, height: int, width: int) -> Tensor:
        """(B, C, H, W) float32: what is known before the first frame of a shot."""
        return self.initial.float()[:, None, None].expand(batch, -1, height, width).contiguous()

    def align(self, hidden_BCHW: Tensor, flow_B2HW: Tensor, error_B1HW: Tensor) -> Tensor:
        """Warp the state and fade it to the initial one where the neighbour does not match.

        Args:
            hidden_BCHW: the neighbour's state, float32 or the trunk's dtype.
            flow_B2HW: float32, from this frame's grid into the neighbour's.
            error_B1HW: float32, matching error of the warped neighbour; inf where there is none.
        """
        # Channels last from the start: mixed memory orders would be copied again and again.
        error_BHW1 = error_B1HW.permute(0, 2, 3, 1)
        gate_BHWC = torch.sigmoid(
            self.gate_offset.float() - F.softplus(self.gate_slope.float()) * error_BHW1
        )
        warped_BHWC = warp(hidden_BCHW, flow_B2HW).permute(0, 2, 3, 1)
        return torch.lerp(self.initial.float(), warped_BHWC, gate_BHWC).permute(0, 3, 1, 2)

    def forward(self, *inputs_BCHW: Tensor) -> Tensor:
        """Run the trunk on the frame, what comes with it, and the aligned state.

        Returns:
            New state (B, C, H, W) in the trunk's dtype.
        """
        dtype = compute_dtype(self.trunk)
        parts = [x.to(dtype, memory_format=torch.channels_last) for x in inputs_BCHW]
        hidden: Tensor = self.trunk(torch.cat(parts, dim=1))
        return hidden


class FlowProp(nn.Module):
    """Flow-aligned recurrent upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        num_channels: width of the trunks; multiples of 16 are fast.
        num_blocks: residual blocks in each direction's trunk.
        direction: `forward` looks back and one frame ahead, `both` adds a backward pass over the
            chunk and its context, `none` looks at one frame at a time (the per-frame twin that
            the gain of the neighbours is measured against).
        flow_channels: width of the flow network.
        flow_levels: levels of the flow network.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        num_channels: int = 32,
        num_blocks: int = 4,
        direction: Direction = "both",
        flow_channels: int = 32,
        flow_levels: int = 4,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.direction = direction
        self.num_channels = num_channels
        self.backward_pass: Propagation | None = None
        self.flow: FlowNet | None = None
        in_channels = 3
        if direction == "both":
            self.backward_pass = Propagation(3, num_channels, num_blocks)
            in_channels += num_channels
        elif direction == "forward":
            in_channels += 3
        if direction == "none":
            self.still_trunk = ConvResidualBlocks(3, num_channels, num_blocks)
        else:
            self.flow = FlowNet(flow_channels, flow_levels)
            self.forward_pass = Propagation(in_channels, num_channels, num_blocks)
        self.tail = nn.Conv2d(num_channels, 3 * scale**2, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.interpolation = PhaseInterpolation(scale)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """(hidden (B, C, H, W), previous frame (B, 3, H, W), has_previous (B, 1, 1, 1))."""
        if self.direction == "none":
            return ()
        device = self.tail.weight.device
        return (
            self.forward_pass.initial_state(batch, height, width),
            torch.zeros(batch, 3, height, width, device=device),
            torch.zeros(batch, 1, 1, 1, device=device),
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
        """See `FrameRenderer.propagate`: features (B, C, H, W) of each frame to write."""
        length, channels = frames_BTCHW.shape[1:3]
        if channels != 3 or not 0 <= num_context < length:
            raise ShapeError(
                f"expected (B, T, 3, H, W) with T > {num_context} context frames, "
                f"got {tuple(frames_BTCHW.shape)}"
            )
        frames = list(frames_BTCHW.float().unbind(1))
        kept = length - num_context
        if self.direction == "none":
            return [self.still_trunk(self._cast(frame)) for frame in frames[:kept]], state
        backward = self._backward(frames)[:kept] if self.backward_pass is not None else None
        hidden, previous, has_previous = state
        # No previous frame: an error that closes the gate whatever its slope.
        missing = (1.0 - has_previous.float()) * 1e4
        features = []
        for t in range(kept):
            frame = frames[t]
            if backward is not None:
                ((flow, _, error),) = self._match(frame, [previous])
                extra = backward[t]
            else:
                (flow, _, error), *ahead = self._match(frame, [previous, *frames[t + 1 : t + 2]])
                extra = _look_ahead(frame, ahead)
            aligned = self.forward_pass.align(hidden, flow, error + missing)
            hidden = self.forward_pass(frame, extra, aligned)
            features.append(hidden)
            previous, missing = frame, torch.zeros_like(missing)
        return features, (hidden.float(), previous, torch.ones_like(has_previous))

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`: residual and interpolated phases, shuffled to full size."""
        phases = self.tail(self._cast(feature_BCHW)).float()
        phases = phases + self.interpolation.phases(frame_BCHW.float())
        return F.pixel_shuffle(phases, self.scale).to(frame_BCHW.dtype)

    def _cast(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.to(self.tail.weight.dtype, memory_format=torch.channels_last)

    def _match(self, frame: Tensor, others: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each other frame: the flow to it, itself warped onto `frame`, and the mismatch.

        Pair by pair in time, not a whole chunk at once: that would hold some ten full-size maps
        for every frame of the chunk.
        """
        assert self.flow is not None
        refs = torch.cat([frame] * len(others))
        others_NCHW = torch.cat([other.float() for other in others])
        flow = self.flow(refs, others_NCHW)
        warped = warp(others_NCHW, flow)
        error = (refs - warped).abs().mean(dim=1, keepdim=True)
        error = F.avg_pool2d(error, 3, stride=1, padding=1, count_include_pad=False)
        batch = len(frame)
        return list(
            zip(flow.split(batch), warped.split(batch), error.split(batch), strict=True)  # type: ignore[no-untyped-call]
        )

    def _backward(self, frames: list[Tensor]) -> list[Tensor]:
        """Backward features of all frames, computed from the end of the context to the start."""
        assert self.backward_pass is not None
        batch, _, height, width = frames[0].shape
        hidden = self.backward_pass.initial_state(batch, height, width)
        features: list[Tensor] = []
        later: Tensor | None = None
        for frame in reversed(frames):
            aligned = hidden
            if later is not None:
                ((flow, _, error),) = self._match(frame, [later])
                aligned = self.backward_pass.align(hidden, flow, error)
            hidden = self.backward_pass(frame, aligned)
            features.append(hidden)
            later = frame
        return features[::-1]


def _look_ahead(frame: Tensor, ahead: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """What the aligned next frame adds, 0 where it is occluded or there is none."""
    if not ahead:
        return torch.zeros_like(frame)
    _, warped, error = ahead[0]
    return (warped - frame) * torch.exp(-20.0 * error)
