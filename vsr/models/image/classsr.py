"""ClassSR: a classifier sends each patch to the smallest network that does it justice.

Kong et al., 2021, "ClassSR: A General Framework to Accelerate Super-Resolution Networks by Data
Characteristic", arXiv 2103.04039, section 3 and figure 3: a picture is cut into overlapping patches
(32 pixels, every 28), a classifier gives each one of three classes, and a branch of the class's
width enlarges it: FSRCNN with d = 16, 36 and 56, or SRResNet with 36, 52 and 64 channels.

What differs: patches of one class go through their branch together, on the device, and overlaps
are joined by linear ramps (the paper averages them), so that no seam is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vsr.models.image.fsrcnn import FSRCNN
from vsr.models.image.per_frame import PerFrame
from vsr.models.image.srgan import MSRResNet

PATCH_PX = 32
STEP_PX = 28
_BATCH = 256
"""Patches that go through a branch at once."""


class Classifier(nn.Module):
    """(N, 3, 32, 32) in [0, 1] -> (N, 3) logits of the classes easy, medium and hard."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 128, 4, 4), nn.LeakyReLU(0.1)]
        for out_channels in (128, 128, 128, 32):
            layers += [nn.Conv2d(128, out_channels, 1), nn.LeakyReLU(0.1)]
        # No activation after the last convolution.
        self.layers = nn.Sequential(*layers[:-1])
        self.last = nn.Linear(32, num_classes)

    def forward(self, patches_NCHW: Tensor) -> Tensor:
        """See the class."""
        result: Tensor = self.last(self.layers(patches_NCHW).mean(dim=(2, 3)))
        return result


@dataclass(frozen=True, slots=True)
class Routing:
    """What became of the patches of some pictures."""

    shares: tuple[float, ...]
    """Part of the patches in each class, easy first."""
    macs_saved: float
    """Part of the multiply-adds that the largest branch would have spent on all patches, the
    classifier's own counted against it."""


def mean_routing(routes: Sequence[Routing]) -> Routing:
    """Over pictures, each of which counts as one; at least one of them."""
    shares = zip(*(route.shares for route in routes), strict=True)
    return Routing(
        tuple(sum(share) / len(routes) for share in shares),
        sum(route.macs_saved for route in routes) / len(routes),
    )


class ClassSR(PerFrame):
    """Per-frame upscaler; keeps the `Upscaler` contract.

    Args:
        scale: factor of enlargement.
        branch: which network the branches are.
        widths: d of FSRCNN or channels of MSRResNet in each branch, easy first.
        num_blocks: residual blocks of an MSRResNet branch.
    """

    def __init__(
        self,
        *,
        scale: int = 4,
        branch: Literal["fsrcnn", "msrresnet"] = "fsrcnn",
        widths: Sequence[int] = (16, 36, 56),
        num_blocks: int = 16,
    ) -> None:
        super().__init__(scale)
        self.tileable = False  # it cuts the picture itself
        self.classifier = Classifier(len(widths))
        self.branches = nn.ModuleList()
        for width in widths:
            if branch == "fsrcnn":
                network: PerFrame = FSRCNN(
                    scale=scale, num_features=width, mapping_activations=False, colors="rgb"
                )
            else:
                network = MSRResNet(scale=scale, num_channels=width, num_blocks=num_blocks)
            self.branches.append(network)

    @property
    def halo_px(self) -> int:
        """See `PerFrame.halo_px`; a patch sees no further than itself."""
        return PATCH_PX

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> (B, 3, s*H, s*W)."""
        patches, grid = _cut(x_BCHW)
        return self._join(self._enlarge(patches, self.classify(patches)), grid, x_BCHW)

    def classify(self, patches_NCHW: Tensor) -> Tensor:
        """(N, 3, 32, 32) -> (N,) class of each patch, 0 for easy."""
        classes: Tensor = self.classifier(patches_NCHW).argmax(dim=1)
        return classes

    @torch.no_grad()
    def routing(self, x_BCHW: Tensor) -> Routing:
        """Where the patches of pictures go: (B, 3, H, W) in [0, 1], dtype of the weights."""
        patches, _ = _cut(x_BCHW)
        counts = torch.bincount(self.classify(patches), minlength=len(self.branches))
        shares = (counts / counts.sum()).tolist()
        *costs, classifying = self.patch_macs
        spent = classifying + sum(share * cost for share, cost in zip(shares, costs, strict=True))
        return Routing(tuple(shares), 1 - spent / costs[-1])

    @cached_property
    def patch_macs(self) -> tuple[float, ...]:
        """Multiply-adds per patch: of each branch, and of the classifier last."""
        weight = self.classifier.last.weight
        patch = torch.zeros(1, 3, PATCH_PX, PATCH_PX, dtype=weight.dtype, device=weight.device)
        macs = []
        for network in (*self.branches, self.classifier):
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(patch)
            macs.append(counter.get_total_flops() / 2)
        return tuple(macs)

    def _enlarge(self, patches_NCHW: Tensor, classes_N: Tensor) -> Tensor:
        """Every patch through the branch of its class, each class in as few calls as it takes."""
        if patches_NCHW.is_meta:  # only the cost is asked for: the highest there can be
            largest: Tensor = self.branches[-1](patches_NCHW)
            return largest
        side = self.scale * PATCH_PX
        result = patches_NCHW.new_empty(len(patches_NCHW), 3, side, side)
        for number, branch in enumerate(self.branches):
            for index in torch.nonzero(classes_N == number)[:, 0].split(_BATCH):  # type: ignore[no-untyped-call]
                result[index] = branch(patches_NCHW[index]).to(result.dtype)
        return result

    def _join(self, patches_NCHW: Tensor, grid: tuple[int, int], x_BCHW: Tensor) -> Tensor:
        """Patches to pictures; where patches overlap, one fades into the next."""
        scale = self.scale
        batch, _, height, width = x_BCHW.shape
        side = scale * PATCH_PX
        overlap = scale * (PATCH_PX - STEP_PX)
        position = torch.arange(side, device=x_BCHW.device, dtype=torch.float32)
        edge = torch.minimum(position, side - 1 - position)
        ramp = ((edge + 0.5) / overlap).clamp(max=1)
        weight = ramp[:, None] * ramp[None, :]
        size = tuple(scale * (STEP_PX * (count - 1) + PATCH_PX) for count in grid)

        def fold(patches: Tensor) -> Tensor:
            columns = patches.reshape(-1, grid[0] * grid[1], patches[0].numel()).transpose(1, 2)
            return F.fold(columns, size, kernel_size=side, stride=scale * STEP_PX)

        total = fold(weight.expand(grid[0] * grid[1], 1, side, side))
        joined = fold(patches_NCHW.float() * weight) / total
        assert len(joined) == batch
        return joined[..., : scale * height, : scale * width]


def _cut(x_BCHW: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Overlapping patches (N, 3, 32, 32), row by row, and how many there are down and across.

    The picture is continued at the right and below by its last pixels to a whole number of steps.
    """
    height, width = x_BCHW.shape[-2:]
    missing = [
        max(PATCH_PX - length, 0) + (-max(length - PATCH_PX, 0)) % STEP_PX
        for length in (height, width)
    ]
    padded = F.pad(x_BCHW, (0, missing[1], 0, missing[0]), mode="replicate")
    views = padded.unfold(2, PATCH_PX, STEP_PX).unfold(3, PATCH_PX, STEP_PX)
    grid = views.shape[2], views.shape[3]
    patches = views.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, PATCH_PX, PATCH_PX)
    return patches.contiguous(memory_format=torch.channels_last), grid
