"""Where a fresh decoder may start in a film, proven by letting it start there.

What a file says of its key pictures is not always true, and behind one that is, pictures may still
build on what came before it. So every place where a segment is to start is tried while the plan is
made, and the pictures are compared with those that the scan has seen.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from vsr.errors import VsrError
from vsr.frame import ColorSpec, Frame, PlaneLayout, VideoInfo
from vsr.media.packets import tells_times
from vsr.media.reader import FrameReader
from vsr.pipeline.split import Division, Needs, Piece, enter, join_to_last, split

_NUM_COMPARED = 32
"""Pictures of a sound film that have to be as in the scan."""
_NUM_TRIES = 3
"""Key pictures that are tried for one segment, the nearest first."""
_NUM_ROWS = 128
"""At least so many rows of a picture are looked at, where it has them: what a decoder gets wrong is
as tall as its blocks."""


@dataclass(slots=True)
class Landmarks:
    """What a scan keeps of the decoded pictures, to know them again."""

    pts: list[int] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    """A number for each, equal for equal pictures."""
    keys: list[int] = field(default_factory=list)
    """Ranks of those at which a fresh decoder may be able to start."""
    _key_packets: set[int] = field(default_factory=set)
    _has_other_aspect: bool = False

    def note_key_packet(self, pts: int) -> None:
        """A whole packet that is said to be a place to start at."""
        self._key_packets.add(pts)

    def push(self, frame: Frame) -> None:
        """The next decoded picture."""
        # The shape of pixels is told where it changes and must be remembered from there on.
        self._has_other_aspect |= frame.sample_aspect_ratio is not None
        if frame.pts in self._key_packets:
            self._key_packets.discard(frame.pts)
            if frame.is_key and not frame.is_corrupt and not self._has_other_aspect:
                self.keys.append(len(self.pts))
        self.pts.append(frame.pts)
        self.marks.append(mark(frame))


def mark(frame: Frame) -> int:
    """A number that tells pictures apart by some rows, and by size, layout and colour."""
    number = _mark_kind(frame.width, frame.height, frame.layout, frame.color)
    for plane in frame.planes:
        # Decoders can leave out a chroma plane alone.
        rows = np.ascontiguousarray(plane[:: max(1, len(plane) // _NUM_ROWS)])
        number = zlib.crc32(rows.data, number)
    return number


@lru_cache(maxsize=8)
def _mark_kind(width: int, height: int, layout: PlaneLayout, color: ColorSpec) -> int:
    return zlib.crc32(f"{width} {height} {layout} {color}".encode("ascii"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """A film as the scan found it, for a division into segments."""

    source: Path
    info: VideoInfo
    threads: int
    landmarks: Landmarks
    concealed: Sequence[int]
    sources: Sequence[int]
    """For each frame to be written, the rank of the decoded picture that it shows."""
    cuts: Sequence[int]
    """Among those frames."""
    leaps: Sequence[int]
    """Those of the cuts before which a stretch of the film is left out."""
    preroll: int
    """Pictures that a filter has to have seen before the first one needed."""
    is_doubtful: bool
    """Whether pictures or times are broken."""


def divide(
    film: Decoded, division: Division, tick: Callable[[], None] | None = None
) -> tuple[Piece, ...]:
    """Split a film into segments that give the frames that one would.

    A sound film's segments are tried at their beginnings, a doubtful one's as a whole, because a
    broken picture may look different to a decoder that has not seen the ones before. One that gives
    other pictures becomes a part of the one before it. Where that does not help, few segments are
    decoded from the start.

    Args:
        film: as scanned.
        division: how to split it.
        tick: called often while this goes on.
    """
    tick = tick or (lambda: None)
    if tells_times(film.source):
        prove = _prove_whole if film.is_doubtful else _prove_beginnings
        pieces = prove(film, *_plan(film, division, film.landmarks.keys), tick)
        if pieces is not None:
            return pieces
    pieces, _, _ = _plan(film, division, ())
    return pieces


def _plan(
    film: Decoded, division: Division, keys: Sequence[int]
) -> tuple[tuple[Piece, ...], list[Needs], tuple[int, ...]]:
    """Pieces, which pictures they need, and the ranks of those where they might start to decode."""
    leaps = film.leaps
    while True:
        pieces = split(len(film.sources), film.cuts, division, leaps)
        needs = [_needs(film, piece) for piece in pieces]
        entries = enter(needs, keys, film.preroll)
        if entries is not None:
            return pieces, needs, entries
        # Longer segments decode less in vain.
        division, leaps = replace(division, max_frames=2 * division.max_frames), ()


def _needs(film: Decoded, piece: Piece) -> Needs:
    return Needs(
        first=film.sources[piece.first - piece.warmup],
        last=film.sources[piece.stop - 1 + piece.lookahead],
    )


def _prove_beginnings(
    film: Decoded,
    pieces: Sequence[Piece],
    needs: Sequence[Needs],
    entries: Sequence[int],
    tick: Callable[[], None],
) -> tuple[Piece, ...]:
    keys = film.landmarks.keys
    proven: list[Piece] = []
    for piece, need, entry in zip(pieces, needs, entries, strict=True):
        place = bisect_left(keys, entry)
        tries = [0] if entry == 0 else keys[max(0, place + 1 - _NUM_TRIES) : place + 1][::-1]
        for rank in tries:
            with _Walk(film, rank, tick) as walk:
                if walk.agrees(min(rank + _NUM_COMPARED - 1, need.last)):
                    proven.append(_entered(film, piece, rank))
                    break
        else:
            if proven:
                join_to_last(proven, piece)
            else:
                proven.append(piece)
    return tuple(proven)


def _prove_whole(
    film: Decoded,
    pieces: Sequence[Piece],
    needs: Sequence[Needs],
    entries: Sequence[int],
    tick: Callable[[], None],
) -> tuple[Piece, ...] | None:
    """Each piece is decoded once from its own entry, and at most once more from the one before."""
    proven: list[Piece] = []
    with ExitStack() as stack:
        open_walk: _Walk | None = None
        for piece, need, rank in zip(pieces, needs, entries, strict=True):
            walk = _Walk(film, rank, tick)
            if walk.agrees(need.last):
                stack.close()
                stack.enter_context(walk)
                open_walk = walk
                proven.append(_entered(film, piece, rank))
                continue
            walk.close()
            if open_walk is None or not open_walk.agrees(need.last):
                # Only what is decoded from the start is sure to be what was scanned.
                return None
            join_to_last(proven, piece)
    return tuple(proven)


def _entered(film: Decoded, piece: Piece, rank: int) -> Piece:
    """The piece with its decoding starting at a decoded picture; 0 is the start of the film."""
    if rank == 0:
        return piece
    pts = film.landmarks.pts[rank]
    return replace(piece, entry_pts=pts, entry_rank=rank + bisect_left(film.concealed, pts))


class _Walk:
    """A fresh decoder on its way from one place, its pictures compared with the scan's."""

    def __init__(self, film: Decoded, rank: int, tick: Callable[[], None]) -> None:
        self._film = film
        self._next = rank
        self._tick = tick
        self._is_start = rank == 0
        self._has_failed = False
        self._stack = ExitStack()
        self._frames: Iterator[Frame] | None = None

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def agrees(self, last: int) -> bool:
        """Whether all pictures up to the one of rank `last` are the scan's.

        From the start of the film they are, since that is how they were scanned.
        """
        if self._is_start:
            return True
        try:
            while not self._has_failed and self._next <= last:
                self._has_failed = not self._is_next_same()
        except VsrError:
            self._has_failed = True
        return not self._has_failed

    def _is_next_same(self) -> bool:
        seen, rank = self._film.landmarks, self._next
        if self._frames is None:
            self._frames = self._open(seen.pts[rank])
        frame = next(self._frames, None)
        self._next += 1
        self._tick()
        return frame is not None and frame.pts == seen.pts[rank] and mark(frame) == seen.marks[rank]

    def _open(self, entry_pts: int) -> Iterator[Frame]:
        film = self._film
        reader = FrameReader(
            film.source,
            info=film.info,
            threads=film.threads,
            entry_pts=entry_pts,
            follow_changes=True,
            copy_planes=film.is_doubtful,
        )
        self._stack.enter_context(reader)
        return self._stack.enter_context(closing(iter(reader)))
