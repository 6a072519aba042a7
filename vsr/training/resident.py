"""Training material that lies on the device whole, and batches cut from it without the host.

A GPU computes a step of a small network faster than a CPU can cut its batch. Here the decoded store
is copied to the device once; crops, mirrored and reversed play, flips and synthetic motion are
drawn and made there, for all samples of a batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vsr.errors import ConfigError
from vsr.training import degrade
from vsr.training.config import TrainConfig
from vsr.training.data import (
    Batch,
    Clip,
    FlowBatch,
    FrameStore,
    Sampler,
    group_weights,
)
from vsr.training.degraded import prepare_pairs
from vsr.training.pairs import Pair, usable_pairs
from vsr.training.scenes import NUM_OBJECTS, Dice, Scenes, exact_flows, random_scenes, render
from vsr.training.shelves import PairShelf, Shelf, mirror, open_shelf

_SKIP_SHARE = 0.15
"""Of video samples that take every second frame."""
_BACKGROUND = 2.2
"""Side of a scene's background over that of the picture; a window keeps large photographs out."""
_OBJECT = 1.2


class ResidentSampler:
    """Draws what `data.Sampler` draws, on a device; equal seeds draw equal crops on equal devices.

    What differs: every batch is parted between photographs and video as `photo_share` says, up to
    rounding by chance; there it holds only on average.

    Args:
        store: where from; copied to the device.
        device: where batches are made.
        scale: integer factor of enlargement.
        crop_px: side of a source crop, pixels.
        photo_share: share of samples that are camera motion over a photograph.
        max_speed_px: largest pan of the synthetic camera, source pixels per frame.
        degradation: how source frames are made; one of `degrade.DEGRADATIONS`.
        pairs: clips of the store that were degraded before, see `data.Sampler`.
        seed: of all draws.
    """

    def __init__(
        self,
        store: FrameStore,
        *,
        device: torch.device,
        scale: int,
        crop_px: int,
        photo_share: float = 0.5,
        max_speed_px: float = 5.0,
        degradation: str = "bi",
        pairs: Sequence[Pair] = (),
        seed: int = 0,
    ) -> None:
        self.scale, self.crop_px, self.max_speed_px = scale, crop_px, max_speed_px
        self.photo_share = photo_share
        self.degradation = "bi" if pairs else degradation
        self.generator = torch.Generator(device).manual_seed(seed)
        # On the CPU: what decides over shapes and recipes must not wait for the device.
        self.host_generator = torch.Generator().manual_seed(seed)
        self._dice = Dice(self.generator)
        self.margin_px = scale * degrade.margin_px(self.degradation, scale)
        self._side = side = crop_px * scale + 2 * self.margin_px
        self.photos = [c for c in store.photos if min(c.frames.shape[1:3]) >= side]
        self.videos = [c for c in store.videos if min(c.frames.shape[1:3]) >= side]
        self.photo_pairs, self.video_pairs = usable_pairs(pairs, crop_px)
        photos: Sequence[Clip | Pair] = self.photos
        videos: Sequence[Clip | Pair] = self.videos
        if pairs:
            photos, videos, side = self.photo_pairs, self.video_pairs, crop_px * scale
        if not photos and not videos:
            raise ConfigError(f"no training picture is as large as {side} x {side} pixels")
        self.photo_share = photo_share if photos and videos else float(bool(photos))
        weights = group_weights(videos).double()
        self._bounds = (weights.cumsum(0) / weights.sum()).to(device)
        self._is_paired = bool(pairs)
        self._pair_shelves = [
            PairShelf(kind, device) if kind else None
            for kind in (self.photo_pairs, self.video_pairs)
        ]
        if not pairs:
            # Now, and not within the first step.
            _ = self._photo_shelf, self._video_shelf

    @cached_property
    def _photo_shelf(self) -> Shelf | None:
        return self._shelf(self.photos)

    @cached_property
    def _video_shelf(self) -> Shelf | None:
        return self._shelf(self.videos)

    def _shelf(self, clips: Sequence[Clip]) -> Shelf | None:
        frames = [clip.frames for clip in clips]
        return open_shelf(frames, self.generator.device) if frames else None

    @staticmethod
    def fits(store: FrameStore, device: torch.device, pairs: Sequence[Pair] = ()) -> bool:
        """Whether a device is a GPU with room for all twice over: the network needs some."""
        if device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(device)
        size = sum(clip.frames.size for clip in store.clips)
        made = sum(pair.source.size + pair.truth.size * pair.is_photo for pair in pairs)
        return 2 * (size + made) <= free

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """All that draws."""
        return self.generator, self.host_generator

    def draw(self, batch: int, num_frames: int) -> Batch:
        """A batch of crops of `num_frames` frames, on the device."""
        if self._is_paired:
            return self._paired(batch, num_frames)
        frames_BTCHW = self._sides(batch, num_frames)
        return self._degrade(self._turn(frames_BTCHW))

    def draw_flow(self, batch: int) -> FlowBatch:
        """Pairs under synthetic motion, with their exact flow at the source's resolution.

        Raises:
            ConfigError: there is no photograph to move.
        """
        if not self.photos:
            raise ConfigError("training a flow network needs photographs, and the data has none")
        scenes = self._scenes(batch, 2)
        flow, visible = exact_flows(scenes, 0, 1, self.crop_px, step=self.scale)
        source = self._degrade(render(scenes, self._side)).source_BTCHW
        return FlowBatch(source[:, 0], source[:, 1], flow, visible)

    def _sides(self, batch: int, num_frames: int) -> Tensor:
        """(B, T, 3, side, side) float32 in [0, 255], photographs first."""
        num_photos = self._num_photos(batch)
        parts = []
        if num_photos and num_frames == 1:
            # One frame has no motion to make, and a camera's resampling would only blur it.
            parts.append(self._photo_windows(num_photos, self._side)[:, None].float())
        elif num_photos:
            parts.append(render(self._scenes(num_photos, num_frames), self._side).round_())
        if num_photos < batch:
            parts.append(self._video_crops(batch - num_photos, num_frames))
        return torch.cat(parts)

    def _scenes(self, batch: int, num_frames: int) -> Scenes:
        sides = [int(self._side * _BACKGROUND), *[int(self._side * _OBJECT)] * NUM_OBJECTS]
        photos = tuple(self._photo_windows(batch, side) for side in sides)
        return random_scenes(
            self._dice,
            photos,
            num_frames,
            size_px=self._side,
            max_speed_px=self.max_speed_px * self.scale,
        )

    def _photo_windows(self, batch: int, side: int) -> Tensor:
        """(B, 3, side, side) uint8 somewhere in random photographs."""
        shelf = self._photo_shelf
        assert shelf is not None
        number = torch.full((batch,), len(self.photos), device=self.generator.device)
        clip_B = self._dice.below(number)
        top_B = self._dice.below((shelf.height[clip_B] - side).clamp(min=0) + 1)
        left_B = self._dice.below((shelf.width[clip_B] - side).clamp(min=0) + 1)
        return shelf.windows(clip_B, torch.zeros_like(clip_B)[:, None], top_B, left_B, side)[:, 0]

    def _num_photos(self, batch: int) -> int:
        # Rounded by chance, so that a small batch keeps the share over time.
        count = batch * self.photo_share
        return int(count + float(torch.rand((), generator=self.host_generator)))

    def _video_crops(self, batch: int, num_frames: int) -> Tensor:
        """(B, T, 3, side, side) float32."""
        shelf = self._video_shelf
        assert shelf is not None
        clip_B = self._weighted(batch)
        frame_BT, top_B, left_B = self._places(shelf, clip_B, num_frames, self._side)
        return shelf.windows(clip_B, frame_BT, top_B, left_B, self._side).float()

    def _places(
        self,
        shelf: Shelf,
        clip_B: Tensor,
        num_frames: int,
        side: int,
        may_skip_B: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Frames, first row and first column; the more detailed of two places of each clip."""
        dice = self._dice
        length_B = shelf.length[clip_B]
        skips = dice.chance(_SKIP_SHARE, len(clip_B)) & (length_B >= 2 * num_frames)
        if may_skip_B is not None:
            skips = skips & may_skip_B
        stride_B = torch.where(skips, 2, 1)
        span_B = torch.minimum(length_B, (num_frames - 1) * stride_B + 1)
        start_B = dice.below(length_B - span_B + 1)
        step_T = torch.arange(num_frames, device=clip_B.device)
        # Played forth and back where the clip is too short.
        count_B = (span_B + stride_B - 1) // stride_B
        frame_BT = start_B[:, None] + stride_B[:, None] * mirror(step_T, count_B[:, None])
        places = [
            (
                dice.below(shelf.height[clip_B] - side + 1),
                dice.below(shelf.width[clip_B] - side + 1),
            )
            for _ in range(2)
        ]
        detail = [
            shelf.windows(clip_B, frame_BT[:, :1], top, left, side)[:, 0, 1]
            .float()
            .diff(dim=-1)
            .abs()
            .mean(dim=(-1, -2))
            for top, left in places
        ]
        # Flat crops teach nothing.
        first = detail[0] >= detail[1]
        top_B, left_B = (
            torch.where(first, a, b) for a, b in zip(places[0], places[1], strict=True)
        )
        return frame_BT, top_B, left_B

    def _weighted(self, count: int) -> Tensor:
        """Numbers of videos, as often as their groups say; `multinomial` may wait for the host."""
        found = torch.searchsorted(self._bounds, self._dice.uniform(0, 1, count))
        return found.clamp(max=len(self._bounds) - 1)

    def _paired(self, batch: int, num_frames: int) -> Batch:
        """Crops of degraded clips and of their truths, photographs first."""
        num_photos = self._num_photos(batch)
        parts = [
            self._pair_crops(shelf, count, num_frames)
            for shelf, count in zip(
                self._pair_shelves, (num_photos, batch - num_photos), strict=True
            )
            if shelf is not None and count
        ]
        sources, truths = (torch.cat(part) / 255.0 for part in zip(*parts, strict=True))
        return Batch(sources, truths)

    def _pair_crops(self, shelf: PairShelf, count: int, num_frames: int) -> tuple[Tensor, Tensor]:
        """(B, T, 3, crop, crop) of the sources and as much larger of the truths, in [0, 255]."""
        side, scale = self.crop_px, self.scale
        if shelf is self._pair_shelves[0]:
            number = torch.full((count,), len(shelf.truth_of), device=self._dice.device)
            pair_B = self._dice.below(number)
        else:
            pair_B = self._weighted(count)
        free_B = shelf.turns_freely[pair_B]
        frame_BT, top_B, left_B = self._places(shelf.sources, pair_B, num_frames, side, free_B)
        source = shelf.sources.windows(pair_B, frame_BT, top_B, left_B, side).float()
        truth = shelf.truths.windows(
            shelf.truth_of[pair_B], frame_BT, scale * top_B, scale * left_B, scale * side
        ).float()
        drawn_B4 = self._dice.chance(0.5, count, 4)
        turn_B4 = torch.where(free_B[:, None], drawn_B4, shelf.turn_N4[pair_B])
        return _turned(source, turn_B4), _turned(truth, turn_B4)

    def _turn(self, frames_BTCHW: Tensor) -> Tensor:
        """Flip, transpose and reverse each sample or not."""
        batch = len(frames_BTCHW)
        ways = [self._dice.chance(0.5, batch) for _ in range(4)]
        return _turned(frames_BTCHW, torch.stack(ways, dim=1))

    def _degrade(self, frames_BTCHW: Tensor) -> Batch:
        recipes = [
            degrade.draw_recipe(self.degradation, self.host_generator)
            for _ in range(len(frames_BTCHW))
        ]
        source = degrade.degrade(frames_BTCHW, self.scale, recipes) / 255.0
        trim, margin = self.margin_px // self.scale, self.margin_px
        return Batch(
            source[..., trim:-trim, trim:-trim].contiguous(),
            (frames_BTCHW[..., margin:-margin, margin:-margin] / 255.0).contiguous(),
        )


def _turned(frames_BTCHW: Tensor, turn_B4: Tensor) -> Tensor:
    """Each sample as its `pairs.Turn` says: across, down, backwards, transposed."""
    chosen = turn_B4[:, :, None, None, None, None]
    for way, dim in enumerate((-1, -2, 1)):
        frames_BTCHW = torch.where(chosen[:, way], frames_BTCHW.flip(dim), frames_BTCHW)
    return torch.where(chosen[:, 3], frames_BTCHW.transpose(-1, -2), frames_BTCHW)


AnySampler = Sampler | ResidentSampler
"""What cuts batches, on the host or on the device."""


def make_sampler(config: TrainConfig, store: FrameStore, device: torch.device) -> AnySampler:
    """What cuts batches: on the device where the store fits there, else on the host.

    The two draw differently, so that a run must be resumed on the kind of device it began on.
    """
    data = config.data
    pairs = prepare_pairs(store, config)
    resident = data.resident
    if resident is None:
        resident = ResidentSampler.fits(store, device, pairs)
    options: dict[str, Any] = {
        "scale": data.scale,
        "crop_px": data.crop_px,
        "photo_share": data.photo_share,
        "max_speed_px": data.max_speed_px,
        "degradation": data.degradation,
        "pairs": pairs,
        "seed": config.seed,
    }
    if resident:
        return ResidentSampler(store, device=device, **options)
    return Sampler(store, **options)
