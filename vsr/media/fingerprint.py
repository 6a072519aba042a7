"""What is in the packets of a file, so that two files can be compared without decoding.

Memory is a few dozen bytes for every packet, never the packets themselves.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import OpenError
from vsr.media.opening import AV_ERRORS, open_input, reason
from vsr.media.probe import to_fraction
from vsr.media.timing import is_leap, lone_time

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

NO_TIME = -(1 << 63)
_ADTS_HEADER_BYTES = 7
_ADTS_CHECKSUM_BYTES = 2
_EMPTY_TEXT_SAMPLES = (b"\x00\x00", b"\x00\x00\x00")
"""What mp4 puts between the cues of a text track."""


@dataclass(slots=True)
class Fingerprint:
    """The packets of one stream, in the order of the file."""

    time_base: Fraction
    digests: array[int] = field(default_factory=lambda: array("Q"))
    """64 bits of each payload's SHA-256; timestamps are not in it."""
    sizes: array[int] = field(default_factory=lambda: array("L"))
    """Bytes of each payload."""
    pts: array[int] = field(default_factory=lambda: array("q"))
    """In `time_base`; `NO_TIME` where the file gives none."""
    durations: array[int] = field(default_factory=lambda: array("q"))
    """In `time_base`; 0 where unknown."""
    bytes_sha256: str = ""
    """Of all payloads as one row of bytes, wherever they are divided into packets."""
    rewrites: set[str] = field(default_factory=set)
    """What was taken off the packets before they were looked at."""

    @property
    def num_packets(self) -> int:
        return len(self.digests)

    @property
    def num_bytes(self) -> int:
        return sum(self.sizes)

    def time(self, index: int) -> Fraction | None:
        """When packet `index` is shown, in seconds."""
        pts = self.pts[index]
        return None if pts == NO_TIME else pts * self.time_base


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """An attachment's or a cover picture's bytes."""

    name: str
    mimetype: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Contents:
    """All that lies in a file beside the film."""

    prints: dict[int, Fingerprint]
    """By stream index: the streams asked for."""
    attachments: tuple[AttachedFile, ...]
    film_tags: tuple[int, int, int, int] = (2, 2, 2, 0)
    """Primaries, transfer, matrix and range of the film as the container or codec header states
    them, by H.273 and FFmpeg's numbers; the pictures may say otherwise."""
    trouble: str = ""
    """Why reading ended early; empty when the end was reached."""


def fingerprint(path: Path, indices: Collection[int], *, film: int | None = None) -> Contents:
    """Read a file once and digest the packets of some of its streams.

    Args:
        path: a media file.
        indices: of the streams wanted; those the file does not have are left out of the result.
        film: index of the film's stream, whose packets are then skipped without being read.

    Raises:
        OpenError: it cannot be opened.
    """
    with open_input(path) as container:
        streams = [stream for stream in container.streams if stream.index in set(indices)]
        attachments = tuple(
            AttachedFile(
                name=str(stream.metadata.get("filename") or stream.name or ""),
                mimetype=str(stream.mimetype or "application/octet-stream"),
                size_bytes=len(stream.data),
                sha256=hashlib.sha256(stream.data).hexdigest(),
            )
            for stream in container.streams.attachments
        )
        tags = (2, 2, 2, 0)
        if film is not None:
            context = container.streams.video[0].codec_context
            for stream in container.streams.video:
                context = stream.codec_context if stream.index == film else context
            tags = (
                int(context.color_primaries),
                int(context.color_trc),
                int(context.colorspace),
                int(context.color_range),
            )
        prints, trouble = _digest(container, streams, film)
        return Contents(prints, attachments, tags, f"{path}: {trouble}" if trouble else "")


def _digest(
    container: InputContainer, streams: list[Stream], film: int | None
) -> tuple[dict[int, Fingerprint], str]:
    from av.stream import Discard

    prints = {
        stream.index: Fingerprint(to_fraction(stream.time_base) or Fraction(1, 1000))
        for stream in streams
    }
    if not streams:
        return prints, ""
    if film is not None:
        container.streams[film].discard = Discard.all
    codecs = {stream.index: _codec(stream) for stream in streams}
    whole = {stream.index: hashlib.sha256() for stream in streams}
    trouble = ""
    try:
        for packet in container.demux(streams):
            index = packet.stream_index
            if not packet.size or index not in prints:
                continue
            payload, rewrite = bare_payload(codecs[index], bytes(packet))
            if codecs[index] == "mov_text" and payload in _EMPTY_TEXT_SAMPLES:
                continue
            found = prints[index]
            if rewrite:
                found.rewrites.add(rewrite)
            whole[index].update(payload)
            found.digests.append(int.from_bytes(hashlib.sha256(payload).digest()[:8], "little"))
            found.sizes.append(len(payload))
            found.pts.append(NO_TIME if packet.pts is None else packet.pts)
            found.durations.append(packet.duration or 0)
    except AV_ERRORS as error:
        trouble = f"could not be read to its end: {reason(error)}"
    for stream in streams:
        prints[stream.index].bytes_sha256 = whole[stream.index].hexdigest()
        if stream.type == "audio":
            _settle_leaps(prints[stream.index])
    return prints, trouble


def _settle_leaps(found: Fingerprint) -> None:
    """Take packets whose time alone ran ahead for what follows the packet before."""
    pts, durations = found.pts, found.durations
    last: int | None = None
    end: int | None = None
    for k in range(found.num_packets - 1):
        if NO_TIME in (pts[k], pts[k + 1]):
            continue
        if is_leap(last, end, pts[k], durations[k], pts[k + 1]):
            pts[k] = lone_time(end, durations[k], pts[k + 1])
        last, end = pts[k], pts[k] + durations[k]


def _codec(stream: Stream) -> str:
    # The stubs promise a context; streams of unknown codecs have none.
    context = getattr(stream, "codec_context", None)
    return "unknown" if context is None else str(context.codec.canonical_name)


def bare_payload(codec: str, data: bytes) -> tuple[bytes, str]:
    """The payload without the framing that some containers put around it, and what was taken off.

    AAC in MPEG-TS carries an ADTS header in every packet (ISO/IEC 13818-7, 6.2); Matroska, mp4 and
    mov keep its contents once, in the track's header.
    """
    if codec != "aac" or len(data) <= _ADTS_HEADER_BYTES:
        return data, ""
    # 12 bits of ones, any MPEG version, layer 0.
    if data[0] != 0xFF or data[1] & 0xF6 != 0xF0:
        return data, ""
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    if length != len(data):
        return data, ""
    header = _ADTS_HEADER_BYTES + (0 if data[1] & 1 else _ADTS_CHECKSUM_BYTES)
    return data[header:], "ADTS headers"


def packet_times(path: Path, index: int) -> array[int]:
    """Timestamps of one stream in order of display, as stored; packets without one left out.

    Raises:
        OpenError: the file cannot be opened or read to its end.
    """
    times = array("q")
    with open_input(path) as container:
        try:
            for packet in container.demux(container.streams[index]):
                if packet.size and packet.pts is not None:
                    times.append(packet.pts)
        except AV_ERRORS as error:
            raise OpenError(f"{path} could not be read to its end: {reason(error)}.") from error
    return array("q", sorted(times))
