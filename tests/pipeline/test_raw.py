"""Raw pictures on stdout and in a file, read back by plain av."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import vsr
from vsr.config import UpscaleConfig, resolve_config
from vsr.errors import ConfigError, LossRefusedError, OutputError, UnsupportedVideoError
from vsr.pipeline import raw as raw_module
from vsr.pipeline.raw import upscale_raw
from vsr.pipeline.upscale import upscale

MakeClip = Callable[..., Path]
ROOT = Path(vsr.__file__).parent.parent


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


def planes(file: Any, **options: Any) -> list[list[bytes]]:
    """Samples of every frame, without padding."""
    found = []
    with av.open(file, **options) as container:
        for frame in container.decode(video=0):
            width = 2 if frame.format.components[0].bits > 8 else 1
            found.append(
                [
                    np.frombuffer(p, np.uint8)
                    .reshape(p.height, p.line_size)[:, : p.width * width]
                    .tobytes()
                    for p in frame.planes
                ]
            )
    return found


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_the_same_pictures_as_in_a_lossless_file(
    make_clip: MakeClip, tmp_path: Path, pixel_format: str
) -> None:
    source = make_clip(
        tmp_path / "a.mkv", codec="ffv1", pixel_format=pixel_format, rate=Fraction(30000, 1001)
    )
    result = upscale(source, tmp_path / "b.y4m", config())
    upscale(source, tmp_path / "b.mkv", config(codec="ffv1"))
    assert result.check.ok
    assert (result.frames, result.width, result.height) == (12, 128, 96)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["a.mkv", "b.mkv", "b.y4m"]
    with av.open(str(tmp_path / "b.y4m")) as container:
        assert container.format.name == "yuv4mpegpipe"
        rate = container.streams.video[0].average_rate
        assert rate is not None
        assert Fraction(rate.numerator, rate.denominator) == Fraction(30000, 1001)
    assert planes(str(tmp_path / "b.y4m")) == planes(str(tmp_path / "b.mkv"))


def test_stdout_carries_pictures_and_nothing_else(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", audio=["aac"], frames=5)
    done = subprocess.run(
        [sys.executable, "-m", "vsr", "upscale", "--model", "bicubic-x2", str(source), "-"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "VSR_DEVICE": "cpu"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    stream = io.BytesIO()
    upscale_raw(source, Path("-"), config(), stream=stream)
    assert done.stdout == stream.getvalue()
    assert done.stdout.startswith(
        b"YUV4MPEG2 W128 H96 F25:1 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED\n"
    )
    frame = 128 * 96 * 3 // 2
    assert len(done.stdout) == done.stdout.index(b"\n") + 1 + 5 * (len(b"FRAME\n") + frame)
    assert b"128x96, 5 frames" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_reader_that_ends_early(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=24)
    process = subprocess.Popen(
        [sys.executable, "-m", "vsr", "-q", "upscale", "--model", "bicubic-x2", str(source), "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "VSR_DEVICE": "cpu"},
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(9) == b"YUV4MPEG2"
    process.stdout.close()
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


def test_a_terminal_gets_no_pictures(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(ConfigError, match="terminal"):
        upscale(make_clip(tmp_path / "a.mp4", frames=2), "-", config())


def test_uneven_frames_are_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "a.mkv", frames=5, time_base=Fraction(1, 1000), pts=[0, 40, 80, 300, 340]
    )
    with pytest.raises(UnsupportedVideoError, match="do not come evenly"):
        upscale(source, tmp_path / "b.y4m", config())
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]


def test_pixel_shape_and_range_are_in_the_header(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2, sar=Fraction(16, 15), full_range=True)
    upscale(source, tmp_path / "b.y4m", config())
    header = (tmp_path / "b.y4m").read_bytes().partition(b"\n")[0]
    assert b" A16:15 " in header
    assert header.endswith(b"XCOLORRANGE=FULL")


def test_what_has_no_meaning_is_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2, audio=["aac"])
    for wishes in ({"codec": "h264"}, {"crf": 20.0}, {"profile": "access"}, {"same_codec": True}):
        with pytest.raises(ConfigError, match="y4m holds raw pictures"):
            upscale(source, tmp_path / "b.y4m", config(**wishes))
    with pytest.raises(LossRefusedError, match="audio 1"):
        upscale(source, tmp_path / "b.y4m", config(strict=True))


def test_a_disk_that_is_too_small(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=2)
    monkeypatch.setattr(raw_module, "free_bytes", lambda _: 1000)
    with pytest.raises(OutputError, match="only 1000 are free"):
        upscale(source, tmp_path / "b.y4m", config())
