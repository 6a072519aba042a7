"""Decode, infer and encode side by side: three threads and two bounded queues.

Knows nothing of video but that items may have a `pts`, by which an error says where it happened.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")

DECODE, INFER, ENCODE = "decode", "infer", "encode"


class _StoppedError(Exception):
    """Another stage failed or the caller gave up: leave quietly."""


class BoundedQueue(Generic[T]):
    """Hand items from one thread to another, a few at a time.

    Unlike `queue.Queue` it can be ended by the giver and be stopped by anybody, and both wake
    whoever waits, so that no thread is left behind.
    """

    def __init__(self, size: int) -> None:
        assert size >= 1, size
        self._size = size
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._stopped = False

    def put(self, item: T) -> None:
        """Add an item; waits while the queue is full."""
        with self._changed:
            while len(self._items) >= self._size and not self._stopped:
                self._changed.wait()
            if self._stopped:
                raise _StoppedError
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """Say that no more items come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Drop what is queued and make every `put` and `get` leave."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Items in order until the giver ends; waits while the queue is empty."""
        while True:
            with self._changed:
                while not (self._items or self._ended or self._stopped):
                    self._changed.wait()
                if self._stopped:
                    raise _StoppedError
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds each stage worked, waiting for its neighbours left out."""

    wall_s: float
    busy_s: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """The stage that worked longest: the run cannot be shorter than that."""
        return max(self.busy_s, key=lambda name: self.busy_s[name])


@dataclass(slots=True)
class StageClock:
    """Busy time of the stages while they run; read it from any thread."""

    started: float = field(default_factory=time.perf_counter)
    busy_s: dict[str, float] = field(default_factory=lambda: {DECODE: 0.0, INFER: 0.0, ENCODE: 0.0})

    def times(self) -> StageTimes:
        """What was measured so far."""
        return StageTimes(time.perf_counter() - self.started, dict(self.busy_s))


@dataclass(slots=True)
class _Failure:
    error: BaseException
    stage: str
    pts: int | None


class _Run(Generic[T, U]):
    """The threads of one run and what they share."""

    def __init__(self, clock: StageClock, queue_size: int) -> None:
        self.clock = clock
        self.decoded: BoundedQueue[T] = BoundedQueue(queue_size)
        self.inferred: BoundedQueue[U] = BoundedQueue(queue_size)
        self.failure: _Failure | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        self.decoded.stop()
        self.inferred.stop()

    def fail(self, error: BaseException, stage: str, pts: int | None) -> None:
        with self._lock:
            if self.failure is None:
                self.failure = _Failure(error, stage, pts)
        self.stop()

    def decode(self, source: Iterable[T]) -> None:
        pts: int | None = None
        busy = self.clock.busy_s
        items = iter(source)
        try:
            while True:
                start = time.perf_counter()
                try:
                    item = next(items)
                except StopIteration:
                    break
                finally:
                    busy[DECODE] += time.perf_counter() - start
                pts = getattr(item, "pts", None)
                self.decoded.put(item)
            self.decoded.end()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the caller, never swallowed
            # The frame that failed comes after the last that did not.
            self.fail(error, DECODE, pts)
        finally:
            # A generator holds a file open, and what av opened is closed by the same thread.
            if isinstance(items, Generator):
                items.close()

    def infer(self, push: Callable[[T], Iterable[U]], finish: Callable[[], Iterable[U]]) -> None:
        pts: int | None = None
        try:
            for item in self.decoded:
                pts = getattr(item, "pts", None)
                self._hand_on(push, item)
            self._hand_on(finish)
            self.inferred.end()
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the caller, never swallowed
            self.fail(error, INFER, pts)

    def _hand_on(self, work: Callable[..., Iterable[U]], *items: T) -> None:
        start = time.perf_counter()
        results = list(work(*items))
        self.clock.busy_s[INFER] += time.perf_counter() - start
        for result in results:
            self.inferred.put(result)

    def encode(self, write: Callable[[U], object], close: Callable[[], object]) -> None:
        pts: int | None = None
        busy = self.clock.busy_s
        try:
            for item in self.inferred:
                pts = getattr(item, "pts", None)
                start = time.perf_counter()
                write(item)
                busy[ENCODE] += time.perf_counter() - start
            start = time.perf_counter()
            close()
            busy[ENCODE] += time.perf_counter() - start
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to the caller, never swallowed
            self.fail(error, ENCODE, pts)


def run_stages(
    source: Iterable[T],
    push: Callable[[T], Iterable[U]],
    finish: Callable[[], Iterable[U]],
    write: Callable[[U], object],
    close: Callable[[], object],
    *,
    queue_size: int = 8,
    clock: StageClock | None = None,
) -> StageTimes:
    """Run `source` -> `push` -> `write`, each in a thread of its own, until all is written.

    Args:
        source: iterated in the decode thread.
        push: called with each item in the infer thread; returns what is ready, in order.
        finish: called once in the infer thread after the last item.
        write: called with each result in the encode thread.
        close: called once in the encode thread after the last result; not after an error.
        queue_size: items that may wait between two stages.
        clock: to read the busy times while the stages run.

    Returns:
        How long each stage worked.

    Raises:
        BaseException: the first error of a stage, with a note that names the stage and the frame;
            by then all threads have ended. An interrupt of the caller ends them as well.
    """
    clock = clock or StageClock()
    run: _Run[T, U] = _Run(clock, queue_size)
    works: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
        DECODE: (run.decode, (source,)),
        INFER: (run.infer, (push, finish)),
        ENCODE: (run.encode, (write, close)),
    }
    # An event for each thread, not join(): an interrupted join() can mark a thread as ended that
    # still runs. And started inside the try: an interrupt between two starts must stop the first.
    started: list[tuple[threading.Thread, threading.Event]] = []
    try:
        for name, (work, arguments) in works.items():
            started.append(_start(name, work, arguments))
        _wait(started)
    except BaseException:
        run.stop()
        _wait(started)
        raise
    if run.failure is not None:
        failure = run.failure
        where = "before the first frame" if failure.pts is None else f"at pts {failure.pts}"
        after = "after the frame " if failure.stage == DECODE and failure.pts is not None else ""
        failure.error.add_note(f"in stage {failure.stage}, {after}{where}")
        raise failure.error
    return clock.times()


def _start(
    name: str, work: Callable[..., None], arguments: tuple[Any, ...]
) -> tuple[threading.Thread, threading.Event]:
    """Start one stage's thread; the event is set when it has done all it will do."""
    ended = threading.Event()

    def run() -> None:
        try:
            work(*arguments)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name=f"vsr-{name}")
    thread.start()
    return thread, ended


def _wait(started: list[tuple[threading.Thread, threading.Event]]) -> None:
    for _, ended in started:
        ended.wait()
    for thread, _ in started:
        thread.join()


def iterate_ahead(items: Iterable[T], size: int = 4) -> Generator[T]:
    """Iterate in a thread of its own, a few items ahead of who takes them.

    Args:
        items: iterated in the other thread alone, from the first item taken until this is closed,
            which it has to be before what `items` reads from is.
        size: items that may wait.

    Raises:
        BaseException: what iterating raised, after the items before it.
    """
    queue: BoundedQueue[T] = BoundedQueue(size)
    failures: list[BaseException] = []
    is_done = threading.Event()

    def work() -> None:
        try:
            for item in items:
                queue.put(item)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001 - carried to who takes, never swallowed
            failures.append(error)
        finally:
            queue.end()
            is_done.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        yield from queue
    finally:
        queue.stop()
        is_done.wait()
    if failures:
        raise failures[0]
