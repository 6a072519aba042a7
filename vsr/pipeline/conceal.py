"""Pictures that a damaged source has lost: find their times, and fill them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median

from vsr.frame import Frame

_MIN_DISTANCE = 0.75
"""In usual steps: nearer packets are second fields or other parts of a picture that is there."""
_MIN_REGULAR_SHARE = 0.8
_MAX_STEP_ERROR = 0.1
_MIN_NEIGHBOURS = 0.1
"""Share of the steps between pictures that have to be as short as those between packets, before
the packets are believed: pictures of two fields have two packets each, and none is lost."""
_MAX_GAP_S = 10.0
"""A longer gap without packets may be meant; the picture before it just stays."""


def find_missing(
    packets: Iterable[int],
    pts: Sequence[int],
    *,
    first_trouble: int | None,
    tick_s: float,
) -> tuple[int, ...]:
    """Times of the pictures that a damaged film should have had.

    Two things tell: a packet whose picture never came, and, in a film of constant rate, a gap of a
    whole number of steps. Pictures lost before the first that could be decoded count only from the
    first trouble on, since many sound films start with packets that cannot be shown.

    Args:
        packets: timestamps of all packets of the film.
        pts: of the pictures that came, rising.
        first_trouble: time of the first thing that went wrong; None when unknown.
        tick_s: length of a tick in seconds.

    Returns:
        Rising timestamps, none of them in `pts`.
    """
    if len(pts) < 2:
        return ()
    steps = [after - before for before, after in pairwise(pts)]
    times = set(packets)
    step = _usual_step(steps, sorted(times))
    known = list(pts)
    missing: list[int] = []
    for time in sorted(times - set(pts)):
        if time < pts[0] and (first_trouble is None or time < first_trouble):
            continue
        place = bisect_left(known, time)
        left = time - known[place - 1] if place else step
        right = known[place] - time if place < len(known) else step
        if min(left, right) >= _MIN_DISTANCE * step:
            insort(known, time)
            missing.append(time)
    regular = [s for s in steps if abs(s - step) <= max(1, _MAX_STEP_ERROR * step)]
    if len(regular) >= _MIN_REGULAR_SHARE * len(steps):
        missing += _gaps(known, sum(regular) / len(regular), tick_s)
    return tuple(sorted(missing))


def _usual_step(steps: Sequence[int], packets: Sequence[int]) -> float:
    """Ticks from one picture to the next, also where more are lost than came."""
    step = float(median(steps))
    if len(packets) < 2:
        return step
    dense = float(median(after - before for before, after in pairwise(packets)))
    if dense >= _MIN_DISTANCE * step:
        return step
    num_near = sum(abs(s - dense) <= max(1, _MAX_STEP_ERROR * dense) for s in steps)
    return dense if num_near >= max(2, _MIN_NEIGHBOURS * len(steps)) else step


def _gaps(known: Sequence[int], step: float, tick_s: float) -> list[int]:
    """Times inside gaps of a whole number of steps."""
    found: list[int] = []
    for before, after in pairwise(known):
        gap = after - before
        num = round(gap / step)
        fits = abs(gap - num * step) <= max(2.0, _MAX_STEP_ERROR * step)
        if num >= 2 and fits and gap * tick_s <= _MAX_GAP_S:
            found += [before + round(k * gap / num) for k in range(1, num)]
    return found


def conceal(frames: Iterable[Frame], missing: Sequence[int]) -> Iterator[Frame]:
    """Fill in a repeat of the picture before at each time of `missing`.

    Before the first picture there is none: there the first one is shown early.
    """
    times = iter(missing)
    due = next(times, None)
    last: Frame | None = None
    for frame in frames:
        while due is not None and due < frame.pts:
            yield _repeat(last or frame, due)
            due = next(times, None)
        yield frame
        last = frame
    while due is not None and last is not None:
        yield _repeat(last, due)
        due = next(times, None)


def _repeat(frame: Frame, pts: int) -> Frame:
    # Captions and timecode belong to the picture that they came with.
    return replace(frame, pts=pts, side_data=(), is_key=False, is_concealed=True)
