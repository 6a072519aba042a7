"""Run segments in processes of their own: a crash or a hang costs one segment, never the run.

The whole run of a segment lives in one long-lived child per worker. The parent hands out segments,
watches that they come forward, and does a failed one again in a fresh child.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self, TypeVar

from vsr.errors import DecodeError, DeviceMemoryError
from vsr.frame import VideoInfo
from vsr.pipeline.child import Child, Events, Message
from vsr.pipeline.death import Death, not_started, raise_as_told
from vsr.pipeline.handout import Handout
from vsr.pipeline.plan import Plan
from vsr.pipeline.scan import Scan
from vsr.pipeline.segment import SegmentResult, run_segment
from vsr.pipeline.worker import do_scan
from vsr.pipeline.workers import OnDone, OnFrame, num_cores

logger = logging.getLogger(__name__)

WATCHDOG_S = 120.0
LIMIT_S = 3600.0
GRACE_S = 10.0
_MAX_POLL_S = 0.25
T = TypeVar("T")
_SCAN_PATIENCE = 5
"""Watchdog times that one picture of a scan may take, busy all the while."""


class WorkerPool:
    """Children that scan films and make segments; a context that leaves none behind.

    Args:
        count: children that make segments at a time.
        watchdog_s: a child that neither tells of progress nor uses a processor for so long hangs.
        limit_s: one that tells of no progress for so long hangs, whatever it does.
        retries: how often a segment is done again in a fresh child after a crash or hang.
        grace_s: what an abandoned child has to clean up before it is ended.
        run: what makes a segment, with the arguments of `run_segment`; found by its name in the
            child.
    """

    def __init__(
        self,
        count: int = 1,
        *,
        watchdog_s: float = WATCHDOG_S,
        limit_s: float = LIMIT_S,
        retries: int = 2,
        grace_s: float = GRACE_S,
        run: Callable[..., SegmentResult] = run_segment,
    ) -> None:
        assert count >= 1, count
        self.count = count
        self.retries = retries
        self.grace_s = grace_s
        self.run_segment = run
        self._needs_model = run is run_segment
        self._watchdog_s = watchdog_s
        self._limit_s = limit_s
        self._poll_s = min(_MAX_POLL_S, watchdog_s / 8)
        self._events: Events = SimpleQueue()
        self._idle: list[Child] = []
        self._busy: set[Child] = set()
        self._polled_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children at once."""
        for child in (*self._idle, *self._busy):
            child.close()
        self._idle.clear()
        self._busy.clear()

    def start(self) -> None:
        """Start a first child, which imports what models need while the film is read by another.

        Raises:
            DeviceError: the system starts no process.
        """
        if not self._idle and not self._busy:
            self._idle.append(Child(self._events, needs_model=self._needs_model))

    def run(
        self,
        plan: Plan,
        indices: Sequence[int],
        folder: Path,
        *,
        on_frame: OnFrame,
        on_done: OnDone,
        should_stop: Callable[[], bool],
    ) -> None:
        """Make segments of a plan; all three callbacks are called in the caller's thread.

        Args:
            plan: of the whole run.
            indices: of the segments to make.
            folder: where their files go.
            on_frame: now and then, with a segment's index, how many of its frames are written and
                its times so far.
            on_done: with each result, in the order of completion.
            should_stop: asked some times a second.

        Raises:
            JobCancelledError: `should_stop` said so; what was unfinished is removed.
            DecodeError, EncodeError, DeviceError: a segment crashed or hung again and again.
            DeviceMemoryError: the smallest piece of work did not fit.
            VsrError: as `run_segment`.
        """
        Handout(self, plan, indices, folder, on_frame, on_done, should_stop).run()

    def scan(
        self,
        source: Path,
        info: VideoInfo,
        wanted: dict[str, Any],
        on_frame: Callable[[int], None] | None = None,
    ) -> Scan:
        """`pipeline.scan.scan` in a child, where FFmpeg's messages can be heard.

        Raises:
            MediaError: as `scan`; DecodeError also when the child died again and again.
        """
        num_died = 0
        while True:
            child = self._reader()
            child.limit_s = min(self._limit_s, _SCAN_PATIENCE * self._watchdog_s)
            child.call(do_scan, source.absolute(), info, wanted)
            outcome = self._scanned(child, on_frame)
            if not isinstance(outcome, Death):
                scan: Scan = outcome
                return scan
            num_died += 1
            logger.warning("the process that scanned %s %s", source, outcome.how)
            if num_died <= self.retries and not outcome.is_memory:
                continue
            if not child.is_ready:
                raise not_started(outcome)
            if outcome.is_memory:
                raise DeviceMemoryError(f"The memory did not suffice to read {source}.")
            raise DecodeError(
                f"The process that read {source} {outcome.how}, {num_died} times.",
                hint="the file is damaged in a way that FFmpeg cannot bear",
            )

    def try_out(self, function: Callable[..., T], *arguments: Any, limit_s: float) -> T | Death:
        """What `function(job, *arguments)` gives in a child, or how that ended.

        Raises:
            VsrError: as the function.
            RuntimeError: it failed otherwise.
        """
        child = self._reader()
        child.limit_s = limit_s
        child.call(function, *arguments)
        outcome: T | Death = self._scanned(child, None)
        return outcome

    def _scanned(self, child: Child, on_frame: Callable[[int], None] | None) -> Any:
        """What comes back of work that is no segment; a Death where nothing does."""
        while True:
            event = self.wait()
            if event is None or event[0] is not child:
                continue
            kind, *values = event[1]
            if kind == "progress":
                if on_frame is not None:
                    on_frame(values[0])
                continue
            if kind == "died":
                return values[0]
            if child.needs_model == self._needs_model:
                self.give_back(child)
            else:
                self.drop(child)
            if kind != "done":
                raise_as_told(kind, values)
            return values[0]

    def _reader(self) -> Child:
        """A child to scan a film with, beside one that only just begins to import, if any.

        In that one the two would take turns, for they share an interpreter: on two cores the first
        segment of a short film began half a second later.
        """
        is_importing = any(child.needs_model and not child.has_worked for child in self._idle)
        if not is_importing or num_cores() == 1:
            return self.take(for_scan=True)
        child = Child(self._events)
        self._busy.add(child)
        return child

    def take(self, *, for_scan: bool = False) -> Child:
        """A child to work with, an idle one if there is any."""
        if self._idle:
            child = self._idle.pop()
        else:
            child = Child(self._events, needs_model=self._needs_model and not for_scan)
        child.limit_s = self._limit_s
        self._busy.add(child)
        return child

    def give_back(self, child: Child) -> None:
        """A child has done its work and may do more."""
        self._busy.discard(child)
        self._idle.append(child)

    def drop(self, child: Child) -> None:
        """End a child."""
        self._busy.discard(child)
        child.close()

    def drop_idle(self) -> None:
        """End those that only take up memory."""
        for child in self._idle:
            child.close()
        self._idle.clear()

    def wait(self) -> tuple[Child, Message] | None:
        """What the next busy child says; None when none did for a moment.

        A child that is gone, or hung and was therefore ended, "died"; it is dropped by then.
        """
        before_s = time.monotonic()
        try:
            child, message = self._events.get(timeout=self._poll_s)
        except Empty:
            return self._overdue(time.monotonic() - before_s)
        if child not in self._busy:
            if message is None and child in self._idle:
                self._idle.remove(child)
            return None
        if message is None:
            death = child.death()
            self.drop(child)
            return child, ("died", death)
        child.rest()
        if message[0] == "ready":
            child.is_ready = True
            return None
        return child, message

    def _overdue(self, waited_s: float) -> tuple[Child, Message] | None:
        # Time in which this process was stopped itself says nothing of the children.
        step_s = min(waited_s, 2 * self._poll_s)
        for child in tuple(self._busy):
            why = child.overdue(step_s, self._watchdog_s)
            if why is not None:
                child.kill(why)
                death = child.death()
                self.drop(child)
                return child, ("died", death)
        return None
