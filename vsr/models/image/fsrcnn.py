"""FSRCNN: shrink, map, expand, and one transposed convolution at the end.

Dong et al., 2016, "Accelerating the Super-Resolution Convolutional Neural Network", arXiv
1608.00367, section 3.2: Conv(5, d, 1) - PReLU - Conv(1, s, d) - PReLU - m x Conv(3, s, s) - PReLU -
Conv(1, d, s) - PReLU - DeConv(9, 1, d), with (d, s, m) = (56, 12, 4). Works on luma.

What differs: the transposed convolution is padded so that the result is exactly s times as large,
and the weights start as bilinear interpolation.
"""

from __future__ import annotations

from torch import Tensor, nn

from vsr.models.image import start
from vsr.models.image.per_frame import Colors, PerFrame


class FSRCNN(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        num_features: d, channels of the first and the last layer.
        num_shrunk: s, channels of the mapping layers.
        num_mapping: m, number of mapping layers.
        mapping_activations: PReLU after each mapping layer, as in the paper; False: only after the
            last one, as in the branches of ClassSR.
        colors: `y` as in the paper, or `rgb`.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        num_features: int = 56,
        num_shrunk: int = 12,
        num_mapping: int = 4,
        mapping_activations: bool = True,
        colors: Colors = "y",
    ) -> None:
        super().__init__(scale, colors)
        num_colors = self.num_colors
        self.head = nn.Sequential(
            nn.Conv2d(num_colors, num_features, 5, padding=2), nn.PReLU(num_features)
        )
        self.shrink = nn.Sequential(nn.Conv2d(num_features, num_shrunk, 1), nn.PReLU(num_shrunk))
        self.mapping = nn.Sequential()
        for number in range(num_mapping):
            self.mapping.append(nn.Conv2d(num_shrunk, num_shrunk, 3, padding=1))
            if mapping_activations or number == num_mapping - 1:
                self.mapping.append(nn.PReLU(num_shrunk))
        self.expand = nn.Sequential(nn.Conv2d(num_shrunk, num_features, 1), nn.PReLU(num_features))
        padding = -(-(9 - scale) // 2)
        self.deconv = nn.ConvTranspose2d(
            num_features, num_colors, 9, scale, padding, output_padding=scale + 2 * padding - 9
        )
        self._num_mapping = num_mapping
        for layers in (self.head, self.shrink, self.mapping, self.expand):
            for layer in layers:
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, a=0.25)
                    start.pass_through(layer, num_colors)
        start.quiet(self.deconv)
        start.enlarge(self.deconv, num_colors)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 2 + self._num_mapping + -(-9 // self.scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, s*H, s*W)."""
        y = self.expand(self.mapping(self.shrink(self.head(x_BCHW))))
        result: Tensor = self.deconv(y)
        return result
