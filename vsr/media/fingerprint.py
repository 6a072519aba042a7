"""What is in the packets of a file, so that two files can be compared without decoding."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import OpenError
from vsr.media.opening import AV_ERRORS, open_input, reason
from vsr.media.probe import to_fraction

if TYPE_CHECKING:
    from av.stream import Stream


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The packets of one stream."""

    num_packets: int
    payload_sha256: str
    """Of all payloads in a row, each with its length; timestamps are not in it."""
    first_time: Fraction | None
    """Of the first packet with a pts, in seconds."""


class _Digest:
    def __init__(self, stream: Stream) -> None:
        self._time_base = to_fraction(stream.time_base)
        self._hash = hashlib.sha256()
        self._num_packets = 0
        self._first_time: Fraction | None = None

    def add(self, payload: bytes, pts: int | None) -> None:
        self._hash.update(len(payload).to_bytes(8, "little"))
        self._hash.update(payload)
        self._num_packets += 1
        if self._first_time is None and pts is not None and self._time_base is not None:
            self._first_time = pts * self._time_base

    def result(self) -> Fingerprint:
        return Fingerprint(self._num_packets, self._hash.hexdigest(), self._first_time)


def fingerprint(path: Path, indices: Collection[int]) -> dict[int, Fingerprint]:
    """Read a file once and digest the packets of some of its streams.

    Args:
        path: a media file.
        indices: of the streams wanted; those the file does not have are left out of the result.

    Raises:
        OpenError: it cannot be opened or read to its end.
    """
    with open_input(path) as container:
        streams = [stream for stream in container.streams if stream.index in set(indices)]
        digests = {stream.index: _Digest(stream) for stream in streams}
        if not streams:
            return {}
        try:
            for packet in container.demux(streams):
                if packet.size:
                    digests[packet.stream_index].add(bytes(packet), packet.pts)
        except AV_ERRORS as error:
            raise OpenError(f"{path} could not be read to its end: {reason(error)}.") from error
        return {index: digest.result() for index, digest in digests.items()}
