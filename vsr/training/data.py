"""Training material: decoded once into one flat file, then cropped from memory.

A store is a folder with `frames.u8` (RGB samples of all clips, one after another) and `index.json`
(an object with `clips`, or just their list: name, group, offset, frames, height and width of each).
It is mapped, not read, so that several runs share one copy in the page cache.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.errors import ConfigError
from vsr.training import degrade
from vsr.training.motion import Layer, exact_flow, random_scene, render, uniform
from vsr.training.pairs import Pair, Turn, usable_pairs

INDEX = "index.json"
FRAMES = "frames.u8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip or photograph of a store."""

    name: str
    group: str
    """Clips of one origin; sampling keeps a large group from drowning the others."""
    frames: NDArray[np.uint8]
    """(T, H, W, 3) RGB, a view into the store."""
    origin: str
    """Whom a card must name."""
    licence: str
    """As an SPDX expression; empty when it is not known."""


class FrameStore:
    """Clips and photographs in memory order, read through a memory map.

    Args:
        folder: as written by `training.prepare.build_store`.

    Raises:
        ConfigError: the folder is no store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prepared: dict[Path, list[Pair]] = {}
        """What `degraded.prepare_pairs` has opened, by folder."""
        try:
            document = json.loads((folder / INDEX).read_text("utf-8"))
            entries = document["clips"] if isinstance(document, dict) else document
            data = np.memmap(folder / FRAMES, dtype=np.uint8, mode="r")
            self.clips: list[Clip] = [_clip(entry, data) for entry in entries]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"{folder} is no training store: {error}") from error

    @property
    def videos(self) -> list[Clip]:
        return [clip for clip in self.clips if len(clip.frames) > 1]

    @property
    def photos(self) -> list[Clip]:
        return [clip for clip in self.clips if len(clip.frames) == 1]

    @property
    def sources(self) -> list[tuple[str, str]]:
        """Origin and licence of all that is in the store, each pair once, ordered."""
        return sorted({(clip.origin, clip.licence or "unknown") for clip in self.clips})


def _clip(entry: dict[str, Any], data: NDArray[np.uint8]) -> Clip:
    shape = (entry["frames"], entry["height"], entry["width"], 3)
    start = entry["offset"]
    return Clip(
        name=entry["name"],
        group=entry["group"],
        frames=data[start : start + int(np.prod(shape))].reshape(shape),
        origin=entry.get("origin", entry["group"]),
        licence=entry.get("licence", ""),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Source frames and what they should become."""

    source_BTCHW: Tensor
    """(B, T, 3, H, W) float32 in [0, 1], on the 8-bit grid."""
    target_BTCHW: Tensor
    """(B, T, 3, s*H, s*W) float32 in [0, 1]."""


@dataclass(frozen=True, slots=True)
class FlowBatch:
    """Pairs of source frames with exact flow between them."""

    ref_BCHW: Tensor
    other_BCHW: Tensor
    flow_B2HW: Tensor
    visible_B1HW: Tensor


class Sampler:
    """Draws random crops; equal seeds draw equal crops.

    Args:
        store: where from.
        scale: integer factor of enlargement.
        crop_px: side of a source crop, pixels.
        photo_share: share of samples that are camera motion over a photograph.
        max_speed_px: largest pan of the synthetic camera, source pixels per frame.
        degradation: how source frames are made; one of `degrade.DEGRADATIONS`.
        pairs: clips of the store that were degraded before; where there are any, batches are cut
            from them, and `degradation` makes no more than pairs of `draw_flow`.
        seed: of all draws.
    """

    def __init__(
        self,
        store: FrameStore,
        *,
        scale: int,
        crop_px: int,
        photo_share: float = 0.5,
        max_speed_px: float = 5.0,
        degradation: str = "bi",
        pairs: Sequence[Pair] = (),
        seed: int = 0,
    ) -> None:
        self.scale = scale
        self.crop_px = crop_px
        self.photo_share = photo_share
        self.max_speed_px = max_speed_px
        self.degradation = "bi" if pairs else degradation
        self.generator = torch.Generator().manual_seed(seed)
        # Shrinking looks around, so crops are taken that much larger and trimmed.
        self.margin_px = scale * degrade.margin_px(self.degradation, scale)
        side = crop_px * scale + 2 * self.margin_px
        self.photos = [c for c in store.photos if min(c.frames.shape[1:3]) >= side]
        self.videos = [c for c in store.videos if min(c.frames.shape[1:3]) >= side]
        self.photo_pairs, self.video_pairs = usable_pairs(pairs, crop_px)
        photos: Sequence[Clip | Pair] = self.photos
        videos: Sequence[Clip | Pair] = self.videos
        if pairs:
            photos, videos, side = self.photo_pairs, self.video_pairs, crop_px * scale
        if not photos:
            self.photo_share = 0.0
        if not videos:
            self.photo_share = 1.0
        if not photos and not videos:
            raise ConfigError(f"no training picture is as large as {side} x {side} pixels")
        self._is_paired = bool(pairs)
        self._weights = group_weights(videos)

    @property
    def host_generator(self) -> torch.Generator:
        """For draws that are decided on the CPU."""
        return self.generator

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """All that draws."""
        return (self.generator,)

    def draw(self, batch: int, num_frames: int) -> Batch:
        """A batch of crops of `num_frames` frames, on the CPU."""
        if self._is_paired:
            drawn = [self._pair(num_frames) for _ in range(batch)]
            sources, truths = (torch.stack(crops) / 255.0 for crops in zip(*drawn, strict=True))
            return Batch(sources, truths)
        targets = torch.stack([self._sample(num_frames) for _ in range(batch)])
        return self._degrade(targets)

    def draw_flow(self, batch: int) -> FlowBatch:
        """Pairs under synthetic motion, with their exact flow at the source's resolution.

        Raises:
            ConfigError: there is no photograph to move.
        """
        if not self.photos:
            raise ConfigError("training a flow network needs photographs, and the data has none")
        pairs, flows, masks = [], [], []
        for _ in range(batch):
            layers = self._scene(2)
            side = self.crop_px * self.scale + 2 * self.margin_px
            pairs.append(render(layers, side, side))
            flow, visible = exact_flow(layers, 0, 1, self.crop_px, self.crop_px, step=self.scale)
            flows.append(flow)
            masks.append(visible)
        source = self._degrade(torch.stack(pairs)).source_BTCHW
        return FlowBatch(source[:, 0], source[:, 1], torch.stack(flows), torch.stack(masks))

    def _degrade(self, frames_BTCHW: Tensor) -> Batch:
        recipes = [
            degrade.draw_recipe(self.degradation, self.generator) for _ in range(len(frames_BTCHW))
        ]
        source = degrade.degrade(frames_BTCHW, self.scale, recipes) / 255.0
        trim, margin = self.margin_px // self.scale, self.margin_px
        return Batch(
            source[..., trim:-trim, trim:-trim].contiguous(),
            (frames_BTCHW[..., margin:-margin, margin:-margin] / 255.0).contiguous(),
        )

    def _sample(self, num_frames: int) -> Tensor:
        """(T, 3, side, side) float32 in [0, 255], flipped, turned and reversed at random."""
        is_photo = uniform(self.generator, 0, 1) < self.photo_share
        if is_photo and num_frames == 1:
            # One frame has no motion to make, and a camera's resampling would only blur it.
            frames = self._crop(self.photos[self._pick(len(self.photos))], 1)
        elif is_photo:
            side = self.crop_px * self.scale + 2 * self.margin_px
            frames = render(self._scene(num_frames), side, side).round_()
        else:
            clip = int(torch.multinomial(self._weights, 1, generator=self.generator))
            frames = self._crop(self.videos[clip], num_frames)
        flips = [dim for dim in (-1, -2) if uniform(self.generator, 0, 1) < 0.5]
        if uniform(self.generator, 0, 1) < 0.5:
            flips.append(0)
        if flips:
            frames = frames.flip(flips)
        if uniform(self.generator, 0, 1) < 0.5:
            frames = frames.transpose(-1, -2)
        return frames

    def _pick(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def _crop(self, clip: Clip, num_frames: int) -> Tensor:
        side = self.crop_px * self.scale + 2 * self.margin_px
        index, top, left = self._place(clip.frames, num_frames, side)
        return _window(clip.frames, index, top, left, side)

    def _pair(self, num_frames: int) -> tuple[Tensor, Tensor]:
        """Crops of a degraded clip and of its truth, in [0, 255]."""
        if uniform(self.generator, 0, 1) < self.photo_share:
            pair = self.photo_pairs[self._pick(len(self.photo_pairs))]
        else:
            number = int(torch.multinomial(self._weights, 1, generator=self.generator))
            pair = self.video_pairs[number]
        skips = pair.turns_freely
        index, top, left = self._place(pair.source, num_frames, self.crop_px, may_skip=skips)
        source = _window(pair.source, index, top, left, self.crop_px)
        scale = self.scale
        truth = _window(pair.truth, index, scale * top, scale * left, scale * self.crop_px)
        turn = Turn.draw(self.generator) if pair.turns_freely else pair.turn
        return turn.apply(source), turn.apply(truth)

    def _place(
        self,
        frames_THW3: NDArray[np.uint8],
        num_frames: int,
        side: int,
        *,
        may_skip: bool = True,
    ) -> tuple[list[int], int, int]:
        """Which frames, first row and first column."""
        length, height, width, _ = frames_THW3.shape
        skips = length >= 2 * num_frames and uniform(self.generator, 0, 1) < 0.15
        stride = 2 if skips and may_skip else 1
        span = min(length, (num_frames - 1) * stride + 1)
        start = self._pick(length - span + 1)
        index = _mirrored(range(start, start + span, stride), num_frames)
        crops = []
        for _ in range(2):  # the more detailed of two: flat crops teach nothing
            top, left = self._pick(height - side + 1), self._pick(width - side + 1)
            crop = frames_THW3[index[0], top : top + side, left : left + side, 1].astype(np.int16)
            detail = float(np.abs(np.diff(crop, axis=1)).mean())
            crops.append((detail, top, left))
        _, top, left = max(crops)
        return index, top, left

    def _scene(self, num_frames: int) -> list[Layer]:
        return draw_scene(
            self.generator,
            self.photos,
            num_frames,
            size_px=self.crop_px * self.scale + 2 * self.margin_px,
            max_speed_px=self.max_speed_px * self.scale,
        )


def group_weights(clips: Sequence[Clip | Pair]) -> Tensor:
    """How often each is drawn, relatively: a group's share grows with the root of its size."""
    sizes = Counter(clip.group for clip in clips)
    return torch.tensor([sizes[clip.group] ** -0.5 for clip in clips])


def draw_scene(
    generator: torch.Generator,
    photos: Sequence[Clip],
    num_frames: int,
    *,
    size_px: int,
    max_speed_px: float,
    background: Clip | None = None,
) -> list[Layer]:
    """A scene of windows of random photographs.

    Args:
        generator: on the CPU.
        photos: what to choose from.
        num_frames: see `motion.random_scene`, as the next two.
        size_px: of the picture.
        max_speed_px: of the camera.
        background: the photograph behind all others; a random one by default.
    """

    def pick(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    windows = []
    for number in range(1 + pick(3)):
        is_given = number == 0 and background is not None
        clip = background if is_given else photos[pick(len(photos))]
        assert clip is not None
        photo = clip.frames[0]
        height, width = photo.shape[:2]
        # A window is enough and keeps large photographs out of the arithmetic.
        window = min(height, width, int(size_px * (2.2 if number == 0 else 1.2)))
        top, left = pick(height - window + 1), pick(width - window + 1)
        part = photo[top : top + window, left : left + window].copy()
        windows.append(torch.from_numpy(part).permute(2, 0, 1))
    return random_scene(generator, windows, num_frames, size_px=size_px, max_speed_px=max_speed_px)


def _window(
    frames_THW3: NDArray[np.uint8], index: Sequence[int], top: int, left: int, side: int
) -> Tensor:
    """(T, 3, side, side) float32 in [0, 255]."""
    frames = np.stack([frames_THW3[i, top : top + side, left : left + side] for i in index])
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float()


def _mirrored(index: Sequence[int], count: int) -> list[int]:
    """The first `count` of index, played forth and back for as long as needed."""
    there_and_back = [*index, *list(index)[-2:0:-1]]
    return [there_and_back[i % len(there_and_back)] for i in range(count)]
