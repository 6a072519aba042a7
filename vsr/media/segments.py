"""Segments -> the film: the exact join with everything else the source has.

The pictures come from closed segments, whose packets get back the integer pts of the source. Every
other stream is read from the source once and copied packet by packet (or converted where the plan
says so), interleaved by time, so that memory stays constant whatever the length.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from vsr.errors import EncodeError, OutputError, VsrError
from vsr.media.codecs import CONTAINER_FORMATS
from vsr.media.convert import AudioConverter, Converter, SubtitleConverter
from vsr.media.encoder import sync_file
from vsr.media.probe import AV_ERRORS, MediaInfo, StreamInfo, open_input
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan, cover_name
from vsr.media.tags import container_tags
from vsr.media.timing import (
    MILLISECOND,
    average_rate,
    decode_times,
    frame_durations,
    movie_timescale,
    rescale,
    spread,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinSummary:
    """What was written."""

    num_frames: int
    num_bytes: int
    num_packets: dict[int, int]
    """Packets written of every other stream, by source index."""
    notes: tuple[str, ...]
    """What had to be repaired or left out on the way; empty for a clean source."""


@dataclass(slots=True)
class _Track:
    """One other stream on its way from source to result."""

    index: int
    target: Stream
    time_base: Fraction
    converter: Converter | None = None
    is_driver: bool = False
    """Whether its packets say how far the film may be written: audio does, sparse streams don't."""
    last_dts: int | None = None
    next_dts: int = 0
    num_packets: int = 0
    num_repaired: int = 0


@dataclass(slots=True)
class _Film:
    """The pictures on their way from the segments to the result."""

    segments: Sequence[Path]
    order: list[int]
    pts: list[int]
    dts: list[int]
    durations: list[int]
    time_base: Fraction
    extradata: bytes | None = field(default=None, repr=False)


def join_segments(
    segments: Sequence[Path],
    pts: Sequence[int],
    durations: Sequence[int],
    *,
    source: Path,
    info: MediaInfo,
    plan: StreamPlan,
    settings: EncoderSettings,
    output: Path,
    container: str,
    metadata: Mapping[str, str],
) -> JoinSummary:
    """Write the film: pictures from segments, everything else from the source.

    The same arguments give the same bytes. In mkv, timestamps are rounded to milliseconds, halves
    away from zero, and a source that starts before 0 is moved as a whole to start at 0.

    Args:
        segments: as `SegmentEncoder` wrote them, in order.
        pts: of every frame over all segments, in `settings.time_base`, strictly rising.
        durations: of every frame, 0 where unknown; only the last one is used.
        source: the file all other streams are read from.
        info: of the source.
        plan: what becomes of the other streams; made for the same container.
        settings: the segments were encoded with.
        output: written whatever its name ends in, and overwritten; removed again on an error.
        container: `mkv`, `mp4` or `mov`.
        metadata: further tags of the file; they win over the source's.

    Raises:
        EncodeError: the segments do not hold the frames that `pts` tells of, or pts do not rise.
        OpenError: the source cannot be opened any more.
        OutputError: the result cannot be written.
    """
    assert plan.container == container, f"the plan is for {plan.container}, not {container}"
    film = _plan_film(segments, pts, durations, settings, container)
    rate = average_rate(pts, settings.time_base, info.video.frame_rate)
    try:
        with ExitStack() as stack:
            reader = stack.enter_context(open_input(source))
            writer = stack.enter_context(_open_output(output, container, plan, info, settings))
            video = _add_video(writer, segments[0], film, settings, info, plan, rate)
            tracks, notes = _add_tracks(writer, reader, info, plan)
            _describe(writer, info, plan, metadata, notes)
            writer.start_encoding()
            _write(writer, video, film, reader, tracks)
        sync_file(output)
        _sync_folder(output.parent)
        size = output.stat().st_size
    except AV_ERRORS as error:
        output.unlink(missing_ok=True)
        if isinstance(error, VsrError):
            raise
        raise OutputError(f"{output.name} could not be written ({error})") from error
    for track in tracks:
        if track.num_repaired:
            notes.append(
                f"{track.num_repaired} packets of stream {track.index} had missing or "
                "backward timestamps and were moved"
            )
        notes += track.converter.notes if track.converter else []
    return JoinSummary(
        num_frames=len(film.pts),
        num_bytes=size,
        num_packets={track.index: track.num_packets for track in tracks},
        notes=tuple(notes),
    )


def _plan_film(
    segments: Sequence[Path],
    pts: Sequence[int],
    durations: Sequence[int],
    settings: EncoderSettings,
    container: str,
) -> _Film:
    """Read the order of the packets and give every one its timestamps."""
    for before, after in pairwise(pts):
        if after <= before:
            raise EncodeError(f"frame pts must rise, but {after} comes after {before}")
    order: list[int] = []
    extradata: bytes | None = None
    for number, path in enumerate(segments):
        times, header = _read_segment(path)
        if number and header != extradata:
            raise EncodeError(f"segment {path.name} was encoded with other settings than the first")
        extradata = header
        rank = {time: k for k, time in enumerate(sorted(times))}
        first = len(order)
        order += [first + rank[time] for time in times]
    if len(order) != len(pts) or not order:
        raise EncodeError(f"the segments hold {len(order)} frames, but {len(pts)} were planned")
    rate = settings.frame_rate * settings.time_base
    shown = frame_durations(pts, durations, rate)
    dts = decode_times(order, pts)
    time_base = settings.time_base
    times = list(pts)
    if container == "mkv":
        # Rounded here and not by the muxer, because two frames may fall into one millisecond: a
        # second dts of the same value would be refused, a second pts is not.
        times, shown, dts = (
            [rescale(t, time_base, MILLISECOND) for t in values] for values in (pts, shown, dts)
        )
        dts = spread(dts)
        time_base = MILLISECOND
    return _Film(segments, order, times, dts, shown, time_base, extradata)


def _read_segment(path: Path) -> tuple[list[int], bytes | None]:
    """Timestamps of a segment's packets in decode order, and its codec header."""
    try:
        with open_input(path) as container:
            stream = container.streams.video[0]
            times = [cast(int, p.pts) for p in container.demux(stream) if p.size]
            if len(set(times)) != len(times):
                raise EncodeError(f"segment {path.name} has two frames at one time")
            return times, stream.codec_context.extradata
    except AV_ERRORS as error:
        if isinstance(error, VsrError):
            raise
        raise EncodeError(f"segment {path.name} cannot be read ({error})") from error


def _open_output(
    output: Path, container: str, plan: StreamPlan, info: MediaInfo, settings: EncoderSettings
) -> OutputContainer:
    """The result's container, by explicit format: its temporary name says nothing."""
    options = {"fflags": "+bitexact"}
    if container != "mkv":
        options["movflags"] = "+faststart"
        if plan.use_metadata_keys:
            options["movflags"] += "+use_metadata_tags"
        bases = [settings.time_base]
        for stream in info.streams:
            if stream.kind == "audio" and plan.of(stream.index).action != "drop":
                bases.append(Fraction(1, stream.sample_rate or 1000))
        options["movie_timescale"] = str(movie_timescale(bases))
    return av.open(
        f"file:{output.absolute()}",
        "w",
        format=CONTAINER_FORMATS[container],
        container_options=options,
    )


def _add_video(
    writer: OutputContainer,
    segment: Path,
    film: _Film,
    settings: EncoderSettings,
    info: MediaInfo,
    plan: StreamPlan,
    rate: Fraction,
) -> VideoStream:
    """The film's stream, with the codec header of the segments and every tag of the picture."""
    with open_input(segment) as container:
        stream = writer.add_stream_from_template(container.streams.video[0], opaque=True)
    context = stream.codec_context
    context.sample_aspect_ratio = settings.sample_aspect_ratio
    context.color_primaries = int(settings.color.primaries)
    context.color_trc = int(settings.color.transfer)
    context.colorspace = int(settings.color.matrix)
    context.color_range = 2 if settings.color.full_range else 1
    if settings.codec == "libx265" and plan.container != "mkv":
        # FFmpeg's default, hev1, is refused by Apple's players.
        context.codec_tag = "hvc1"
    stream.time_base = film.time_base
    stream.rate = rate
    if info.video.display_matrix is not None:
        stream.set_display_matrix(info.video.display_matrix)
    _label(stream, info.streams[info.video.stream_index], plan)
    return stream


def _label(target: Stream, source: StreamInfo, plan: StreamPlan) -> None:
    """Tags and dispositions of one stream."""
    target.metadata.update(plan.stream_metadata.get(source.index, {}))
    flags = Disposition(0)
    for name in source.disposition:
        flags |= Disposition[name]
    target.disposition = flags


def _add_tracks(
    writer: OutputContainer, reader: InputContainer, info: MediaInfo, plan: StreamPlan
) -> tuple[list[_Track], list[str]]:
    """Every other stream of the result, in the order of the source; attachments come last."""
    tracks: list[_Track] = []
    notes: list[str] = []
    attachments: list[tuple[str, str, bytes]] = []
    for action in plan.actions:
        if action.action in ("drop", "video"):
            continue
        source = reader.streams[action.index]
        described = info.streams[action.index]
        if action.kind == "attachment":
            held = next(a for a in reader.streams.attachments if a.index == action.index)
            name = held.metadata.get("filename") or held.name or "attachment"
            attachments.append((name, held.mimetype or "application/octet-stream", held.data))
            continue
        if action.target_codec == "attachment":
            attachments.append((*cover_name(described), _read_cover(info.path, action.index)))
            continue
        converter: Converter | None = None
        if action.action == "convert" and action.kind == "audio":
            converter = AudioConverter(writer, cast(AudioStream, source))
        elif action.action == "convert":
            converter = SubtitleConverter(
                writer, cast(SubtitleStream, source), action.target_codec or "mov_text"
            )
        target = (
            converter.target if converter else writer.add_stream_from_template(source, opaque=True)
        )
        _label(target, described, plan)
        time_base = converter.time_base if converter else described.time_base or MILLISECOND
        tracks.append(
            _Track(action.index, target, time_base, converter, is_driver=action.kind == "audio")
        )
    for name, mimetype, data in attachments:
        writer.add_attachment(name, mimetype, data)
    return tracks, notes


def _read_cover(path: Path, index: int) -> bytes:
    """The picture of a cover art stream."""
    with open_input(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    raise OutputError(f"the cover art of stream {index} has gone from the source")


def _describe(
    writer: OutputContainer,
    info: MediaInfo,
    plan: StreamPlan,
    metadata: Mapping[str, str],
    notes: list[str],
) -> None:
    """Tags and chapters of the file."""
    has_free_keys = plan.container == "mkv" or plan.use_metadata_keys
    added, lost = container_tags(metadata, plan.container, any_key=has_free_keys)
    notes += [f"tag {name} was not written: {plan.container} cannot hold it" for name in lost]
    writer.metadata.update({**plan.metadata, **added})
    if plan.chapters:
        chapters = [
            {
                "id": chapter.id,
                "start": max(0, chapter.start),
                "end": max(0, chapter.start, chapter.end),
                "time_base": chapter.time_base,
                "metadata": dict(chapter.metadata),
            }
            for chapter in info.chapters
        ]
        writer.set_chapters(chapters)  # type: ignore[arg-type]


def _write(
    writer: OutputContainer,
    video: VideoStream,
    film: _Film,
    reader: InputContainer,
    tracks: list[_Track],
) -> None:
    """Mux all packets, the film's and the others', in order of time."""
    pictures = _pictures(film, video)
    pending = next(pictures, None)
    has_drivers = any(track.is_driver for track in tracks)
    for track, packet in _others(reader, tracks):
        if track.is_driver or not has_drivers:
            time = cast(int, packet.dts) * float(_time_base(track.target))
            while pending is not None and cast(int, pending.dts) * float(film.time_base) <= time:
                writer.mux_one(pending)
                pending = next(pictures, None)
        writer.mux_one(packet)
    while pending is not None:
        writer.mux_one(pending)
        pending = next(pictures, None)


def _pictures(film: _Film, target: VideoStream) -> Iterator[Packet[Stream]]:
    """Packets of all segments, with the timestamps of the film."""
    k = 0
    for path in film.segments:
        with open_input(path) as container:
            for packet in container.demux(container.streams.video[0]):
                if not packet.size:
                    continue
                frame = film.order[k]
                packet.stream = target
                packet.time_base = film.time_base
                packet.pts = film.pts[frame]
                packet.dts = film.dts[k]
                packet.duration = film.durations[frame]
                k += 1
                yield cast("Packet[Stream]", packet)
    assert k == len(film.order), "a segment changed while it was read"


def _others(
    reader: InputContainer, tracks: list[_Track]
) -> Iterator[tuple[_Track, Packet[Stream]]]:
    """Packets of all other streams, in the order of the source, ready to be muxed."""
    by_index = {track.index: track for track in tracks}
    for stream in reader.streams:
        # The demuxer then skips the source's pictures without reading them.
        stream.discard = Discard.default if stream.index in by_index else Discard.all
    wanted = [reader.streams[index] for index in by_index]
    for packet in reader.demux(wanted) if wanted else ():
        track = by_index.get(packet.stream_index)
        if track is None or not packet.size:
            continue
        if track.converter is None:
            yield track, _fit(packet, track)
            continue
        for converted in track.converter.convert(packet):
            yield track, _fit(converted, track)
    for track in tracks:
        if track.converter is not None:
            for converted in track.converter.flush():
                yield track, _fit(converted, track)


def _fit(packet: Packet[Stream], track: _Track) -> Packet[Stream]:
    """Put a packet into the result's stream and time base.

    Timestamps that are missing or do not rise would end the whole file; they are moved by the
    least that helps, and counted.
    """
    target = _time_base(track.target)
    dts = packet.dts if packet.dts is not None else packet.pts
    pts = packet.pts if packet.pts is not None else dts
    is_repaired = False
    if dts is None or pts is None:
        new_dts = new_pts = track.next_dts
        # Cover art has no time, and needs none.
        is_repaired = track.target.type != "video"
    else:
        new_dts, new_pts = (rescale(t, track.time_base, target) for t in (dts, pts))
    is_subtitle = track.target.type == "subtitle"
    if track.last_dts is not None and new_dts + is_subtitle <= track.last_dts:
        new_dts = track.last_dts + (not is_subtitle)
        is_repaired = True
    if new_pts < new_dts:
        new_pts = new_dts
        is_repaired = True
    duration = rescale(packet.duration or 0, track.time_base, target)
    packet.stream = track.target
    packet.time_base = target
    packet.pts, packet.dts, packet.duration = new_pts, new_dts, duration
    track.last_dts = new_dts
    track.next_dts = new_dts + max(1, duration)
    track.num_packets += 1
    track.num_repaired += is_repaired
    return packet


def _time_base(stream: Stream) -> Fraction:
    """A stream's time base, of any version of av."""
    value = stream.time_base
    assert value is not None
    return Fraction(value.numerator, value.denominator)


def _sync_folder(folder: Path) -> None:
    """Bring a new name safely to disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
