"""SRCNN: three convolutions on the interpolated picture.

Dong et al., 2016, "Image Super-Resolution Using Deep Convolutional Networks", arXiv 1501.00092,
equations 1 to 3: F1 = max(0, W1*Y + B1), F2 = max(0, W2*F1 + B2), F = W3*F2 + B3 with 64 and 32
channels. Kernels 9-5-5 are the paper's best (table 1), 9-1-5 its basic setting.

Works on the luma of the picture enlarged by bicubic interpolation. What differs: the convolutions
are padded with zeros, so that the result is as large as the input (the paper's is smaller), and
the weights start as the identity, not as noise of deviation 0.001.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.per_frame import Colors, PerFrame


class SRCNN(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        kernel_sizes: of the three convolutions, all odd.
        colors: `y` as in the paper, or `rgb`.
    """

    def __init__(
        self, *, scale: int = 4, kernel_sizes: Sequence[int] = (9, 5, 5), colors: Colors = "y"
    ) -> None:
        super().__init__(scale, colors)
        num_colors = self.num_colors
        sizes = first, second, third = tuple(kernel_sizes)
        self._radius = sum(size // 2 for size in sizes)
        self.conv1 = nn.Conv2d(num_colors, 64, first, padding=first // 2)
        self.conv2 = nn.Conv2d(64, 32, second, padding=second // 2)
        self.conv3 = nn.Conv2d(32, num_colors, third, padding=third // 2)
        start.pass_through(self.conv1, num_colors)
        start.pass_through(self.conv2, num_colors)
        start.quiet(self.conv3)
        start.pass_through(self.conv3, num_colors, keep=True)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 2 + -(-self._radius // self.scale)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, C, s*H, s*W)."""
        y = self._interpolate(x_BCHW.float()).to(x_BCHW.dtype)
        y = F.relu(self.conv1(y))
        y = F.relu(self.conv2(y))
        result: Tensor = self.conv3(y)
        return result
