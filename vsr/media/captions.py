"""Closed captions inside encoded pictures.

FFmpeg's encoders would write captions from a frame's side data, but PyAV has no way to attach side
data to a frame. So the message is put into the finished packet: for H.264 and HEVC as an SEI
message of registered user data (ATSC A/53 part 4, ITU-T T.35), in front of the first slice.
"""

from __future__ import annotations

from typing import cast

from av.packet import Packet
from av.video.stream import VideoStream

CODECS_WITH_CAPTIONS = frozenset({"libx264", "libx265"})
_MAX_TRIPLETS = 31


def insert_captions(
    packet: Packet[VideoStream], captions: bytes, codec: str
) -> Packet[VideoStream]:
    """A copy of an Annex B packet with captions in it; the packet itself for other codecs.

    Args:
        packet: as libx264 or libx265 gave it.
        captions: FFmpeg's `A53_CC` side data: triplets of cc_data.
        codec: encoder name.
    """
    if codec not in CODECS_WITH_CAPTIONS or not captions:
        return packet
    message = _sei_unit(captions, is_hevc=codec == "libx265")
    data = bytes(packet)
    at = _first_slice(data, is_hevc=codec == "libx265")
    copy = cast("Packet[VideoStream]", Packet(data[:at] + message + data[at:]))
    copy.time_base = packet.time_base
    copy.pts = packet.pts
    copy.dts = packet.dts
    copy.duration = packet.duration
    copy.is_keyframe = packet.is_keyframe
    return copy


def _sei_unit(captions: bytes, *, is_hevc: bool) -> bytes:
    """One Annex B NAL unit with an SEI message that carries the triplets."""
    count = min(len(captions) // 3, _MAX_TRIPLETS)
    # country USA, provider ATSC, "GA94", type cc_data, process flag with count, em_data
    payload = b"\xb5\x00\x31GA94\x03" + bytes([0x40 | count, 0xFF]) + captions[: 3 * count]
    payload += b"\xff"
    body = bytes([4, len(payload)]) + payload + b"\x80"
    header = b"\x4e\x01" if is_hevc else b"\x06"
    return b"\x00\x00\x00\x01" + header + _escape(body)


def _escape(body: bytes) -> bytes:
    """Insert emulation prevention bytes: a payload must not look like a start code."""
    out = bytearray()
    zeros = 0
    for byte in body:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def _first_slice(data: bytes, *, is_hevc: bool) -> int:
    """Offset of the start code of the first slice in an Annex B packet."""
    position = data.find(b"\x00\x00\x01")
    while position >= 0 and position + 3 < len(data):
        header = data[position + 3]
        is_slice = (header >> 1) & 0x3F < 32 if is_hevc else 1 <= header & 0x1F <= 5
        if is_slice:
            return position - 1 if position and data[position - 1] == 0 else position
        position = data.find(b"\x00\x00\x01", position + 3)
    raise AssertionError("an encoded picture without a slice")
