"""Packets of one stream, by what they are known again, and where a fresh decoder can start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import DecodeError
from vsr.media.opening import AV_ERRORS, open_input
from vsr.media.probe import pick_video_stream, to_fraction

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_DEMUX_ERRORS = 100
"""In a row, before the rest of a file counts as unreadable."""
_MAX_SEEKS = 16
# Containers that store a timestamp with every packet. Others count from where reading began, so
# that a frame's timestamp would depend on it.
_SEEKABLE = frozenset({"mov", "matroska", "mpegts", "nut"})

DemuxFailed = Callable[[BaseException, bool], None]


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """Where in a file the first packets of a stream lie, and when they are shown."""

    num_packets: int
    sha256: str
    """Of pts, dts, size, whether it is a key packet, and place in the file, for each packet."""


class PacketIndexer:
    """Makes the index of packets that somebody else reads."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._num_packets = 0

    def push(self, packet: Packet[VideoStream]) -> None:
        """Take the next packet."""
        self._num_packets += 1
        fields = (packet.pts, packet.dts, packet.size, packet.is_keyframe, packet.pos)
        self._digest.update(repr(fields).encode("ascii"))

    def index(self) -> PacketIndex:
        """Of all packets so far."""
        return PacketIndex(self._num_packets, self._digest.hexdigest())


def index_packets(path: Path, stream_index: int, num_packets: int) -> PacketIndex:
    """Read a file for the index of its first packets; nothing is decoded.

    Raises:
        OpenError, NoVideoStreamError: it cannot be read.
    """
    indexer = PacketIndexer()
    with open_input(path) as container:
        stream = pick_video_stream(path, container, stream_index)
        for packet in islice(read_packets(container, stream, _ignore), num_packets):
            indexer.push(packet)
    return indexer.index()


def read_packets(
    container: InputContainer, stream: VideoStream, failed: DemuxFailed
) -> Iterator[Packet[VideoStream]]:
    """Packets from the current position to the end, empty ones left out.

    Empty packets repeat the last picture in AVI, and a decoder would take one for the end.

    Args:
        container: open input.
        stream: the stream wanted.
        failed: called with each error of the container and whether reading ends there.
    """
    num_failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    num_failures = 0
                    yield packet
            return
        except AV_ERRORS as error:
            num_failures += 1
            is_end = num_failures > MAX_DEMUX_ERRORS
            failed(error, is_end)
            if is_end:
                return


def _steps_back(stream: VideoStream) -> Iterator[int]:
    """Ever longer distances to try, in ticks: nothing, a second, two, four..."""
    time_base = to_fraction(stream.time_base)
    second = 1 if time_base is None else max(1, round(1 / time_base))
    yield 0
    for power in range(_MAX_SEEKS):
        yield second << power


def _ignore(error: BaseException, is_end: bool) -> None:
    """Errors of the container while looking for a place; reading proper will report them."""


def read_packets_from(
    container: InputContainer, stream: VideoStream, entry_pts: int, failed: DemuxFailed
) -> Iterator[Packet[VideoStream]]:
    """Packets from the key packet with timestamp `entry_pts` on.

    Raises:
        DecodeError: there is no such packet.
    """
    for back in _steps_back(stream):
        try:
            container.seek(entry_pts - back, stream=stream)
        except AV_ERRORS:
            continue
        packets = read_packets(container, stream, failed)
        for packet in packets:
            if packet.is_keyframe and packet.pts == entry_pts:
                yield packet
                yield from packets
                return
            if packet.dts is not None and packet.dts > entry_pts:
                break
    raise DecodeError(
        f"The key packet at pts {entry_pts} was not found.",
        hint="the file has changed since it was planned; plan again",
    )


def tells_times(path: Path) -> bool:
    """Whether a file stores a timestamp with every packet, so that reading may start anywhere.

    Raises:
        OpenError: it cannot be opened.
    """
    with open_input(path) as container:
        return _tells_times(container)


def _tells_times(container: InputContainer) -> bool:
    return bool(_SEEKABLE & set(container.format.name.split(",")))


def find_key_packet(container: InputContainer, stream: VideoStream, wanted_pts: int) -> int | None:
    """Timestamp of the last undamaged key packet at or before `wanted_pts`; None if unknown."""
    if not _tells_times(container):
        return None
    start = stream.start_time
    for back in _steps_back(stream):
        target = wanted_pts - back
        if start is None or target < start:
            return None
        try:
            container.seek(target, stream=stream)
        except AV_ERRORS:
            continue
        found: int | None = None
        for packet in read_packets(container, stream, _ignore):
            if packet.dts is not None and packet.dts > wanted_pts:
                break
            usable = packet.is_keyframe and not packet.is_corrupt and packet.pts is not None
            if usable and packet.pts is not None and packet.pts <= wanted_pts:
                found = packet.pts
        if found is not None:
            return found
    return None
