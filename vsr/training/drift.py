"""Whether a recurrent network keeps its quality over a long shot.

A clip is played forth and back without a cut. What a network makes of a frame after many passes
should be as good as what it made of it in the second: an old state that has gathered noise shows as
a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.errors import ConfigError
from vsr.models.checkpoint import load_upscaler, resolve_spec
from vsr.models.upscaler import ModelSpec, Upscaler
from vsr.quality.metrics import Psnr, prepare, round_to_8_bit
from vsr.training.clips import Clip, find_clips
from vsr.training.eval_pairs import degraded_pairs
from vsr.training.evaluate import upscale_clip

NUM_FRAMES = 600
_MULTIPLE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """What age costs on one clip: Y-PSNR of a late pass against that of the second, dB."""

    model: str
    clip: str
    frames: int
    mean_loss: float
    """Over the frames of the clip; negative where the late pass is better."""
    worst_loss: float
    """Of the frame that lost most."""


def drifts(
    models: Sequence[str | Path],
    gt: Path,
    *,
    num_frames: int = NUM_FRAMES,
    scale: int = 4,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[str, str], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure every model on every clip of a folder.

    Args:
        models: ids of the catalogue, or weight files.
        gt: ground truth: a folder of folders of frames, a folder of video files, or one of them.
        num_frames: to play; at least four passes through each clip.
        scale: by which frames are made small and enlarged.
        device: where to compute.
        dtype: of the models.
        progress: called with the model and the clip that begins.

    Raises:
        ConfigError: a clip is too long for four passes, or a still.
        ModelError: a model cannot be used.
    """
    rows = []
    for name in models:
        spec = resolve_spec(name)
        model = load_upscaler(name)
        cast(nn.Module, model).to(device=device, dtype=dtype)
        for clip in find_clips(gt):
            if progress is not None:
                progress(str(name), clip.name)
            mean, worst = _drift(model, spec, clip, num_frames, scale, torch.device(device))
            rows.append(
                asdict(
                    Drift(
                        model=str(name),
                        clip=clip.name,
                        frames=num_frames,
                        mean_loss=mean,
                        worst_loss=worst,
                    )
                )
            )
    return rows


def _drift(
    model: Upscaler,
    spec: ModelSpec,
    clip: Clip,
    num_frames: int,
    scale: int,
    device: torch.device,
) -> tuple[float, float]:
    pairs = list(degraded_pairs(clip, scale, _MULTIPLE, "bi"))
    length = len(pairs) - 1
    if length < 1 or num_frames < 4 * length + 1:
        raise ConfigError(
            f"{clip.name} has {len(pairs)} frames, which {num_frames} do not play through four "
            "times",
            hint="name a clip of 2 frames or more, and a multiple of them",
        )
    second = _passes(length, 1)
    # Played backwards as the second one is, so that nothing differs but the age of the state.
    late = _passes(length, (num_frames - 1) // length // 2 * 2 - 1)
    scores: dict[int, float] = {}
    results = upscale_clip(model, spec, _played(pairs, num_frames, device))
    for index, result in enumerate(results):
        if index in second or index in late:
            reference = pairs[_place(index, length)][0].to(device)
            scores[index] = _psnr(result, reference)
    losses = [scores[early] - scores[old] for early, old in zip(second, late, strict=True)]
    return sum(losses) / len(losses), max(losses)


def _passes(length: int, number: int) -> range:
    """Frames of a pass, its turning point left out: that one is in the next."""
    return range(number * length, (number + 1) * length)


def _place(index: int, length: int) -> int:
    """Which frame of the clip is shown at a place of the play."""
    index %= 2 * length
    return min(index, 2 * length - index)


def _played(
    pairs: Sequence[tuple[Tensor, Tensor]], num_frames: int, device: torch.device
) -> Iterator[Tensor]:
    for index in range(num_frames):
        yield pairs[_place(index, len(pairs) - 1)][1].to(device)


def _psnr(result: Tensor, reference: Tensor) -> float:
    psnr = Psnr()
    psnr.update(
        *(prepare(round_to_8_bit(picture.float())[None], "y", 0) for picture in (result, reference))
    )
    return psnr.compute()
