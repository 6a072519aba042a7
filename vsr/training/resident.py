"""Training material that lies on the device whole, and batches cut from it without the host.

A GPU computes a step of a small network faster than a CPU can cut its batch. Here the decoded store
is copied to the device once; crops, mirrored and reversed play, flips and synthetic motion are
drawn and made there, for all samples of a batch at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.errors import ConfigError
from vsr.training import degrade
from vsr.training.data import Batch, Clip, FlowBatch, FrameStore, Sampler
from vsr.training.scenes import NUM_OBJECTS, Dice, Scenes, exact_flows, random_scenes, render

_SKIP_SHARE = 0.15
"""Of video samples that take every second frame."""
_BACKGROUND = 2.2
"""Side of a scene's background over that of the picture; a window keeps large photographs out."""
_OBJECT = 1.2


class _Shelf:
    """Clips of one kind on the device, one after another, and where each lies."""

    def __init__(self, clips: Sequence[Clip], device: torch.device) -> None:
        sizes = [clip.frames.size for clip in clips]
        self.pixels = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        at = 0
        for clip, size in zip(clips, sizes, strict=True):
            self.pixels[at : at + size].copy_(torch.from_numpy(clip.frames.reshape(-1).copy()))
            at += size
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        shapes = [clip.frames.shape[:3] for clip in clips]
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
        rows_BS = _mirror(top_B[:, None] + line, height_B[:, None])
        columns_BS = _mirror(left_B[:, None] + line, width_B[:, None])
        picture_B = height_B * width_B * 3
        first_BT = self.start[clip_B, None] + frame_BT * picture_B[:, None]
        pixel_BSS = (rows_BS * width_B[:, None])[:, :, None] + columns_BS[:, None]
        index_BTSS = first_BT[:, :, None, None] + 3 * pixel_BSS[:, None]
        channel = torch.arange(3, device=line.device)[:, None, None]
        return self.pixels[index_BTSS[:, :, None] + channel]


def _mirror(index: Tensor, limit: Tensor) -> Tensor:
    """Positions played forth and back within [0, limit)."""
    period = (2 * limit - 2).clamp(min=1)
    index = index % period
    return torch.minimum(index, period - index).clamp(max=limit - 1)


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
        seed: int = 0,
    ) -> None:
        self.scale, self.crop_px, self.max_speed_px = scale, crop_px, max_speed_px
        self.photo_share = photo_share
        self.degradation = degradation
        self.generator = torch.Generator(device).manual_seed(seed)
        # On the CPU: which recipe to follow is decided there.
        self.host_generator = torch.Generator().manual_seed(seed)
        self._dice = Dice(self.generator)
        self.margin_px = scale * degrade.margin_px(degradation, scale)
        self._side = crop_px * scale + 2 * self.margin_px
        self.photos = [c for c in store.photos if min(c.frames.shape[1:3]) >= self._side]
        self.videos = [c for c in store.videos if min(c.frames.shape[1:3]) >= self._side]
        if not self.photos and not self.videos:
            raise ConfigError(
                f"no training picture is as large as {self._side} x {self._side} pixels"
            )
        self.photo_share = photo_share if self.photos and self.videos else float(bool(self.photos))
        self._photo_shelf = _Shelf(self.photos, device) if self.photos else None
        self._video_shelf = _Shelf(self.videos, device) if self.videos else None
        sizes = Counter(clip.group for clip in self.videos)
        weights = [sizes[clip.group] ** -0.5 for clip in self.videos]
        self._weights = torch.tensor(weights, device=device)

    @staticmethod
    def fits(store: FrameStore, device: torch.device) -> bool:
        """Whether a device is a GPU with room for the store twice over: the network needs some."""
        if device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(device)
        return 2 * sum(clip.frames.size for clip in store.clips) <= free

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """All that draws."""
        return self.generator, self.host_generator

    def draw(self, batch: int, num_frames: int) -> Batch:
        """A batch of crops of `num_frames` frames, on the device."""
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
        # Rounded by chance, so that a small batch keeps the share over time.
        count = batch * self.photo_share
        num_photos = int(count + float(self._dice.uniform(0, 1)))
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

    def _video_crops(self, batch: int, num_frames: int) -> Tensor:
        """(B, T, 3, side, side) float32; the more detailed of two places of each clip."""
        shelf, dice, side = self._video_shelf, self._dice, self._side
        assert shelf is not None
        clip_B = torch.multinomial(self._weights, batch, True, generator=self.generator)
        length_B = shelf.length[clip_B]
        skips = dice.chance(_SKIP_SHARE, batch) & (length_B >= 2 * num_frames)
        stride_B = torch.where(skips, 2, 1)
        span_B = torch.minimum(length_B, (num_frames - 1) * stride_B + 1)
        start_B = dice.below(length_B - span_B + 1)
        step_T = torch.arange(num_frames, device=clip_B.device)
        # Played forth and back where the clip is too short.
        count_B = (span_B + stride_B - 1) // stride_B
        frame_BT = start_B[:, None] + stride_B[:, None] * _mirror(step_T, count_B[:, None])
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
        return shelf.windows(clip_B, frame_BT, top_B, left_B, side).float()

    def _turn(self, frames_BTCHW: Tensor) -> Tensor:
        """Flip, transpose and reverse each sample or not."""
        batch = len(frames_BTCHW)
        for dim in (-1, -2, 1):
            chosen = self._dice.chance(0.5, batch)[:, None, None, None, None]
            frames_BTCHW = torch.where(chosen, frames_BTCHW.flip(dim), frames_BTCHW)
        chosen = self._dice.chance(0.5, batch)[:, None, None, None, None]
        return torch.where(chosen, frames_BTCHW.transpose(-1, -2), frames_BTCHW)

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


AnySampler = Sampler | ResidentSampler
"""What cuts batches, on the host or on the device."""
