"""Read a film once, ahead of the run: times, cuts, fields, damage, and the timeline they make."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from vsr.errors import DecodeError, OpenError
from vsr.frame import Frame, VideoInfo
from vsr.media import damage
from vsr.media.checksums import broken_clusters
from vsr.media.damage import DamageEvent
from vsr.media.ffmpeg_log import StderrLog
from vsr.media.fields import FieldReport, FieldWatch
from vsr.media.opening import AV_ERRORS
from vsr.media.packets import PacketIndex, PacketIndexer
from vsr.pipeline.conceal import find_missing
from vsr.pipeline.entries import Decoded, Landmarks, divide
from vsr.pipeline.excerpt import Wish, cuts_among, find_parts, leaps_among, ranks_of
from vsr.pipeline.film import Film
from vsr.pipeline.interlace import DeinterlaceMode, InterlacePlan, decide, notes
from vsr.pipeline.shots import CutDetector
from vsr.pipeline.split import Division, Piece
from vsr.pipeline.timeline import Timeline, pack_runs, unpack_runs

logger = logging.getLogger(__name__)

PICTURE_DAMAGE = frozenset(
    {
        damage.KIND_DECODE_ERROR,
        damage.KIND_DEMUX_ERROR,
        damage.KIND_TRUNCATED,
        damage.KIND_CORRUPT_FRAME,
        damage.KIND_CORRUPT_PACKET,
        damage.KIND_DECODER_MESSAGE,
        damage.KIND_CHECKSUM,
    }
)
"""Troubles after which a decoder with several threads may make other pictures in another run."""

_TIME_REPAIRS = frozenset(
    {
        damage.KIND_MISSING_PTS,
        damage.KIND_DUPLICATE_PTS,
        damage.KIND_BACKWARD_PTS,
        damage.KIND_RESET_PTS,
        damage.KIND_OUTLIER_PTS,
    }
)
"""Troubles after which a packet's timestamp need not be its picture's."""

_SAME_PLACE_S = 0.5
"""Messages of the decoder that are nearer to each other make one event."""


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
    found = _read(source, info, decode_threads, deinterlace, on_frame, log, end_pts)
    if found.is_damaged and (decode_threads > 1 or division is not None):
        found = _read(source, info, 1, deinterlace, on_frame, log, end_pts, is_damaged=True)
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
    found: _Pass,
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


class _Pass:
    """One reading of the film; also the reader's watcher."""

    def __init__(self, watch: FieldWatch | None, log: StderrLog | None, threads: int) -> None:
        self.threads = threads
        self.end_pts: int | None = None
        self.pts: list[int] = []
        self.durations: list[int] = []
        self.corrupt: set[int] = set()
        self.packets: list[int] = []
        self.messages: list[tuple[int | None, str]] = []
        self.cuts: tuple[int, ...] = ()
        self.events: tuple[DamageEvent, ...] = ()
        self.fields: FieldReport | None = None
        self.index = PacketIndexer()
        self.landmarks = Landmarks()
        self._watch = watch
        self._log = log

    def on_demuxed(self, packet: Any) -> None:
        """Count the packet among those by which the source is known again."""
        self.index.push(packet)
        if packet.is_keyframe and not packet.is_corrupt and packet.pts is not None:
            self.landmarks.note_key_packet(packet.pts)

    def on_packet(self, pts: int | None) -> None:
        """Keep the times of all pictures there should be, and what the decoder says to each."""
        if pts is not None:
            self.packets.append(pts)
        if self._log is not None:
            self.messages += [(pts, line) for line in self._log.poll()]

    def on_picture(self, decoded: Any, frame: Frame) -> None:
        """Look at the picture's fields."""
        if self._watch is None:
            return
        try:
            self._watch.push(decoded, frame)
        except AV_ERRORS as error:
            logger.warning("the film's fields cannot be looked at: %s", error)
            self._watch = None

    def finish(self, events: tuple[DamageEvent, ...], cuts: tuple[int, ...]) -> None:
        self.events, self.cuts = events, cuts
        if self._watch is not None:
            self.fields = self._watch.finish()

    @property
    def is_damaged(self) -> bool:
        return bool(self.messages) or any(e.kind in PICTURE_DAMAGE for e in self.events)

    def missing(self, info: VideoInfo) -> tuple[int, ...]:
        """Times of lost pictures; none in a sound film, whatever gaps it has."""
        if not self.is_damaged or any(e.kind in _TIME_REPAIRS for e in self.events):
            return ()
        troubles = [e.start_pts for e in self.events if e.kind in PICTURE_DAMAGE]
        troubles += [pts for pts, _ in self.messages]
        first = min((pts for pts in troubles if pts is not None), default=None)
        end = self.end_pts
        packets = [pts for pts in self.packets if end is None or pts < end]
        return find_missing(packets, self.pts, first_trouble=first, tick_s=float(info.time_base))


def _read(
    source: Path,
    info: VideoInfo,
    threads: int,
    deinterlace: DeinterlaceMode,
    on_frame: Callable[[int], None] | None,
    log: StderrLog | None,
    end_pts: int | None,
    *,
    is_damaged: bool = False,
) -> _Pass:
    watch = None
    if deinterlace != "off" and FieldWatch.suits(info):
        watch = FieldWatch(info, is_damaged=is_damaged)
    if log is not None:
        log.poll()
    found = _Pass(watch, log, threads)
    detector = CutDetector()
    found.end_pts = end_pts
    film = Film(
        source, info, threads=threads, watcher=found, end_pts=end_pts, is_damaged=is_damaged
    )
    for frame in film.frames():
        found.pts.append(frame.pts)
        found.durations.append(frame.duration)
        if frame.is_corrupt:
            found.corrupt.add(frame.pts)
        found.landmarks.push(frame)
        detector.push_frame(frame)
        if on_frame is not None:
            on_frame(len(found.pts))
    found.finish(film.events, detector.finish() if found.pts else ())
    found.events += tuple(_broken(source, info, found))
    return found


def _broken(source: Path, info: VideoInfo, found: _Pass) -> Iterator[DamageEvent]:
    """Stretches of the container that fail their checksum, but where the damage is known."""
    try:
        clusters = broken_clusters(source)
    except OSError as error:
        raise OpenError(f"{source} cannot be read: {error.strerror}.") from error
    places = {event.start_pts for event in found.events if event.kind in PICTURE_DAMAGE}
    places |= {pts for pts, _ in found.messages} | found.corrupt
    for cluster in clusters:
        start = round(cluster.start_s / info.time_base)
        end = None if cluster.end_s is None else round(cluster.end_s / info.time_base) - 1
        if found.end_pts is not None and start >= found.end_pts:
            return
        if not any(
            pts is not None and start <= pts and (end is None or pts <= end) for pts in places
        ):
            detail = f"the bytes from {cluster.offset} on fail their checksum"
            yield DamageEvent(
                kind=damage.KIND_CHECKSUM, start_pts=start, end_pts=end, detail=detail
            )


def _declare(
    source: Path,
    info: VideoInfo,
    found: _Pass,
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
        events=_events(found, missing, info),
        num_decoded=len(found.pts),
        num_damaged=_num_damaged(found, missing),
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
    source: Path, info: VideoInfo, found: _Pass, plan: InterlacePlan, missing: tuple[int, ...]
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


def _num_damaged(found: _Pass, missing: Sequence[int]) -> int:
    places: set[int | None] = {pts for pts, _ in found.messages if pts is not None}
    places |= found.corrupt | set(missing)
    # Which picture of such a stretch is not told: it counts as one.
    places |= {e.start_pts for e in found.events if e.kind == damage.KIND_CHECKSUM}
    nowhere = sum(event.count for event in found.events if event.kind in PICTURE_DAMAGE)
    return len(places) or min(1, nowhere + len(found.messages))


def _events(found: _Pass, missing: Sequence[int], info: VideoInfo) -> tuple[DamageEvent, ...]:
    """The reader's events, and in runs what the decoder said and what was filled in."""
    events = list(found.events)
    said: list[DamageEvent] = []
    near = _SAME_PLACE_S / float(info.time_base)
    for pts, line in found.messages:
        last = said[-1] if said else None
        place = None if last is None else last.end_pts
        if last is not None and (pts is None or place is None or abs(pts - place) <= near):
            start = pts if last.start_pts is None else last.start_pts
            start = start if pts is None or start is None else min(start, pts)
            end = place if pts is None else max(pts, place if place is not None else pts)
            said[-1] = replace(last, start_pts=start, end_pts=end, count=last.count + 1)
        else:
            said.append(
                DamageEvent(
                    kind=damage.KIND_DECODER_MESSAGE, start_pts=pts, end_pts=pts, detail=line
                )
            )
    filled: list[DamageEvent] = []
    for time in missing:
        last = filled[-1] if filled else None
        end = last.end_pts if last is not None else None
        if last is not None and end is not None and _are_neighbours(found.pts, end, time):
            filled[-1] = replace(last, end_pts=time, count=last.count + 1)
        else:
            detail = "the picture before is shown again"
            filled.append(
                DamageEvent(kind=damage.KIND_CONCEALED, start_pts=time, end_pts=time, detail=detail)
            )
    return (*events, *said, *filled)


def _are_neighbours(pts: Sequence[int], before: int, after: int) -> bool:
    """Whether no decoded picture lies between two times."""
    return bisect_left(pts, before) == bisect_left(pts, after)
