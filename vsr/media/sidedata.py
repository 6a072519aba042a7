"""What travels beside the pictures: HDR metadata, captions, timecode."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from av.sidedata.sidedata import SideDataContainer

from vsr.frame import ContentLight, MasteringDisplay

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream


_CONTAINER: Any = SideDataContainer
"""Takes a frame, which its stub does not say."""
_MAX_SHEAR = 0.01
"""Cosine of the angle between the sides of a picture that is still taken for upright."""


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
        # Not `frame.side_data`: what that returns and the frame hold each other, and every picture
        # would stay in memory until the garbage collector finds both.
        held: Any = _CONTAINER(frame)
        return {held[index].type.name: bytes(held[index]) for index in range(len(held))}
    except ValueError:
        return None


def stream_side_data(stream: VideoStream) -> dict[str, bytes]:
    """Side data of the stream as a whole, which newer versions of av keep beside the frames."""
    held = getattr(stream.codec_context, "decoded_side_data", None) or {}
    return {kind.name: bytes(held[kind]) for kind in held}


def read_display_matrix(side_data: Mapping[str, bytes]) -> tuple[int, ...] | None:
    """How a player turns the pictures: ISO/IEC 14496-12, 6.2.2; None when it does not.

    A matrix that would shear or flatten them was meant by nobody: a turn, a mirror and an
    enlargement keep the right angles of a picture.
    """
    data = side_data.get("DISPLAYMATRIX")
    if not data:
        return None
    matrix = struct.unpack("<9i", data)
    a, b, c, d = (matrix[index] for index in (0, 1, 3, 4))
    sides = math.hypot(a, b) * math.hypot(c, d)
    return matrix if abs(a * c + b * d) <= _MAX_SHEAR * sides and sides else None
