"""When each picture is shown: count, times and length of two films."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from vsr.media.timing import MILLISECOND, frame_durations, rescale
from vsr.pipeline.declared import Declared, DeclaredRange
from vsr.pipeline.verdict import CheckRow, row


@dataclass(slots=True)
class Clock:
    """Times of the frames of one film."""

    time_base: Fraction
    frame_rate: Fraction
    pts: array[int]
    """In `time_base`, rising."""
    last_duration: int = 0
    """Of the last frame, in `time_base`; 0 where unknown."""

    def time(self, index: int) -> Fraction:
        return self.pts[index] * self.time_base

    @property
    def length(self) -> Fraction:
        """From the first frame's start to the last one's end, in seconds."""
        rate = self.frame_rate * self.time_base
        durations = [0] * (len(self.pts) - 1) + [self.last_duration]
        last = frame_durations(self.pts, durations, rate)[-1]
        return (self.pts[-1] - self.pts[0] + last) * self.time_base


@dataclass(frozen=True, slots=True)
class Moved:
    """By how much the pictures moved, in seconds, wherever one asks."""

    before: Clock
    """As it should be."""
    after: Clock
    ranges: tuple[DeclaredRange, ...] = ()
    """What was cut out of the source, each with a shift of its own."""

    def at(self, time: Fraction) -> Fraction:
        """By how much the picture moved that is shown at `time` on the clock of the source."""
        if not self.before.pts or not self.after.pts:
            return Fraction(0)
        if self.ranges:
            held = [part for part in self.ranges if part.start_s <= time] or self.ranges[:1]
            as_whole = self.after.time(0) - self.before.time(0)
            return held[-1].at_s - held[-1].start_s + as_whole
        index = bisect_left(self.before.pts, time / self.before.time_base)
        index = min(index, len(self.before.pts) - 1, len(self.after.pts) - 1)
        return self.after.time(index) - self.before.time(index)


def check_times(
    source: Clock, after: Clock, container: str, declared: Declared
) -> tuple[list[CheckRow], Moved]:
    """Rows on count, pts and duration.

    Args:
        source: times of the source's frames.
        after: times of the result's frames.
        container: of the result, as FFmpeg names it.
        declared: a timeline in it takes the place of the source's.
    """
    before, origin = _expected(source, declared)
    num = len(before.pts), len(after.pts)
    rows = [row("frames", num[0] == num[1] > 0, num[0], num[1], origin)]
    if not before.pts or not after.pts:
        return rows, Moved(before, after, declared.ranges)
    rows += [_check_pts(before, after, container, origin), _check_duration(before, after, origin)]
    return rows, Moved(before, after, declared.ranges)


def _expected(source: Clock, declared: Declared) -> tuple[Clock, str]:
    """The times that the result must have, and where they come from."""
    if declared.timeline is None:
        return source, ""
    times = declared.timeline.times
    clock = Clock(declared.timeline.time_base, source.frame_rate, array("q", times.pts()))
    clock.last_duration = times.durations()[-1]
    return clock, "as declared"


def common_shift(
    before: Sequence[int], after: Sequence[int], base_a: Fraction, base_b: Fraction
) -> Fraction | None:
    """The one shift by which all times moved but for rounding; None if they moved differently.

    Zero whenever zero explains it: each time is the source's, rounded to nearest, halves away
    from zero.
    """
    if all(b == rescale(a, base_a, base_b) for a, b in zip(before, after, strict=False)):
        return Fraction(0)
    # In whole units of 1 / (both denominators), because fractions are slow and floats wrong.
    by_a, by_b = base_a.numerator * base_b.denominator, base_b.numerator * base_a.denominator
    unit = Fraction(1, base_a.denominator * base_b.denominator)
    moved = [b * by_b - a * by_a for a, b in zip(before, after, strict=False)]
    low, high = min(moved) * unit, max(moved) * unit
    return (low + high) / 2 if high - low < base_b else None


def _check_pts(before: Clock, after: Clock, container: str, origin: str) -> CheckRow:
    """Every time equal to the source's, rounded to the result's time base."""
    shift = common_shift(before.pts, after.pts, before.time_base, after.time_base)
    # Matroska cannot hold negative times: such a film is moved as a whole to begin at 0.
    may_move = "matroska" in container and before.pts[0] < 0 and after.pts[0] == 0
    ok = len(before.pts) == len(after.pts) and shift is not None and (not shift or may_move)
    notes = [origin] if origin else []
    if shift:
        notes.append(f"all moved by {float(shift) * 1000:.3f} ms")
        if may_move:
            notes.append("Matroska has no times before 0")
    else:
        notes += _first_off(before, after) if shift is None else []
    return row(
        "pts",
        ok,
        f"first {float(before.time(0)):.6f} s, in {before.time_base} s",
        f"first {float(after.time(0)):.6f} s, in {after.time_base} s",
        "; ".join(notes),
    )


def _first_off(before: Clock, after: Clock) -> list[str]:
    for index, (a, b) in enumerate(zip(before.pts, after.pts, strict=False)):
        off = b - rescale(a, before.time_base, after.time_base)
        if off:
            return [f"frame {index} is {off:+d} ticks off"]
    return []


def _check_duration(before: Clock, after: Clock, origin: str) -> CheckRow:
    """From the first frame's start to the last one's end."""
    lengths = before.length, after.length
    # How long the last frame lasts is often not stored, or, where frames are stored in another
    # order than shown, is that of another frame; so it may differ by the longest in the film.
    gaps = (later - sooner for sooner, later in pairwise(before.pts))
    allowed = before.time_base + after.time_base + max(gaps, default=0) * before.time_base
    allowed = max(allowed, 1 / before.frame_rate + MILLISECOND)
    note = origin
    difference = abs(lengths[1] - lengths[0])
    return row(
        "duration",
        difference <= allowed,
        f"{float(lengths[0]):.6f} s",
        f"{float(lengths[1]):.6f} s",
        note,
    )
