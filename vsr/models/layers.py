"""Layers that two or more models share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """conv - ReLU - conv + identity, without normalisation.

    The block of EDSR (Lim et al., 2017, arXiv 1707.02921, figure 2c). The weights start at a tenth
    of Kaiming's scale, so that a deep stack starts near the identity.

    Args:
        num_channels: in and out.
        residual_scale: what is added to the input is multiplied by it (ibid., section 3.3).
    """

    def __init__(self, num_channels: int, residual_scale: float = 1.0) -> None:
        super().__init__()
        self.residual_scale = residual_scale
        self.conv1 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(num_channels, num_channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight)
            with torch.no_grad():
                conv.weight.mul_(0.1)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        y: Tensor = self.conv2(F.relu(self.conv1(x_BCHW)))
        return torch.add(x_BCHW, y, alpha=self.residual_scale)


class ConvResidualBlocks(nn.Sequential):
    """3x3 conv - leaky ReLU 0.1 - N residual blocks: the trunk of the BasicVSR family."""

    def __init__(self, in_channels: int, num_channels: int, num_blocks: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, num_channels, 3, padding=1),
            nn.LeakyReLU(0.1),
            *(ResidualBlock(num_channels) for _ in range(num_blocks)),
        )


def compute_dtype(module: nn.Module) -> torch.dtype:
    """dtype in which a module's convolutions run: that of its first parameter."""
    return next(module.parameters()).dtype


def rows(x_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
    """In channels-last order, of that dtype.

    Converted first, then turned over: both at once walk sample by sample on a CPU, which takes two
    to three times as long.
    """
    return x_BCHW.to(dtype).contiguous(memory_format=torch.channels_last)
