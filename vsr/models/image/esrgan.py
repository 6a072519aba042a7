"""The generator of ESRGAN: residual-in-residual dense blocks.

Wang et al., 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", arXiv
1809.00219, figures 3 and 4: conv, N blocks of three dense blocks of five convolutions each (leaky
ReLU 0.2, residuals scaled by 0.2), a skip around them, nearest-neighbour doubling with a
convolution twice, two convolutions. N = 23, 64 channels, growth 32 in the paper. For scales 2 and 1
the picture is first made smaller by pixel-unshuffle (Real-ESRGAN, arXiv 2107.10833, section 3.3).

What differs: the weights start as bilinear interpolation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.per_frame import PerFrame

_SLOPE = 0.2
_RESIDUAL_SCALE = 0.2


class _DenseBlock(nn.Module):
    """Five convolutions, each seeing all before it (ibid., figure 4)."""

    def __init__(self, num_channels: int, growth: int) -> None:
        super().__init__()
        for number in range(1, 6):
            out_channels = num_channels if number == 5 else growth
            in_channels = num_channels + (number - 1) * growth
            conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
            start.quiet(conv)
            self.add_module(f"conv{number}", conv)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        seen = x_BCHW
        for number in range(1, 5):
            y = F.leaky_relu(self.get_submodule(f"conv{number}")(seen), _SLOPE)
            seen = torch.cat((seen, y), dim=1)
        last = self.get_submodule("conv5")(seen)
        return torch.add(x_BCHW, last, alpha=_RESIDUAL_SCALE)


class RRDB(nn.Module):
    """Three dense blocks and a skip."""

    def __init__(self, num_channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _DenseBlock(num_channels, growth)
        self.rdb2 = _DenseBlock(num_channels, growth)
        self.rdb3 = _DenseBlock(num_channels, growth)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y = self.rdb3(self.rdb2(self.rdb1(x_BCHW)))
        return torch.add(x_BCHW, y, alpha=_RESIDUAL_SCALE)


class RRDBNet(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement: 4, or 2 or 1 with pixel-unshuffle.
        num_channels: width.
        num_blocks: N.
        growth: channels that each convolution of a dense block adds.
    """

    def __init__(
        self, *, scale: int = 4, num_channels: int = 64, num_blocks: int = 23, growth: int = 32
    ) -> None:
        super().__init__(scale)
        if scale not in (1, 2, 4):
            raise ValueError(f"a scale of {scale} is none of 1, 2 and 4")
        self._fold = 4 // scale
        # What is unshuffled has a grid of its own, which a tile would shift.
        self.tileable = self._fold == 1
        self.conv_first = nn.Conv2d(3 * self._fold**2, num_channels, 3, padding=1)
        self.body = nn.Sequential(*(RRDB(num_channels, growth) for _ in range(num_blocks)))
        self.conv_body = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_up1 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_up2 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_hr = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(num_channels, 3, 3, padding=1)
        start.quiet(self.conv_body)
        for conv in (self.conv_up1, self.conv_up2, self.conv_hr):
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
        start.quiet(self.conv_last)
        if self._fold == 1:
            start.pass_through(self.conv_first, 3)
            start.smooth(self.conv_up1, 3)
            start.smooth(self.conv_up2, 3)
            start.pass_through(self.conv_hr, 3)
            start.pass_through(self.conv_last, 3, keep=True)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        # Nearest-neighbour doubling moves a pixel's centre by up to half a pixel more.
        radius = 2 + 15 * len(self.body) + math.ceil(1 / 2 + 1 / 2 + 3 / 4 + 1 / 4)
        return radius * self._fold

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        height, width = x_BCHW.shape[-2:]
        if self._fold > 1:
            missing = (-width % self._fold, -height % self._fold)
            x_BCHW = F.pad(x_BCHW, (0, missing[0], 0, missing[1]), mode="replicate")
            x_BCHW = F.pixel_unshuffle(x_BCHW, self._fold)
        first = self.conv_first(x_BCHW)
        y = first + self.conv_body(self.body(first))
        for conv in (self.conv_up1, self.conv_up2):
            y = F.leaky_relu(conv(F.interpolate(y, scale_factor=2, mode="nearest")), _SLOPE)
        result: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(y), _SLOPE))
        return result[..., : self.scale * height, : self.scale * width]
