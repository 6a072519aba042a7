"""Every frame gets one timestamp, later than the one before. Pure: knows nothing of av."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from vsr.media.damage import (
    KIND_BACKWARD_PTS,
    KIND_DUPLICATE_PTS,
    KIND_MISSING_PTS,
    KIND_OUTLIER_PTS,
    KIND_RESET_PTS,
    KIND_SWAPPED_PTS,
    DamageLog,
)

T = TypeVar("T")


class _Stamped(NamedTuple, Generic[T]):
    item: T
    raw: int | None
    duration: int


class _LocalOrder(Generic[T]):
    """Looks one or two frames ahead to tell a swap or an outlier from a clock that went back.

    Careless muxers hand out timestamps in the wrong order around B-frames. Where the next frame
    shows that only two neighbours are swapped, each gets the other's; where it shows that one frame
    ran ahead alone, that one counts as missing. Anything else passes as it came.
    """

    def __init__(self, log: DamageLog) -> None:
        self._log = log
        self._held: list[_Stamped[T]] = []
        self._last: int | None = None

    def push(self, new: _Stamped[T]) -> Iterator[_Stamped[T]]:
        held = self._held
        if len(held) == 2:
            yield from self._decide(new.raw)
        if not held:
            held.append(new)
            return
        newest = held[-1].raw
        if newest is not None and new.raw is not None and new.raw <= newest:
            held.append(new)
            return
        yield from self.flush()
        held.append(new)

    def flush(self) -> Iterator[_Stamped[T]]:
        """Let go of all that is held, as it came."""
        while self._held:
            yield self._pass(self._held.pop(0))

    def _pass(self, frame: _Stamped[T]) -> _Stamped[T]:
        if frame.raw is not None and (self._last is None or frame.raw > self._last):
            self._last = frame.raw
        return frame

    def _decide(self, following: int | None) -> Iterator[_Stamped[T]]:
        """Two are held, the second not later than the first; `following` comes after both."""
        first, second = self._held
        early, late = second.raw, first.raw
        assert early is not None and late is not None
        fits = early < late and (self._last is None or early > self._last)
        if fits and following is not None and following > late:
            self._log.add(KIND_SWAPPED_PTS, early, f"stored as {late} before {early}")
            first, second = first._replace(raw=early), second._replace(raw=late)
        elif fits and following is not None and early < following < late:
            self._log.add(KIND_OUTLIER_PTS, early, f"the frame before it had {late}")
            first = first._replace(raw=None)
        self._held.clear()
        yield self._pass(first)
        yield self._pass(second)


class _Waiting(NamedTuple, Generic[T]):
    item: T
    raw: int | None
    step: int


class TimestampRepair(Generic[T]):
    """Turns the timestamps of frames in display order into strictly rising ones.

    Good timestamps pass untouched, one frame late. Two neighbours with each other's timestamps
    exchange them, and one that ran ahead alone counts as missing. A frame whose timestamp is
    missing, repeated or earlier than its predecessor's waits until a good one comes, and the
    waiting ones are spread evenly between their good neighbours. When `max_waiting` frames in a row
    are bad, the clock has evidently started anew: the run follows on at the usual step, and what
    comes later is shifted with it. Every repair is put in the log.

    Args:
        log: where repairs are recorded.
        default_step: ticks between frames when nothing better is known.
        first_pts: timestamp of the first frame when no frame near the start has one.
        max_waiting: how many frames may wait; each one holds a decoded picture in memory.
    """

    def __init__(
        self, log: DamageLog, *, default_step: int, first_pts: int = 0, max_waiting: int = 8
    ) -> None:
        self._log = log
        self._first_pts = first_pts
        self._step = max(1, default_step)
        self._max_waiting = max_waiting
        self._order: _LocalOrder[T] = _LocalOrder(log)
        self._waiting: list[_Waiting[T]] = []
        self._last: int | None = None
        self._offset = 0

    def push(self, item: T, pts: int | None, duration: int = 0) -> Iterator[tuple[T, int]]:
        """Take the next frame in display order; yield those whose timestamp is now settled.

        Args:
            item: anything; handed back with its timestamp.
            pts: as decoded, in ticks; None when missing.
            duration: as decoded, in ticks; 0 when unknown.
        """
        for frame in self._order.push(_Stamped(item, pts, duration)):
            yield from self._place(*frame)

    def _place(self, item: T, pts: int | None, duration: int) -> Iterator[tuple[T, int]]:
        raw = None if pts is None else pts + self._offset
        step = max(0, duration)
        # The waiting frames need a tick each between the last settled timestamp and this one.
        if raw is not None and (self._last is None or raw - self._last > len(self._waiting)):
            if self._waiting:
                yield from self._spread(raw)
            yield self._settle(item, raw, step)
            return
        self._waiting.append(_Waiting(item, raw, step))
        if len(self._waiting) >= self._max_waiting:
            yield from self._follow_on()

    def flush(self) -> Iterator[tuple[T, int]]:
        """Yield the frames that still wait, after the last one."""
        for frame in self._order.flush():
            yield from self._place(*frame)
        if self._waiting:
            yield from self._follow_on(is_end=True)

    def _settle(self, item: T, pts: int, step: int) -> tuple[T, int]:
        if step:
            self._step = step
        elif self._last is not None:
            self._step = max(1, pts - self._last)
        self._last = pts
        return item, pts

    def _kind(self, raw: int | None) -> str:
        if raw is None:
            return KIND_MISSING_PTS
        return KIND_DUPLICATE_PTS if raw == self._last else KIND_BACKWARD_PTS

    def _spread(self, end: int) -> Iterator[tuple[T, int]]:
        """Place the waiting frames between the last settled timestamp and `end`."""
        waiting, self._waiting = self._waiting, []
        if self._last is None:
            # Before the first good timestamp there is only the usual step to go by.
            steps = [entry.step or self._step for entry in waiting]
            settled = [end - sum(steps[index:]) for index in range(len(steps))]
        else:
            gap, parts = end - self._last, len(waiting) + 1
            settled = [self._last + gap * share // parts for share in range(1, parts)]
        kinds = [self._kind(entry.raw) for entry in waiting]
        for entry, pts, kind in zip(waiting, settled, kinds, strict=True):
            self._log.add(kind, pts, _stored(entry.raw))
            yield self._settle(entry.item, pts, entry.step)

    def _follow_on(self, *, is_end: bool = False) -> Iterator[tuple[T, int]]:
        """Place the waiting frames one step after another; shift the clock if it restarted."""
        waiting, self._waiting = self._waiting, []
        raws = [entry.raw for entry in waiting if entry.raw is not None]
        rises = len(raws) == len(waiting) and all(a < b for a, b in pairwise(raws))
        if rises and not is_end and self._last is not None:
            shift = self._last + self._step - raws[0]
            self._offset += shift
            for entry, raw in zip(waiting, raws, strict=True):
                self._log.add(KIND_RESET_PTS, raw + shift, _stored(raw))
                yield self._settle(entry.item, raw + shift, entry.step)
            return
        for entry in waiting:
            kind = self._kind(entry.raw)
            pts = self._first_pts if self._last is None else self._last + self._step
            self._log.add(kind, pts, _stored(entry.raw))
            yield self._settle(entry.item, pts, entry.step)


def _stored(raw: int | None) -> str:
    return "no timestamp stored" if raw is None else f"stored as {raw}"
