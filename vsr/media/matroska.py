"""Two elements of a Matroska track that FFmpeg's muxer cannot be told to write.

`CodecDelay` says how much of the start of an audio track is the encoder's run-in. FFmpeg 8 writes
it for Opus only, and for AAC from mp4 moves the whole film by the run-in instead. `DisplayWidth`
and `DisplayHeight` carry the shape of pixels, which AV1, FFV1 and ProRes do not carry themselves.

Both are put into the finished file in place: the muxer is given a track name that is too long by
`reserve` characters, and the room it took is used for them. Layout after RFC 8794 and RFC 9559.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from pathlib import Path
from typing import BinaryIO

import av
from av.stream import Stream

from vsr.errors import OutputError

_SEGMENT, _TRACKS, _ENTRY, _VIDEO = 0x18538067, 0x1654AE6B, 0xAE, 0xE0
_NUMBER, _NAME, _CODEC_DELAY = 0xD7, 0x536E, 0x56AA
_DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT = 0x54B0, 0x54BA, 0x54B2
_VOID, _CRC = 0xEC, 0xBF
_FILLER = "\x7f"
_BYTES_PER_TRACK = 24

_Element = tuple[int, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPatch:
    """What is to be added to one track."""

    codec_delay_ns: int | None = None
    display_size: tuple[int, int] | None = None
    """Width and height of the picture as shown, in square pixels."""


def reserve(title: str, num_tracks: int) -> str:
    """A title with room behind it for the patches of that many tracks."""
    return title + _FILLER * (_BYTES_PER_TRACK * num_tracks)


def display_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """The smallest size in square pixels, near the picture's own, of exactly its shape."""
    if (width * aspect).denominator == 1:
        return int(width * aspect), height
    if (height / aspect).denominator == 1:
        return width, int(height / aspect)
    across, down = width * aspect.numerator, height * aspect.denominator
    across, down = across // gcd(across, down), down // gcd(across, down)
    times = max(1, -(-width // across))
    return across * times, down * times


def writes_codec_delay(stream: Stream) -> bool:
    """Whether the muxer by itself writes the delay of a copy of this audio stream."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as trial:
        trial.add_stream_from_template(stream, opaque=True)
        trial.start_encoding()
    buffer.seek(0)
    _, payload = _find_tracks(buffer)
    entries = [data for kind, data in _parse(payload) if kind == _ENTRY]
    return any(kind == _CODEC_DELAY for data in entries for kind, _ in _parse(data))


def patch_tracks(path: Path, patches: Mapping[int, TrackPatch]) -> None:
    """Add elements to tracks of a finished file, and take the reserve out again.

    Args:
        path: a Matroska file whose tracks together hold enough `reserve`.
        patches: by track number, from 1.

    Raises:
        OutputError: the file is not laid out as FFmpeg's muxer does.
    """
    with path.open("r+b") as file:
        offset, payload = _find_tracks(file)
        elements: list[_Element] = []
        has_crc = False
        for kind, data in _parse(payload):
            if kind == _CRC:
                has_crc = True
            elif kind == _ENTRY:
                elements.append((kind, _patch_entry(data, patches)))
            elif kind != _VOID:
                elements.append((kind, data))
        size = len(payload) - 6 * has_crc
        body = _pad(_join(elements), size)
        if has_crc:
            body = _element(_CRC, zlib.crc32(body).to_bytes(4, "little")) + body
        if len(body) != len(payload):
            raise OutputError(f"no room for {len(patches)} patches in the header of {path.name}")
        file.seek(offset)
        file.write(body)


def _patch_entry(data: bytes, patches: Mapping[int, TrackPatch]) -> bytes:
    """One track with its patch, without filler and padding."""
    children = _parse(data)
    number = next(int.from_bytes(value, "big") for kind, value in children if kind == _NUMBER)
    patch = patches.get(number, TrackPatch())
    out: list[_Element] = []
    for kind, value in children:
        if kind == _NAME:
            title = value.rstrip(b"\0").rstrip(_FILLER.encode())
            if title:
                out.append((kind, title))
        elif kind == _VIDEO and patch.display_size is not None:
            # The muxer says that it does not know the unit; left out, it means pixels.
            skipped = (_VOID, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT)
            kept = [(k, v) for k, v in _parse(value) if k not in skipped]
            width, height = patch.display_size
            kept += [(_DISPLAY_WIDTH, _number(width)), (_DISPLAY_HEIGHT, _number(height))]
            out.append((kind, _join(kept)))
        elif kind != _VOID:
            out.append((kind, value))
    if patch.codec_delay_ns is not None:
        out.append((_CODEC_DELAY, _number(patch.codec_delay_ns)))
    return _join(out)


def _find_tracks(file: BinaryIO) -> tuple[int, bytes]:
    """Offset and payload of the Tracks element."""
    file.seek(0)
    while True:
        kind = _read_id(file)
        size = _read_size(file)
        if kind == _TRACKS:
            offset = file.tell()
            return offset, file.read(size)
        if kind != _SEGMENT:
            file.seek(size, io.SEEK_CUR)


def _read_id(file: BinaryIO) -> int:
    first = file.read(1)
    if not first or not first[0]:
        raise OutputError("the file just written has no tracks")
    return int.from_bytes(first + file.read(8 - first[0].bit_length()), "big")


def _read_size(file: BinaryIO) -> int:
    first = file.read(1)
    if not first or not first[0]:
        raise OutputError("the file just written is not Matroska")
    rest = 8 - first[0].bit_length()
    marker = 1 << (7 * (rest + 1))
    return int.from_bytes(first + file.read(rest), "big") - marker


def _parse(payload: bytes) -> list[_Element]:
    """Children of an element."""
    file = io.BytesIO(payload)
    children = []
    while file.tell() < len(payload):
        kind = _read_id(file)
        children.append((kind, file.read(_read_size(file))))
    return children


def _number(value: int) -> bytes:
    return value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")


def _size_field(size: int, length: int | None = None) -> bytes:
    """A size in `length` bytes, or in as few as it takes."""
    if length is None:
        length = next(n for n in range(1, 9) if size < (1 << (7 * n)) - 1)
    return (size | 1 << (7 * length)).to_bytes(length, "big")


def _element(kind: int, data: bytes) -> bytes:
    return _number(kind) + _size_field(len(data)) + data


def _join(elements: list[_Element]) -> bytes:
    return b"".join(_element(kind, data) for kind, data in elements)


def _pad(body: bytes, size: int) -> bytes:
    """Fill up with a Void element; a single spare byte needs a longer size field elsewhere."""
    spare = size - len(body)
    if spare == 0:
        return body
    if spare == 1:
        kind, data = _parse(body)[0]
        head = _number(kind)
        field = _size_field(len(data), len(_size_field(len(data))) + 1)
        return head + field + body[len(head) + len(field) - 1 :]
    if spare < 0:
        raise OutputError("the reserve in the file's header is too small")
    length = 1 if spare - 2 < 127 else 8
    empty = spare - 1 - length
    return body + _number(_VOID) + _size_field(empty, length) + bytes(empty)
