"""What is seen of a batch while it runs: bars, lines, or line-JSON events."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from vsr.batch.status import eta_seconds, pixels_of
from vsr.cli.choices import span
from vsr.cli.console import is_interactive, print_line, printable, verbosity

if TYPE_CHECKING:
    from tqdm import tqdm

    from vsr.batch.events import Event
    from vsr.batch.manifest import Manifest

_PERCENT_PER_LINE = 10
_EVENT_EVERY_S = 1.0
"""How often a clip tells of its progress among the events."""
_BAR_EVERY_S = 0.2
_MAX_CLIP_BARS = 16
"""On a large cluster more clips are made at a time than a screen has lines."""
_NAME_WIDTH = 48


@contextmanager
def show_progress(
    manifest: Manifest, num_workers: int, *, events: bool
) -> Iterator[Callable[[Event], None]]:
    """What to call with each event of a run."""
    tally = _Tally(manifest, num_workers)
    if events:
        yield _Events(tally)
        return
    if verbosity() < 0:
        yield lambda _: None
        return
    if not is_interactive():
        yield _Lines(tally)
        return
    bar = _Bars(tally)
    try:
        yield bar
    finally:
        with suppress(OSError):
            bar.close()


class _Tally:
    """How far a run is, over all of its clips."""

    def __init__(self, manifest: Manifest, num_workers: int) -> None:
        clips = manifest.clips()
        self._num_workers = num_workers
        self._todo = {c.id: c for c in clips if c.state in ("waiting", "failed", "running")}
        self._before_s = eta_seconds(clips, num_workers)
        self._pixels = sum(pixels_of(clip, clip.frames) for clip in self._todo.values())
        self._frames = {clip.id: clip.frames_done for clip in self._todo.values()}
        self._over: set[int] = set()
        self._resumed = self._pixels_done()
        """Made by earlier runs, which says nothing of the pace of this one."""
        self._began_s: float | None = None
        self.num_clips = len(self._todo)

    @property
    def num_over(self) -> int:
        """Clips that need no more work."""
        return len(self._over)

    def hear(self, event: Event) -> None:
        clip_id = event.clip.id
        self._began_s = self._began_s or time.monotonic()
        if event.kind == "progress" and event.phase == "upscale":
            self._frames[clip_id] = event.frames_done
        elif event.kind in ("done", "quarantined"):
            self._over.add(clip_id)

    def share(self) -> float:
        """Of the work, by pixels; of the clips where no one says how long it is."""
        if self.num_over == self.num_clips:
            return 1.0
        if self._pixels == 0:
            return self.num_over / self.num_clips
        # A film that is all made is still to be joined and checked.
        return min(0.99, self._pixels_done() / self._pixels)

    def left_s(self) -> float | None:
        """Time left, by what this run has done so far."""
        done = self._pixels_done()
        made = done - self._resumed
        if self._began_s is None or made <= 0:
            return self._before_s
        elapsed_s = time.monotonic() - self._began_s
        return max(0.0, elapsed_s * (self._pixels - done) / made)

    def _pixels_done(self) -> int:
        running = ((self._todo[i], n) for i, n in self._frames.items() if i not in self._over)
        over = sum(pixels_of(self._todo[i], self._todo[i].frames) for i in self._over)
        return over + sum(pixels_of(c, min(n, c.frames or n)) for c, n in running)


class _Events:
    """One JSON object a line on stdout."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._next_s: dict[int, float] = {}

    def __call__(self, event: Event) -> None:
        self._tally.hear(event)
        clip, now_s = event.clip, time.monotonic()
        if event.kind == "progress":
            if now_s < self._next_s.get(clip.id, 0.0):
                return
            self._next_s[clip.id] = now_s + _EVENT_EVERY_S
        document: dict[str, Any] = {
            "event": event.kind,
            "clip": clip.path,
            "output": clip.output,
            "phase": event.phase,
            "frames_done": event.frames_done,
            "frames": event.frames,
            "error": clip.error,
            "exit_code": clip.exit_code,
            "result_sha256": clip.result_sha256,
            "share": round(self._tally.share(), 4),
            "eta_seconds": self._tally.left_s(),
        }
        click.echo(json.dumps(document))


class _Lines:
    """A line every so many percent, and one for each clip that cannot be made."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._next_percent = _PERCENT_PER_LINE
        self._is_heard = True

    def __call__(self, event: Event) -> None:
        self._tally.hear(event)
        if not self._is_heard:
            return
        try:
            self._say(event)
        except OSError:
            # Nobody can be told any more, which is no reason to lose a run.
            self._is_heard = False

    def _say(self, event: Event) -> None:
        if event.kind == "quarantined":
            print_line(_why(event), err=True)
        percent = int(100 * self._tally.share())
        if percent >= self._next_percent:
            self._next_percent = percent - percent % _PERCENT_PER_LINE + _PERCENT_PER_LINE
            print_line(f"{percent:3d} %  {_place(self._tally)}", err=True)


class _Bars:
    """A bar for all of the run, and one below it for each clip that is being made."""

    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self._next_s: dict[int, float] = {}
        self._total = _bar("batch", 0)
        self._clips: dict[int, tqdm[Any]] = {}

    def __call__(self, event: Event) -> None:
        self._tally.hear(event)
        if event.kind == "quarantined":
            self._total.write(printable(_why(event)), file=sys.stderr)
        if event.kind == "progress":
            if time.monotonic() < self._next_s.get(event.clip.id, 0.0):
                return
            self._next_s[event.clip.id] = time.monotonic() + _BAR_EVERY_S
        self._draw_clip(event)
        self._total.n = round(100 * self._tally.share(), 1)
        self._total.set_description_str(_place(self._tally))

    def _draw_clip(self, event: Event) -> None:
        clip_id = event.clip.id
        if event.kind not in ("started", "progress"):
            if clip_id in self._clips:
                self._clips.pop(clip_id).close()
            return
        if clip_id not in self._clips:
            taken = {-bar.pos for bar in self._clips.values()}
            place = next(n for n in range(1, len(taken) + 2) if n not in taken)
            if place > _MAX_CLIP_BARS:
                return
            self._clips[clip_id] = _bar("  ", place)
        bar = self._clips[clip_id]
        bar.n = 0.0
        if event.frames:
            bar.n = min(100.0, round(100 * event.frames_done / event.frames, 1))
        name = printable(event.clip.path)
        if len(name) > _NAME_WIDTH:
            name = f"\N{HORIZONTAL ELLIPSIS}{name[1 - _NAME_WIDTH :]}"
        bar.set_description_str(f"{event.phase or 'begun':8}{name}")

    def close(self) -> None:
        """Remove what is on the screen."""
        for bar in (*self._clips.values(), self._total):
            bar.close()


def _bar(name: str, place: int) -> tqdm[Any]:
    from tqdm import tqdm

    return tqdm(
        total=100,
        unit=f"{name:5}",
        position=place,
        leave=False,
        bar_format="{unit} {percentage:3.0f} %|{bar:24}| {desc}",
    )


def _place(tally: _Tally) -> str:
    left_s = tally.left_s()
    left = "" if left_s is None else f"  {span(left_s)} left"
    return f"{tally.num_over}/{tally.num_clips} clips{left}"


def _why(event: Event) -> str:
    return f"vsr: quarantined {event.clip.path}: {event.clip.error}"
