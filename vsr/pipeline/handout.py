"""Hand out segments to the children of a pool, and again those that failed.

After a crash or hang the same frames are made again by a fresh child. Where memory runs out, less
is asked of the machine first: fewer segments at a time, then smaller tiles.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.engine.memory import MIN_TILE_PX, smaller_tile
from vsr.errors import DeviceMemoryError, JobCancelledError, VsrError
from vsr.pipeline.child import Child, Message
from vsr.pipeline.death import Death, crashed, during, memory_kills, not_started, raise_as_told
from vsr.pipeline.plan import Plan
from vsr.pipeline.segment import Effort, SegmentResult, segment_name
from vsr.pipeline.worker import do_segment
from vsr.pipeline.workers import OnDone, OnFrame, num_cores

if TYPE_CHECKING:
    from vsr.pipeline.isolate import WorkerPool

logger = logging.getLogger(__name__)

_MAX_KILLS = 2
"""Kills for want of memory that a segment takes before less is asked of the machine."""


@dataclass(slots=True)
class _Task:
    """A segment to be made, and what became of it so far."""

    index: int
    num_failed: int = 0
    num_killed: int = 0
    tile_px: int | None = None


class Handout:
    """One call of `WorkerPool.run`, whose arguments it takes."""

    def __init__(
        self,
        pool: WorkerPool,
        plan: Plan,
        indices: Sequence[int],
        folder: Path,
        on_frame: OnFrame,
        on_done: OnDone,
        should_stop: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._plan = plan
        self._folder = folder.absolute()
        self._on_frame = on_frame
        self._on_done = on_done
        self._should_stop = should_stop
        self._waiting = deque(_Task(index) for index in indices)
        self._running: dict[Child, _Task] = {}
        self._limit = pool.count
        # One alone takes all cores, as torch would by itself.
        self._threads = max(1, num_cores() // pool.count) if pool.count > 1 else None
        self._num_kills = memory_kills()

    def run(self) -> None:
        try:
            while self._waiting or self._running:
                if self._should_stop():
                    raise JobCancelledError("The run was stopped; what is finished is kept.")
                self._hand_out()
                event = self._pool.wait()
                if event is not None and event[0] in self._running:
                    self._hear(*event)
        except VsrError:
            self._abandon()
            raise
        finally:
            for child, task in self._running.items():
                self._pool.drop(child)
                self._clean(task)

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self._limit:
            child = self._pool.take()
            task = self._waiting.popleft()
            self._running[child] = task
            plan = None if child.plan is self._plan else self._plan
            child.plan = self._plan
            effort = Effort(
                tile_px=task.tile_px, threads=self._threads, is_plain=task.num_failed > 0
            )
            child.call(do_segment, self._pool.run_segment, plan, task.index, self._folder, effort)

    def _hear(self, child: Child, message: Message) -> None:
        kind, *values = message
        task = self._running[child]
        if kind == "progress":
            self._on_frame(task.index, *values)
        elif kind == "done":
            del self._running[child]
            self._pool.give_back(child)
            result: SegmentResult = values[0]
            self._on_frame(task.index, result.num_frames, result.times)
            self._on_done(result)
        elif kind == "died":
            del self._running[child]
            self._clean(task)
            self._bury(child, task, values[0])
        elif kind == "memory":
            del self._running[child]
            # What it holds is best freed by its end.
            self._pool.drop(child)
            self._clean(task)
            self._ask_less(task, values[0])
        else:
            del self._running[child]
            self._pool.drop(child)
            self._clean(task)
            raise_as_told(kind, values)

    def _bury(self, child: Child, task: _Task, death: Death) -> None:
        """A child died: try the segment again, or give up."""
        num_kills = memory_kills()
        was_memory = death.is_killed and (num_kills is None or num_kills != self._num_kills)
        self._num_kills = num_kills
        if death.is_memory and not child.is_ready and not self._running:
            raise not_started(death)
        task.num_killed += was_memory
        if death.is_memory or task.num_killed >= _MAX_KILLS:
            self._ask_less(task, f"the process {death.how}")
            return
        # Once for want of memory may have been the fault of somebody else on this machine.
        task.num_failed += not was_memory
        if task.num_failed <= self._pool.retries:
            logger.warning(
                "%s: its process %s%s; doing it again", self._name(task), death.how, during(death)
            )
            self._waiting.appendleft(task)
            return
        if not child.is_ready:
            raise not_started(death)
        raise crashed(self._name(task), death, task.num_failed)

    def _ask_less(self, task: _Task, what: str) -> None:
        """Memory ran out: fewer segments at a time, then smaller tiles; the same frames again."""
        self._pool.drop_idle()
        if self._running:
            self._limit = len(self._running)
            done = f"{self._limit} at a time from now on"
        else:
            video = self._plan.video
            task.tile_px = smaller_tile(video.height, video.width, task.tile_px)
            if task.tile_px is None:
                raise DeviceMemoryError(
                    f"The memory did not suffice for {self._name(task)}, even in tiles of "
                    f"{MIN_TILE_PX} pixels ({what}).",
                    hint="give it more memory, a smaller model or a smaller picture",
                )
            done = f"tiles of {task.tile_px} px for this one"
        logger.warning("%s: memory ran out (%s); %s", self._name(task), what, done)
        self._waiting.appendleft(task)

    def _abandon(self) -> None:
        """Let all that run clean up; what is finished meanwhile still counts."""
        for child in self._running:
            child.abandon()
        end_s = time.monotonic() + self._pool.grace_s
        while self._running and time.monotonic() < end_s:
            event = self._pool.wait()
            if event is None or event[0] not in self._running:
                continue
            child, (kind, *values) = event
            if kind == "progress":
                continue
            task = self._running.pop(child)
            self._pool.drop(child)
            if kind == "done":
                self._on_done(values[0])
            else:
                self._clean(task)

    def _clean(self, task: _Task) -> None:
        (self._folder / segment_name(task.index)).unlink(missing_ok=True)

    def _name(self, task: _Task) -> str:
        segment, base = self._plan.segments[task.index], self._plan.video.time_base
        pts = segment.timeline.pts()
        end = pts[-1] + segment.timeline.durations()[-1]
        return f"segment {task.index} ({float(pts[0] * base):.3f}-{float(end * base):.3f} s)"
