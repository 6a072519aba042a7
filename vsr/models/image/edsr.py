"""EDSR: a deep residual network without normalisation.

Lim et al., 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution", arXiv
1707.02921, figures 2c and 3 and table 1: conv - B residual blocks - conv, with a skip around all
of them, then convolutions with pixel shuffles and one last convolution. The baseline has B = 16
blocks of F = 64 channels, the large network B = 32 of F = 256 with residuals scaled by 0.1. RGB,
from which the mean colour of the training set is taken and to which it is given back.

What differs: samples are in [0, 1], and the weights start as bilinear interpolation. The baseline
has no skip of interpolation in the paper, and has none here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vsr.models.image import start
from vsr.models.image.per_frame import PerFrame
from vsr.models.layers import ResidualBlock

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the paper's training set, RGB in [0, 1]."""


def upsampling(num_channels: int, scale: int) -> nn.Sequential:
    """conv - pixel shuffle, by 2 as often as needed or once by 3; starts as interpolation.

    Raises:
        ValueError: `scale` is neither a power of 2 nor 3.
    """
    if scale == 3:
        factors = [3]
    elif scale >= 1 and scale & (scale - 1) == 0:
        factors = [2] * int(math.log2(scale))
    else:
        raise ValueError(f"a scale of {scale} is neither a power of 2 nor 3")
    layers: list[nn.Module] = []
    for factor in factors:
        conv = nn.Conv2d(num_channels, num_channels * factor**2, 3, padding=1)
        start.interpolate(conv, 3, factor)
        layers += [conv, nn.PixelShuffle(factor)]
    return nn.Sequential(*layers)


class EDSR(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement: 3 or a power of 2.
        num_channels: F.
        num_blocks: B.
        residual_scale: of each block's residual; 0.1 in the large network.
    """

    mean: Tensor

    def __init__(
        self,
        *,
        scale: int = 4,
        num_channels: int = 64,
        num_blocks: int = 16,
        residual_scale: float = 1.0,
    ) -> None:
        super().__init__(scale)
        self.conv_first = nn.Conv2d(3, num_channels, 3, padding=1)
        self.body = nn.ModuleList(
            ResidualBlock(num_channels, residual_scale) for _ in range(num_blocks)
        )
        self.conv_after_body = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.upsample = upsampling(num_channels, scale)
        self.conv_last = nn.Conv2d(num_channels, 3, 3, padding=1)
        self.register_buffer("mean", torch.tensor(DIV2K_MEAN)[:, None, None], persistent=False)
        start.pass_through(self.conv_first, 3)
        start.quiet(self.conv_after_body)
        start.quiet(self.conv_last)
        start.pass_through(self.conv_last, 3, keep=True)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 2 + 2 * len(self.body) + upsampling_radius(self.scale, num_last=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        first = self.conv_first(x_BCHW - self.mean)
        y = first
        for block in self.body:
            y = block(y)
        y = self.upsample(self.conv_after_body(y) + first)
        result: Tensor = self.conv_last(y) + self.mean
        return result


def upsampling_radius(scale: int, num_last: int) -> int:
    """Receptive radius of `upsampling` and `num_last` 3x3 layers after it, source pixels."""
    radius = num_last / scale
    step = 3 if scale == 3 else 2
    while scale > 1:
        scale //= step
        radius += 1 / scale
    return math.ceil(radius)
