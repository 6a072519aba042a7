"""Optical flow and warping.

Convention:
    `flow_ab` lives on a's grid and says where to sample b: a(p) ~ b(p + flow_ab(p)), with
    flow = (dx, dy) in pixels of that grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.layers import compute_dtype, rows

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
_MIN_ROW = 8
"""Channels from which on rows are sampled faster than planes."""


def warp(
    image_BCHW: Tensor, flow_B2HW: Tensor, outside: Literal["border", "zeros"] = "border"
) -> Tensor:
    """Sample an image along a flow field, bilinearly.

    Convention:
        out(p) = image(p + flow(p)), flow = (dx, dy) in pixels.

    Args:
        image_BCHW: (B, C, H, W), any float dtype, any range, any device.
        flow_B2HW: (B, 2, H, W) float32 on the same device, in pixels. A bfloat16 grid has 8 bits:
            at x = 300 its step is 1 to 2 px, so grids are always float32.
        outside: what lies beyond the image: its border, repeated, or zeros.

    Returns:
        (B, C, H, W) float32.

    Raises:
        ShapeError: the two sizes differ.
    """
    if image_BCHW.shape[-2:] != flow_B2HW.shape[-2:] or flow_B2HW.shape[1] != 2:
        raise ShapeError(
            f"image {tuple(image_BCHW.shape)} and flow {tuple(flow_B2HW.shape)} differ"
        )
    height, width = image_BCHW.shape[-2:]
    flow = flow_B2HW.float()
    xs = torch.arange(width, device=flow.device, dtype=torch.float32) + flow[:, 0]
    ys = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None] + flow[:, 1]
    if outside == "border" and _lies_in_rows(image_BCHW):
        return _sample_rows(image_BCHW.float(), xs, ys)
    scale_x, scale_y = 2.0 / max(width - 1, 1), 2.0 / max(height - 1, 1)
    # Two planes that pass for pairs: to interleave them takes a CPU as long as to sample.
    grid_BHW2 = torch.stack((xs * scale_x - 1.0, ys * scale_y - 1.0), dim=1).permute(0, 2, 3, 1)
    return F.grid_sample(
        image_BCHW.float(), grid_BHW2, mode="bilinear", padding_mode=outside, align_corners=True
    )


def _lies_in_rows(image_BCHW: Tensor) -> bool:
    """Whether `_sample_rows` is the faster way: pixels of many channels, one after the other."""
    return (
        image_BCHW.device.type == "cpu"
        and image_BCHW.shape[1] >= _MIN_ROW
        and image_BCHW.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_grad_enabled()
    )


def _sample_rows(image_BCHW: Tensor, xs_BHW: Tensor, ys_BHW: Tensor) -> Tensor:
    """`grid_sample` with a repeated border, for a picture in channels-last order; so is the result.

    A pixel's channels are a row of a table, and the sum of four weighted rows is what an embedding
    bag computes: on a CPU 10 to 20 times as fast as `grid_sample`, which walks channel by channel
    and would have the picture turned over first.
    """
    batch, channels, height, width = image_BCHW.shape
    x, y = xs_BHW.clamp(0, width - 1), ys_BHW.clamp(0, height - 1)
    left, top = x.floor(), y.floor()
    right_share, lower_share = x - left, y - top
    # What is not a number becomes any integer: the clamp keeps it in the table, and its weight is
    # still not a number.
    column, row = (left.int().clamp_(0, width - 1), top.int().clamp_(0, height - 1))
    first = torch.arange(batch, dtype=torch.int32)[:, None, None] * (height * width)
    at = first + row * width + column
    next_column = (column < width - 1).int()
    below = (row < height - 1).int() * width
    index_N4 = torch.stack((at, at + next_column, at + below, at + below + next_column), dim=-1)
    upper_share, left_share = 1 - lower_share, 1 - right_share
    shares_N4 = torch.stack(
        (
            upper_share * left_share,
            upper_share * right_share,
            lower_share * left_share,
            lower_share * right_share,
        ),
        dim=-1,
    )
    table = image_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
    sampled = F.embedding_bag(
        index_N4.view(-1, 4), table, per_sample_weights=shares_N4.view(-1, 4), mode="sum"
    )
    return sampled.view(batch, height, width, channels).permute(0, 3, 1, 2)


def luma(rgb_BCHW: Tensor) -> Tensor:
    """(B, 3, H, W) RGB -> (B, 1, H, W) BT.601 luma of the same dtype and range."""
    red, green, blue = LUMA_WEIGHTS
    return red * rgb_BCHW[:, 0:1] + green * rgb_BCHW[:, 1:2] + blue * rgb_BCHW[:, 2:3]


class FlowNet(nn.Module):
    """A small coarse-to-fine flow network on luma at half resolution.

    After SPyNet (Ranjan and Black, 2017, arXiv 1611.00850, section 3): each level warps the second
    picture by the flow so far and adds a residual. What differs: the residual is a least-squares
    step (Lucas and Kanade) that the network corrects, seeing also how well each small shift
    matches; 3x3 convolutions; luma only; and every level computes at half of its picture's
    resolution on the pixel-unshuffled samples, which keeps the sub-pixel information of the full
    picture at a quarter of the cost.

    Args:
        num_channels: width of the hidden layers.
        num_levels: levels of the pyramid; motion of about 2 px at the coarsest level's picture,
            2^num_levels px at the finest, is in reach.
    """

    SEARCH = 1
    """Radius of the matching costs, in samples of a level's grid."""

    def __init__(self, num_channels: int = 32, num_levels: int = 4) -> None:
        super().__init__()
        self.num_levels = num_levels
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(14 + (2 * self.SEARCH + 1) ** 2, num_channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(num_channels, num_channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(num_channels, num_channels, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(num_channels, 2, 3, padding=1),
            )
            for _ in range(num_levels)
        )
        # Hidden layers at the scale that keeps a signal's strength (torch's default loses nine
        # tenths of it over four layers); corrections start small beside the least-squares step.
        for level in self.levels:
            for conv in (m for m in level.modules() if isinstance(m, nn.Conv2d)):
                if conv.out_channels != 2:
                    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(conv.weight, std=0.005)
                    nn.init.constant_(conv.bias, 0.0)  # type: ignore[arg-type]

    def forward(self, ref_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        """Flow on the grid of `ref` that says where to sample `other`.

        Args:
            ref_BCHW: (B, 3, H, W) RGB, nominally [0, 1], any float dtype.
            other_BCHW: the same shape.

        Returns:
            (B, 2, H, W) float32, pixels.
        """
        refs, others = self.look_at(ref_BCHW), self.look_at(other_BCHW)
        return self.between(refs, others, *ref_BCHW.shape[-2:])

    def look_at(self, rgb_BCHW: Tensor) -> list[Tensor]:
        """What the network sees of a picture, for `between`: made once, whatever it is matched to.

        Returns:
            Luma - 0.5 at full, half, quarter ... resolution, finest first, (B, 1, h, w) float32,
            padded to fit all levels.
        """
        height, width = rgb_BCHW.shape[-2:]
        multiple = 2**self.num_levels
        y = luma(rgb_BCHW.float()) - 0.5
        y = F.pad(y, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        pictures = [y]
        for _ in range(self.num_levels - 1):
            pictures.append(_halve(pictures[-1]))
        return pictures

    def between(
        self, refs: Sequence[Tensor], others: Sequence[Tensor], height: int, width: int
    ) -> Tensor:
        """As `forward`, of pictures of that size that were looked at before."""
        return _upsample2(self._grid_flows(refs, others)[-1])[..., :height, :width]

    def pyramid(self, ref_BCHW: Tensor, other_BCHW: Tensor) -> list[Tensor]:
        """Flow after every level, coarsest first, each at full size in full-size pixels."""
        height, width = ref_BCHW.shape[-2:]
        flows = []
        found = self._grid_flows(self.look_at(ref_BCHW), self.look_at(other_BCHW))
        for index, flow_B2hw in enumerate(found):
            for _ in range(self.num_levels - index):
                flow_B2hw = _upsample2(flow_B2hw)
            flows.append(2.0 ** (self.num_levels - 1 - index) * flow_B2hw[..., :height, :width])
        return flows

    def _grid_flows(self, refs: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
        """Flow after every level, on that level's half-size grid, in its picture's pixels."""
        batch, _, height, width = refs[-1].shape
        flow_B2hw = refs[-1].new_zeros(batch, 2, height // 2, width // 2)
        flows = []
        for index, level in enumerate(self.levels):
            ref, other = refs[-1 - index], others[-1 - index]
            if index:
                flow_B2hw = 2.0 * _upsample2(flow_B2hw)
            # Each level learns its own residual: gradients through the chain of warps are chaotic.
            flow_B2hw = flow_B2hw.detach()
            warped = warp(other, _upsample2(flow_B2hw))
            step_B2hw, detail_B2hw = _lucas_kanade(ref, warped)
            ref4, warped4 = F.pixel_unshuffle(ref, 2), F.pixel_unshuffle(warped, 2)
            costs = _matching_costs(ref4, warped4, self.SEARCH)
            features = torch.cat((ref4, warped4, costs, step_B2hw, detail_B2hw, flow_B2hw), dim=1)
            flow_B2hw = flow_B2hw + step_B2hw + level(rows(features, compute_dtype(level))).float()
            flows.append(flow_B2hw)
        return flows


def _upsample2(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2, mode="bilinear", align_corners=False)


def _halve(x_BCHW: Tensor) -> Tensor:
    """Means of 2 x 2 samples: `avg_pool2d` by sums, three times as fast on a CPU."""
    rows_BChW = x_BCHW[..., ::2, :] + x_BCHW[..., 1::2, :]
    return 0.25 * (rows_BChW[..., ::2] + rows_BChW[..., 1::2])


def box_mean(x_BCHW: Tensor, window: int) -> Tensor:
    """Mean over window x window samples, fewer at the border; one axis after the other.

    By shifted sums, in the order in which `avg_pool2d` adds: equal to it bit for bit, and 5 to 15
    times as fast on a CPU, where pooling does not use vectors.
    """
    radius = window // 2
    for dim, padding in ((-1, (radius, radius)), (-2, (0, 0, radius, radius))):
        size = x_BCHW.shape[dim]
        padded = F.pad(x_BCHW, padding)
        total = padded.narrow(dim, 0, size) + padded.narrow(dim, 1, size)
        for shift in range(2, window):
            total += padded.narrow(dim, shift, size)
        counts = _num_inside(size, radius, x_BCHW.device)
        x_BCHW = total / (counts if dim == -1 else counts[:, None])
    return x_BCHW


@lru_cache(maxsize=1024)
def _num_inside(size: int, radius: int, device: torch.device) -> Tensor:
    """How many samples each window of a line holds; kept, for it is asked for again and again.

    Many of them, because a CUDA graph reads them where they lay when it was recorded.
    """
    # An ordinary tensor, whoever asks first: one made for inference alone bars gradients. Copied,
    # which is waited for: another thread may read it before this one's device has come so far.
    with torch.inference_mode(False):
        places = torch.arange(size)
        counts = (places + radius).clamp(max=size - 1) - (places - radius).clamp(min=0) + 1
        return counts.to(device)


def _matching_costs(ref_BCHW: Tensor, other_BCHW: Tensor, radius: int) -> Tensor:
    """How well each shift of up to `radius` samples matches: (B, (2 radius + 1)^2, H, W).

    Mean absolute difference over the channels and a 3x3 window, over its mean over all shifts, so
    that contrast does not matter; 0 is a perfect match, 1 an average one.
    """
    height, width = ref_BCHW.shape[-2:]
    padded = F.pad(other_BCHW, (radius,) * 4, mode="replicate")
    ref_BC1HW = ref_BCHW.unsqueeze(2)
    costs = []
    for y in range(2 * radius + 1):
        # All shifts of a row at once: small pictures cost by the operation, not by the sample.
        shifted_BCNHW = padded[..., y : y + height, :].unfold(-1, width, 1).transpose(-3, -2)
        costs.append((ref_BC1HW - shifted_BCNHW).abs().mean(1))
    costs_BNHW = torch.cat(costs, dim=1)
    costs_BNHW = box_mean(costs_BNHW, 3)
    return costs_BNHW / (costs_BNHW.mean(dim=1, keepdim=True) + 1e-3)


def _lucas_kanade(ref_B1HW: Tensor, other_B1HW: Tensor) -> list[Tensor]:
    """One least-squares step towards the flow, for a wide and for a narrow window.

    Lucas and Kanade (1981), in two dimensions: over a window, minimise (I_x u + I_y v + I_t)^2.
    What differs: gradients of the mean of both pictures, and a ridge that lets the step vanish
    where there is no texture.

    Returns:
        Two of (B, 2, H/2, W/2), in pixels of the full grid.
    """
    mean = F.pad(0.5 * (ref_B1HW + other_B1HW), (1, 1, 1, 1), mode="replicate")
    ix = 0.5 * (mean[..., 1:-1, 2:] - mean[..., 1:-1, :-2])
    iy = 0.5 * (mean[..., 2:, 1:-1] - mean[..., :-2, 1:-1])
    it = other_B1HW - ref_B1HW
    products = _halve(torch.cat((ix * ix, ix * iy, iy * iy, ix * it, iy * it), dim=1))
    steps = []
    for window in (7, 3):
        sums = box_mean(products, window)
        xx, xy, yy, xt, yt = torch.split(sums, 1, dim=1)
        xx, yy = xx + 1e-5, yy + 1e-5
        step = torch.cat((xy * yt - yy * xt, xy * xt - xx * yt), dim=1) / (xx * yy - xy * xy)
        steps.append(step.clamp(-2.0, 2.0))
    return steps
