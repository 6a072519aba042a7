"""BasicVSR++ (Chan et al., 2022, arXiv 2104.13371), for the public weights of its authors, x4.

Features go through the film four times, backward and forward by turns; each pass sees what earlier
ones made of the frame (section 3.1, figure 2), and aligns the features of the two frames before by
a deformable convolution whose offsets start from the optical flow (section 3.2, equations 1 to 6).

Over one call this is the published network exactly. A film in several calls carries the state of
both forward passes from call to call; both backward passes start anew at the end of each call's
look-ahead, as in `basicvsr`, and there lies the loss.

The deformable convolution is nine warps and nine 1x1 convolutions: the arithmetic of the usual
kernels, in what every device has, and counted by `cost`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.flow import warp
from vsr.models.layers import ConvResidualBlocks, compute_dtype
from vsr.models.spynet import SPyNet
from vsr.models.upscaler import State
from vsr.models.video.basicvsr import LEAK, HighResolutionTail, num_written

BRANCHES = ("backward_1", "forward_1", "backward_2", "forward_2")
"""The passes over the film, in order."""


def deform_conv(
    x_BCHW: Tensor, offset: Tensor, mask: Tensor, weight_OC33: Tensor, bias_O: Tensor
) -> Tensor:
    """Modulated deformable 3x3 convolution (Zhu et al., 2019, arXiv 1811.11168, equation 1).

    Args:
        x_BCHW: (B, C, H, W), zero outside.
        offset: (B, 2*9*G, H, W) pixels; for each of G groups of channels and each tap, row by row:
            how far below and how far right of its place to sample.
        mask: (B, 9*G, H, W), by which each sample is multiplied.
        weight_OC33: (O, C, 3, 3).
        bias_O: (O,).

    Returns:
        (B, O, H, W) in the weights' dtype.
    """
    batch, channels, height, width = x_BCHW.shape
    num_groups = mask.shape[1] // 9
    grouped = x_BCHW.float().reshape(batch * num_groups, channels // num_groups, height, width)
    offset_N92HW = offset.float().reshape(batch * num_groups, 9, 2, height, width)
    mask_N9HW = mask.float().reshape(batch * num_groups, 9, height, width)
    dtype = weight_OC33.dtype
    result = bias_O[:, None, None].expand(batch, -1, height, width)
    for tap in range(9):
        row, column = divmod(tap, 3)
        place = offset_N92HW.new_tensor((column - 1, row - 1)).view(2, 1, 1)
        sampled = warp(grouped, offset_N92HW[:, tap].flip(1) + place, "zeros")
        sampled = (sampled * mask_N9HW[:, tap, None]).view(batch, channels, height, width)
        result = result + F.conv2d(sampled.to(dtype), weight_OC33[:, :, row, column, None, None])
    return result


class FlowGuidedAlignment(nn.Module):
    """Align the features of the two frames before, after their flows (section 3.2).

    Args:
        num_channels: of the features of one frame.
        num_groups: groups of channels with offsets of their own; half of them for each frame.
        max_residual_px: how far an offset may go from the flow.
    """

    def __init__(
        self, num_channels: int, num_groups: int = 16, max_residual_px: float = 10.0
    ) -> None:
        super().__init__()
        self.max_residual_px = max_residual_px
        self.weight = nn.Parameter(torch.empty(num_channels, 2 * num_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(num_channels))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        layers: list[nn.Module] = []
        for in_channels in (3 * num_channels + 4, num_channels, num_channels):
            layers += [nn.Conv2d(in_channels, num_channels, 3, padding=1), nn.LeakyReLU(LEAK)]
        last = nn.Conv2d(num_channels, 27 * num_groups, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.conv_offset = nn.Sequential(*layers, last)

    def forward(
        self, features: Tensor, condition: Tensor, flow_1_B2HW: Tensor, flow_2_B2HW: Tensor
    ) -> Tensor:
        """The aligned features, (B, C, H, W) float32.

        Args:
            features: (B, 2*C, H, W) float32, of the last frame and the one before it, as they are.
            condition: (B, 3*C, H, W), what the offsets are found from.
            flow_1_B2HW: float32, from the current frame to the last.
            flow_2_B2HW: float32, from the current frame to the one before the last.
        """
        offset, mask = self.offsets(condition, flow_1_B2HW, flow_2_B2HW)
        return deform_conv(features, offset, mask, self.weight, self.bias).float()

    def offsets(
        self, condition: Tensor, flow_1_B2HW: Tensor, flow_2_B2HW: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Offsets and masks for `deform_conv` (equations 4 and 5), float32."""
        given = torch.cat((condition, flow_1_B2HW, flow_2_B2HW), dim=1)
        found: Tensor = self.conv_offset(given.to(compute_dtype(self))).float()
        residuals, mask = found.split((found.shape[1] * 2 // 3, found.shape[1] // 3), dim=1)  # type: ignore[no-untyped-call]
        residuals = self.max_residual_px * torch.tanh(residuals)
        # Of each offset's two numbers the vertical comes first; of a flow's, the horizontal.
        repeats = residuals.shape[1] // 4
        flows = [flow.flip(1).repeat(1, repeats, 1, 1) for flow in (flow_1_B2HW, flow_2_B2HW)]
        return residuals + torch.cat(flows, dim=1), torch.sigmoid(mask)


@dataclass(slots=True)
class _Past:
    """What a pass remembers of the two frames before."""

    first: Tensor
    """(B, C, H, W) features of the last frame."""
    second: Tensor
    """Of the one before it."""
    flow: Tensor
    """(B, 2, H, W) from the last frame to the one before it."""
    count: Tensor
    """(B, 1, 1, 1): 0, 1 or 2 such frames."""

    def moved_on(self, feature: Tensor, flow: Tensor) -> _Past:
        """The past of the next frame."""
        return _Past(feature, self.first, flow, (self.count + 1).clamp(max=2))


class BasicVSRPlusPlus(nn.Module):
    """The network, under the `Upscaler` and `FrameRenderer` contracts.

    Args:
        num_channels: of the features.
        num_blocks: residual blocks of each pass.
        num_groups: deformable groups.
    """

    scale = 4

    def __init__(
        self, *, num_channels: int = 64, num_blocks: int = 7, num_groups: int = 16
    ) -> None:
        super().__init__()
        self.num_channels = num_channels
        self.spynet = SPyNet()
        self.feat_extract = ConvResidualBlocks(3, num_channels, 5)
        self.deform_align = nn.ModuleDict(
            {name: FlowGuidedAlignment(num_channels, num_groups) for name in BRANCHES}
        )
        self.backbone = nn.ModuleDict(
            {
                name: ConvResidualBlocks((2 + made) * num_channels, num_channels, num_blocks)
                for made, name in enumerate(BRANCHES)
            }
        )
        self.reconstruction = ConvResidualBlocks(5 * num_channels, num_channels, 5)
        self.tail = HighResolutionTail(num_channels)

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """See `Upscaler.init_state`.

        Returns:
            For each forward pass the features (B, C, H, W) of the last frame and of the one before
            it; the flow (B, 2, H, W) between these; the last frame (B, 3, H, W); and how many such
            frames there were, 0 to 2, (B, 1, 1, 1).
        """
        device = self.tail.conv_last.weight.device
        sizes = (*(4 * [self.num_channels]), 2, 3)
        zeros = [torch.zeros(batch, size, height, width, device=device) for size in sizes]
        return (*zeros, torch.zeros(batch, 1, 1, 1, device=device))

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
        kept = num_written(frames_BTCHW, num_context)
        frames = list(frames_BTCHW.float().unbind(1))
        *remembered, last_flow, last_frame, count = state
        to_last = self._flows(frames, [last_frame, *frames[:-1]])
        to_next = self._flows(frames[:-1], frames[1:])
        made = [[self._run(self.feat_extract, frame)] for frame in frames]
        ends: list[Tensor] = []
        for name in BRANCHES:
            if name.startswith("backward"):
                # The first of these flows leads to no frame, and with none before counts as none.
                flows = [torch.zeros_like(last_flow), *to_next[::-1]]
                past = self._nothing(frames[0])
                found = self._walk(name, made[::-1], flows, past)[::-1]
            else:
                # The last pass is nobody's source: the context can do without it.
                length = kept if name == BRANCHES[-1] else len(frames)
                first, second = remembered[len(ends) : len(ends) + 2]
                past = _Past(first, second, last_flow, count)
                found = self._walk(name, made[:length], to_last[:length], past)
                ends += [second, first, *found[:kept]][:-3:-1]
            for parts, feature in zip(made, found, strict=False):
                parts.append(feature)
        results = [self._run(self.reconstruction, torch.cat(parts, dim=1)) for parts in made[:kept]]
        return results, (*ends, to_last[kept - 1], frames[kept - 1], (count + kept).clamp(max=2))

    def render(self, frame_BCHW: Tensor, feature_BCHW: Tensor) -> Tensor:
        """See `FrameRenderer.render`."""
        result: Tensor = self.tail(frame_BCHW, feature_BCHW)
        return result

    def _walk(
        self, name: str, made: list[list[Tensor]], flows: list[Tensor], past: _Past
    ) -> list[Tensor]:
        """One pass over frames in the order given.

        Args:
            name: of the pass.
            made: what each frame has so far: its own features, then those of earlier passes.
            flows: from each frame to the one gone through before it.
            past: what the pass remembers.
        """
        found: list[Tensor] = []
        for parts, flow in zip(made, flows, strict=True):
            aligned = self._align(name, parts[0], flow, past)
            given = torch.cat((*parts, aligned), dim=1)
            feature = aligned + self._run(self.backbone[name], given)
            found.append(feature)
            past = past.moved_on(feature, flow)
        return found

    def _align(self, name: str, current: Tensor, flow_1: Tensor, past: _Past) -> Tensor:
        """The past's features on the current frame's grid; zeros without a past."""
        flow_2 = flow_1 + warp(past.flow, flow_1, "zeros")
        flow_2 = torch.where(past.count > 1, flow_2, torch.zeros_like(flow_2))
        condition = (warp(past.first, flow_1, "zeros"), current, warp(past.second, flow_2, "zeros"))
        aligned: Tensor = self.deform_align[name](
            torch.cat((past.first, past.second), dim=1),
            torch.cat(condition, dim=1),
            flow_1,
            flow_2,
        )
        return torch.where(past.count > 0, aligned, torch.zeros_like(aligned))

    def _nothing(self, frame: Tensor) -> _Past:
        batch, _, height, width = frame.shape
        features = frame.new_zeros(batch, self.num_channels, height, width)
        return _Past(
            features,
            features,
            frame.new_zeros(batch, 2, height, width),
            frame.new_zeros(batch, 1, 1, 1),
        )

    def _flows(self, frames: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        # Pair by pair: a whole call's pyramids at once would fill the memory.
        return [self.spynet(frame, other) for frame, other in zip(frames, others, strict=True)]

    def _run(self, trunk: nn.Module, x_BCHW: Tensor) -> Tensor:
        result: Tensor = trunk(x_BCHW.to(compute_dtype(self)))
        return result.float()
