"""What travels beside the pictures: HDR metadata, captions, timecode."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from vsr.frame import ContentLight, MasteringDisplay

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream


def _rational(data: bytes, index: int) -> Fraction | None:
    numerator, denominator = struct.unpack_from("<2i", data, 8 * index)
    return Fraction(numerator, denominator) if denominator else None


def read_mastering_display(data: bytes) -> MasteringDisplay:
    """Unpack AVMasteringDisplayMetadata: rationals R, G, B, white (x, y each), minimum, maximum."""
    has_primaries, has_luminance = struct.unpack_from("<2i", data, 80)
    points: list[tuple[Fraction, Fraction] | None] = []
    for index in range(4):
        x, y = _rational(data, 2 * index), _rational(data, 2 * index + 1)
        points.append((x, y) if has_primaries and x is not None and y is not None else None)
    return MasteringDisplay(
        red=points[0],
        green=points[1],
        blue=points[2],
        white=points[3],
        min_luminance=_rational(data, 8) if has_luminance else None,
        max_luminance=_rational(data, 9) if has_luminance else None,
    )


def read_content_light(data: bytes) -> ContentLight:
    """Unpack AVContentLightMetadata: two unsigned integers."""
    max_cll, max_fall = struct.unpack_from("<2I", data)
    return ContentLight(max_cll=max_cll, max_fall=max_fall)


def read_side_data(frame: VideoFrame) -> dict[str, bytes] | None:
    """Side data of a frame by FFmpeg's name; None when it holds a kind that av cannot name."""
    try:
        held: Any = frame.side_data
        return {held[index].type.name: bytes(held[index]) for index in range(len(held))}
    except ValueError:
        return None


def stream_side_data(stream: VideoStream) -> dict[str, bytes]:
    """Side data of the stream as a whole, which newer versions of av keep beside the frames."""
    held = getattr(stream.codec_context, "decoded_side_data", None) or {}
    return {kind.name: bytes(held[kind]) for kind in held}
