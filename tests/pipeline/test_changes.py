"""Films whose picture changes its kind on the way, and films whose timestamps are broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.errors import UnsupportedVideoError
from vsr.media.reader import FrameReader
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]
NUM_EACH = 6


def flat(level: int) -> Callable[[Any, int], None]:
    """Draws a grey picture with a white dot, so that its middle can be measured."""

    def fill(frame: Any, index: int) -> None:
        for number, plane in enumerate(frame.planes):
            wide = frame.format.components[0].bits > 8
            code = level if number == 0 else 128
            kind = np.uint16 if wide else np.uint8
            row = np.full((plane.height, plane.line_size // kind().itemsize), code, kind)
            plane.update((row << 2 if wide else row).tobytes())

    return fill


def glue(make_clip: MakeClip, folder: Path, parts: Sequence[dict[str, Any]], suffix: str) -> Path:
    """Several H.264 clips as one: bytes of transport streams one behind the other."""
    folder.mkdir(exist_ok=True)
    data = b""
    for number, options in enumerate(parts):
        start = NUM_EACH * number
        part = make_clip(folder / f"{number}.ts", frames=NUM_EACH, start=start, **options)
        data += part.read_bytes()
    film = folder / "film.ts"
    film.write_bytes(data)
    if suffix == ".ts":
        return film
    target = folder / f"film{suffix}"
    with av.open(str(film)) as reader, av.open(str(target), "w") as writer:
        source = reader.streams.video[0]
        stream = writer.add_stream_from_template(source, opaque=True)
        for packet in reader.demux(source):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    return target


def run(source: Path, **flags: Any) -> tuple[UpscaleResult, list[np.ndarray]]:
    output = source.with_name("result.mkv")
    config = {"model": "bicubic-x2", "device": "cpu", **flags}
    result = upscale(source, output, resolve_config(flags=config))
    with av.open(str(output)) as container:
        frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    return result, frames


@pytest.mark.parametrize(
    ("suffix", "change", "says"),
    [
        (".ts", {"width": 96, "height": 72}, "from 64x48 yuv420p to 96x72 yuv420p"),
        (".mkv", {"width": 32, "height": 24}, "to 32x24 yuv420p"),
        (".ts", {"pixel_format": "yuv420p10le"}, "to 64x48 yuv420p10le"),
        (".mkv", {"pixel_format": "yuv444p"}, "to 64x48 yuv444p"),
        (".ts", {"color": (6, 6, 6, 1)}, "colour (matrix BT709 to SMPTE170M)"),
    ],
)
def test_changes_of_form_are_followed_openly(
    make_clip: MakeClip, tmp_path: Path, suffix: str, change: dict[str, Any], says: str
) -> None:
    first: dict[str, Any] = {"color": (1, 1, 1, 1)}
    film = glue(make_clip, tmp_path, [first, {**first, **change}, first], suffix)
    result, frames = run(film)
    assert (result.width, result.height, result.frames) == (128, 96, 3 * NUM_EACH)
    assert len(frames) == 3 * NUM_EACH
    events = [e for e in result.events if e["kind"] == "picture_change"]
    assert sum(e["count"] for e in events) == 2
    assert says in events[0]["detail"]
    assert events[0]["start_s"] is not None
    assert any("changes its kind 2 times" in str(entry.get("note")) for entry in result.plan)
    assert result.check.ok


@pytest.mark.parametrize("change", [{"width": 128}, {"sar": Fraction(2)}])
def test_another_shape_is_shown_whole_between_bars(
    make_clip: MakeClip, tmp_path: Path, change: dict[str, Any]
) -> None:
    grey = {"fill": flat(180), "sar": Fraction(1)}
    film = glue(make_clip, tmp_path, [grey, {**grey, **change}], ".ts")
    _, frames = run(film)
    before, after = frames[NUM_EACH - 2].astype(int), frames[-1].astype(int)
    assert before.min() > 150
    assert after[:20].max() < 40 and after[-20:].max() < 40
    assert after[30:66].min() > 150


def test_light_of_another_kind_is_refused_in_one_sentence(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    parts: list[dict[str, Any]] = [
        {"color": (1, 1, 1, 1)},
        {"pixel_format": "yuv420p10le", "color": (9, 16, 9, 1)},
    ]
    film = glue(make_clip, tmp_path, parts, ".ts")
    with pytest.raises(UnsupportedVideoError, match=r"standard range and PQ cannot be in one film"):
        run(film)
    assert not (tmp_path / "result.mkv").exists()


def test_a_reader_that_does_not_follow_refuses(make_clip: MakeClip, tmp_path: Path) -> None:
    film = glue(make_clip, tmp_path, [{}, {"width": 96}], ".ts")
    with FrameReader(film) as reader, pytest.raises(UnsupportedVideoError, match="changes its"):
        list(reader)


def remux(source: Path, target: Path, change: Callable[[Any, int], None], **options: Any) -> Path:
    """Copy the packets of a film's pictures, each changed."""
    with av.open(str(source)) as reader, av.open(str(target), "w", **options) as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        for number, packet in enumerate(p for p in reader.demux(video=0) if p.size):
            change(packet, number)
            packet.stream = stream
            writer.mux(packet)
    return target


def test_duplicate_times_are_repaired_and_told(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mkv", time_base=Fraction(1, 1000), pts=list(range(0, 480, 40)))

    def twice(packet: Any, number: int) -> None:
        if number == 5:
            packet.pts = packet.dts = 160

    result, frames = run(remux(source, tmp_path / "bad.mkv", twice))
    assert len(frames) == 12
    assert [(e["kind"], e["start_s"], e["count"]) for e in result.events] == [
        ("duplicate_pts", 0.2, 1)
    ]
    with av.open(str(tmp_path / "result.mkv")) as container:
        assert [f.pts for f in container.decode(video=0)] == list(range(0, 480, 40))
    assert result.check.ok


def test_times_that_run_backward_are_repaired_and_told(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mkv", time_base=Fraction(1, 1000), pts=list(range(0, 480, 40)))

    def back(packet: Any, number: int) -> None:
        # dts may only rise; the pictures' times alone go back.
        packet.dts = number
        packet.pts = packet.pts if number != 6 else 80

    result, frames = run(remux(source, tmp_path / "bad.mp4", back))
    assert len(frames) == 12
    assert [e["kind"] for e in result.events]
    assert all(e["kind"].endswith("_pts") for e in result.events)
    with av.open(str(tmp_path / "result.mkv")) as container:
        times = [f.pts for f in container.decode(video=0) if f.pts is not None]
    assert len(times) == 12
    assert times == sorted(set(times))
    assert result.check.ok


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_film_without_times_gets_even_ones(
    make_clip: MakeClip, tmp_path: Path, suffix: str
) -> None:
    source = make_clip(tmp_path / "s.avi", codec="mpeg4", bframes=2, audio=["mp2"])
    output = tmp_path / f"result{suffix}"
    config = {"model": "bicubic-x2", "device": "cpu"}
    result = upscale(source, output, resolve_config(flags=config))
    assert result.check.ok
    with av.open(str(output)) as container:
        base = container.streams.video[0].time_base
        times = [Fraction(f.pts * base) for f in container.decode(video=0)]  # type: ignore[operator]
    steps = [round((b - a) * 25) for a, b in pairwise(times)]
    assert steps == [1] * (result.frames - 1)
