"""Harm done to files: bytes flipped, zeroed, taken out; packets lost, doubled or swapped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np


@dataclass(frozen=True)
class Span:
    """Where a packet lies in its file."""

    start: int
    size: int
    pts: int


def spans(path: Path, kind: str = "video") -> list[Span]:
    """Places of all packets of the first stream of a kind, in the order of the file."""
    data = path.read_bytes()
    found, place = [], 0
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        for packet in container.demux(stream):
            if packet.size:
                # Matroska leaves out the first 8 bytes of ProRes.
                tail = bytes(packet)[-64:] if packet.size < 128 else bytes(packet)[8:]
                place = data.find(tail, place)
                assert place >= 0, "the packet is not stored whole"
                found.append(Span(place, len(tail), packet.pts))
                place += len(tail)
    return found


def flip(path: Path, count: int = 100, *, kind: str = "video", seed: int = 7) -> None:
    """XOR so many bytes, spread over all packets of a stream but its first."""
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    hit = spans(path, kind)[1:]
    places = np.concatenate([np.arange(span.start, span.start + span.size) for span in hit])
    for place in rng.choice(places, size=min(count, len(places)), replace=False):
        data[place] ^= int(rng.integers(1, 256))
    path.write_bytes(data)


def zero(path: Path, num_bytes: int, *, at: float = 0.5) -> None:
    """Overwrite bytes by zeroes, from this share of the file on."""
    with path.open("r+b") as file:
        file.seek(int(path.stat().st_size * at))
        file.write(bytes(num_bytes))


def cut_out(path: Path, num_bytes: int, *, at: float = 0.5) -> None:
    """Take bytes out, so that all later ones move."""
    data = path.read_bytes()
    place = int(len(data) * at)
    path.write_bytes(data[:place] + data[place + num_bytes :])


def reorder(
    source: Path, target: Path, change: Callable[[list[Any]], Iterable[Any]], **options: Any
) -> Path:
    """Copy a film with the packets of its pictures in another order."""
    with av.open(str(source)) as reader, av.open(str(target), "w", **options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        for packet in change([p for p in reader.demux(video=0) if p.size]):
            packet.stream = stream
            writer.mux(packet)
    return target


def noisy(frame: Any, index: int) -> None:
    """A pan over noise, at any depth: pictures that take bytes to code, each unlike its neighbours.

    A cut to other noise stands before every 10th frame.
    """
    rng = np.random.default_rng(index // 10)
    for number, plane in enumerate(frame.planes):
        bits = frame.format.components[min(number, len(frame.format.components) - 1)].bits
        kind = np.dtype("<u2") if bits > 8 else np.dtype("u1")
        rows, columns = plane.height, plane.line_size // kind.itemsize
        coarse = rng.integers(64, 190, (rows // 2 + 20, columns // 2 + 20))
        codes = np.kron(coarse, np.ones((2, 2), np.int64)) << (bits - 8)
        step = index % 10 * (2 if number == 0 else 1)
        plane.update(codes[:rows, step : step + columns].astype(kind).tobytes())
