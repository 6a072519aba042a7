"""Take only a part of a film, or samples of it. Pure.

Times are counted from the first picture. A picture belongs to a stretch when it begins in it, and
so does a packet of sound or a subtitle; all are moved by the same time, so that the result begins
at 0 with the first picture taken. Samples lie in the middle of as many equal parts of the film, and
follow one another without a gap: where two meet, the sound packet before may reach over the joint.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from vsr.config import UpscaleConfig
from vsr.errors import ConfigError
from vsr.media.probe import MediaInfo
from vsr.media.stretches import Stretch
from vsr.media.timing import frame_durations
from vsr.notation import parse_sample, parse_time
from vsr.pipeline.declared import Declared, DeclaredRange, DeclaredTimeline
from vsr.pipeline.timeline import Timeline

if TYPE_CHECKING:
    from vsr.pipeline.scan import Scan

_SLACK = Fraction(1)
"""Seconds by which a file's own ends are widened, since what it says of them is never exact."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A stretch asked for, in seconds from the first picture; None is the end of the film."""

    start: Fraction
    end: Fraction | None


class Part(BaseModel):
    """A stretch that was found among the frames."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    first: int
    """Rank of its first frame in the whole film."""
    num_frames: int
    moved: int
    """Ticks to add to a frame's pts for the result."""
    stretch: Stretch


def wishes(config: UpscaleConfig, info: MediaInfo) -> tuple[Wish, ...]:
    """The stretches asked for; none when it is the whole film.

    Raises:
        ConfigError: samples of a film that does not say how long it is.
    """
    if config.sample is not None:
        return _samples(*parse_sample(config.sample), info)
    if config.start is None and config.duration is None:
        return ()
    start = parse_time(config.start) if config.start is not None else Fraction(0)
    end = start + parse_time(config.duration) if config.duration is not None else None
    return (Wish(start, end),)


def _samples(number: int, length: Fraction, info: MediaInfo) -> tuple[Wish, ...]:
    duration = info.video.duration_s or info.duration_s
    if not duration:
        raise ConfigError(
            "samples cannot be spread over a film that does not say how long it is",
            hint="use --start and --duration",
        )
    whole = Fraction(str(round(duration, 6)))
    if number * length >= whole:
        return ()
    middles = [whole * (2 * k + 1) / (2 * number) for k in range(number)]
    return tuple(Wish(middle - length / 2, middle + length / 2) for middle in middles)


def last_end(asked: Sequence[Wish], info: MediaInfo) -> int | None:
    """Where reading may end, in the source's ticks; None for its end."""
    if not asked or asked[-1].end is None or info.video.start_pts is None:
        return None
    # A second more, because how long a frame is shown is known by the next one.
    ticks = (asked[-1].end + 1) / info.video.time_base
    return info.video.start_pts + int(ticks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What of a scanned film goes into the result."""

    parts: tuple[Part, ...]
    """Empty for all of it."""
    timeline: Timeline
    """Of the frames taken, at the source's times."""
    cuts: tuple[int, ...]
    """Ranks among them of the first frames of all shots but the first; no shot spans a joint."""
    declared: Declared
    notes: tuple[str, ...]


def take(asked: Sequence[Wish], found: Scan, declared: Declared, info: MediaInfo) -> Taken:
    """Find what is asked for in the film.

    Args:
        asked: from `wishes`; empty for all of the film.
        found: the film, read at least to `last_end`.
        declared: what the result changes besides.
        info: of the source.

    Raises:
        ConfigError: no frame begins in one of the stretches.
    """
    if not asked:
        return Taken(
            parts=(), timeline=found.timeline, cuts=found.cuts, declared=declared, notes=()
        )
    time_base = info.video.time_base / found.interlace.time_base_divisor
    reaches_end = last_end(asked, info) is None
    parts = find_parts(
        asked, found.timeline, time_base, info.video.frame_rate, reaches_end=reaches_end
    )
    timeline, cuts = _frames_of(parts, found.timeline, found.cuts)
    declared = _declare(declared, parts, timeline, found.sources, time_base, info)
    notes = (_say_parts(parts, found.timeline, time_base),)
    return Taken(parts=parts, timeline=timeline, cuts=cuts, declared=declared, notes=notes)


def find_parts(
    asked: Sequence[Wish],
    times: Timeline,
    time_base: Fraction,
    frame_rate: Fraction | None,
    *,
    reaches_end: bool,
) -> tuple[Part, ...]:
    """Find the stretches among the frames.

    Args:
        asked: in order.
        times: of all frames, in ticks of `time_base`.
        time_base: of the film's clock.
        frame_rate: as declared.
        reaches_end: whether the last frame is the film's last.

    Raises:
        ConfigError: no frame begins in one of them.
    """
    pts = times.pts()
    shown = frame_durations(pts, times.durations(), (frame_rate or Fraction(25)) * time_base)
    parts: list[Part] = []
    origin = 0
    for wish in asked:
        first = bisect_left(pts, pts[0] + wish.start / time_base)
        stop = len(pts) if wish.end is None else bisect_left(pts, pts[0] + wish.end / time_base)
        if first >= stop:
            length = (pts[-1] + shown[-1] - pts[0]) * time_base
            raise ConfigError(
                f"no picture begins {_say(wish)}: the film lasts {float(length):.3f} s",
                hint="ask for another start or duration",
            )
        # What lies before the first picture or after the last belongs to them.
        is_start, is_end = first == 0 and not parts, stop == len(pts) and reaches_end
        end = pts[stop - 1] + shown[stop - 1]
        origin = pts[0] if is_start else origin
        moved = origin - pts[first]
        stretch = Stretch(
            start=None if is_start else pts[first] * time_base,
            end=None if is_end else end * time_base,
            shift=moved * time_base,
        )
        parts.append(Part(first=first, num_frames=stop - first, moved=moved, stretch=stretch))
        origin += end - pts[first]
    return tuple(parts)


def _frames_of(
    parts: Sequence[Part], times: Timeline, cuts: Sequence[int]
) -> tuple[Timeline, tuple[int, ...]]:
    """Times and shot beginnings of the frames taken, at the source's times."""
    pts, durations = times.pts(), times.durations()
    ranks = ranks_of(parts)
    timeline = Timeline.from_frames(
        [pts[rank] for rank in ranks], [durations[rank] for rank in ranks]
    )
    return timeline, cuts_among(parts, cuts)


def ranks_of(parts: Sequence[Part]) -> list[int]:
    """Ranks in the film of the frames taken."""
    return [rank for part in parts for rank in range(part.first, part.first + part.num_frames)]


def cuts_among(parts: Sequence[Part], cuts: Sequence[int]) -> tuple[int, ...]:
    """Places among the frames taken at which a shot begins, those where two parts meet included."""
    starts = {part.first for part in parts} | set(cuts)
    return tuple(place for place, rank in enumerate(ranks_of(parts)) if place and rank in starts)


def leaps_among(parts: Sequence[Part], min_frames: int) -> tuple[int, ...]:
    """Places among the frames taken before which at least so many frames are left out."""
    places = accumulate(part.num_frames for part in parts)
    return tuple(
        place
        for place, (before, after) in zip(places, pairwise(parts), strict=False)
        if after.first - before.first - before.num_frames >= min_frames
    )


def moved_pts(parts: Sequence[Part], pts: Sequence[int]) -> list[int]:
    """Times of the frames taken on the result's clock; unmoved where nothing was cut."""
    if not parts:
        return list(pts)
    moves = [part.moved for part in parts for _ in range(part.num_frames)]
    return [time + move for time, move in zip(pts, moves, strict=True)]


def _declare(
    declared: Declared,
    parts: Sequence[Part],
    times: Timeline,
    sources: Sequence[int],
    time_base: Fraction,
    info: MediaInfo,
) -> Declared:
    """Add what was cut to what the result's check has to know.

    Args:
        declared: what it has to know besides.
        parts: what was taken.
        times: of the frames taken, at the source's times.
        sources: rank of the decoded picture that each frame of the whole film shows.
        time_base: of `times`.
        info: of the source.
    """
    timeline = DeclaredTimeline.of(
        time_base,
        moved_pts(parts, times.pts()),
        times.durations(),
        [sources[rank] for rank in ranks_of(parts)],
    )
    start = min(
        (
            s.start_pts * s.time_base
            for s in info.streams
            if s.start_pts is not None and s.time_base
        ),
        default=Fraction(0),
    )
    length = max((s.duration_s or 0.0 for s in info.streams), default=0.0)
    end = start + Fraction(str(max(length, info.duration_s or 0.0))) + _SLACK
    ranges = []
    for part in parts:
        stretch = part.stretch
        begins = start - _SLACK if stretch.start is None else stretch.start
        ends = end if stretch.end is None else stretch.end
        ranges.append(DeclaredRange(start_s=begins, end_s=ends, at_s=begins + stretch.shift))
    return declared.model_copy(update={"timeline": timeline, "ranges": tuple(ranges)})


def _say_parts(parts: Sequence[Part], times: Timeline, time_base: Fraction) -> str:
    """What was taken, in words."""
    pts = times.pts()
    said = [
        f"{part.num_frames} frames from {float((pts[part.first] - pts[0]) * time_base):.3f} s"
        for part in parts
    ]
    return f"Only a part of the film is taken: {', '.join(said)}."


def _say(wish: Wish) -> str:
    start = f"{float(wish.start):.3f}"
    return f"from {start} s on" if wish.end is None else f"in {start} to {float(wish.end):.3f} s"
