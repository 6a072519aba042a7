"""One reading of a whole film, and what it tells of damage."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsr.errors import OpenError
from vsr.frame import Frame, VideoInfo
from vsr.media import damage
from vsr.media.checksums import broken_clusters
from vsr.media.damage import DamageEvent
from vsr.media.ffmpeg_log import StderrLog
from vsr.media.fields import FieldReport, FieldWatch
from vsr.media.opening import AV_ERRORS
from vsr.media.packets import PacketIndexer
from vsr.pipeline.conceal import find_missing
from vsr.pipeline.entries import Landmarks
from vsr.pipeline.film import Film
from vsr.pipeline.interlace import DeinterlaceMode
from vsr.pipeline.shots import CutDetector

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


class Pass:
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


def read_pass(
    source: Path,
    info: VideoInfo,
    threads: int,
    deinterlace: DeinterlaceMode,
    on_frame: Callable[[int], None] | None,
    log: StderrLog | None,
    end_pts: int | None,
    *,
    is_damaged: bool = False,
) -> Pass:
    """Decode the film once, for everything that has to be known of it."""
    watch = None
    if deinterlace != "off" and FieldWatch.suits(info):
        watch = FieldWatch(info, is_damaged=is_damaged)
    if log is not None:
        log.poll()
    found = Pass(watch, log, threads)
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


def _broken(source: Path, info: VideoInfo, found: Pass) -> Iterator[DamageEvent]:
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


def count_damaged(found: Pass, missing: Sequence[int]) -> int:
    """Pictures that were lost, called damaged, or that the decoder complained of."""
    places: set[int | None] = {pts for pts, _ in found.messages if pts is not None}
    places |= found.corrupt | set(missing)
    # Which picture of such a stretch is not told: it counts as one.
    places |= {e.start_pts for e in found.events if e.kind == damage.KIND_CHECKSUM}
    nowhere = sum(event.count for event in found.events if event.kind in PICTURE_DAMAGE)
    return len(places) or min(1, nowhere + len(found.messages))


def events_of(found: Pass, missing: Sequence[int], info: VideoInfo) -> tuple[DamageEvent, ...]:
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
