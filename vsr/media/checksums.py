"""Checksums that a Matroska file carries of its clusters: what no decoder can notice.

Codecs such as VP9 and HEVC make some picture of most flipped bits, and say nothing. FFmpeg writes a
CRC-32 at the head of every cluster (RFC 9559, section 6.2) and never looks at it when reading.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _INFO, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1F43B675
_TIMESTAMP, _SCALE = 0xE7, 0x2AD7B1
_DEFAULT_SCALE_NS = 1_000_000
_MAX_CLUSTER_BYTES = 256 * 1024 * 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class BrokenCluster:
    """A stretch of a file that is not what was written."""

    offset: int
    """Byte in the file."""
    start_s: float
    """Where it says that it begins."""
    end_s: float | None
    """Where the next one begins; None for the last."""


def broken_clusters(path: Path) -> list[BrokenCluster]:
    """Clusters of a Matroska file that fail their own checksum; none in files without any.

    Reads the file once. Stops where its structure cannot be followed, which demuxers notice.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if _head(file, 0)[0] != _EBML:
            return []
        found = list(_clusters(file, path.stat().st_size))
    starts = [start_s for _, start_s, _ in found]
    return [
        BrokenCluster(offset, start_s, end_s)
        for (offset, start_s, is_sound), end_s in zip(found, [*starts[1:], None], strict=False)
        if not is_sound
    ]


def _clusters(file: BinaryIO, size: int) -> Iterator[tuple[int, float, bool]]:
    """(offset, start in seconds, whether its checksum holds or is missing) of each cluster."""
    scale_ns = _DEFAULT_SCALE_NS
    place = 0
    while place < size:
        kind, start, length = _head(file, place)
        if kind is None or start is None:
            return
        if kind == _SEGMENT:
            place = start
            continue
        if length is None or start + length > size:
            return
        if kind == _INFO:
            scale_ns = _find_uint(file.read(min(length, _CHUNK)), _SCALE) or scale_ns
        elif kind == _CLUSTER and length <= _MAX_CLUSTER_BYTES:
            data = file.read(length)
            has_sum = data[:2] == b"\xbf\x84"
            said = int.from_bytes(data[2:6], "little")
            ticks = _find_uint(data[:64], _TIMESTAMP) or 0
            yield place, ticks * scale_ns / 1e9, not has_sum or zlib.crc32(data[6:]) == said
        place = start + length


def _head(file: BinaryIO, place: int) -> tuple[int | None, int | None, int | None]:
    """Id of an element, where its data begin, and how many there are; None where unreadable."""
    file.seek(place)
    data = file.read(12)
    kind, used = _number(data, keep_marker=True)
    if kind is None:
        return None, None, None
    length, more = _number(data[used:], keep_marker=False)
    file.seek(place + used + more)
    return kind, (place + used + more if more else None), length


def _number(data: bytes, *, keep_marker: bool) -> tuple[int | None, int]:
    """A number of variable length and its bytes; an unknown size is (None, bytes)."""
    if not data or not data[0]:
        return None, 0
    size = 9 - data[0].bit_length()
    if len(data) < size:
        return None, 0
    value = int.from_bytes(data[:size], "big")
    if keep_marker:
        return value, size
    mask = (1 << 7 * size) - 1
    return (None if value & mask == mask else value & mask), size


def _find_uint(data: bytes, wanted: int) -> int | None:
    """Value of the first child of that id."""
    place = 0
    while place < len(data):
        kind, used = _number(data[place:], keep_marker=True)
        length, more = _number(data[place + used :], keep_marker=False)
        if kind is None or length is None:
            return None
        place += used + more
        if kind == wanted:
            return int.from_bytes(data[place : place + length], "big")
        place += length
    return None
