"""Where a film is split into segments, and where each begins to decode. Pure.

A segment ends at a cut once it has a quarter of the most frames that one should have. A shot that
is too long for that is split at a fixed length: what comes after such a border warms the model up
with frames from before it, and what comes before looks ahead over it. No segment is shorter than a
quarter or longer than one and a half of that length, except where too much would be decoded twice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

_MIN_SHARE = 4
_MAX_TWICE = 3.5
"""Pictures that may be decoded only to be dropped, as a multiple of all: what eight segments cost
that all decode from the start."""


@dataclass(frozen=True, slots=True)
class Division:
    """How a film is to be split."""

    max_frames: int
    """About the most frames of a segment."""
    warmup: int = 0
    """Frames that the model has to see before the first of a segment, within its shot."""
    context: int = 0
    """Frames after the last that it looks at, within its shot."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames `first` to `stop` of a film, and what is read beside them."""

    first: int
    stop: int
    warmup: int = 0
    lookahead: int = 0
    entry_pts: int | None = None
    entry_rank: int = 0
    """As in `plan.Segment`."""

    @property
    def num_frames(self) -> int:
        return self.stop - self.first


@dataclass(frozen=True, slots=True)
class Needs:
    """Which decoded pictures a piece takes, by their ranks in the film."""

    first: int
    """Rank of the first that its frames show or are made of."""
    last: int


def split(
    num_frames: int,
    cuts: Sequence[int],
    division: Division,
    leaps: Collection[int] = (),
) -> tuple[Piece, ...]:
    """Split frames into pieces.

    Args:
        num_frames: of the film, at least 1.
        cuts: frames at which a new shot begins, rising.
        division: how.
        leaps: cuts before which a long stretch of the source is left out; each is a border.
    """
    borders = [0]
    start = 0
    for stop in (*sorted(leaps), num_frames):
        inside = cuts[bisect_right(cuts, start) : bisect_left(cuts, stop)]
        borders += _borders(start, stop, inside, division.max_frames)[1:]
        borders.append(stop)
        start = stop
    shots = [0, *cuts, num_frames]
    return tuple(_piece(first, stop, shots, division) for first, stop in pairwise(borders))


def _borders(start: int, stop: int, cuts: Sequence[int], max_frames: int) -> list[int]:
    """First frames of the pieces of one stretch."""
    least = max(1, max_frames // _MIN_SHARE)
    borders = [start]
    for end in (*cuts, stop):
        while end - borders[-1] >= max_frames + least:
            borders.append(borders[-1] + max_frames)
        if end - borders[-1] >= least and end != stop:
            borders.append(end)
    if len(borders) > 1 and stop - borders[-1] < least:
        borders.pop()
    return borders


def _piece(first: int, stop: int, shots: Sequence[int], division: Division) -> Piece:
    shot_start = shots[bisect_right(shots, first) - 1]
    shot_stop = shots[bisect_right(shots, stop - 1)]
    return Piece(
        first=first,
        stop=stop,
        warmup=min(division.warmup, first - shot_start),
        lookahead=min(division.context, shot_stop - stop),
    )


def enter(needs: Sequence[Needs], keys: Sequence[int], preroll: int) -> tuple[int, ...] | None:
    """Choose where the decoding of each piece starts.

    Args:
        needs: of each piece.
        keys: ranks of the pictures at which a fresh decoder may start, rising.
        preroll: pictures to decode before the first that is needed.

    Returns:
        Ranks of the first decoded pictures, 0 for the start of the film; None when more would be
        decoded in vain than is sensible.
    """
    found: list[int] = []
    num_dropped = 0
    for need in needs:
        place = bisect_right(keys, need.first - preroll)
        found.append(keys[place - 1] if place else 0)
        num_dropped += need.first - found[-1]
    is_sensible = num_dropped <= _MAX_TWICE * (needs[-1].last + 1)
    return tuple(found) if is_sensible or len(needs) == 1 else None


def join_to_last(pieces: list[Piece], piece: Piece) -> None:
    """Let the last of `pieces` take over the frames of the one after it."""
    pieces[-1] = replace(pieces[-1], stop=piece.stop, lookahead=piece.lookahead)
