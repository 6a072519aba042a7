"""What flowprop is built of: a pass in one direction, its warp, and the cleaning of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.flow import warp
from vsr.models.layers import ConvResidualBlocks, compute_dtype


class GroupedWarp(nn.Module):
    """Warp a state group by group, each along the flow and an offset of its own.

    The offsets and modulation of BasicVSR++'s flow-guided alignment (Chan et al., 2022, arXiv
    2104.13371, section 3.2, equations 3 to 6) with one tap for each group of channels in place of
    a deformable convolution's nine for each sample: what is left is a warp, which every device has.

    Args:
        num_channels: of the state; a multiple of `num_groups`.
        num_groups: groups of channels that move together.
    """

    MAX_OFFSET_PX = 5.0

    def __init__(self, num_channels: int, num_groups: int) -> None:
        super().__init__()
        assert num_channels % num_groups == 0, (num_channels, num_groups)
        self.num_groups = num_groups
        self.head = nn.Sequential(
            # The warped state, the frame, the flow and how well the frames match.
            nn.Conv2d(num_channels + 3 + 2 + 1, 32, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(32, 3 * num_groups, 3, padding=1),
        )
        # Starts as a plain warp.
        nn.init.zeros_(self.head[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.head[2].bias)  # type: ignore[arg-type]

    def forward(
        self, hidden_BCHW: Tensor, flow_B2HW: Tensor, error_B1HW: Tensor, frame_B3HW: Tensor
    ) -> Tensor:
        """(B, C, H, W) float32; see `Propagation.align`."""
        batch, channels, height, width = hidden_BCHW.shape
        groups = self.num_groups
        parts = (warp(hidden_BCHW, flow_B2HW), frame_B3HW, flow_B2HW, error_B1HW.clamp(max=1.0))
        given = torch.cat([part.to(compute_dtype(self)) for part in parts], dim=1)
        wish = self.head(given.contiguous(memory_format=torch.channels_last)).float()
        wish = wish.reshape(batch * groups, 3, height, width)
        flow_N2HW = flow_B2HW.repeat_interleave(groups, dim=0)
        flow_N2HW = flow_N2HW + self.MAX_OFFSET_PX * torch.tanh(wish[:, :2])
        grouped = hidden_BCHW.reshape(batch * groups, channels // groups, height, width)
        # 1 at the start, from 0 to 2.
        warped = warp(grouped, flow_N2HW) * (2.0 * torch.sigmoid(wish[:, 2:]))
        return warped.view(batch, channels, height, width)


class Cleaning(nn.Module):
    """Take grain, scratches and compression off a frame, before flow and propagation.

    After RealBasicVSR (Chan et al., 2022, arXiv 2111.12704, section 3.1): noise that is propagated
    grows from frame to frame, and misleads the flow. What differs: it runs once, not until its
    result stops to change.

    Args:
        num_channels: width.
        num_blocks: residual blocks.
    """

    def __init__(self, num_channels: int, num_blocks: int) -> None:
        super().__init__()
        self.trunk = ConvResidualBlocks(3, num_channels, num_blocks)
        self.residual = nn.Conv2d(num_channels, 3, 3, padding=1)
        # Starts by leaving every frame as it is.
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)  # type: ignore[arg-type]

    def forward(self, frame_B3HW: Tensor) -> Tensor:
        """What to add to a frame, (B, 3, H, W) in the dtype of the weights."""
        x = frame_B3HW.to(compute_dtype(self), memory_format=torch.channels_last)
        residual: Tensor = self.residual(self.trunk(x))
        return residual


class Propagation(nn.Module):
    """One direction of the recurrence: gate the warped state, then run the trunk.

    Args:
        in_channels: of all that comes with the state.
        num_channels: of the state.
        num_blocks: residual blocks of the trunk.
        num_groups: groups with offsets of their own; 0 warps the whole state along the flow.
    """

    def __init__(
        self, in_channels: int, num_channels: int, num_blocks: int, num_groups: int = 0
    ) -> None:
        super().__init__()
        self.trunk = ConvResidualBlocks(in_channels + num_channels, num_channels, num_blocks)
        self.initial = nn.Parameter(torch.zeros(num_channels))
        # gate = sigmoid(offset - slope * error): open where the neighbour matches to a few codes.
        self.gate_offset = nn.Parameter(torch.full((num_channels,), 3.0))
        self.gate_slope = nn.Parameter(torch.full((num_channels,), 30.0))
        self.grouped = GroupedWarp(num_channels, num_groups) if num_groups else None

    def initial_state(self, batch: int, height: int, width: int) -> Tensor:
        """(B, C, H, W) float32: what is known before the first frame of a shot."""
        return self.initial.float()[:, None, None].expand(batch, -1, height, width).contiguous()

    def align(
        self,
        hidden_BCHW: Tensor,
        flow_B2HW: Tensor | None,
        error_B1HW: Tensor,
        frame_B3HW: Tensor,
    ) -> Tensor:
        """Warp the state and fade it to the initial one where the neighbour does not match.

        Args:
            hidden_BCHW: the neighbour's state, float32 or the trunk's dtype.
            flow_B2HW: float32, from this frame's grid into the neighbour's; None where nothing
                moved.
            error_B1HW: float32, matching error of the warped neighbour; inf where there is none.
            frame_B3HW: float32, this frame.
        """
        if self.grouped is None:
            warped_BCHW = hidden_BCHW if flow_B2HW is None else warp(hidden_BCHW, flow_B2HW)
        else:
            if flow_B2HW is None:
                flow_B2HW = error_B1HW.new_zeros(len(error_B1HW), 2, *error_B1HW.shape[-2:])
            warped_BCHW = self.grouped(hidden_BCHW, flow_B2HW, error_B1HW, frame_B3HW)
        # Channels last throughout: mixed memory orders would be copied again and again. In float32,
        # whose rows of 16 channels a processor's vectors hold; half of one is computed one by one.
        warped_BCHW = warped_BCHW.float().contiguous(memory_format=torch.channels_last)
        warped_BHWC = warped_BCHW.permute(0, 2, 3, 1)
        error_BHW1 = error_B1HW.permute(0, 2, 3, 1)
        slope = F.softplus(self.gate_slope.float())
        gate_BHWC = torch.sigmoid(torch.addcmul(self.gate_offset.float(), error_BHW1, -slope))
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
