"""How far a batch is, as plain data for people and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, linear_regression
from typing import Any

from vsr.batch.manifest import STATES, Clip, Manifest
from vsr.batch.opening import is_at_work

_UNFINISHED = ("running", "waiting", "failed")


def status(manifest: Manifest) -> dict[str, Any]:
    """Counts by state, frames done, time left, and one entry per clip, in order of their paths.

    `total` counts every clip ever found; `eta_seconds` is None as long as nothing was measured.
    """
    clips = manifest.clips()
    if not is_at_work(manifest.out):
        # Left so by a run that was killed.
        clips = [replace(c, state="waiting") if c.state == "running" else c for c in clips]
    counts: dict[str, int] = dict.fromkeys(STATES, 0)
    for clip in clips:
        counts[clip.state] += 1
    return {
        "total": len(clips),
        **counts,
        "frames_done": sum(clip.frames_done for clip in clips),
        "eta_seconds": eta_seconds(clips, int(manifest.note("workers") or 1)),
        "clips": [entry(clip) for clip in clips],
    }


def entry(clip: Clip) -> dict[str, Any]:
    """What is told of one clip."""
    return {
        "clip": clip.path,
        "output": clip.output,
        "state": clip.state,
        "error": clip.error,
        "exit_code": clip.exit_code,
        "attempts": clip.attempts,
        "is_gone": clip.is_gone,
        "size_bytes": clip.size_bytes,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "frames_done": clip.frames_done,
        "duration_s": clip.duration_s,
        "codec": clip.codec,
        "seconds": clip.seconds,
        "result_bytes": clip.result_bytes,
        "source_sha256": clip.source_sha256,
        "result_sha256": clip.result_sha256,
        "weights_sha256": clip.weights_sha256,
    }


def pixels_of(clip: Clip, num_frames: int | None) -> int:
    """What making so many frames of a clip costs, in pixels of the source."""
    return (num_frames or 0) * (clip.width or 0) * (clip.height or 0)


def eta_seconds(clips: Iterable[Clip], num_workers: int) -> float | None:
    """Time left, by what the finished clips took; None when nothing is known.

    A clip takes some time whatever its length, and some for each pixel. One that does not say how
    long it is counts as empty.
    """
    done: list[tuple[int, float]] = []
    left: list[int] = []
    for clip in clips:
        if clip.state == "done" and clip.seconds is not None:
            done.append((pixels_of(clip, clip.frames), clip.seconds))
        elif clip.state in _UNFINISHED:
            left.append(pixels_of(clip, max(0, (clip.frames or 0) - clip.frames_done)))
    if not left:
        return 0.0
    if not done:
        return None
    per_clip_s, per_pixel_s = _costs(done)
    return round((len(left) * per_clip_s + sum(left) * per_pixel_s) / num_workers, 1)


def _costs(done: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """Seconds for each clip and for each pixel, by least squares where that gives sense."""
    pixels, seconds = zip(*done, strict=True)
    if len(set(pixels)) > 1:
        slope, intercept = linear_regression(pixels, seconds)
        if slope > 0 and intercept > 0:
            return intercept, slope
    if sum(pixels) == 0:
        return fmean(seconds), 0.0
    return 0.0, sum(seconds) / sum(pixels)
