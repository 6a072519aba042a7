"""Clips that are kept from training, and what a network makes of them."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import nn

from vsr.errors import ConfigError
from vsr.models.image.interpolation import imresize
from vsr.models.upscaler import Upscaler
from vsr.quality.metrics import Psnr, rgb_to_y, round_to_8_bit
from vsr.training.config import TrainConfig
from vsr.training.data import Clip, FrameStore
from vsr.training.degrade import degrade, draw_recipe
from vsr.training.loop import Progress

MAX_CLIPS = 8
MAX_FRAMES = 12
MAX_SIDE_PX = 512
"""Of the ground truth's middle: enough to judge, and soon done."""
_NUM_RIM_FRAMES = 2
"""Not scored at the ends of a clip, where a film would go on."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Held-out material, degraded once in the way of the training.

    Scores are on luma of frames rounded to 8 bits; recipes hang on the clips' names alone.
    """

    clips: tuple[Clip, ...]
    scale: int
    degradation: str

    @torch.inference_mode()
    def psnr_db(self, network: nn.Module | None) -> float:
        """Mean over clips of the mean over frames; None scores bicubic interpolation."""
        return sum(self._score(clip, network) for clip in self.clips) / len(self.clips)

    def _score(self, clip: Clip, network: nn.Module | None) -> float:
        large_TCHW = _middle(clip, self.scale)
        generator = torch.Generator().manual_seed(zlib.crc32(clip.name.encode()))
        recipe = draw_recipe(self.degradation, generator)
        small_TCHW = degrade(large_TCHW[None], self.scale, [recipe])[0] / 255
        if network is None:
            result_TCHW = imresize(small_TCHW, scale=self.scale)
        else:
            result_TCHW = _upscaled(cast(Upscaler, network), small_TCHW)
        rim = _NUM_RIM_FRAMES if len(small_TCHW) > 2 * _NUM_RIM_FRAMES else 0
        metric = Psnr()
        for result, large in list(zip(result_TCHW, large_TCHW / 255, strict=True))[
            rim : len(large_TCHW) - rim
        ]:
            metric.update(rgb_to_y(round_to_8_bit(result)[None]), rgb_to_y(large[None]))
        return metric.compute()


class Checks:
    """Scores before, early on and after a run, and what to say of them."""

    def __init__(self, validation: Validation, config: TrainConfig) -> None:
        self._validation = validation
        self._early = config.validation.early
        self.scores: dict[str, float] = {}
        """PSNR in dB by the time it was taken, and of bicubic interpolation."""

    def before(self, network: nn.Module) -> str:
        """Score the network that the run starts from."""
        self.scores["bicubic"] = self._validation.psnr_db(None)
        self.scores["before"] = self._validation.psnr_db(network)
        return (
            f"{len(self._validation.clips)} kept for validation: bicubic "
            f"{self.scores['bicubic']:.2f} dB, before training {self.scores['before']:.2f} dB"
        )

    def early(self, progress: Progress, network: nn.Module) -> str | None:
        """Score once, as soon as the schedule is that far; None at all other times."""
        if "early" in self.scores or not self._early <= progress.fraction < 1:
            return None
        return self._tell("early", f"after {100 * progress.fraction:.0f} %", network)

    def after(self, network: nn.Module) -> str:
        """Score the result."""
        return self._tell("after", "after training", network)

    def _tell(self, key: str, when: str, network: nn.Module) -> str:
        self.scores[key] = self._validation.psnr_db(network)
        gain = self.scores[key] - self.scores["before"]
        return f"validation {when}: {self.scores[key]:.2f} dB ({gain:+.2f})"


def hold_out(store: FrameStore, share: float) -> tuple[FrameStore, tuple[Clip, ...]]:
    """Part a store into what is trained on and what is kept for validation.

    Whole clips are kept, chosen by their names; of a single clip, its last frames.

    Args:
        store: left as it is.
        share: of all videos, or of all pictures where there is no video; at least one.

    Raises:
        ConfigError: there is too little to keep anything.
    """
    candidates = store.videos or store.photos
    if len(candidates) == 1:
        clip = candidates[0]
        length = len(clip.frames)
        num_kept = max(1, round(share * length))
        if length < 2 * num_kept + 1:
            raise ConfigError(
                f"{clip.name} alone is too short to keep frames of it for validation",
                hint="add a clip, or set share under [validation] to 0",
            )
        held = (replace(clip, frames=clip.frames[length - num_kept :]),)
        rest = [replace(clip, frames=clip.frames[: length - num_kept])]
        return _with(store, [*rest, *(c for c in store.clips if c is not clip)]), held
    if not candidates:
        raise ConfigError("the data holds neither videos nor pictures to validate on")
    count = min(len(candidates) - 1, max(1, math.ceil(share * len(candidates))))
    ordered = sorted(candidates, key=lambda clip: zlib.crc32(clip.name.encode()))
    held_out = ordered[:count]
    names = {clip.name for clip in held_out}
    return _with(store, [c for c in store.clips if c.name not in names]), tuple(
        held_out[:MAX_CLIPS]
    )


def _with(store: FrameStore, clips: Sequence[Clip]) -> FrameStore:
    part = copy.copy(store)
    part.clips = list(clips)
    return part


def _middle(clip: Clip, scale: int) -> torch.Tensor:
    """(T, 3, H, W) float32 in [0, 255], sides divisible by the scale."""
    sides = [min(side, MAX_SIDE_PX) // scale * scale for side in clip.frames.shape[1:3]]
    top, left = ((full - n) // 2 for full, n in zip(clip.frames.shape[1:3], sides, strict=True))
    frames = clip.frames[:MAX_FRAMES, top : top + sides[0], left : left + sides[1]]
    return torch.from_numpy(frames.copy()).permute(0, 3, 1, 2).float()


def _upscaled(network: Upscaler, small_TCHW: torch.Tensor) -> torch.Tensor:
    parameters = cast(nn.Module, network).parameters()
    device = next(parameters, torch.empty(0)).device
    state = network.init_state(1, *small_TCHW.shape[-2:])
    result, _ = network.upscale(small_TCHW[None].to(device), state)
    return result[0].float().cpu()
