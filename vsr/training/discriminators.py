"""Networks that tell made pictures from true ones, for adversarial training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from vsr.models.image.stylegan import EqualConv, EqualLinear

_SLOPE = 0.2


class VggDiscriminator(nn.Module):
    """One number per picture (Ledig et al., 2017, arXiv 1609.04802, figure 4).

    Convolutions in pairs, the second of each halving the size and, up to eightfold, doubling the
    width, with batch normalisation but in the first; two dense layers. What differs: the features
    are averaged over the picture before the dense layers, so that any size of crop will do.

    Args:
        num_channels: width of the first pair, 64 in the paper.
        num_pairs: pairs of convolutions, 4 in the paper.
    """

    def __init__(self, num_channels: int = 64, num_pairs: int = 4) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        in_channels = 3
        for number in range(num_pairs):
            width = num_channels * 2 ** min(number, 3)
            for stride in (1, 2):
                is_first = not layers
                layers.append(nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=is_first))
                if not is_first:
                    layers.append(nn.BatchNorm2d(width))
                layers.append(nn.LeakyReLU(_SLOPE))
                in_channels = width
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            nn.Linear(in_channels, 16 * num_channels),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(16 * num_channels, 1),
        )

    def forward(self, rgb_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> logits (B, 1), positive for true pictures."""
        logits: Tensor = self.dense(self.layers(rgb_BCHW).mean(dim=(2, 3)))
        return logits


class UNetDiscriminator(nn.Module):
    """One number per pixel (Wang et al., 2021, Real-ESRGAN, arXiv 2107.10833, section 3.4).

    Three halvings and three doublings with skips, every convolution but the first and the last
    with spectral normalisation (Miyato et al., 2018).

    Args:
        num_channels: width at full size, 64 in the paper.
    """

    def __init__(self, num_channels: int = 64) -> None:
        super().__init__()
        c = num_channels
        self.first = nn.Conv2d(3, c, 3, padding=1)
        self.down = nn.ModuleList(
            spectral_norm(nn.Conv2d(c * 2**n, c * 2 ** (n + 1), 4, 2, 1, bias=False))
            for n in range(3)
        )
        self.up = nn.ModuleList(
            spectral_norm(nn.Conv2d(c * 2 ** (n + 1), c * 2**n, 3, padding=1, bias=False))
            for n in (2, 1, 0)
        )
        self.last = nn.Sequential(
            spectral_norm(nn.Conv2d(c, c, 3, padding=1, bias=False)),
            nn.LeakyReLU(_SLOPE),
            spectral_norm(nn.Conv2d(c, c, 3, padding=1, bias=False)),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(c, 1, 3, padding=1),
        )

    def forward(self, rgb_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], H and W multiples of 8 -> logits (B, 1, H, W)."""
        x = F.leaky_relu(self.first(rgb_BCHW), _SLOPE)
        skips = []
        for conv in self.down:
            skips.append(x)
            x = F.leaky_relu(conv(x), _SLOPE)
        for conv in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(conv(x), _SLOPE) + skips.pop()
        logits: Tensor = self.last(x)
        return logits


class _Level(nn.Module):
    """Two convolutions, half the size, and a skip around them."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.one = EqualConv(num_inputs, num_inputs)
        self.two = EqualConv(num_inputs, num_outputs)
        self.skip = EqualConv(num_inputs, num_outputs, 1, gain=1.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y = F.leaky_relu(self.two(F.leaky_relu(self.one(x_BCHW), _SLOPE)), _SLOPE)
        result: Tensor = F.avg_pool2d(y, 2) + self.skip(F.avg_pool2d(x_BCHW, 2))
        return result / math.sqrt(2)


class ResidualDiscriminator(nn.Module):
    """One number per whole picture (Karras et al., 2020, arXiv 1912.04958, figure 7c).

    From the finest level to 4x4, each level two convolutions and a skip around them; then how much
    the pictures of a batch differ, as one more channel (Karras et al., 2018, arXiv 1710.10196,
    section 3), a convolution and two dense layers.

    Args:
        channels: from 4x4 to the finest level, as of the generator.
    """

    def __init__(self, channels: Sequence[int] = (128, 128, 128, 64, 32)) -> None:
        super().__init__()
        widths = list(reversed(channels))
        self.first = EqualConv(3, widths[0], 1)
        self.levels = nn.Sequential(*(_Level(a, b) for a, b in pairwise(widths)))
        last = widths[-1]
        self.conv = EqualConv(last + 1, last)
        self.dense = EqualLinear(16 * last, last)
        self.logit = EqualLinear(last, 1, gain=1.0)

    def forward(self, rgb_BCHW: Tensor) -> Tensor:
        """(B, 3, R, R) in [-1, 1] -> logits (B, 1), positive for true pictures."""
        x = F.leaky_relu(self.first(rgb_BCHW), _SLOPE)
        x = self.levels(x)
        spread = (x.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        x = torch.cat((x, spread.expand(len(x), 1, *x.shape[-2:])), dim=1)
        x = F.leaky_relu(self.conv(x), _SLOPE)
        logits: Tensor = self.logit(F.leaky_relu(self.dense(x.flatten(1)), _SLOPE))
        return logits
