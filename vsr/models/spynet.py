"""SPyNet (Ranjan and Black, 2017, arXiv 1611.00850): the flow network of the BasicVSR family.

Only public weights run on it; our own models use the far cheaper `flow.FlowNet`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.flow import warp
from vsr.models.layers import compute_dtype


class SPyNet(nn.Module):
    """Coarse to fine over six levels, each adding a residual to the flow so far.

    As the BasicVSR family runs it: colours normalised as for ImageNet, the picture resized to
    multiples of 32 and the flow back, with its units.

    Args:
        num_levels: levels of the pyramid.
    """

    mean: Tensor
    std: Tensor

    WIDTHS = (8, 32, 64, 32, 16, 2)

    def __init__(self, num_levels: int = 6) -> None:
        super().__init__()
        self.levels = nn.ModuleList(self._level() for _ in range(num_levels))
        # In the files of both layouts, therefore buffers.
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(1, 3, 1, 1))

    def forward(self, ref_BCHW: Tensor, other_BCHW: Tensor) -> Tensor:
        """Flow on the grid of `ref` that says where to sample `other`.

        Args:
            ref_BCHW: (B, 3, H, W) RGB, nominally [0, 1], any float dtype.
            other_BCHW: the same shape.

        Returns:
            (B, 2, H, W) float32, pixels.
        """
        height, width = ref_BCHW.shape[-2:]
        multiple = 2 ** (len(self.levels) - 1)
        size = (height + -height % multiple, width + -width % multiple)
        refs, others = (
            self._pyramid(_resize(picture_BCHW.float(), size))
            for picture_BCHW in (ref_BCHW, other_BCHW)
        )
        flow_B2hw = torch.zeros_like(refs[0][:, :2])
        for index, level in enumerate(self.levels):
            if index:
                flow_B2hw = 2.0 * F.interpolate(
                    flow_B2hw, scale_factor=2, mode="bilinear", align_corners=True
                )
            given = torch.cat((refs[index], warp(others[index], flow_B2hw), flow_B2hw), dim=1)
            residual: Tensor = level(given.to(compute_dtype(self)))
            flow_B2hw = flow_B2hw + residual.float()
        units = flow_B2hw.new_tensor((width / size[1], height / size[0]))
        return _resize(flow_B2hw, (height, width)) * units.view(1, 2, 1, 1)

    def _pyramid(self, rgb_BCHW: Tensor) -> list[Tensor]:
        """The normalised picture at every level's size, coarsest first."""
        pictures = [(rgb_BCHW - self.mean.float()) / self.std.float()]
        for _ in self.levels[1:]:
            pictures.append(F.avg_pool2d(pictures[-1], 2))
        return pictures[::-1]

    def _level(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in zip(self.WIDTHS[:-1], self.WIDTHS[1:], strict=True):
            layers += [nn.Conv2d(before, after, 7, padding=3), nn.ReLU()]
        return nn.Sequential(*layers[:-1])


def _resize(x_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(x_BCHW.shape[-2:]) == size:
        return x_BCHW
    return F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)
