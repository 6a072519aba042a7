"""DBPN: iterative up- and down-projection with error feedback.

Haris et al., 2018, "Deep Back-Projection Networks for Super-Resolution", arXiv 1803.02735,
equations 1 to 10 and figures 3 to 5 (D-DBPN, with dense connections): conv(3, n0) - conv(1, nR),
T up-projection and T - 1 down-projection units, and one convolution on all high-resolution maps.
Kernel, stride and padding are 6-2-2, 8-4-2 or 12-8-2 for scales 2, 4 and 8. Table 2 of the paper:
S is T = 2, M is T = 4, L is T = 6, all with n0 = 128 and nR = 32; D-DBPN is T = 7, 256 and 64.

What differs: the result is added to the bicubic picture, an option of the authors' code, and the
last convolution starts near zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vsr.models.image import start
from vsr.models.image.per_frame import PerFrame

_KERNELS = {2: (6, 2, 2), 4: (8, 4, 2), 8: (12, 8, 2)}


class _Conv(nn.Module):
    """Convolution and PReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, shape: Sequence[int], *, active: bool = True
    ) -> None:
        super().__init__()
        size, stride, padding = shape
        self.conv = nn.Conv2d(in_channels, out_channels, size, stride, padding)
        self.act = nn.PReLU() if active else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        result: Tensor = self.act(self.conv(x_BCHW))
        return result


class _Deconv(nn.Module):
    """Transposed convolution and PReLU."""

    def __init__(self, num_channels: int, shape: Sequence[int]) -> None:
        super().__init__()
        size, stride, padding = shape
        self.deconv = nn.ConvTranspose2d(num_channels, num_channels, size, stride, padding)
        self.act = nn.PReLU()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, stride * H, stride * W)."""
        result: Tensor = self.act(self.deconv(x_BCHW))
        return result


class _Up(nn.Module):
    """Up-projection unit, equations 1 to 5; with several inputs, they are compressed first."""

    def __init__(self, num_channels: int, shape: Sequence[int], num_inputs: int) -> None:
        super().__init__()
        if num_inputs:
            self.conv = _Conv(num_inputs * num_channels, num_channels, (1, 1, 0))
        self.up_conv1 = _Deconv(num_channels, shape)
        self.up_conv2 = _Conv(num_channels, num_channels, shape)
        self.up_conv3 = _Deconv(num_channels, shape)
        self._is_dense = num_inputs > 0

    def forward(self, low_BCHW: Tensor) -> Tensor:
        """(B, n*C, H, W) -> (B, C, s*H, s*W)."""
        if self._is_dense:
            low_BCHW = self.conv(low_BCHW)
        high = self.up_conv1(low_BCHW)
        error = self.up_conv2(high) - low_BCHW
        result: Tensor = high + self.up_conv3(error)
        return result


class _Down(nn.Module):
    """Down-projection unit, equations 6 to 10."""

    def __init__(self, num_channels: int, shape: Sequence[int], num_inputs: int) -> None:
        super().__init__()
        if num_inputs:
            self.conv = _Conv(num_inputs * num_channels, num_channels, (1, 1, 0))
        self.down_conv1 = _Conv(num_channels, num_channels, shape)
        self.down_conv2 = _Deconv(num_channels, shape)
        self.down_conv3 = _Conv(num_channels, num_channels, shape)
        self._is_dense = num_inputs > 0

    def forward(self, high_BCHW: Tensor) -> Tensor:
        """(B, n*C, s*H, s*W) -> (B, C, H, W)."""
        if self._is_dense:
            high_BCHW = self.conv(high_BCHW)
        low = self.down_conv1(high_BCHW)
        error = self.down_conv2(low) - high_BCHW
        result: Tensor = low + self.down_conv3(error)
        return result


class DBPN(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement: 2, 4 or 8.
        num_features: n0, channels of the first convolution.
        num_channels: nR, channels of the projection units.
        num_stages: T, up-projection units.
        residual: add the result to the bicubic picture.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        num_features: int = 256,
        num_channels: int = 64,
        num_stages: int = 7,
        residual: bool = True,
    ) -> None:
        super().__init__(scale)
        if scale not in _KERNELS:
            raise ValueError(f"a scale of {scale} is none of 2, 4 and 8")
        shape = _KERNELS[scale]
        self._num_stages = num_stages
        self._residual = residual
        self.feat0 = _Conv(3, num_features, (3, 1, 1))
        self.feat1 = _Conv(num_features, num_channels, (1, 1, 0))
        for stage in range(1, num_stages + 1):
            # Only from the third on does a unit see more than one map.
            self.add_module(f"up{stage}", _Up(num_channels, shape, stage - 1 if stage > 2 else 0))
            if stage < num_stages:
                num_inputs = stage if stage > 1 else 0
                self.add_module(f"down{stage}", _Down(num_channels, shape, num_inputs))
        self.output_conv = _Conv(num_stages * num_channels, 3, (3, 1, 1), active=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)
                if isinstance(module, nn.ConvTranspose2d):
                    # A transposed convolution spreads its inputs over s*s pixels.
                    start.quiet(module, float(scale))
        start.quiet(self.output_conv.conv)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`."""
        return 2 + 3 * (2 * self._num_stages - 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        low = self.feat1(self.feat0(x_BCHW))
        highs: list[Tensor] = []
        lows: list[Tensor] = []
        for stage in range(1, self._num_stages + 1):
            highs.insert(0, self.get_submodule(f"up{stage}")(low))
            if stage < self._num_stages:
                lows.insert(0, self.get_submodule(f"down{stage}")(torch.cat(highs, dim=1)))
                low = torch.cat(lows, dim=1)
        result: Tensor = self.output_conv(torch.cat(highs, dim=1))
        if self._residual:
            result = result + self._interpolate(x_BCHW.float())
        return result
