"""How long a batch will take and how much disk, from one clip of each size that was measured.

A clip of each class of sizes is sampled as `pipeline.estimate` does it; what it costs per pixel is
stretched to all clips of the class, and each clip's start is added. Right within a factor of two,
like the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vsr.batch.manifest import Clip, Manifest
from vsr.batch.processes import Processes
from vsr.batch.rules import traits_of
from vsr.batch.settings import Settings
from vsr.batch.status import pixels_of
from vsr.batch.work import Cost, sample
from vsr.errors import JobCancelledError
from vsr.pipeline.estimate import free_bytes

_CLASS_ROWS = (288, 576, 720, 1080, 2160)
"""Most rows of a source in each class; there is one more for what is larger."""
_MAX_TRIES = 3
"""Clips of a class that are sampled until one can be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A guess of what the clips that wait will take."""

    seconds: float
    """One clip after the other."""
    result_bytes: int
    free_bytes: int | None
    """On the disk of the results; None when the system does not say."""
    num_unknown: int
    """Clips that are not in it: nobody says how long they are, or none of their size could be
    sampled."""


def forecast(
    manifest: Manifest, settings: Settings, should_stop: Callable[[], bool] | None = None
) -> Forecast:
    """Guess what the clips that wait will take; takes some seconds for each class of sizes.

    Raises:
        JobCancelledError: `should_stop`, asked between two samples, said so.
    """
    seconds, num_bytes, num_unknown = 0.0, 0.0, 0
    with Processes(1) as processes:
        for clips in _by_class(manifest.clips("waiting", "failed")):
            known = [clip for clip in clips if pixels_of(clip, clip.frames) > 0]
            cost = _measure(processes, known, manifest.out, settings, should_stop)
            if cost is None:
                num_unknown += len(clips)
                continue
            pixels = sum(pixels_of(clip, clip.frames) for clip in known)
            seconds += len(known) * cost.start_seconds + pixels * cost.seconds_per_pixel
            num_bytes += pixels * cost.bytes_per_pixel
            num_unknown += len(clips) - len(known)
    return Forecast(
        seconds=round(seconds, 1),
        result_bytes=round(num_bytes),
        free_bytes=_free(manifest.out),
        num_unknown=num_unknown,
    )


def _by_class(clips: Iterable[Clip]) -> list[list[Clip]]:
    classes: dict[int, list[Clip]] = {}
    for clip in clips:
        rank = sum((clip.height or 0) > rows for rows in _CLASS_ROWS)
        classes.setdefault(rank, []).append(clip)
    return list(classes.values())


def _measure(
    processes: Processes,
    clips: list[Clip],
    out: Path,
    settings: Settings,
    should_stop: Callable[[], bool] | None,
) -> Cost | None:
    """What the middle one of clips costs, or else a longer one; None when none could be sampled."""
    ordered = sorted(clips, key=lambda clip: pixels_of(clip, clip.frames))
    for clip in ordered[len(ordered) // 2 :][:_MAX_TRIES]:
        if should_stop is not None and should_stop():
            raise JobCancelledError("stopped")
        assert clip.output is not None, "what has no name does not wait"
        source, output = settings.source / clip.path, out / clip.output
        cost = processes.ask(sample, source, output, settings.asked.config_for(traits_of(clip)))
        if isinstance(cost, Cost):
            return cost
    return None


def _free(folder: Path) -> int | None:
    """Of the disk of a folder that a dry run has not made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return free_bytes(folder)
