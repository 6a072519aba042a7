"""Who makes the segments: processes of their own, or this one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from vsr.config import UpscaleConfig
from vsr.errors import JobCancelledError
from vsr.pipeline.plan import Plan
from vsr.pipeline.segment import SegmentResult, forget_models, run_segment
from vsr.pipeline.stages import StageClock, StageTimes

_CORES_PER_WORKER = 4

OnFrame = Callable[[int, int, StageTimes], None]
"""Called with a segment's index, how many of its frames are written, and its times so far."""
OnDone = Callable[[SegmentResult], None]


class Workers(Protocol):
    """Runs segments of a plan; a context that leaves nobody running."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def start(self) -> None:
        """Begin to get ready, beside whatever else goes on."""

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
        """Make segments into a folder.

        Args:
            plan: of the whole run.
            indices: of the segments to make.
            folder: where their files go, under any name.
            on_frame: never called from two threads at once.
            on_done: called in the caller's thread, as segments are finished.
            should_stop: asked now and then.

        Raises:
            JobCancelledError: `should_stop` said so; unfinished segments are abandoned.
            VsrError: a segment could not be made.
        """


class LocalWorkers:
    """Makes one segment after the other in this process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """There is nobody to stop, only memory to give back."""
        forget_models()

    def start(self) -> None:
        """This process is ready."""

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
        """As `Workers.run`."""
        for index in indices:
            if should_stop():
                raise JobCancelledError("stopped")

            def tell(num_done: int, clock: StageClock, index: int = index) -> None:
                on_frame(index, num_done, clock.times())
                if should_stop():
                    raise JobCancelledError("stopped")

            on_done(run_segment(plan, index, folder, on_frame=tell))


def open_workers(config: UpscaleConfig) -> Workers:
    """As many as are asked for, in processes of their own where these can be started."""
    # Here, because it builds on this module.
    from vsr.pipeline.child import can_start
    from vsr.pipeline.isolate import WorkerPool

    if config.engine.isolate and can_start():
        return WorkerPool(num_workers(config))
    return LocalWorkers()


def num_workers(config: UpscaleConfig) -> int:
    """How many segments are made at a time."""
    return config.workers or max(1, num_cores() // _CORES_PER_WORKER)


def num_cores() -> int:
    """Cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
