"""OpenEXR files: their attributes, carried along as bytes, and whether their samples are whole."""

from __future__ import annotations

import struct
import zlib

from vsr.errors import UnsupportedVideoError

_OWN = frozenset(
    (
        b"channels", b"compression", b"dataWindow", b"displayWindow", b"lineOrder", b"tiles",
        b"pixelAspectRatio", b"screenWindowCenter", b"screenWindowWidth", b"type", b"name",
        b"version", b"chunkCount", b"preview", b"writer", b"gamma", b"dwaCompressionLevel",
        b"maxSamplesPerPixel", b"multiView",
    )
)  # fmt: skip
"""Attributes that belong to one file's samples, or that the encoder writes itself."""
_TILED, _DEEP, _PARTS = 0x200, 0x800, 0x1000
_LONG_NAMES = 0x400
_MAX_HEADER = 1 << 20
_LINES = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)
"""Lines per chunk by compression: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB."""
_ZIPPED = (2, 3)
_TYPES = ("uint", "half", "float")


def _attributes(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], int]:
    """(name, value, whole bytes) of every attribute, and where the closing zero lies."""
    attributes = []
    at = 8
    while data[at]:
        start = at
        name_end = data.index(b"\0", at, at + 256)
        type_end = data.index(b"\0", name_end + 1, name_end + 257)
        size = struct.unpack_from("<i", data, type_end + 1)[0]
        at = type_end + 5 + size
        if size < 0 or at >= min(len(data), _MAX_HEADER):
            raise ValueError(f"attribute {data[start:name_end]!r} is cut off or too large")
        attributes.append((data[start:name_end], data[type_end + 5 : at], data[start:at]))
    return attributes, at


def _channels(value: bytes) -> dict[str, str]:
    """Name -> sample type of every channel."""
    channels = {}
    at = 0
    while value[at]:
        end = value.index(b"\0", at)
        kind = struct.unpack_from("<i", value, end + 1)[0]
        channels[value[at:end].decode("utf-8", "replace")] = _TYPES[kind]
        at = end + 17
    return channels


def read(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """(attributes to carry along, what will be lost) of a file, after a look at its structure.

    Raises:
        UnsupportedVideoError: it holds what cannot be read.
        ValueError: it is broken.
    """
    flags = struct.unpack_from("<I", data, 4)[0]
    if flags & (_DEEP | _PARTS):
        raise UnsupportedVideoError("it is an OpenEXR file of several parts or of deep samples")
    attributes, end = _attributes(data)
    values = {name: value for name, value, _ in attributes}
    channels = _channels(values.get(b"channels", b"\0"))
    colors = {"R", "G", "B"} if "R" in channels else {"Y"}
    if not colors <= set(channels) or {"RY", "BY"} & set(channels):
        raise UnsupportedVideoError(
            f"its channels are {', '.join(sorted(channels))}, expected R, G, B or Y"
        )
    types = {channels[name] for name in colors}
    if len(types) != 1 or "uint" in types:
        raise UnsupportedVideoError(
            "its channels hold integers or samples of several types, expected half or float"
        )
    _check_chunks(data, end + 1, values, channels, is_tiled=bool(flags & _TILED))
    losses = []
    extra = sorted(set(channels) - colors - {"A"})
    if extra:
        losses.append(f"the channels {', '.join(extra)}, which are no part of the picture")
    if values.get(b"dataWindow") != values.get(b"displayWindow"):
        losses.append("what lies outside of the display window")
    carried = b"".join(whole for name, _, whole in attributes if name not in _OWN)
    has_long_names = any(len(name) > 31 for name, _, _ in attributes)
    return bytes([has_long_names]) + carried, tuple(losses)


def insert(encoded: bytes, carried: bytes) -> bytes:
    """Put carried attributes into a file as FFmpeg writes it."""
    attributes, end = _attributes(encoded)
    values = {name: value for name, value, _ in attributes}
    has_long_names, extra = carried[0], carried[1:]
    _, top, _, bottom = struct.unpack("<4i", values[b"dataWindow"])
    lines = _LINES[values[b"compression"][0]]
    count = -(-(bottom - top + 1) // lines)
    # Behind the header lies a table of absolute offsets, which all move.
    table = struct.unpack_from(f"<{count}Q", encoded, end + 1)
    moved = struct.pack(f"<{count}Q", *(offset + len(extra) for offset in table))
    head = bytearray(encoded[:end])
    flags = struct.unpack_from("<I", head, 4)[0]
    struct.pack_into("<I", head, 4, flags | (_LONG_NAMES if has_long_names else 0))
    return bytes(head) + extra + b"\0" + moved + encoded[end + 1 + 8 * count :]


def _check_chunks(
    data: bytes, at: int, values: dict[bytes, bytes], channels: dict[str, str], *, is_tiled: bool
) -> None:
    """Raise unless every chunk of samples is there, whole, and can be unpacked where it is zipped.

    FFmpeg's decoder leaves black what is missing or broken, and says nothing.
    """
    left, top, right, bottom = struct.unpack("<4i", values[b"dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    compression = values[b"compression"][0]
    if is_tiled:
        across, down = struct.unpack_from("<2I", values[b"tiles"])
        count, head = -(-width // across) * -(-height // down), 20
    else:
        lines = _LINES[compression]
        count, head = -(-height // lines), 8
    if count <= 0 or at + 8 * count > len(data):
        raise ValueError("it is cut off before its samples")
    pixel = sum(2 if kind == "half" else 4 for kind in channels.values())
    for offset in struct.unpack_from(f"<{count}Q", data, at):
        start = offset + head
        size = struct.unpack_from("<i", data, start - 4)[0] if 0 < offset < len(data) else -1
        if size < 0 or start + size > len(data):
            raise ValueError("samples are missing: it is cut off")
        if is_tiled or compression not in _ZIPPED:
            continue
        row = struct.unpack_from("<i", data, offset)[0]
        raw = pixel * width * min(lines, bottom - row + 1)
        if size < raw:
            unzip = zlib.decompressobj()
            if len(unzip.decompress(data[start : start + size], raw)) != raw or unzip.unused_data:
                raise ValueError(f"samples from line {row} on are damaged")
