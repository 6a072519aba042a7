"""ESPCN: all work at the source's resolution, one sub-pixel shuffle at the end.

Shi et al., 2016, "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network", arXiv 1609.05158, equations 1 to 4 with (f1, n1) = (5, 64), (f2, n2)
= (3, 32), f3 = 3 and tanh (section 3.2). Works on luma. What differs: the weights start as bilinear
interpolation, not as noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.per_frame import Colors, PerFrame

_GAIN = 0.2
"""Of the channel that starts as the picture itself: small, where tanh is nearly linear."""


class ESPCN(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        colors: `y` as in the paper, or `rgb`.
    """

    def __init__(self, *, scale: int = 4, colors: Colors = "y") -> None:
        super().__init__(scale, colors)
        num_colors = self.num_colors
        self.conv1 = nn.Conv2d(num_colors, 64, 5, padding=2)
        self.conv2 = nn.Conv2d(64, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, num_colors * scale**2, 3, padding=1)
        start.contrast(self.conv1, 0.5)
        start.contrast(self.conv2, 0.1)
        start.pass_through(self.conv1, num_colors, _GAIN)
        start.pass_through(self.conv2, num_colors)
        start.quiet(self.conv3)
        start.interpolate(self.conv3, num_colors, scale, 1 / _GAIN, keep=True)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 4

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, s*H, s*W)."""
        y = torch.tanh(self.conv1(x_BCHW))
        y = torch.tanh(self.conv2(y))
        return F.pixel_shuffle(self.conv3(y), self.scale)
