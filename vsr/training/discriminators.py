"""Networks that tell made pictures from true ones, for adversarial training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

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
