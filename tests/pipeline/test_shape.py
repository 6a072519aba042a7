"""Shape, turn and time of real and awkward films, before and after, read by av alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]
MILLISECOND = Fraction(1, 1000)


@dataclass
class Shape:
    """What a player makes of a film."""

    size: tuple[int, int]
    aspect: Fraction
    """Of the pixels."""
    rotation: int
    matrix: bytes
    times: list[Fraction]
    audio: list[list[Fraction]]
    """Times of each track's packets, with the first picture at 0."""

    @property
    def display(self) -> Fraction:
        return Fraction(*self.size) * self.aspect


def read(path: Path, num_frames: int | None = None) -> Shape:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = _fraction(video.time_base)
        frames = []
        for frame in container.decode(video):
            frames.append((frame.pts or 0) * base)
            if len(frames) == 1:
                first = frame
                held: Any = frame.side_data  # av's types take it for a mapping of names
                data = {d.type.name: bytes(d) for d in held}
            if num_frames is not None and len(frames) == num_frames:
                break
        aspect = video.sample_aspect_ratio
        size, rotation = (first.width, first.height), int(first.rotation)
    audio = []
    with av.open(str(path)) as container:
        for stream in container.streams.audio:
            with av.open(str(path)) as again:
                track = again.streams[stream.index]
                base = _fraction(track.time_base)
                packets = [p for p in again.demux(track) if p.size and p.pts is not None]
                audio.append([p.pts * base - frames[0] for p in packets if p.pts is not None])
    return Shape(
        size=size,
        aspect=_fraction(aspect) if aspect else Fraction(1),
        rotation=rotation,
        matrix=data.get("DISPLAYMATRIX", b"")[:36],
        times=frames,
        audio=audio,
    )


def _fraction(value: Any) -> Fraction:
    return Fraction(value.numerator, value.denominator)


def run(source: Path, output: Path, **flags: Any) -> UpscaleResult:
    config = {"model": "bicubic-x2", "device": "cpu", **flags}
    return upscale(source, output, resolve_config(flags=config))


def assert_in_time(before: Shape, after: Shape, tick: Fraction) -> None:
    """Sound against pictures at start, middle and end of what both have."""
    assert len(before.audio) == len(after.audio)
    for old, new in zip(before.audio, after.audio, strict=True):
        for place in (0, len(new) // 2, -1) if len(old) == len(new) else (0, len(new) // 2):
            assert abs(new[place] - old[place]) <= MILLISECOND + tick / 2


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize(
    "options",
    [
        {"sar": Fraction(16, 15), "bframes": 2, "audio": ["aac", "aac"]},
        {"rotation": 90, "start": 12, "audio": ["aac"]},
        {"width": 51, "height": 37, "pixel_format": "yuv444p", "suffix": ".mkv"},
    ],
)
def test_shape_turn_and_time_stay(
    make_clip: MakeClip, tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    given = dict(options)
    source = make_clip(tmp_path / f"film{given.pop('suffix', '.mp4')}", **given)
    output = tmp_path / f"result{suffix}"
    result = run(source, output)
    before, after = read(source), read(output)
    assert after.size == (2 * before.size[0], 2 * before.size[1])
    assert after.aspect == before.aspect
    assert after.rotation == before.rotation
    assert after.matrix == before.matrix
    assert_in_time(before, after, Fraction(1, 12800))
    moved = [b - a for a, b in zip(before.times, after.times, strict=True)]
    assert max(moved) - min(moved) <= MILLISECOND
    assert result.check.ok


def corner(frame: Any, index: int) -> None:
    """Bright at the top left, dark elsewhere."""
    for number, plane in enumerate(frame.planes):
        picture = np.full((plane.height, plane.line_size), 128 if number else 30, np.uint8)
        if number == 0:
            picture[:16, :16] = 220
        plane.update(picture.tobytes())


@pytest.mark.parametrize(("rotation", "where"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1))])
def test_baking_shows_what_a_player_would_have_shown(
    make_clip: MakeClip, tmp_path: Path, rotation: int, where: tuple[int, int]
) -> None:
    """Degrees are counter-clockwise, as av counts: at 90, what was top left is at bottom left."""
    source = make_clip(tmp_path / "film.mp4", rotation=rotation, fill=corner, frames=3)
    with av.open(str(source)) as container:
        assert next(container.decode(video=0)).rotation % 360 == rotation
    output = tmp_path / "result.mp4"
    result = run(source, output, rotate="bake")
    assert result.check.ok
    after = read(output)
    assert (after.rotation, after.matrix) == (0, b"")
    assert after.size == ((96, 128) if rotation % 180 else (128, 96))
    with av.open(str(output)) as container:
        luma = next(container.decode(video=0)).to_ndarray(format="gray")
    rows = luma[-8:] if where[0] else luma[:8]
    assert (rows[:, -8:] if where[1] else rows[:, :8]).min() > 150
    assert np.median(luma) < 60


@pytest.mark.parametrize(
    ("flags", "size", "aspect"),
    [
        ({"par": "square"}, (136, 96), Fraction(1)),
        ({"scale": 1}, (64, 48), Fraction(16, 15)),
        ({"scale": 1.5}, (96, 72), Fraction(16, 15)),
        ({"size": "100x90", "fit": "cover"}, (100, 90), Fraction(16, 15)),
        ({"size": "120x96", "fit": "stretch"}, (120, 96), Fraction(256, 225)),
    ],
)
def test_sizes_asked_for_are_made_and_proven(
    make_clip: MakeClip,
    tmp_path: Path,
    flags: dict[str, Any],
    size: tuple[int, int],
    aspect: Fraction,
) -> None:
    source = make_clip(tmp_path / "film.mkv", frames=4, sar=Fraction(16, 15))
    result = run(source, tmp_path / "result.mkv", **flags)
    after = read(tmp_path / "result.mkv")
    assert (after.size, after.aspect) == (size, aspect)
    assert (result.width, result.height) == size
    assert result.check.ok


REAL = (
    "sar_16_15_2audio.mp4",
    "rotate_and_reflect.mp4",
    "rotated_90.mp4",
    "odd_444_10bit.mp4",
    "odd_420_vp9.mp4",
    "edit_list_positive_shift.mp4",
    "edit_list_preroll.mp4",
    "discard_first_keyframe.mp4",
    "vfr_jump.mp4",
)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("name", REAL)
def test_real_films_keep_shape_and_time(
    media_dir: Path, tmp_path: Path, name: str, suffix: str
) -> None:
    output = tmp_path / f"result{suffix}"
    result = run(media_dir / name, output, duration=0.3, encoder_preset="ultrafast")
    assert result.check.ok, result.check.failures
    after = read(output)
    before = read(media_dir / name, len(after.times))
    assert after.size == (2 * before.size[0], 2 * before.size[1])
    assert (after.aspect, after.rotation) == (before.aspect, before.rotation)
    assert after.matrix == before.matrix
    assert abs(after.display - before.display) == 0
    moved = [b - a for a, b in zip(before.times, after.times, strict=True)]
    assert max(moved) - min(moved) <= MILLISECOND
    assert_in_time(before, after, Fraction(1, 1000))
