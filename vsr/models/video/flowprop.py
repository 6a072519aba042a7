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
        offset, slope, initial = (
            parameter.float()[:, None, None]
            for parameter in (self.gate_offset, self.gate_slope, self.initial)
        )
        gate = torch.sigmoid(offset - F.softplus(slope) * error_B1HW)
        return torch.lerp(initial, warp(hidden_BCHW, flow_B2HW), gate)

    def forward(self, inputs_BCHW: Tensor, aligned_BCHW: Tensor) -> Tensor:
        """New state (B, C, H, W) in the trunk's dtype."""
        features = torch.cat((inputs_BCHW, aligned_BCHW.to(inputs_BCHW.dtype)), dim=1)
        hidden: Tensor = self.trunk(
            features.to(compute_dtype(self.trunk), memory_format=torch.channels_last)
        )
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
        batch, length, channels = frames_BTCHW.shape[:3]
        if channels != 3 or not 0 <= num_context < length:
            raise ShapeError(
                f"expected (B, T, 3, H, W) with T > {num_context} context frames, "
                f"got {tuple(frames_BTCHW.shape)}"
            )
        kept = length - num_context
        frames = frames_BTCHW.float()
        if self.direction == "none":
            hidden = self.still_trunk(self._cast(frames.flatten(0, 1)))
            return self._render(frames, _split(hidden, batch), kept), state
        hiddens, state = self._propagate(frames, state, kept)
        return self._render(frames, hiddens, kept).to(frames_BTCHW.dtype), state

    def _cast(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.to(self.tail.weight.dtype, memory_format=torch.channels_last)

    def _render(self, frames_BTCHW: Tensor, hidden_BTCHW: Tensor, kept: int) -> Tensor:
        """Residual phases plus interpolated phases, shuffled to full size, float32."""
        batch = frames_BTCHW.shape[0]
        frames_NCHW = frames_BTCHW[:, :kept].flatten(0, 1)
        hidden_NCHW = hidden_BTCHW[:, :kept].flatten(0, 1)
        phases = self.tail(self._cast(_paired(hidden_NCHW)))[: len(frames_NCHW)].float()
        phases = phases + self.interpolation.phases(frames_NCHW)
        return _split(F.pixel_shuffle(phases, self.scale), batch)

    def _propagate(self, frames: Tensor, state: State, kept: int) -> tuple[Tensor, State]:
        """Hidden features (B, kept, C, H, W) of the frames to write, and the state after them."""
        length = frames.shape[1]
        hidden, previous, has_previous = state
        before = torch.cat((previous[:, None].float(), frames[:, :-1]), dim=1)
        # One call for all pairs of the chunk, both directions: (t -> t-1) and (t -> t+1).
        later = frames[:, 1 : (length if self.backward_pass is not None else kept + 1)]
        num_later = later.shape[1]
        flows, warped = self._flows(
            torch.cat((frames[:, :kept], frames[:, :num_later]), dim=1),
            torch.cat((before[:, :kept], later), dim=1),
        )
        flow_back, flow_ahead = flows[:, :kept], flows[:, kept:]
        error_back = _mismatch(frames[:, :kept], warped[:, :kept])
        # No previous frame: an error that closes the gate whatever its slope.
        missing = (1.0 - has_previous.float()) * 1e4
        error_back = torch.cat((error_back[:, :1] + missing[:, None], error_back[:, 1:]), dim=1)
        error_ahead = _mismatch(frames[:, :num_later], warped[:, kept:])

        if self.backward_pass is not None:
            extra = self._backward(frames, flow_ahead, error_ahead, kept)
        else:
            extra = self._look_ahead(frames, warped[:, kept:], error_ahead, kept)
        hiddens = []
        for t in range(kept):
            aligned = self.forward_pass.align(hidden, flow_back[:, t], error_back[:, t])
            inputs = torch.cat((frames[:, t], extra[t].to(frames.dtype)), dim=1)
            hidden = self.forward_pass(inputs, aligned)
            hiddens.append(hidden)
        new_state = (hidden.float(), frames[:, kept - 1], torch.ones_like(has_previous))
        return torch.stack(hiddens, dim=1), new_state

    def _flows(self, refs: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """Flow of every pair and the second frame warped onto the first."""
        assert self.flow is not None
        batch = refs.shape[0]
        refs_NCHW, others_NCHW = refs.flatten(0, 1), others.flatten(0, 1)
        flow_N2HW = self.flow(_paired(refs_NCHW), _paired(others_NCHW))[: len(refs_NCHW)]
        warped = warp(others_NCHW, flow_N2HW)
        return _split(flow_N2HW, batch), _split(warped, batch)

    def _backward(
        self, frames: Tensor, flow_ahead: Tensor, error_ahead: Tensor, kept: int
    ) -> list[Tensor]:
        """Backward features of the frames to write, from the end of the context to the start."""
        assert self.backward_pass is not None
        batch, length, _, height, width = frames.shape
        hidden = self.backward_pass.initial_state(batch, height, width)
        features: list[Tensor] = []
        for t in range(length - 1, -1, -1):
            if t < length - 1:
                aligned = self.backward_pass.align(hidden, flow_ahead[:, t], error_ahead[:, t])
            else:
                aligned = hidden
            hidden = self.backward_pass(frames[:, t], aligned)
            if t < kept:
                features.append(hidden)
        return features[::-1]

    def _look_ahead(
        self, frames: Tensor, warped_ahead: Tensor, error_ahead: Tensor, kept: int
    ) -> list[Tensor]:
        """What the aligned next frame adds, 0 where it is occluded or there is none."""
        num_later = warped_ahead.shape[1]
        difference = (warped_ahead - frames[:, :num_later]) * torch.exp(-20.0 * error_ahead)
        missing = difference.new_zeros(frames[:, 0].shape)
        return [difference[:, t] if t < num_later else missing for t in range(kept)]


def _paired(x_NCHW: Tensor) -> Tensor:
    """The batch, a lone sample doubled.

    torch computes a small picture alone by another CPU kernel than the same picture in a batch,
    with other bits: a shot's last call would differ from the same frames in a larger call.
    """
    return x_NCHW if len(x_NCHW) > 1 else torch.cat((x_NCHW, x_NCHW))


def _split(x_NCHW: Tensor, batch: int) -> Tensor:
    """(B*T, C, H, W) -> (B, T, C, H, W)."""
    return x_NCHW.view(batch, -1, *x_NCHW.shape[1:])


def _mismatch(frames_BTCHW: Tensor, warped_BTCHW: Tensor) -> Tensor:
    """(B, T, 1, H, W): mean absolute difference over the channels and a 3x3 neighbourhood."""
    error = (frames_BTCHW - warped_BTCHW).abs().mean(dim=2, keepdim=True).flatten(0, 1)
    error = F.avg_pool2d(error, 3, stride=1, padding=1, count_include_pad=False)
    return _split(error, frames_BTCHW.shape[0])
