"""The streams beside the film, on their way from the source to the result.

Packets are copied (or converted where the plan says so) in the order of the source, so that memory
stays constant whatever the length.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Disposition, Stream
from av.subtitles.stream import SubtitleStream

from vsr.errors import OpenError, OutputError
from vsr.media.convert import AudioConverter, Converter, SubtitleConverter
from vsr.media.matroska import writes_codec_delay
from vsr.media.opening import AV_ERRORS, reason
from vsr.media.packets import MAX_DEMUX_ERRORS
from vsr.media.probe import MediaInfo, StreamInfo, open_input
from vsr.media.streams import StreamPlan, cover_name
from vsr.media.stretches import Stretch, find_stretch
from vsr.media.timing import MILLISECOND, is_leap, lone_time, round_away


@dataclass(slots=True)
class Track:
    """One other stream on its way from source to result."""

    index: int
    target: Stream
    time_base: Fraction
    converter: Converter | None = None
    delay: int | None = None
    """mkv: ticks by which the track is stored late and shown early, its codec delay; None while
    its first packet has not been seen, or when the muxer sees to it."""
    delay_ns: int = 0
    may_delay: bool = False
    """Whether that is ours to do."""
    is_driver: bool = False
    """Whether its packets say how far the film may be written: audio does, sparse streams don't."""
    last_dts: int | None = None
    next_dts: int = 0
    held: Packet[Stream] | None = None
    """Of sound: the packet whose time is judged by the next one's."""
    before: tuple[int, int] | None = None
    """Time and end of the packet before that, in the source's ticks."""
    num_packets: int = 0
    num_repaired: int = 0

    @property
    def number(self) -> int:
        """Matroska's track number."""
        return self.target.index + 1


def label(target: Stream, source: StreamInfo, plan: StreamPlan) -> None:
    """Tags and dispositions of one stream."""
    target.metadata.update(plan.stream_metadata.get(source.index, {}))
    flags = Disposition(0)
    for name in source.disposition:
        flags |= Disposition[name]
    target.disposition = flags


def add_tracks(
    writer: OutputContainer, reader: InputContainer, info: MediaInfo, plan: StreamPlan
) -> list[Track]:
    """Every other stream of the result, in the order of the source; attachments come last."""
    tracks: list[Track] = []
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
        label(target, described, plan)
        time_base = converter.time_base if converter else described.time_base or MILLISECOND
        is_audio = action.kind == "audio"
        tracks.append(
            Track(
                index=action.index,
                target=target,
                time_base=time_base,
                converter=converter,
                may_delay=is_audio
                and plan.container == "mkv"
                and converter is None
                and not writes_codec_delay(source),
                is_driver=is_audio,
            )
        )
    for name, mimetype, data in attachments:
        writer.add_attachment(name, mimetype, data)
    return tracks


def _read_cover(path: Path, index: int) -> bytes:
    """The picture of a cover art stream."""
    with open_input(path) as container:
        for packet in container.demux(container.streams[index]):
            if packet.size:
                return bytes(packet)
    raise OutputError(f"the cover art of stream {index} has gone from the source")


def _demuxed(reader: InputContainer, wanted: list[Stream]) -> Iterator[Packet[Stream]]:
    """Packets of streams; places that cannot be read are passed over, as for the pictures.

    Raises:
        OpenError: the disk fails.
    """
    num_failures = 0
    while num_failures <= MAX_DEMUX_ERRORS:
        try:
            for packet in reader.demux(wanted):
                num_failures = 0
                yield packet
            return
        except AV_ERRORS as error:
            if isinstance(error, OSError) and error.errno == errno.EIO:
                raise OpenError(f"{reader.name} cannot be read: {reason(error)}.") from error
            num_failures += 1


def read_packets(
    reader: InputContainer, tracks: list[Track], stretches: Sequence[Stretch] = ()
) -> Iterator[tuple[Track, Packet[Stream]]]:
    """Packets of all other streams, in the order of the source, ready to be muxed.

    Args:
        reader: the source.
        tracks: where its streams go.
        stretches: what is taken of it, and where that goes; empty for all.
    """
    by_index = {track.index: track for track in tracks}
    for stream in reader.streams:
        # The demuxer then skips the source's pictures without reading them.
        stream.discard = Discard.default if stream.index in by_index else Discard.all
    wanted = [reader.streams[index] for index in by_index]
    for packet in _demuxed(reader, wanted) if wanted else ():
        track = by_index.get(packet.stream_index)
        if track is None or not packet.size:
            continue
        for steady in _steady(track, packet):
            yield from _ready(track, steady, stretches)
    for track in tracks:
        for steady in _steady(track, None):
            yield from _ready(track, steady, stretches)
        yield from _ready(track, None, stretches)


def _ready(
    track: Track, packet: Packet[Stream] | None, stretches: Sequence[Stretch]
) -> Iterator[tuple[Track, Packet[Stream]]]:
    """What becomes of a packet, or at the end what is left, as far as it is wanted."""
    ready: Iterable[Packet[Stream]] = () if packet is None else (packet,)
    if track.converter is not None:
        ready = track.converter.flush() if packet is None else track.converter.convert(packet)
    for one in ready:
        stretch = _stretch_of(one, track, stretches)
        if stretch is not None:
            yield track, _fit(one, track, stretch)


def _steady(track: Track, packet: Packet[Stream] | None) -> Iterator[Packet[Stream]]:
    """The packet before, now that its time can be judged by this one's; at the end with None.

    One of sound whose time leapt alone may drag along those that follow, since times
    must rise; it gets the one at which the packet before it ended.
    """
    if not track.is_driver:
        if packet is not None:
            yield packet
        return
    one, track.held = track.held, packet
    if one is None:
        return
    if one.dts is not None:
        length = one.duration or 0
        last, end = track.before or (None, None)
        following = None if packet is None else packet.dts
        if following is not None and is_leap(last, end, one.dts, length, following):
            time = lone_time(end, length, following)
            one.pts = time + (one.dts if one.pts is None else one.pts) - one.dts
            one.dts = time
            track.num_repaired += 1
        track.before = one.dts, one.dts + length
    yield one


_WHOLE = Stretch(start=None, end=None, shift=Fraction(0))


def _stretch_of(
    packet: Packet[Stream], track: Track, stretches: Sequence[Stretch]
) -> Stretch | None:
    """The stretch that a packet belongs to; None when it is left out."""
    time = packet.pts if packet.pts is not None else packet.dts
    # Cover art belongs to the film, not to a moment of it.
    if not stretches or time is None or track.target.type == "video":
        return _WHOLE
    return find_stretch(time * track.time_base, stretches)


def _fit(packet: Packet[Stream], track: Track, stretch: Stretch) -> Packet[Stream]:
    """Put a packet into the result's stream and time base, moved with its stretch.

    Timestamps that are missing or do not rise would end the whole file; they are moved by the
    least that helps, and counted.
    """
    target = time_base_of(track.target)
    dts = packet.dts if packet.dts is not None else packet.pts
    pts = packet.pts if packet.pts is not None else dts
    is_repaired = False
    if dts is None or pts is None:
        new_dts = new_pts = track.next_dts
        # Cover art has no time, and needs none.
        is_repaired = track.target.type != "video"
    else:
        new_dts, new_pts = (
            round_away((t * track.time_base + stretch.shift) / target) for t in (dts, pts)
        )
        if track.may_delay:
            delay = _delay(track, pts * track.time_base + stretch.shift, new_pts)
            new_dts, new_pts = new_dts + delay, new_pts + delay
    is_subtitle = track.target.type == "subtitle"
    if track.last_dts is not None and new_dts + is_subtitle <= track.last_dts:
        new_dts = track.last_dts + (not is_subtitle)
        is_repaired = True
    if new_pts < new_dts:
        new_pts = new_dts
        is_repaired = True
    length = (packet.duration or 0) * track.time_base
    if is_subtitle and stretch.end is not None and pts is not None:
        length = min(length, stretch.end - pts * track.time_base)
    duration = round_away(length / target)
    packet.stream = track.target
    packet.time_base = target
    packet.pts, packet.dts, packet.duration = new_pts, new_dts, duration
    track.last_dts = new_dts
    track.next_dts = new_dts + max(1, duration)
    track.num_packets += 1
    track.num_repaired += is_repaired
    return packet


def _delay(track: Track, time: Fraction, rounded: int) -> int:
    """Ticks to add to an audio track of mkv: as much as it begins before 0, from its first packet.

    The same amount, as the track's codec delay, is subtracted again by who reads the file.
    """
    if track.delay is None:
        track.delay = max(0, -rounded)
        track.delay_ns = round(max(Fraction(0), -time) * 1_000_000_000)
    return track.delay


def time_base_of(stream: Stream) -> Fraction:
    """A stream's time base, of any version of av."""
    value = stream.time_base
    assert value is not None
    return Fraction(value.numerator, value.denominator)
