"""The generators of SRGAN: SRResNet, and the modified one that is trained today.

Ledig et al., 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", arXiv 1609.04802, figure 4.

`SRResNet` is the paper's: 9x9 conv - PReLU, 16 residual blocks with batch normalisation, a skip
around them, two times conv - pixel shuffle - PReLU, 9x9 conv. What differs: samples are in [0, 1]
on both sides (the paper's targets are in [-1, 1]).

`MSRResNet` is what Wang et al., 2018 (ESRGAN, arXiv 1809.00219, section 4.2) and most public
checkpoints since use in its place: no normalisation, 3x3 convolutions only, one more of them at
full size, and the bilinear picture added. Here its last convolution starts near zero.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.edsr import upsampling_radius
from vsr.models.image.per_frame import PerFrame
from vsr.models.layers import ResidualBlock

_SLOPE = 0.1


class _NormalisedBlock(nn.Module):
    """conv - batch norm - PReLU - conv - batch norm + identity."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(num_channels, num_channels, 3, padding=1),
            nn.BatchNorm2d(num_channels),
            nn.PReLU(),
            nn.Conv2d(num_channels, num_channels, 3, padding=1),
            nn.BatchNorm2d(num_channels),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.layers(x_BCHW)
        return x_BCHW + y


class SRResNet(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement, a power of 2.
        num_channels: width.
        num_blocks: residual blocks.
    """

    def __init__(self, *, scale: int = 4, num_channels: int = 64, num_blocks: int = 16) -> None:
        super().__init__(scale)
        num_doublings = _doublings(scale)
        first = nn.Conv2d(3, num_channels, 9, padding=4)
        self.head = nn.Sequential(first, nn.PReLU())
        self.body = nn.Sequential(*(_NormalisedBlock(num_channels) for _ in range(num_blocks)))
        self.after_body = nn.Sequential(
            nn.Conv2d(num_channels, num_channels, 3, padding=1), nn.BatchNorm2d(num_channels)
        )
        self.upsample = nn.Sequential()
        for _ in range(num_doublings):
            conv = nn.Conv2d(num_channels, 4 * num_channels, 3, padding=1)
            start.interpolate(conv, 3, 2)
            self.upsample.extend([conv, nn.PixelShuffle(2), nn.PReLU()])
        self.last = nn.Conv2d(num_channels, 3, 9, padding=4)
        start.pass_through(first, 3)
        start.quiet(self.last)
        start.pass_through(self.last, 3, keep=True)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 5 + 2 * len(self.body) + upsampling_radius(self.scale, num_last=4)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        first = self.head(x_BCHW)
        result: Tensor = self.last(self.upsample(self.after_body(self.body(first)) + first))
        return result


class MSRResNet(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement, a power of 2 above 1.
        num_channels: width.
        num_blocks: residual blocks.
        shuffle_activations: leaky ReLU after each pixel shuffle; public checkpoints come with it
            and without it, and their tensors do not tell.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        num_channels: int = 64,
        num_blocks: int = 16,
        shuffle_activations: bool = True,
    ) -> None:
        super().__init__(scale)
        self.shuffle_activations = shuffle_activations
        self.conv_first = nn.Conv2d(3, num_channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(num_channels) for _ in range(num_blocks)))
        self.upconvs = nn.ModuleList(
            nn.Conv2d(num_channels, 4 * num_channels, 3, padding=1)
            for _ in range(_doublings(scale))
        )
        self.conv_hr = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv_last = nn.Conv2d(num_channels, 3, 3, padding=1)
        for conv in (self.conv_first, *self.upconvs, self.conv_hr):
            assert isinstance(conv, nn.Conv2d)
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
        start.quiet(self.conv_last)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 1 + 2 * len(self.body) + upsampling_radius(self.scale, num_last=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        y = self.body(F.leaky_relu(self.conv_first(x_BCHW), _SLOPE))
        for conv in self.upconvs:
            y = F.pixel_shuffle(conv(y), 2)
            if self.shuffle_activations:
                y = F.leaky_relu(y, _SLOPE)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), _SLOPE))
        base = F.interpolate(x_BCHW, scale_factor=self.scale, mode="bilinear", align_corners=False)
        result: Tensor = y + base
        return result


def _doublings(scale: int) -> int:
    """How often a picture is doubled to be `scale` times as large.

    Raises:
        ValueError: `scale` is not a power of 2 above 1.
    """
    number = int(math.log2(scale))
    if scale < 2 or 2**number != scale:
        raise ValueError(f"a scale of {scale} is not a power of 2 above 1")
    return number
