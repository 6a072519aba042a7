"""Write and read picture files by plain av calls, never through vsr."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

Array = np.ndarray[Any, Any]


def pattern(index: int, height: int, width: int, bits: int, channels: int = 3) -> Array:
    """(height, width, channels) R, G, B: smooth waves that move and use most of the codes."""
    y, x = np.mgrid[0:height, 0:width]
    top = (1 << bits) - 1
    waves = [
        0.5 + 0.42 * np.sin((x + 2 * index + 9 * c) / 6.0) * np.cos((y - index - 5 * c) / 5.0)
        for c in range(channels)
    ]
    samples: Array = np.rint(np.stack(waves, -1) * top).astype(np.uint16)
    return samples


_PACKED = {"rgb24": 3, "rgb48be": 3, "rgb48le": 3, "rgba": 4, "rgba64be": 4, "gray": 1}
_PACKED |= {"gray16be": 1, "gray16le": 1}


def frame_of(samples: Array, pixel_format: str) -> av.VideoFrame:
    """A frame from (h, w, c) samples: R, G, B, A."""
    height, width = samples.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    order = ">" if pixel_format.endswith("be") else "<"
    if pixel_format in _PACKED:
        kind = (
            "u2" if "48" in pixel_format or "64" in pixel_format or "16" in pixel_format else "u1"
        )
        parts = [samples.reshape(height, -1)]
    else:
        kind = "f4" if "f32" in pixel_format else "u2"
        planes = (1, 2, 0) if samples.shape[2] >= 3 else (0,)
        parts = [samples[..., c] for c in planes]
        if samples.shape[2] == 4:
            parts.append(samples[..., 3])
    for plane, part in zip(frame.planes, parts, strict=True):
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        rows.view(order + kind)[:, : part.shape[1]] = part
        plane.update(rows.tobytes())
    frame.pts = 0
    return frame


def encode(codec: str, samples: Array, pixel_format: str, **options: str) -> bytes:
    """One picture file."""
    context: Any = av.CodecContext.create(codec, "w")
    context.height, context.width = samples.shape[:2]
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    context.options, context.thread_count = options, 1
    frame = frame_of(samples, pixel_format)
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def decode(codec: str, data: bytes) -> tuple[str, Array]:
    """Pixel format and (h, w, c) samples R, G, B, A of a picture file."""
    context: Any = av.CodecContext.create(codec, "r")
    context.thread_count = 1
    frames: list[Any] = [*context.decode(av.Packet(data)), *context.decode(None)]
    assert len(frames) == 1
    frame = frames[0]
    name: str = frame.format.name
    order = ">" if name.endswith("be") else "<"
    if name in _PACKED:
        channels = _PACKED[name]
        kind = "u2" if any(n in name for n in ("48", "64", "16")) else "u1"
        rows = np.frombuffer(frame.planes[0], np.uint8).reshape(frame.height, -1)
        view = rows.view(order + kind)[:, : frame.width * channels]
        return name, view.reshape(frame.height, frame.width, channels).astype(np.uint16)
    kind = "f4" if "f32" in name else "f2" if "f16" in name else "u2"
    planes = [
        np.frombuffer(p, np.uint8).reshape(p.height, -1).view(order + kind)[:, : frame.width]
        for p in frame.planes
    ]
    chosen = [planes[2], planes[0], planes[1], *planes[3:]] if len(planes) >= 3 else planes
    return name, np.stack(chosen, -1)


def png_chunk(name: bytes, value: bytes) -> bytes:
    """With length and checksum."""
    check = struct.pack(">I", zlib.crc32(name + value))
    return struct.pack(">I4s", len(value), name) + value + check


def png_with(data: bytes, *chunks: bytes) -> bytes:
    """A PNG file with more chunks behind its header."""
    return data[:33] + b"".join(chunks) + data[33:]


def dpx_with_headers(data: bytes, *, transfer: int = 1, timecode: int = 0x01020304) -> bytes:
    """A big-endian DPX file with film and television headers as a scanner writes them."""
    assert data[:4] == b"SDPX"
    offset = struct.unpack_from(">I", data, 4)[0]
    head = bytearray(data[:offset].ljust(2048, b"\0"))
    pixels = data[offset:]
    head[160:172] = b"scanner 5000"
    head[801:803] = bytes([transfer, transfer])
    head[1664:1696] = b"EK0123456789ABCDEF".ljust(32, b"\0")
    struct.pack_into(">f", head, 1724, 24.0)
    struct.pack_into(">I", head, 1920, timecode)
    user = b"lab notes 12"
    for at, value in ((4, 2060), (16, 2060 + len(pixels)), (28, 384), (32, 12), (808, 2060)):
        struct.pack_into(">I", head, at, value)
    return bytes(head) + user + pixels


def exr_with(data: bytes, name: bytes, kind: bytes, value: bytes, *, lines: int) -> bytes:
    """An OpenEXR file with one attribute more."""
    at = 8
    while data[at]:
        after = data.index(b"\0", data.index(b"\0", at) + 1) + 1
        at = after + 4 + struct.unpack_from("<i", data, after)[0]
    extra = name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value
    table = struct.unpack_from(f"<{lines}Q", data, at + 1)
    moved = struct.pack(f"<{lines}Q", *(offset + len(extra) for offset in table))
    return data[:at] + extra + b"\0" + moved + data[at + 1 + 8 * lines :]


def write_sequence(
    folder: Path, name: str, codec: str, pixel_format: str, bits: int, count: int, **options: Any
) -> list[Path]:
    """`count` pictures of 32x24 from number 1 on; `name` holds a %d."""
    folder.mkdir(exist_ok=True)
    paths = []
    first = options.pop("first", 1)
    height, width = options.pop("size", (24, 32))
    wrap = options.pop("wrap", lambda data: data)
    for index in range(count):
        samples = pattern(index, height, width, bits, _PACKED.get(pixel_format, 3))
        path = folder / (name % (first + index))
        path.write_bytes(wrap(encode(codec, samples, pixel_format, **options)))
        paths.append(path)
    return paths
