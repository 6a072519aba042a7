"""ZSSR: a network that learns from the one picture that it enlarges.

Shocher, Cohen and Irani, 2018, "Zero-Shot Super-Resolution using Deep Internal Learning", arXiv
1712.06087: the picture is made smaller as it was itself made small, a small network learns to undo
that, and is then applied to the picture; back-projection ends it (ibid., section 3.2 and 4).

What differs: convolutions run at the small size and end in a pixel shuffle, which costs s^2 times
less; the blur is estimated from the picture's spectrum (`models.blur`) where none is given, in
place of the patches' recurrence; of small pictures less is learnt, and that of what
back-projection leaves in place of what interpolation does; steps are fixed and the learning rate
falls on a cosine; crops are of the picture's eight turns alone, and the eight are not averaged over
at the end.

Nothing is stored: the state is a seed, and each picture starts anew.
"""

from __future__ import annotations

import logging
import math
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.errors import ShapeError
from vsr.models.blur import BICUBIC, GaussianBlur, estimate_blur, shrink, taps
from vsr.models.flow import luma
from vsr.models.image.interpolation import imresize
from vsr.models.upscaler import State

logger = logging.getLogger(__name__)

_SMALLEST_SON_PX = 12
"""A picture whose smaller self is smaller than this has nothing to teach."""
_ENOUGH_PX = 8000
"""Pixels of the smaller picture from which on all there is to learn can be learnt from it."""
_CROP_PX = 40
"""Side of a crop of the smaller picture."""
_LR = 1e-3
_BACK_PROJECTIONS = 4


class ZSSR(nn.Module):
    """Per-picture learning; keeps the `Upscaler` contract, takes seconds to minutes a picture.

    Args:
        scale: integer factor of enlargement.
        num_steps: of training, for each picture; fewer for small ones.
        num_channels: width of the network.
        num_layers: its 3x3 convolutions.
        blur: how the pictures were made small; None estimates it from each.
    """

    def __init__(
        self,
        scale: int = 2,
        *,
        num_steps: int = 600,
        num_channels: int = 48,
        num_layers: int = 6,
        blur: GaussianBlur | None = None,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.num_steps = num_steps
        self.num_channels = num_channels
        self.num_layers = num_layers
        self.blur = blur
        self._last = "nothing was enlarged"

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The seed of each sample, (B,) int64."""
        return (torch.full((batch,), seed, dtype=torch.int64),)

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`; every frame by itself."""
        kept = frames_BTCHW.shape[1] - num_context
        if kept < 1:
            raise ShapeError(f"{frames_BTCHW.shape[1]} frames, {num_context} of them context")
        (seeds_B,) = state
        samples = [
            torch.stack([self._enlarge(frame, int(seed)) for frame in frames[:kept]])
            for frames, seed in zip(frames_BTCHW, seeds_B, strict=True)
        ]
        return torch.stack(samples).to(frames_BTCHW.dtype), state

    def explain(self) -> str:
        """See `upscaler.Explains`."""
        return self._last

    def _enlarge(self, frame_3HW: Tensor, seed: int) -> Tensor:
        """(3, H, W) of any range -> (3, sH, sW) float32."""
        # The runner works where nothing can be learnt.
        with torch.inference_mode(False), torch.enable_grad():
            given = frame_3HW.detach().clone().float()[None]
            picture = given.clamp(0, 1)
            found = self.blur or estimate_blur(luma(picture), self.scale)
            blur = found or BICUBIC
            how = "given" if self.blur else "estimated" if found else "taken for bicubic"
            self._last = f"the blur it undoes, of {blur.describe()}, was {how}"
            logger.info("%s", self._last)
            taps_KK = taps(blur, self.scale).to(given.device)
            network = self._learn(picture, taps_KK, seed)
            with torch.no_grad():
                large = self._base(picture, taps_KK, _son_px(picture, self.scale))
                if network is not None:
                    large = back_projected(large + network(picture), picture, taps_KK)
                # Codes beyond black and white are interpolated.
                return (large + imresize(given - picture, scale=self.scale))[0]

    def _learn(self, picture_13HW: Tensor, taps_KK: Tensor, seed: int) -> nn.Module | None:
        """The network for one picture; None where the picture is too small to learn from."""
        scale = self.scale
        height, width = (size // scale * scale for size in picture_13HW.shape[-2:])
        if min(height, width) // scale < _SMALLEST_SON_PX:
            return None
        num_px = _son_px(picture_13HW, scale)
        generator = torch.Generator().manual_seed(seed)
        turns = [
            (son, father - self._base(son, taps_KK, num_px))
            for son, father in _turned_pairs(picture_13HW[..., :height, :width], taps_KK, scale)
        ]
        network = self._network(generator).to(picture_13HW.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
        # A small picture is soon learnt by heart, which is of no use.
        num_steps = round(self.num_steps * min(1.0, num_px / _ENOUGH_PX))
        for step in range(num_steps):
            for group in optimizer.param_groups:
                group["lr"] = _LR * (0.5 + 0.5 * math.cos(math.pi * step / num_steps)) + 1e-6
            pair = turns[int(torch.randint(len(turns), (), generator=generator))]
            small, missing = _crop(*pair, scale, generator)
            loss = (network(small) - missing).abs().mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimizer.step()
        return network.eval()

    def _base(self, picture_13HW: Tensor, taps_KK: Tensor, num_px: int) -> Tensor:
        """What the network's result is added to: where it can learn much, interpolation."""
        plain = imresize(picture_13HW, scale=self.scale)
        if num_px >= _ENOUGH_PX:
            return plain
        return back_projected(plain, picture_13HW, taps_KK)

    def _network(self, generator: torch.Generator) -> nn.Sequential:
        """What interpolation lacks, from the small picture; zero to begin with."""
        widths = [3, *[self.num_channels] * (self.num_layers - 1), 3 * self.scale**2]
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            # Without torch's own draw, which would come from everybody's generator.
            conv = cast(Any, nn.utils.skip_init)(nn.Conv2d, inner, outer, 3, padding=1)
            nn.init.kaiming_normal_(conv.weight, generator=generator)
            nn.init.zeros_(conv.bias)
            layers += [conv, nn.ReLU()]
        last = layers[-2]
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        layers[-1] = nn.PixelShuffle(self.scale)
        return nn.Sequential(_Centre(), *layers)


class _Centre(nn.Module):
    """From [0, 1] to [-1, 1], in channels-last order."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return (2 * x_BCHW - 1).contiguous(memory_format=torch.channels_last)


def _son_px(picture_13HW: Tensor, scale: int) -> int:
    """Pixels of the picture's smaller self."""
    height, width = (size // scale for size in picture_13HW.shape[-2:])
    return int(height * width)


def back_projected(large_BCHW: Tensor, small_BCHW: Tensor, taps_KK: Tensor) -> Tensor:
    """A large picture, brought nearer to shrinking to the small one (Irani and Peleg, 1991)."""
    scale = large_BCHW.shape[-1] // small_BCHW.shape[-1]
    for _ in range(_BACK_PROJECTIONS):
        wrong = small_BCHW - shrink(large_BCHW, taps_KK, scale)
        large_BCHW = large_BCHW + imresize(wrong, scale=scale)
    return large_BCHW


def _turned_pairs(picture_13HW: Tensor, taps_KK: Tensor, scale: int) -> list[tuple[Tensor, Tensor]]:
    """The smaller picture, and the one that it was made of, in all eight turns.

    The blur is not turned with the picture: it is to be undone as it stands.
    """
    pairs = []
    for quarters in range(4):
        turned = torch.rot90(picture_13HW, quarters, (-2, -1))
        for father in (turned, turned.flip(-1)):
            son = shrink(father, taps_KK, scale).clamp(0, 1)
            pairs.append((son, father))
    return pairs


def _crop(
    son: Tensor, missing: Tensor, scale: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The same random place of both."""
    height, width = (min(_CROP_PX, size) for size in son.shape[-2:])
    top = int(torch.randint(son.shape[-2] - height + 1, (), generator=generator))
    left = int(torch.randint(son.shape[-1] - width + 1, (), generator=generator))
    piece = son[..., top : top + height, left : left + width]
    rows = slice(scale * top, scale * (top + height))
    return piece, missing[..., rows, scale * left : scale * (left + width)]
