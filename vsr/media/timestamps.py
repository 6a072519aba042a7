"""Every frame gets one timestamp, later than the one before. Pure: knows nothing of av."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from vsr.media.damage import (
    KIND_BACKWARD_PTS,
    KIND_DUPLICATE_PTS,
    KIND_MISSING_PTS,
    KIND_RESET_PTS,
    DamageLog,
)

T = TypeVar("T")


class _Waiting(NamedTuple, Generic[T]):
    item: T
    raw: int | None
    step: int


class TimestampRepair(Generic[T]):
    """Turns the timestamps of frames in display order into strictly rising ones.

    Good timestamps pass untouched and at once. A frame whose timestamp is missing, repeated or
    earlier than its predecessor's waits until a good one comes, and the waiting ones are spread
    evenly between their good neighbours. When `max_waiting` frames in a row are bad, the clock has
    evidently started anew: the run follows on at the usual step, and what comes later is shifted
    with it. Every repair is put in the log.

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
        raw = None if pts is None else pts + self._offset
        step = duration if duration > 0 else self._step
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
        if self._waiting:
            yield from self._follow_on(is_end=True)

    def _settle(self, item: T, pts: int, step: int) -> tuple[T, int]:
        self._last = pts
        self._step = step
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
            settled = [end - sum(entry.step for entry in waiting)]
            for entry in waiting[:-1]:
                settled.append(settled[-1] + entry.step)
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
