"""Tiny films of many codecs and containers, and ways to spoil them, each from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from tests.faults.proof import film

NUM_FRAMES = 8
HEADER_BYTES = 512
KINDS = {"truncation": 25, "header": 25, "bit flips": 50}
"""What is done to a file, and to how many in a hundred."""
_FILMS: dict[str, dict[str, Any]] = {
    "mkv": {"codec": "libx264", "audio": "aac", "options": {"preset": "ultrafast"}},
    "mp4": {"codec": "libx264", "audio": "aac", "options": {"bf": "2", "preset": "veryfast"}},
    "ts": {"codec": "mpeg2video", "rate": 25, "audio": "mp2"},
    "avi": {"codec": "mpeg4", "audio": "mp2"},
    "webm": {"codec": "libvpx-vp9", "audio": "libopus", "options": {"cpu-used": "8"}},
    "mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1", "audio": "pcm_s16le"},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:pools=1"}},
}


@dataclass(frozen=True)
class Sound:
    """A film before it is spoiled."""

    name: str
    data: bytes
    codec: str
    size: tuple[int, int]
    """(width, height)."""


@dataclass(frozen=True)
class Spoiled:
    """One file to try."""

    number: int
    name: str
    kind: str
    data: bytes
    sound: Sound


def sound_films(folder: Path) -> list[Sound]:
    """Write all of them, and read them in."""
    made = []
    for suffix, options in _FILMS.items():
        path = film(
            folder / f"film.{suffix}",
            num_frames=NUM_FRAMES,
            size=(32, 32),
            shot=5,
            gop=4,
            **options,
        )
        shape = shape_of(path)
        assert shape is not None, suffix
        made.append(Sound(path.name, path.read_bytes(), *shape))
    return made


def spoil(films: list[Sound], seed: int, number: int) -> Spoiled:
    """File `number` of a seed: always the same bytes."""
    rng = random.Random(f"{seed}-{number}")
    sound = films[number % len(films)]
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    data = bytearray(sound.data)
    if kind == "truncation":
        data = data[: rng.randrange(len(data))]
    elif kind == "header":
        _spoil_header(data, rng)
    else:
        for _ in range(rng.choice((1, 2, 5, 10, 30, 100))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return Spoiled(number, f"{seed}-{number:05d}-{sound.name}", kind, bytes(data), sound)


def _spoil_header(data: bytearray, rng: random.Random) -> None:
    """Change a few bytes at the head, or at the end, where MP4 and AVI have their tables."""
    size = min(HEADER_BYTES, len(data))
    start = rng.choice((0, 0, len(data) - size))
    for _ in range(rng.choice((1, 2, 4, 16))):
        place = start + rng.randrange(size)
        length = rng.choice((1, 1, 2, 4, 8))
        way = rng.choice(("random", "zero", "ones", "out", "twice"))
        piece = data[place : place + length]
        put = {
            "random": rng.randbytes(len(piece)),
            "zero": bytes(len(piece)),
            "ones": b"\xff" * len(piece),
            "out": b"",
            "twice": bytes(piece) * 2,
        }[way]
        data[place : place + length] = put


def shape_of(path: Path) -> tuple[str, tuple[int, int]] | None:
    """Codec and size of the pictures as av tells them; None where the header does not."""
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                return None
            # None for a codec that av does not know, whatever its types say.
            context: av.VideoCodecContext | None = container.streams.video[0].codec_context
            if context is None:
                return None
            return context.name, (context.width, context.height)
    except (av.FFmpegError, ValueError):
        return None
