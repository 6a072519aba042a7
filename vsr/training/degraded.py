"""Clips degraded before a run, and kept beside the store that they come from.

A GPU computes a step faster than one clip goes through a codec. Here every clip of a store is
degraded whole, some times over, each time with parameters of its own; photographs become short
scenes under a moving camera first, where a run learns from sequences. Samplers then cut aligned
crops of both. The results are folders within the store's, one for videos and one for photographs,
named by all that decides over them: made once, reused, and carried along with the store to a
machine that trains.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.errors import ConfigError, OutputError, VsrError
from vsr.training.config import TrainConfig
from vsr.training.data import FRAMES, INDEX, Clip, FrameStore, draw_scene
from vsr.training.degrade import degrade_clip, draw_recipe
from vsr.training.motion import render
from vsr.training.pairs import Pair, Turn

VERSION = 1
"""Of the format and of how pairs are made; a folder of another version is not used."""
_ROOM = 1.5
"""Side of a scene over that of a crop."""

OnClip = Callable[[int, int], None]
"""Called with the number of clips done and of all clips, first with 0 done."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """What decides over the pairs of one kind of clips, besides the clips."""

    kind: Literal["videos", "photos"]
    degradation: str
    scale: int
    copies: int
    seed: int
    scene_frames: int = 0
    """Of the scenes that are made of photographs; 0 takes photographs as they are."""
    scene_px: int = 0
    max_speed_px: float = 0.0

    @classmethod
    def all_of(cls, config: TrainConfig) -> tuple[_Plan, _Plan]:
        """Apart, for scenes hang on more: runs that differ in it share what becomes of videos."""
        data = config.data
        shared = data.degradation, data.scale, data.degraded_copies, config.seed
        length = max(data.num_frames) + data.carried_frames
        photos = cls("photos", *shared)
        if length > 1:
            side = int(_ROOM * data.crop_px) * data.scale
            photos = cls("photos", *shared, length, side, data.max_speed_px)
        return cls("videos", *shared), photos

    def clips(self, store: FrameStore) -> list[Clip]:
        """Those that are large enough for anything to be learned from them."""
        clips = store.videos if self.kind == "videos" else store.photos
        return [clip for clip in clips if min(clip.frames.shape[1:3]) >= 16 * self.scale]


@dataclass(frozen=True, slots=True)
class _Made:
    """One pair as it comes from its maker; arrays (T, H, W, 3)."""

    source: NDArray[np.uint8]
    truth: NDArray[np.uint8] | None
    """None where it is in the store already."""
    turn: Turn
    turns_freely: bool


def prepare_pairs(
    store: FrameStore, config: TrainConfig, progress: OnClip | None = None
) -> list[Pair]:
    """Degrade a store as a configuration says, unless that has been done before.

    As many clips are worked on at once as torch has threads; the result does not depend on it.

    Args:
        store: whole, or the part of it that is trained on.
        config: says how and how often; `[data] degraded_copies` of 0 makes no pairs.
        progress: see `OnClip`; not called when nothing has to be made.

    Returns:
        The pairs, mapped from memory; of videos first. All clips once, then all again, and so on.

    Raises:
        ConfigError: nothing in the store can be used.
        OutputError: the folder cannot be written.
        EncodeError: FFmpeg lacks a codec.
    """
    if not config.data.degraded_copies:
        return []
    plans = [plan for plan in _Plan.all_of(config) if plan.clips(store)]
    if not plans:
        raise ConfigError("the data holds no picture that is large enough to be degraded")
    keys = [_key(plan, plan.clips(store)) for plan in plans]
    folders = [
        store.folder / f"degraded-{hashlib.sha256(key.encode()).hexdigest()[:12]}" for key in keys
    ]
    missing = [
        (plan, key, folder)
        for plan, key, folder in zip(plans, keys, folders, strict=True)
        if folder not in store.prepared and not _is_current(folder, key)
    ]
    total = sum(plan.copies * len(plan.clips(store)) for plan, _, _ in missing)
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    if missing and progress is not None:
        progress(0, total)
    for plan, key, folder in missing:
        _build(plan, plan.clips(store), key, folder, tell)
    pairs = []
    for plan, folder in zip(plans, folders, strict=True):
        if folder not in store.prepared:
            store.prepared[folder] = _open(plan.clips(store), folder)
        pairs += store.prepared[folder]
    return pairs


def _key(plan: _Plan, clips: list[Clip]) -> str:
    """All that decides over the pairs. Of the pictures a sample, so that copies count as equal."""
    facts = []
    for clip in clips:
        sample = np.ascontiguousarray(clip.frames[len(clip.frames) // 2, ::16])
        facts.append([clip.name, *clip.frames.shape[:3], zlib.crc32(sample.tobytes())])
    return json.dumps({"version": VERSION, **asdict(plan), "clips": facts})


def _is_current(folder: Path, key: str) -> bool:
    try:
        document = json.loads((folder / INDEX).read_text("utf-8"))
        return bool(
            document["key"] == key and (folder / FRAMES).stat().st_size == document["num_bytes"]
        )
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _build(
    plan: _Plan, clips: list[Clip], key: str, folder: Path, tell: Callable[[], None]
) -> None:
    """Make all pairs of a plan; `tell` is called after each."""
    partial = folder / f"{FRAMES}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                entries = _write_pairs(file, plan, clips, tell)
                size = file.tell()
            partial.replace(folder / FRAMES)
        finally:
            partial.unlink(missing_ok=True)
        # The index last: frames without it are made anew.
        document = {"key": key, "num_bytes": size, "scale": plan.scale, "pairs": entries}
        partial_index = folder / f"{INDEX}.{os.getpid()}.part"
        partial_index.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        partial_index.replace(folder / INDEX)
    except OSError as error:
        if isinstance(error, VsrError):
            raise
        raise OutputError(
            f"degraded clips cannot be kept in {folder}: {error.strerror or error}",
            hint="lower degraded_copies, or name a --store with room for them",
        ) from error


def _write_pairs(
    file: BinaryIO, plan: _Plan, clips: list[Clip], tell: Callable[[], None]
) -> list[dict[str, Any]]:
    """Append every pair to a file; their entries of the index."""
    jobs = [(number, copy) for copy in range(plan.copies) for number in range(len(clips))]
    entries: list[dict[str, Any]] = []
    for (number, _), made in zip(jobs, _all_made(plan, clips, jobs), strict=True):
        entry: dict[str, Any] = {"clip": number, "shape": made.source.shape[:3]}
        entry["source"] = file.tell()
        file.write(made.source.tobytes())
        if made.truth is not None:
            entry["truth"] = file.tell()
            file.write(made.truth.tobytes())
        entries.append(entry | {"turn": asdict(made.turn), "turns_freely": made.turns_freely})
        tell()
    return entries


def _all_made(plan: _Plan, clips: list[Clip], jobs: list[tuple[int, int]]) -> Iterator[_Made]:
    """Pairs in the order of their jobs; only a few more than there are threads wait to be written.

    Codecs and torch let other threads run meanwhile.
    """
    with _one_thread_each() as workers:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="degrade")
        waiting: deque[Future[_Made]] = deque()
        try:
            for number, copy in jobs:
                waiting.append(pool.submit(_make, plan, clips, number, copy))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Let torch compute in the threads that call it; gives the number that it had."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield count
    finally:
        torch.set_num_threads(count)


def _make(plan: _Plan, clips: list[Clip], number: int, copy: int) -> _Made:
    clip = clips[number]
    seed = f"{plan.seed} {copy} {clip.name}".encode()
    generator = torch.Generator().manual_seed(zlib.crc32(seed))
    recipe = draw_recipe(plan.degradation, generator)
    # One phase of decimation is at the blocks' corners, which a turn would move.
    turns_freely = recipe.is_per_frame and plan.degradation != "bd-corner"
    turn = Turn() if turns_freely else Turn.draw(generator)
    if plan.scene_frames:
        layers = draw_scene(
            generator,
            clips,
            plan.scene_frames,
            size_px=plan.scene_px,
            max_speed_px=plan.max_speed_px * plan.scale,
            background=clip,
        )
        large_TCHW = turn.apply(render(layers, plan.scene_px, plan.scene_px).round_())
        small_TCHW = degrade_clip(iter(large_TCHW), plan.scale, recipe)
        return _Made(_codes(small_TCHW), _codes(large_TCHW), Turn(), turns_freely)
    small_TCHW = degrade_clip(_seen(clip, turn, plan.scale), plan.scale, recipe)
    return _Made(_codes(turn.undo(small_TCHW)), None, turn, turns_freely)


def _seen(clip: Clip, turn: Turn, scale: int) -> Iterator[Tensor]:
    """Frames of a turned clip, one at a time: (3, H, W) float32, sides divisible by the scale."""
    height, width = (side // scale * scale for side in clip.frames.shape[1:3])
    frames = clip.frames[::-1] if turn.backwards else clip.frames
    for frame_HWC in frames:
        picture = torch.from_numpy(frame_HWC[:height, :width].copy()).permute(2, 0, 1).float()
        yield turn.apply(picture[None])[0]


def _codes(frames_TCHW: Tensor) -> NDArray[np.uint8]:
    codes: NDArray[np.uint8] = frames_TCHW.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return codes


def _open(clips: list[Clip], folder: Path) -> list[Pair]:
    """The pairs of a folder whose key fits the clips."""
    try:
        document = json.loads((folder / INDEX).read_text("utf-8"))
        data = np.memmap(folder / FRAMES, dtype=np.uint8, mode="r")
        return [
            _pair(clips[entry["clip"]], entry, data, document["scale"])
            for entry in document["pairs"]
        ]
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ConfigError(f"{folder} holds no degraded clips: {error}") from error


def _pair(clip: Clip, entry: dict[str, Any], data: NDArray[np.uint8], scale: int) -> Pair:
    length, height, width = entry["shape"]

    def view(start: int, factor: int) -> NDArray[np.uint8]:
        shape = (length, height * factor, width * factor, 3)
        return data[start : start + int(np.prod(shape))].reshape(shape)

    return Pair(
        name=clip.name,
        group=clip.group,
        truth=view(entry["truth"], scale) if "truth" in entry else clip.frames,
        source=view(entry["source"], 1),
        turn=Turn(**entry["turn"]),
        turns_freely=entry["turns_freely"],
        is_photo=len(clip.frames) == 1,
    )
