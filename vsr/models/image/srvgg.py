"""SRVGGNetCompact: a plain stack of convolutions, the small sibling of Real-ESRGAN.

Wang et al., 2021, "Real-ESRGAN", arXiv 2107.10833; the network is that of the authors' releases
`realesr-animevideov3` (64 channels, 16 convolutions) and `realesr-general-x4v3` (64, 32): conv -
PReLU, N times conv - PReLU, conv to s*s phases, pixel shuffle, plus the nearest-neighbour picture.
What differs: the last convolution starts near zero.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.image import start
from vsr.models.image.per_frame import PerFrame


class SRVGGNetCompact(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: integer factor of enlargement.
        num_channels: width.
        num_convs: N, convolutions between the first and the last.
    """

    def __init__(self, *, scale: int = 4, num_channels: int = 64, num_convs: int = 16) -> None:
        super().__init__(scale)
        self.body = nn.ModuleList()
        in_channels = 3
        for _ in range(num_convs + 1):
            conv = nn.Conv2d(in_channels, num_channels, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, a=0.25)
            self.body += [conv, nn.PReLU(num_channels)]
            in_channels = num_channels
        last = nn.Conv2d(num_channels, 3 * scale**2, 3, padding=1)
        start.quiet(last)
        self.body.append(last)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return max(2, len(self.body) // 2 + 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        y = x_BCHW
        for layer in self.body:
            y = layer(y)
        # Nearest neighbours are the source itself, added to every phase.
        y = y + x_BCHW.repeat_interleave(self.scale**2, dim=1)
        return F.pixel_shuffle(y, self.scale)
