"""Timestamps of the joined film (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from math import gcd, lcm

MILLISECOND = Fraction(1, 1000)
_MAX_TIMESCALE = 100_000_000


def rescale(value: int, source: Fraction, target: Fraction) -> int:
    """A timestamp in another time base, rounded to nearest and away from zero, as FFmpeg does."""
    numerator = value * source.numerator * target.denominator
    denominator = source.denominator * target.numerator
    quotient, rest = divmod(abs(numerator), denominator)
    quotient += 2 * rest >= denominator
    return quotient if numerator >= 0 else -quotient


def round_away(value: Fraction) -> int:
    """To nearest, halves away from zero, as FFmpeg rounds timestamps."""
    quotient, rest = divmod(abs(value.numerator), value.denominator)
    quotient += 2 * rest >= value.denominator
    return quotient if value >= 0 else -quotient


def decode_times(order: Sequence[int], pts: Sequence[int]) -> list[int]:
    """dts of packets in decode order, from the pts of all frames.

    The k-th packet decodes at the pts of the (k - d)-th frame shown, d being the fewest frames by
    which no packet decodes after it is shown. The first d lie before the first pts.

    Args:
        order: which frame, counted in order of presentation, each packet holds.
        pts: of every frame in order of presentation, strictly rising.

    Returns:
        Strictly rising dts, none above its packet's pts.
    """
    if not order:
        return []
    delay = max(0, max(k - frame for k, frame in enumerate(order)))
    step = pts[1] - pts[0] if len(pts) > 1 else 1
    return [pts[k - delay] if k >= delay else pts[0] - (delay - k) * step for k in range(len(pts))]


def spread(dts: Sequence[int]) -> list[int]:
    """Strictly rising dts from dts that coarser ticks made equal, by lowering the earlier ones."""
    result = list(dts)
    for k in range(len(result) - 2, -1, -1):
        result[k] = min(result[k], result[k + 1] - 1)
    return result


def is_leap(last: int | None, end: int | None, time: int, length: int, following: int) -> bool:
    """Whether the time of one packet alone ran ahead or fell back, as a flipped bit makes it.

    It then begins later than by its own length after the end of the one before, or not after that
    one, while the packet that follows is in order. Clocks that start anew and neighbours with each
    other's times are none.

    Args:
        last: time of the packet before; None at the start.
        end: of the packet before.
        time: of the packet.
        length: of the packet; 0 where unknown.
        following: time of the next packet.
    """
    if last is None or end is None:
        return following < time
    return time <= last < following or (last < following < time and time > end + length)


def lone_time(end: int | None, length: int, following: int) -> int:
    """Where a packet that leapt belongs: at the end of the one before, ahead of the next.

    Args:
        end: of the packet before; None at the start.
        length: of the packet.
        following: time of the next packet.
    """
    return following - max(1, length) if end is None else min(end, following - 1)


def frame_durations(pts: Sequence[int], durations: Sequence[int], rate: Fraction) -> list[int]:
    """How long each frame is shown: until the next; the last as long as it says, or one period.

    Args:
        pts: strictly rising.
        durations: as the source gave them, 0 where unknown; may be shorter than `pts`.
        rate: frames per tick of pts, for a single frame without a duration.
    """
    gaps = [after - before for before, after in pairwise(pts)]
    last = durations[len(pts) - 1] if len(durations) == len(pts) else 0
    if last <= 0:
        last = gaps[-1] if gaps else max(1, round(1 / rate))
    return [*gaps, last]


def average_rate(pts: Sequence[int], time_base: Fraction, declared: Fraction | None) -> Fraction:
    """Frames per second of the film, as declared where the timestamps agree within 2 %."""
    span = (pts[-1] - pts[0]) * time_base if len(pts) > 1 else Fraction(0)
    if span <= 0:
        return declared or Fraction(25)
    measured = (len(pts) - 1) / span
    if declared and abs(measured / declared - 1) < Fraction(1, 50):
        return declared
    return measured.limit_denominator(100_000)


def movie_timescale(time_bases: Sequence[Fraction]) -> int:
    """Ticks per second that measure the start of every track exactly.

    mp4 writes offsets of tracks in this unit, 1000 by default, which would move a 44.1 kHz track
    by up to a millisecond.
    """
    scale = 1000
    for time_base in time_bases:
        ticks = time_base.denominator // gcd(time_base.numerator, time_base.denominator)
        common = lcm(scale, ticks)
        if common <= _MAX_TIMESCALE:
            scale = common
    return scale
