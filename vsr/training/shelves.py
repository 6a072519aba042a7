"""Clips on the device that trains, one after another, and squares cut from many of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.training.pairs import Pair


class Shelf:
    """Clips of one kind on the device, one after another, and where each lies."""

    def __init__(self, clips: Sequence[NDArray[np.uint8]], device: torch.device) -> None:
        # Held, so that no other clips can come to lie at their place meanwhile.
        self.clips = tuple(clips)
        sizes = [frames.size for frames in clips]
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        at = 0
        for frames, size in zip(clips, sizes, strict=True):
            self.pixels[at : at + size].copy_(torch.from_numpy(frames.reshape(-1).copy()))
            at += size
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        shapes = [frames.shape[:3] for frames in clips]
        self.start, self.length, self.height, self.width = (
            torch.tensor(values, dtype=torch.long, device=device)
            for values in (starts, *(list(column) for column in zip(*shapes, strict=True)))
        )

    def windows(
        self, clip_B: Tensor, frame_BT: Tensor, top_B: Tensor, left_B: Tensor, side: int
    ) -> Tensor:
        """Squares of the pictures, mirrored where they reach over an edge.

        Args:
            clip_B: which clips.
            frame_BT: which of their frames.
            top_B: first row.
            left_B: first column.
            side: rows and columns.

        Returns:
            (B, T, 3, side, side) uint8.
        """
        line = torch.arange(side, device=self.pixels.device)
        height_B, width_B = self.height[clip_B], self.width[clip_B]
        rows_BS = mirror(top_B[:, None] + line, height_B[:, None])
        columns_BS = mirror(left_B[:, None] + line, width_B[:, None])
        # In pixels of three samples, which then come as one.
        first_BT = self.start[clip_B, None] // 3 + frame_BT * (height_B * width_B)[:, None]
        pixel_BSS = (rows_BS * width_B[:, None])[:, :, None] + columns_BS[:, None]
        found_BTSS3 = self.pixels.view(-1, 3)[first_BT[:, :, None, None] + pixel_BSS[:, None]]
        return found_BTSS3.permute(0, 1, 4, 2, 3).contiguous()


_SHELVES: WeakValueDictionary[tuple[Any, ...], Shelf] = WeakValueDictionary()
"""Those in use, by device and place of the clips in memory."""


def open_shelf(clips: Sequence[NDArray[np.uint8]], device: torch.device) -> Shelf:
    """The clips on a device, where they may lie already for another sampler."""
    key = (device, *((frames.ctypes.data, frames.shape) for frames in clips))
    found = _SHELVES.get(key)
    if found is None:
        found = _SHELVES[key] = Shelf(clips, device)
    return found


class PairShelf:
    """Degraded clips and their truths, which several of them may share, on the device."""

    def __init__(self, pairs: Sequence[Pair], device: torch.device) -> None:
        self.sources = open_shelf([pair.source for pair in pairs], device)
        addresses = [pair.truth.ctypes.data for pair in pairs]
        truths = {at: pair.truth for at, pair in zip(addresses, pairs, strict=True)}
        self.truths = open_shelf(list(truths.values()), device)
        numbers = {at: number for number, at in enumerate(truths)}
        self.truth_of = torch.tensor([numbers[at] for at in addresses], device=device)
        turns = [pair.turn for pair in pairs]
        ways = [[t.across, t.down, t.backwards, t.transposed] for t in turns]
        self.turn_N4 = torch.tensor(ways, device=device)
        self.turns_freely = torch.tensor([pair.turns_freely for pair in pairs], device=device)


def mirror(index: Tensor, limit: Tensor) -> Tensor:
    """Positions played forth and back within [0, limit)."""
    period = (2 * limit - 2).clamp(min=1)
    index = index % period
    return torch.minimum(index, period - index).clamp(max=limit - 1)
