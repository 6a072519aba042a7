"""What a model may do wrong, how it is seen, and what was done about it.

Every frame that a model makes is compared with the one that it was made of, by the means of blocks
of 16 x 16 source pixels: a larger picture of the same scene has the same means, whatever detail was
added. Only what no working model does counts:

- a sample that is not a finite number (it spoils its block's mean);
- a block whose mean is far from its source's, or that is flat where its source is not;
- a picture that stands still while its source changes.

The judgement depends on nothing but the pixels. Loads no torch, because plans and results name the
event.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

GuardKind = Literal["nan", "black", "frozen", "shape", "memory", "device"]

BLOCK_PX = 16
FAR = 0.2
"""Of a block's mean from its source's; 1 is from black to white. Real films stay under a tenth of
it, and under half of it what is worst for networks: lines that are one pixel apart."""
FLAT = 0.25 / 255
"""Most that the columns of a flat block differ."""
TEXTURED = 8 / 255
"""Least that they differ where the source is not flat."""
OFF = 3 / 255
"""Least that the mean of a flat block has to be wrong."""
MOVED = 6 / 255
"""Least change of a block's mean that says that the source goes on."""
MIN_MOVED_BLOCKS = 3
STILL = 1 / 16
"""Most that a frozen picture changes, as a part of what its source does."""

_Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GuardEvent:
    """A run of frames that the model failed at."""

    kind: GuardKind
    first_frame: int
    """Counted in the segment."""
    num_frames: int
    action: str
    """What was done: `redone in float32`, `made by bicubic-x4`, `tiles of 256 px`."""
    detail: str
    """What was seen."""


def merge_events(events: Iterable[GuardEvent]) -> tuple[GuardEvent, ...]:
    """Events in order, those of one kind and action that follow each other as one."""
    merged: list[GuardEvent] = []
    for event in sorted(events, key=lambda event: event.first_frame):
        last = merged[-1] if merged else None
        if (
            last is not None
            and (last.kind, last.action) == (event.kind, event.action)
            and event.first_frame <= last.first_frame + last.num_frames
        ):
            end = max(last.first_frame + last.num_frames, event.first_frame + event.num_frames)
            merged[-1] = replace(last, num_frames=end - last.first_frame)
        else:
            merged.append(event)
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong with what a model made."""

    kind: GuardKind
    detail: str


def band_means(picture_BCHW: Tensor, block_px: int) -> Tensor:
    """Means of the columns of each row of blocks: one pass over the samples.

    The last row of blocks takes what is left over, so that no block is smaller than `block_px`.

    Args:
        picture_BCHW: (B, C, H, W), any float dtype, any device.
        block_px: side of a block in the picture's pixels.

    Returns:
        (B, C, h, W) float32 on the same device; not finite where a sample is not.
    """
    import torch

    batch, channels, height, width = picture_BCHW.shape
    if not picture_BCHW.is_contiguous():
        # Whole rows are added up in the order in which they lie in memory, at its speed.
        lines_BHWC = picture_BCHW.permute(0, 2, 3, 1).contiguous()
        lines_B1HN = lines_BHWC.view(batch, 1, height, width * channels)
        bands_BhWC = band_means(lines_B1HN, block_px).reshape(batch, -1, width, channels)
        return bands_BhWC.permute(0, 3, 1, 2)
    num_whole = max(1, height // block_px) - 1
    top, rest = picture_BCHW.tensor_split((num_whole * block_px,), dim=-2)
    whole = top.reshape(batch, channels, num_whole, block_px, width)
    return torch.cat(
        (
            whole.sum(-2, dtype=torch.float32).div_(block_px),
            rest.sum(-2, keepdim=True, dtype=torch.float32).div_(rest.shape[-2]),
        ),
        dim=-2,
    )


def sketch(bands_BChW: Tensor, block_px: int) -> Tensor:
    """What is kept of pictures for the comparison: two figures for each block and channel.

    Args:
        bands_BChW: of the pictures, from `band_means`.
        block_px: as there; the last column of blocks takes what is left over.

    Returns:
        (B, 2, C, h, w): the mean, and how much the means of the block's columns differ.
    """
    import torch

    columns = max(1, bands_BChW.shape[-1] // block_px) - 1
    left, rest = bands_BChW.tensor_split((columns * block_px,), dim=-1)
    parts = (
        left.reshape(*left.shape[:-1], columns, block_px).contiguous(),
        rest.unsqueeze(-2).contiguous(),
    )
    means = torch.cat([part.mean(-1) for part in parts], dim=-1)
    spread = torch.cat([part.amax(-1) - part.amin(-1) for part in parts], dim=-1)
    return torch.stack((means, spread), dim=1)


class Judge:
    """Compares the pictures of one shot, window by window, in order."""

    def __init__(self) -> None:
        self._last: tuple[_Array, _Array] | None = None

    def start_shot(self) -> None:
        """Forget the picture before."""
        self._last = None

    def judge(self, sources: _Array, results: _Array) -> Alarm | None:
        """Whether a window's pictures show what their sources show.

        Args:
            sources: (T, 2, C, h, w), sketches of the window's source pictures.
            results: the same shape, of what was made of them.
        """
        alarm = _judge_finite(results) or _judge_blocks(sources, results)
        if alarm is not None:
            return alarm
        if self._last is not None:
            sources = np.concatenate((self._last[0][None], sources))
            results = np.concatenate((self._last[1][None], results))
        return _judge_motion(sources, results)

    def accept(self, sources: _Array, results: _Array) -> None:
        """This is what the window became; the next one follows it."""
        self._last = sources[-1], results[-1]


def _judge_finite(results: _Array) -> Alarm | None:
    """Whether all pictures consist of numbers; of sketches (T, 2, C, h, w)."""
    wrong = np.logical_not(np.isfinite(results[:, 0])).any(axis=1)
    if not wrong.any():
        return None
    return Alarm("nan", f"{_share(wrong)} hold samples that are not finite numbers")


def _judge_blocks(sources: _Array, results: _Array) -> Alarm | None:
    distance = np.abs(results[:, 0] - sources[:, 0])
    # Lamps in linear light are far above white, and so is what leaks from them to their neighbours.
    far = FAR * np.maximum(1.0, np.abs(sources[:, 0]) + sources[:, 1])
    flat = (results[:, 1] < FLAT) & (sources[:, 1] > TEXTURED) & (distance > OFF)
    wrong = ((distance > far) | flat).any(axis=1)
    if not wrong.any():
        return None
    return Alarm("black", f"{_share(wrong)} do not show what the source shows")


def _judge_motion(sources: _Array, results: _Array) -> Alarm | None:
    if len(sources) < 2:
        return None
    change = np.abs(np.diff(sources[:, 0], axis=0))
    moved = change > MOVED
    followed = np.abs(np.diff(results[:, 0], axis=0))
    num_moved = moved.any(axis=1).sum(axis=(1, 2))
    stands = (followed * moved).sum(axis=(1, 2, 3)) < STILL * (change * moved).sum(axis=(1, 2, 3))
    frozen = stands & (num_moved >= min(MIN_MOVED_BLOCKS, moved.shape[-1] * moved.shape[-2]))
    if not frozen.any():
        return None
    count = int(num_moved[frozen].max())
    return Alarm(
        "frozen",
        f"{int(frozen.sum())} pictures repeat the one before, while {count} blocks of the source "
        "changed",
    )


def _share(wrong_Thw: Any) -> str:
    """How many blocks of how many pictures."""
    pictures = int(wrong_Thw.any(axis=(1, 2)).sum())
    blocks = int(wrong_Thw.sum())
    return f"{blocks} blocks of {BLOCK_PX} px in {pictures} of {len(wrong_Thw)} pictures"
