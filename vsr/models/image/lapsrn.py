"""LapSRN: a Laplacian pyramid, the picture doubled level by level.

Lai et al., 2017, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", arXiv
1704.03915, section 3.1 and figure 1: per level d = 10 convolutions of 64 channels and a transposed
convolution double the features (leaky ReLU 0.2 after each), one convolution makes of them the
residual that is added to the doubled picture, and training compares every level with the truth
(equation 1, Charbonnier). Works on luma.

What differs: the residual's convolution starts at zero, so that the network starts as its
pyramid of bilinear transposed convolutions, which the paper starts the same way.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.per_frame import Colors, PerFrame

_SLOPE = 0.2


class LapSRN(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement, a power of 2 above 1.
        num_channels: width of the feature branch.
        num_convs: d, convolutions per level.
        bias: of the convolutions.
        colors: `y` as in the paper, or `rgb`.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        num_channels: int = 64,
        num_convs: int = 10,
        bias: bool = True,
        colors: Colors = "y",
    ) -> None:
        super().__init__(scale, colors)
        num_levels = int(math.log2(scale))
        if scale < 2 or 2**num_levels != scale:
            raise ValueError(f"a scale of {scale} is not a power of 2 above 1")
        num_colors = self.num_colors
        self.conv_first = nn.Conv2d(num_colors, num_channels, 3, padding=1, bias=bias)
        self.features = nn.ModuleList()
        self.doubling = nn.ModuleList()
        self.residual = nn.ModuleList()
        for _ in range(num_levels):
            layers: list[nn.Module] = []
            for _ in range(num_convs):
                conv = nn.Conv2d(num_channels, num_channels, 3, padding=1, bias=bias)
                layers += [conv, nn.LeakyReLU(_SLOPE)]
            deconv = nn.ConvTranspose2d(num_channels, num_channels, 4, 2, 1, bias=bias)
            self.features.append(nn.Sequential(*layers, deconv, nn.LeakyReLU(_SLOPE)))
            self.doubling.append(nn.ConvTranspose2d(num_colors, num_colors, 4, 2, 1, bias=False))
            self.residual.append(nn.Conv2d(num_channels, num_colors, 3, padding=1, bias=bias))
        self._num_convs = num_convs
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
        for doubling, residual in zip(self.doubling, self.residual, strict=True):
            assert isinstance(doubling, nn.ConvTranspose2d) and isinstance(residual, nn.Conv2d)
            start.enlarge(doubling, num_colors)
            start.quiet(residual, 0.0)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        radius = 1 + 1 / self.scale
        for level in range(len(self.features)):
            radius += (self._num_convs + 1.5) / 2.0**level
        return math.ceil(radius)

    def levels(self, x_BCHW: Tensor) -> list[Tensor]:
        """The picture doubled, doubled again ... (B, C, 2*H, 2*W) to (B, C, s*H, s*W)."""
        features = F.leaky_relu(self.conv_first(x_BCHW), _SLOPE)
        picture, pictures = x_BCHW, []
        for extract, double, residual in zip(
            self.features, self.doubling, self.residual, strict=True
        ):
            features = extract(features)
            picture = double(picture) + residual(features)
            pictures.append(picture)
        return pictures

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, s*H, s*W)."""
        return self.levels(x_BCHW)[-1]
