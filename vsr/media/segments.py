"""Segments -> the film: the exact join with everything else the source has.

The pictures come from closed segments, whose packets get back the integer pts of the source. Every
other stream is read from the source once and copied packet by packet (or converted where the plan
says so), interleaved by time, so that memory stays constant whatever the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from vsr.errors import EncodeError, OutputError, VsrError
from vsr.media.codecs import CONTAINER_FORMATS
from vsr.media.encoder import sync_file, sync_folder
from vsr.media.matroska import TrackPatch, display_size, patch_tracks, reserve
from vsr.media.opening import ANY_TAGS
from vsr.media.probe import AV_ERRORS, MediaInfo, open_input
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan
from vsr.media.stretches import Stretch, cut_chapters
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
from vsr.media.tracks import Track, add_tracks, label, read_packets, time_base_of


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
    stretches: Sequence[Stretch] = (),
) -> JoinSummary:
    """Write the film: pictures from segments, everything else from the source.

    The same arguments give the same bytes. In mkv, timestamps are rounded to milliseconds, halves
    away from zero, and a film whose pictures start before 0 is moved as a whole to start at 0.

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
        stretches: of the source that are taken, `pts` being those of the result; empty for all.

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
            writer = stack.enter_context(
                _open_output(output, container, plan, info, settings, film)
            )
            video = _add_video(writer, segments[0], film, settings, info, plan, rate)
            tracks = add_tracks(writer, reader, info, plan)
            notes: list[str] = []
            if stretches:
                info = replace(info, chapters=tuple(cut_chapters(info.chapters, stretches)))
            _describe(writer, info, plan, metadata, notes)
            if container == "mkv":
                title = video.metadata.get("title", "")
                video.metadata["title"] = reserve(title, 1 + len(tracks))
            writer.start_encoding()
            others = read_packets(reader, tracks, stretches)
            _write(writer, video, film, others, has_drivers=any(t.is_driver for t in tracks))
            video_number = video.index + 1
        if container == "mkv":
            patch_tracks(output, _patches(tracks, settings, video_number))
        sync_file(output)
        sync_folder(output.parent)
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
        if isinstance(error, EncodeError):
            raise
        raise EncodeError(f"segment {path.name} cannot be read ({error})") from error


def _open_output(
    output: Path,
    container: str,
    plan: StreamPlan,
    info: MediaInfo,
    settings: EncoderSettings,
    film: _Film,
) -> OutputContainer:
    """The result's container, by explicit format: its temporary name says nothing."""
    options = {"fflags": "+bitexact"}
    if container == "mkv":
        # Audio that begins before 0 is stored with its codec delay, so nothing needs to move,
        # unless the pictures themselves begin before 0, which Matroska cannot say.
        if film.pts[0] >= 0:
            options["avoid_negative_ts"] = "disabled"
    else:
        options["movflags"] = "+faststart"
        if plan.use_metadata_keys:
            options["movflags"] += "+use_metadata_tags"
        bases = [settings.time_base]
        for stream in info.streams:
            if stream.kind == "audio" and plan.of(stream.index).action != "drop":
                bases.append(Fraction(1, stream.sample_rate or 1000))
        options["movie_timescale"] = str(movie_timescale(bases))
    writer: OutputContainer = av.open(
        f"file:{output.absolute()}",
        "w",
        format=CONTAINER_FORMATS[container],
        container_options=options,
        **ANY_TAGS,
    )
    return writer


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
    label(stream, info.streams[info.video.stream_index], plan)
    return stream


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
    others: Iterator[tuple[Track, Packet[Stream]]],
    *,
    has_drivers: bool,
) -> None:
    """Mux all packets, the film's and the others', in order of time."""
    pictures = _pictures(film, video)
    pending = next(pictures, None)
    for track, packet in others:
        if track.is_driver or not has_drivers:
            time = cast(int, packet.dts) * float(time_base_of(track.target))
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


def _patches(
    tracks: list[Track], settings: EncoderSettings, video_number: int
) -> dict[int, TrackPatch]:
    """What the muxer could not be told, by track number."""
    patches = {
        track.number: TrackPatch(codec_delay_ns=track.delay_ns)
        for track in tracks
        if track.delay_ns
    }
    aspect = settings.sample_aspect_ratio
    if aspect != 1:
        size = display_size(settings.width, settings.height, aspect)
        patches[video_number] = TrackPatch(display_size=size)
    return patches
