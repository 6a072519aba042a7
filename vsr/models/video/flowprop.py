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
- sizes with one direction look one frame ahead, at the flow-aligned next frame;
- large sizes warp groups of channels along offsets of their own (`GroupedWarp`) and go through the
  film more than once;
- sizes for damaged footage clean each frame before anything else sees it (`Cleaning`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from vsr.errors import ShapeError
from vsr.models.ahead import ahead
from vsr.models.flow import FlowNet
from vsr.models.image.interpolation import PhaseInterpolation, shuffled
from vsr.models.layers import ConvResidualBlocks, ResidualBlock
from vsr.models.upscaler import State
from vsr.models.video.matches import Matches
from vsr.models.video.propagation import Cleaning, Propagation

Direction = Literal["none", "forward", "both"]


class FlowProp(nn.Module):
    """Flow-aligned recurrent upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        num_channels: width of the trunks; multiples of 16 are fast.
        num_blocks: residual blocks in each pass's trunk.
        direction: `forward` looks back and one frame ahead, `both` adds a backward pass over the
            chunk and its context, `none` looks at one frame at a time (the per-frame twin that
            the gain of the neighbours is measured against).
        flow_channels: width of the flow network.
        flow_levels: levels of the flow network.
        num_groups: groups of channels whose warp has an offset of its own; 0 has none.
        num_rounds: how often the film is gone through in both directions; later passes see what
            earlier ones made of the frame (BasicVSR++'s grid propagation, arXiv 2104.13371,
            section 3.1, here without its second-order links).
        tail_blocks: residual blocks before the convolution that makes the phases.
        cleaning_blocks: residual blocks of the stage that cleans frames; 0 has none.
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
        num_groups: int = 0,
        num_rounds: int = 1,
        tail_blocks: int = 0,
        cleaning_blocks: int = 0,
    ) -> None:
        super().__init__()
        if num_rounds != 1 and direction != "both":
            raise ValueError(f"{num_rounds} rounds need both directions, not {direction!r}")
        self.scale = scale
        self.direction = direction
        self.num_channels = num_channels
        self.backward_pass: Propagation | None = None
        self.flow: FlowNet | None = None
        passes = [
            Propagation(3 + made * num_channels, num_channels, num_blocks, num_groups)
            for made in range(2 * num_rounds if direction == "both" else 0)
        ]
        if direction == "both":
            self.backward_pass, self.forward_pass = passes[:2]
        elif direction == "forward":
            # The aligned next frame comes with the state.
            self.forward_pass = Propagation(3 + 3, num_channels, num_blocks, num_groups)
        if direction == "none":
            self.still_trunk = ConvResidualBlocks(3, num_channels, num_blocks)
        else:
            self.flow = FlowNet(flow_channels, flow_levels)
        self.later_passes = nn.ModuleList(passes[2:])
        """Backward and forward by turns, from the second round on."""
        self.tail_trunk = nn.Sequential(*(ResidualBlock(num_channels) for _ in range(tail_blocks)))
        self.tail = nn.Conv2d(num_channels, 3 * scale**2, 3, padding=1)
        nn.init.normal_(self.tail.weight, std=1e-3)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        self.cleaning = Cleaning(num_channels, cleaning_blocks) if cleaning_blocks else None
        self.interpolation = PhaseInterpolation(scale)
        self.helper: Executor | None = None
        """See `UsesHelper`: finds the flow of the frames to come."""

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `Upscaler.init_state`.

        Returns:
            A hidden state (B, C, H, W) for each round, the previous frame (B, 3, H, W), and
            has_previous (B, 1, 1, 1), 0 until there was one.
        """
        if self.direction == "none":
            return ()
        device = self.tail.weight.device
        return (
            *(forward.initial_state(batch, height, width) for _, forward in self._rounds()),
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
        """See `FrameRenderer.propagate`: features (B, C, H, W) of each frame to write.

        Where frames are cleaned, what was added to the frame comes after them, as three channels.
        """
        length, channels = frames_BTCHW.shape[1:3]
        if channels != 3 or not 0 <= num_context < length:
            raise ShapeError(
                f"expected (B, T, 3, H, W) with T > {num_context} context frames, "
                f"got {tuple(frames_BTCHW.shape)}"
            )
        frames = list(frames_BTCHW.float().unbind(1))
        kept = length - num_context
        added: list[Tensor] = []
        if self.cleaning is not None:
            added = [self.cleaning(frame) for frame in frames]
            frames = [frame + residual for frame, residual in zip(frames, added, strict=True)]
        if self.direction == "none":
            features = [self.still_trunk(self._cast(frame)) for frame in frames[:kept]]
            return _with_channels(features, added), state
        *hiddens, previous, has_previous = state
        rounds = self._rounds()
        assert self.flow is not None
        matches = Matches(self.flow, [previous, *frames], keep=len(rounds) > 1)
        made: list[tuple[Tensor, ...]] = [() for _ in frames]
        """What the passes so far have made of each frame."""
        ends = []
        for number, (backward, forward) in enumerate(rounds):
            if backward is not None:
                made = _appended(made, self._backward(backward, frames, made, matches))
            # A later round looks at the context as well, so this one has to go through it.
            count = kept if number == len(rounds) - 1 else length
            # No previous frame: an error that closes the gate whatever its slope.
            missing = (1.0 - has_previous.float()) * 1e4
            found = self._forward(forward, frames, made[:count], matches, hiddens[number], missing)
            made = _appended(made, found)
            ends.append(found[kept - 1].float())
        results = [features[-1] for features in made[:kept]]
        state = (*ends, frames[kept - 1], torch.ones_like(has_previous))
        return _with_channels(results, added), state

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`: residual and interpolated phases, shuffled to full size."""
        dtype = frame_BCHW.dtype
        if self.cleaning is not None:
            frame_BCHW = frame_BCHW.float() + feature_BCHW[:, self.num_channels :]
            feature_BCHW = feature_BCHW[:, : self.num_channels]
        residual = self.tail(self.tail_trunk(self._cast(feature_BCHW)))
        # In place: at this size a new array costs as much as the sum.
        phases = self.interpolation.phases(frame_BCHW.float()).add_(residual)
        return shuffled(phases, self.scale).to(dtype)

    def _cast(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.to(self.tail.weight.dtype, memory_format=torch.channels_last)

    def _rounds(self) -> list[tuple[Propagation | None, Propagation]]:
        """Backward and forward pass of each round."""
        later = [cast(Propagation, module) for module in self.later_passes]
        return [
            (self.backward_pass, self.forward_pass),
            *zip(later[::2], later[1::2], strict=True),
        ]

    def _backward(
        self,
        backward: Propagation,
        frames: list[Tensor],
        made: list[tuple[Tensor, ...]],
        matches: Matches,
    ) -> list[Tensor]:
        """Features of all frames, computed from the end of the context to the start."""
        batch, _, height, width = frames[0].shape
        hidden = backward.initial_state(batch, height, width)
        features: list[Tensor] = []
        last = len(frames) - 1
        found = ahead((partial(matches.after, t) for t in reversed(range(last))), self.helper)
        for t in reversed(range(len(frames))):
            aligned = hidden
            if t < last:
                flow, error, _ = next(found)
                aligned = backward.align(hidden, flow, error, frames[t])
            hidden = backward(frames[t], *made[t], aligned)
            features.append(hidden)
        return features[::-1]

    def _forward(
        self,
        forward: Propagation,
        frames: list[Tensor],
        made: list[tuple[Tensor, ...]],
        matches: Matches,
        hidden: Tensor,
        missing: Tensor,
    ) -> list[Tensor]:
        """Features of as many frames as `made` has."""
        features = []
        look = matches.both if self.direction == "forward" else matches.before
        found = ahead((partial(look, t) for t in range(len(made))), self.helper)
        for frame, extras, (flow, error, more) in zip(frames, made, found, strict=False):
            extras = (*extras, *more)
            aligned = forward.align(hidden, flow, error + missing, frame)
            hidden = forward(frame, *extras, aligned)
            features.append(hidden)
            missing = torch.zeros_like(missing)
        return features


def _with_channels(features: list[Tensor], added: list[Tensor]) -> list[Tensor]:
    """Features with what was added to their frames, where something was."""
    if not added:
        return features
    return [torch.cat(pair, dim=1) for pair in zip(features, added, strict=False)]


def _appended(made: list[tuple[Tensor, ...]], found: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Each frame's features with one more; frames that got none are left out."""
    return [(*features, feature) for features, feature in zip(made, found, strict=False)]
