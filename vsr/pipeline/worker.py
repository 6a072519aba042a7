"""The child's side of `pipeline.child`: one process that does our work, a piece at a time.

Orders come in and answers go out through copies of the pipes it was born with; descriptors 1 and 2
then lead to a file that the parent reads, so that a library that prints cannot spoil an answer.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from vsr.engine.memory import is_out_of_memory
from vsr.engine.waiting import wait_briefly
from vsr.errors import VsrError
from vsr.media.ffmpeg_log import StderrLog

if TYPE_CHECKING:
    from vsr.frame import VideoInfo
    from vsr.pipeline.plan import Plan
    from vsr.pipeline.scan import Scan
    from vsr.pipeline.segment import Effort, SegmentResult
    from vsr.pipeline.stages import StageClock, StageTimes

PROGRESS_PER_S = 20
"""How often a child tells how far it is: thousands of tiny frames shall not be slowed."""
NUM_MESSAGES_KEPT = 8
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


class _AbandonedError(BaseException):
    """The parent wants no more of this piece; not an Exception, so that nothing holds it up."""


class Job:
    """What a piece of work finds in the child."""

    def __init__(self, send: Callable[..., None], log: StderrLog) -> None:
        self.log = log
        self.plan: Plan | None = None
        """Of the segments to come, sent once for all of them."""
        self._send = send
        self._next_s = 0.0
        self._untold: tuple[int, StageClock | None] | None = None

    def tell(self, num_done: int, clock: StageClock | None = None) -> bool:
        """Let the parent know how far this is; most calls cost next to nothing.

        Returns:
            Whether it was sent.
        """
        self._untold = num_done, clock
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + 1 / PROGRESS_PER_S
        self.flush()
        return True

    def say(self, *values: Any, now: bool = False) -> None:
        """Let the parent know how far other work than a segment is, as often as `tell` or `now`."""
        time_s = time.monotonic()
        if now or time_s >= self._next_s:
            self._next_s = time_s + 1 / PROGRESS_PER_S
            self._send("progress", *values)

    def flush(self) -> None:
        """Send the last progress, if it was not."""
        if self._untold is not None:
            (num_done, clock), self._untold = self._untold, None
            times: StageTimes | None = None if clock is None else clock.times()
            self._send("progress", num_done, times)


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Do what comes in until the parent is gone; does not return."""
    # The parent decides what an interrupt means, and ends us.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent, needs_model = pickle.load(orders)
    if parent is not None:
        _die_with(parent)
    faulthandler.enable(2)
    if hasattr(faulthandler, "register"):
        faulthandler.register(signal.SIGUSR2, 2)
    wait_briefly()
    if needs_model:
        # Beside the first piece of work, which is to scan the film and takes no model.
        threading.Thread(target=_prepare, daemon=True).start()
    _Worker(orders, answers).work()


def _die_with(parent: int) -> None:
    """Ask the kernel to end this process with the thread that started it, where it can.

    The end of the pipe says the same, but is not heard while native code holds the interpreter.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _prepare() -> None:
    """Import what a model needs, while the parent still plans."""
    import vsr.engine.runner
    import vsr.models.checkpoint
    import vsr.pipeline.segment  # noqa: F401


class _Worker:
    """Hears orders in one thread, works in the main one."""

    def __init__(self, orders: BinaryIO, answers: BinaryIO) -> None:
        self._orders = orders
        self._answers = answers
        self._todo: SimpleQueue[bytes] = SimpleQueue()
        self._lock = threading.Lock()
        self._is_at_work = False
        self._job = Job(self._send, StderrLog())

    def work(self) -> None:
        main = threading.get_ident()
        if hasattr(signal, "pthread_kill"):
            signal.signal(signal.SIGUSR1, self._leave)
        threading.Thread(target=self._listen, args=(main,), daemon=True).start()
        self._send("ready")
        while True:
            # From our own parent, over a pipe that nobody else holds.
            function, *arguments = pickle.loads(self._todo.get())
            try:
                try:
                    self._is_at_work = True
                    value = function(self._job, *arguments)
                finally:
                    self._is_at_work = False
                self._job.flush()
                self._send("done", value)
            except _AbandonedError:
                self._send("abandoned")
            except Exception as error:  # noqa: BLE001 - carried to the parent, never swallowed
                self._send(*confession(error))

    def _listen(self, main: int) -> None:
        """Take orders; None means to abandon the piece, and the end that the parent is gone."""
        while True:
            try:
                order = pickle.load(self._orders)
            except (EOFError, OSError, pickle.UnpicklingError):
                os._exit(0)
            if order is not None:
                self._todo.put(order)
            elif hasattr(signal, "pthread_kill"):
                signal.pthread_kill(main, signal.SIGUSR1)

    def _leave(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_at_work:
            # Once only: a second would hit the cleaning up after the first.
            self._is_at_work = False
            raise _AbandonedError

    def _send(self, *message: Any) -> None:
        try:
            with self._lock:
                pickle.dump(message, self._answers)
                self._answers.flush()
        except BrokenPipeError:
            os._exit(0)


def confession(error: Exception) -> tuple[Any, ...]:
    """What is told of an error to who gave the work: its kind, and plain values."""
    if is_out_of_memory(error):
        return "memory", str(error) or type(error).__name__
    if isinstance(error, VsrError):
        notes = getattr(error, "__notes__", [])
        return "refused", type(error).__name__, error.message, error.hint, notes
    return "bug", "".join(traceback.format_exception(error))


def do_segment(
    job: Job,
    run: Callable[..., SegmentResult],
    plan: Plan | None,
    index: int,
    folder: Path,
    effort: Effort,
) -> SegmentResult:
    """Run one segment of a plan; None is the plan of the call before."""
    job.plan = plan or job.plan
    assert job.plan is not None, "no plan was sent"
    job.log.clear()
    num_before = job.log.num_lines
    first: list[str] = []

    def hear(lines: Sequence[str]) -> None:
        first.extend(lines[: NUM_MESSAGES_KEPT - len(first)])

    def on_frame(num_done: int, clock: StageClock) -> None:
        if job.tell(num_done, clock):
            hear(job.log.poll())

    result = run(job.plan, index, folder, on_frame=on_frame, effort=effort)
    hear(job.log.poll())
    return replace(result, messages=tuple(first), num_messages=job.log.num_lines - num_before)


def do_scan(job: Job, source: Path, info: VideoInfo, wanted: dict[str, Any]) -> Scan:
    """Scan a film, with the decoder's messages among the damage."""
    # Here, because a child that only runs segments needs it not.
    from vsr.pipeline.scan import scan

    def on_frame(num_done: int) -> None:
        job.tell(num_done)

    return scan(source, info, on_frame=on_frame, log=job.log, **wanted)
