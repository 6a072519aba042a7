"""Read a film once, ahead of the run: times, cuts, fields, damage, and the timeline they make."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

from vsr.errors import DecodeError
from vsr.frame import VideoInfo
from vsr.media import damage
from vsr.media.damage import DamageEvent
from vsr.media.ffmpeg_log import StderrLog
from vsr.media.packets import PacketIndex
from vsr.pipeline.entries import Decoded, divide
from vsr.pipeline.excerpt import Wish, cuts_among, find_parts, leaps_among, ranks_of
from vsr.pipeline.film import Film
from vsr.pipeline.interlace import DeinterlaceMode, InterlacePlan, decide, notes
from vsr.pipeline.scan_pass import Pass, count_damaged, events_of, read_pass
from vsr.pipeline.shots import CutDetector
from vsr.pipeline.split import Division, Piece
from vsr.pipeline.timeline import Timeline, pack_runs, unpack_runs


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over the decoded source tells."""

    timeline: Timeline
    """Of the frames that the run makes, in ticks `interlace.time_base_divisor` times as short as
    the source's."""
    sources: tuple[int, ...]
    """For each of those frames, the rank of the decoded picture that it shows."""
    cuts: tuple[int, ...]
    """Ranks of the first frames of all shots but the first."""
    decode_threads: int
    """With how many threads the source has to be decoded to give these frames again."""
    events: tuple[DamageEvent, ...]
    num_decoded: int
    """Pictures that the decoder gave."""
    num_damaged: int = 0
    """Pictures that were lost, called damaged, or that the decoder complained of."""
    concealed: tuple[int, ...] = ()
    """Times of the lost pictures, in the source's ticks."""
    interlace: InterlacePlan = field(default_factory=InterlacePlan)
    notes: tuple[str, ...] = ()
    packets: PacketIndex | None = None
    """Of the source's packets, as far as they were read; None for pictures."""
    pieces: tuple[Piece, ...] = ()
    """The segments of what is taken; empty when there is to be one."""

    @property
    def is_as_decoded(self) -> bool:
        """Whether the frames are the decoded pictures, one by one, at their own times."""
        return not self.concealed and self.interlace.time_base_divisor == 1


def scan(
    source: Path,
    info: VideoInfo,
    *,
    decode_threads: int,
    deinterlace: DeinterlaceMode = "auto",
    on_frame: Callable[[int], None] | None = None,
    log: StderrLog | None = None,
    end_pts: int | None = None,
    asked: Sequence[Wish] = (),
    division: Division | None = None,
) -> Scan:
    """Decode the whole video stream of `source`, keeping nothing but what the plan needs.

    A damaged source is decoded again by one thread: with more, its pictures differ from run to
    run, and so they do where the decoder does not get its memory back at once. `pipeline.listen`
    runs this in a process of its own, to hear what the decoder says.

    Args:
        source: the film.
        info: of its video stream.
        decode_threads: for a sound source.
        deinterlace: what is wanted of interlaced material.
        on_frame: called with the number of frames read so far.
        log: what FFmpeg says; None where nobody listens.
        end_pts: first time, in the source's ticks, not wanted any more; None reads to the end.
        asked: the stretches that are taken; empty for all of the film.
        division: how to split what is taken into segments; None leaves it whole.

    Raises:
        DecodeError: no frame could be decoded.
        ConfigError: no frame begins in one of the stretches.
        UnsupportedVideoError: the picture's size or format changes in mid-stream.
    """
    found = read_pass(source, info, decode_threads, deinterlace, on_frame, log, end_pts)
    if found.is_damaged and (decode_threads > 1 or division is not None):
        found = read_pass(source, info, 1, deinterlace, on_frame, log, end_pts, is_damaged=True)
    if not found.pts:
        raise DecodeError(f"No picture of {source} could be decoded.", hint="the file is damaged")
    missing = found.missing(info)
    plan = decide(deinterlace, found.fields, info)
    said = list(notes(plan, found.fields, info))
    if missing:
        said.append(
            f"{len(missing)} lost pictures are filled with the one before, at their own times."
        )
    scanned = _declare(source, info, found, missing, plan, tuple(said))
    if division is None:
        return scanned
    tick = None if on_frame is None else partial(on_frame, len(found.pts))
    return replace(scanned, pieces=_divide(source, info, found, scanned, asked, division, tick))


def _divide(
    source: Path,
    info: VideoInfo,
    found: Pass,
    scanned: Scan,
    asked: Sequence[Wish],
    division: Division,
    tick: Callable[[], None] | None,
) -> tuple[Piece, ...]:
    """Split what is taken of the film."""
    interlace, landmarks = scanned.interlace, found.landmarks
    sources, cuts = scanned.sources, scanned.cuts
    leaps: tuple[int, ...] = ()
    if asked:
        parts = find_parts(
            asked,
            scanned.timeline,
            info.time_base / interlace.time_base_divisor,
            info.frame_rate,
            reaches_end=found.end_pts is None,
        )
        sources = tuple(sources[rank] for rank in ranks_of(parts))
        cuts, leaps = cuts_among(parts, cuts), leaps_among(parts, division.max_frames)
    has_broken_times = any(event.kind in damage.TIMESTAMP_TROUBLES for event in found.events)
    if interlace.preroll is None:
        landmarks = replace(landmarks, keys=[])
    film = Decoded(
        source=source,
        info=info,
        threads=found.threads,
        landmarks=landmarks,
        concealed=scanned.concealed,
        sources=sources,
        cuts=cuts,
        leaps=leaps,
        preroll=interlace.preroll or 0,
        is_doubtful=found.is_damaged or has_broken_times,
    )
    return divide(film, division, tick)


def _declare(
    source: Path,
    info: VideoInfo,
    found: Pass,
    missing: tuple[int, ...],
    plan: InterlacePlan,
    said: tuple[str, ...],
) -> Scan:
    """Work out the timeline of the run from that of the decoded pictures."""
    times = dict(zip(found.pts, found.durations, strict=True))
    pts = sorted([*found.pts, *missing])
    sources = [max(0, bisect_left(found.pts, time + 1) - 1) for time in pts]
    durations = [
        times.get(time, found.durations[rank]) for time, rank in zip(pts, sources, strict=True)
    ]
    cuts = tuple(bisect_left(pts, found.pts[rank]) for rank in found.cuts)
    if plan.frames and missing:
        # Counted among decoded pictures so far.
        plan = _recount(plan, sources)
    if plan.action == "bob":
        cuts = tuple(2 * rank for rank in cuts)
        steps = [after - before for before, after in pairwise(pts)]
        last = (steps[-1] if steps else 0) or durations[-1] or 2
        fields = zip(pts, [*steps, last], strict=True)
        pts = [half for time, step in fields for half in (2 * time, 2 * time + step)]
        sources = [rank for rank in sources for _ in range(2)]
        durations = [ticks for ticks in durations for _ in range(2)]
    elif plan.action == "ivtc":
        pts, durations, cuts, ranks = _film_times(source, info, found, plan, missing)
        sources = [sources[rank] for rank in ranks]
    return Scan(
        timeline=Timeline.from_frames(pts, durations),
        sources=tuple(sources),
        cuts=cuts,
        decode_threads=found.threads,
        events=events_of(found, missing, info),
        num_decoded=len(found.pts),
        num_damaged=count_damaged(found, missing),
        concealed=missing,
        interlace=plan,
        notes=said,
        packets=found.index.index(),
    )


def _recount(plan: InterlacePlan, sources: Sequence[int]) -> InterlacePlan:
    """The plan with its mask counted over frames after concealment."""
    mask = list(unpack_runs(plan.frames))
    return plan.model_copy(update={"frames": pack_runs(mask[rank] for rank in sources)})


def _film_times(
    source: Path, info: VideoInfo, found: Pass, plan: InterlacePlan, missing: tuple[int, ...]
) -> tuple[list[int], list[int], tuple[int, ...], list[int]]:
    """Times, cuts and origins of frames that only the filter itself can count."""
    pts: list[int] = []
    durations: list[int] = []
    detector = CutDetector()
    film = Film(
        source,
        info,
        threads=found.threads,
        interlace=plan,
        concealed=missing,
        end_pts=found.end_pts,
    )
    for frame in film.frames():
        pts.append(frame.pts)
        durations.append(frame.duration)
        detector.push_frame(frame)
    return pts, durations, detector.finish(), film.ranks
