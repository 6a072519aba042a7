"""Colour from file to file: tags, HDR metadata, depth, and the colours themselves.

The arithmetic that judges is the test's own.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.errors import UnsupportedVideoError
from vsr.media.probe import probe
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]


def run(source: Path, output: Path, **flags: Any) -> UpscaleResult:
    wanted = {"model": "bicubic-x2", "device": "cpu", "encoder_preset": None, **flags}
    return upscale(source, output, resolve_config(flags=wanted))


def notes(result: UpscaleResult) -> str:
    return " ".join(entry["note"] for entry in result.plan if "note" in entry)


def tags(path: Path) -> tuple[int, int, int, int]:
    """Primaries, transfer, matrix, range as the container or codec header says them."""
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        return (
            int(context.color_primaries),
            int(context.color_trc),
            int(context.colorspace),
            int(context.color_range),
        )


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize(
    ("height", "expected"),
    [(48, (1, 1, 6, 1)), (288, (5, 6, 5, 1)), (240, (6, 6, 6, 1)), (720, (1, 1, 1, 1))],
)
def test_an_untagged_film_is_tagged_by_rule(
    suffix: str, height: int, expected: tuple[int, ...], make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "c.mkv", height=height, width=32, frames=2)
    assert tags(path)[:3] == (2, 2, 2)
    result = run(path, tmp_path / f"out.{suffix}", encoder_preset="ultrafast")
    assert tags(tmp_path / f"out.{suffix}") == expected
    assert "Matrix is not tagged" in notes(result)
    assert "Primaries are not tagged" in notes(result)
    assert result.check.ok, result.check.failures


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("h264", "mkv"), ("h264", "mp4"), ("h264", "mov"), ("hevc", "mkv"), ("hevc", "mp4"),
        ("av1", "mkv"), ("av1", "mp4"), ("ffv1", "mkv"), ("prores", "mov"), ("prores", "mkv"),
    ],
)  # fmt: skip
def test_every_encoder_writes_every_tag(
    codec: str, suffix: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(
        tmp_path / "c.mkv", codec="libx265", pixel_format="yuv420p10le", width=64, height=64,
        color=(9, 18, 9, 1), frames=3, codec_options={"x265-params": "log-level=none"},
    )  # fmt: skip
    output = tmp_path / f"out.{suffix}"
    run(path, output, codec=codec)
    assert tags(output) == (9, 18, 9, 1)
    assert probe(output).video.layout.bits == 10


def test_full_range_stays_full_range(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "c.mkv", full_range=True, color=(1, 1, 1, 2), frames=3)
    run(path, tmp_path / "out.mp4")
    assert tags(tmp_path / "out.mp4") == (1, 1, 1, 2)
    assert probe(tmp_path / "out.mp4").video.color.full_range


def test_a_matrix_that_makes_no_sense_is_said(make_clip: MakeClip, tmp_path: Path) -> None:
    # FFV1 itself knows no matrix, so the container's word counts.
    path = make_clip(tmp_path / "c.mkv", codec="ffv1", color=(1, 1, 0, 1), frames=2, height=64)
    result = run(path, tmp_path / "out.mkv")
    assert "Matrix RGB is tagged but the planes are not RGB" in notes(result)
    assert tags(tmp_path / "out.mkv")[2] == 6


def ramp(frame: Any, index: int) -> None:
    """A smooth ramp of 877 10-bit codes over 877 columns and more."""
    for number, plane in enumerate(frame.planes):
        rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
        rows[:] = 512
        if number == 0:
            rows[:, : plane.width] = np.linspace(64, 940, plane.width).round().astype("<u2")
        plane.update(rows.tobytes())


@pytest.mark.parametrize("codec", ["hevc", "prores", "ffv1"])
def test_a_ten_bit_ramp_keeps_its_codes(codec: str, make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "c.mkv", codec="ffv1", pixel_format="yuv420p10le", width=1024, height=16,
        frames=2, fill=ramp, color=(9, 16, 9, 1),
    )  # fmt: skip
    output = tmp_path / "out.mkv"
    run(path, output, codec=codec)
    with av.open(str(output)) as container:
        frame = next(container.decode(video=0))
        plane = frame.planes[0]
        memory: Any = plane
        luma = np.frombuffer(memory, "<u2").reshape(plane.height, -1)[:, : plane.width]
    assert len(np.unique(luma)) >= 700


def test_bits_that_go_are_dithered(make_clip: MakeClip, tmp_path: Path) -> None:
    """12 bits into ProRes' 10: a slope of a code in 16 columns keeps its mean."""

    def slope(frame: Any, index: int) -> None:
        for number, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size // 2), 2048, "<u2")
            if number == 0:
                rows[:, : plane.width] = 1000 + np.arange(plane.width) // 16
            plane.update(rows.tobytes())

    path = make_clip(
        tmp_path / "c.mkv", codec="ffv1", pixel_format="yuv422p12le", width=256, height=32,
        frames=2, fill=slope, color=(1, 1, 1, 1),
    )  # fmt: skip
    output = tmp_path / "out.mkv"
    result = run(path, output, codec="prores")
    assert "sample depth" in notes(result)
    frames = planes_of(output)
    rows = frames[0][0].astype(float)
    wanted = (1000 + (np.arange(512) / 2 - 0.25) / 16 - 0.5) / 4
    blocks = rows[:, 64:448].mean(axis=0).reshape(-1, 32).mean(axis=1)
    assert np.abs(blocks - wanted[64:448].reshape(-1, 32).mean(axis=1)).max() < 0.25


def planes_of(path: Path) -> list[list[np.ndarray]]:
    """Luma and chroma of every frame, as stored."""
    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            kind = "<u2" if frame.format.components[0].bits > 8 else np.uint8
            planes = []
            for plane in frame.planes:
                memory: Any = plane
                rows = np.frombuffer(memory, kind).reshape(plane.height, -1)
                planes.append(rows[:, : plane.width])
            found.append(planes)
    return found


@pytest.mark.parametrize("matrix", [10, 14])
def test_what_cannot_be_converted_is_refused_before_the_run(
    matrix: int, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(
        tmp_path / "c.mkv", codec="libx265", pixel_format="yuv420p10le", width=64, height=64,
        color=(9, 16, matrix, 1), frames=2, codec_options={"x265-params": "log-level=none"},
    )  # fmt: skip
    with pytest.raises(UnsupportedVideoError, match="cannot be converted") as caught:
        run(path, tmp_path / "out.mkv")
    assert caught.value.exit_code == 3
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["c.mkv"]


def test_dolby_vision_without_a_base_layer_is_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    plain = make_clip(
        tmp_path / "c.mp4", codec="libx265", pixel_format="yuv420p10le", width=64, height=64,
        frames=2, codec_options={"x265-params": "log-level=none"},
    )  # fmt: skip
    for old in (b"hev1", b"hvc1"):
        plain.write_bytes(plain.read_bytes().replace(old, b"dvh1"))
    assert probe(plain).video.codec_tag == "dvh1"
    with pytest.raises(UnsupportedVideoError, match="Dolby Vision profile 5"):
        run(plain, tmp_path / "out.mkv")


def test_alpha_is_a_loss_that_strict_refuses(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "c.mkv", codec="ffv1", pixel_format="yuva444p", frames=2, color=(1, 1, 1, 1)
    )
    result = run(path, tmp_path / "out.mkv")
    assert "alpha channel" in notes(result)
    with pytest.raises(Exception, match="alpha") as caught:
        run(path, tmp_path / "strict.mkv", strict=True)
    assert getattr(caught.value, "exit_code", None) == 6


def test_hdr10_reads_back_equal(media_dir: Path, tmp_path: Path) -> None:
    source, output = media_dir / "hdr10_mastering_av1.mp4", tmp_path / "out.mkv"
    run(source, output, codec="hevc", encoder_preset="ultrafast")
    before, after = probe(source).video, probe(output).video
    assert tags(output) == (9, 16, 9, 1)
    assert after.layout.bits == 10
    assert before.mastering_display is not None
    assert before.content_light is not None
    assert after.content_light == before.content_light
    a, b = before.mastering_display, after.mastering_display
    assert b is not None
    for name in ("red", "green", "blue", "white"):
        old, new = getattr(a, name), getattr(b, name)
        assert all(abs(x - y) <= Fraction(1, 100000) for x, y in zip(old, new, strict=True))
    assert a.max_luminance == b.max_luminance
    assert a.min_luminance is not None
    assert b.min_luminance is not None
    assert abs(a.min_luminance - b.min_luminance) <= Fraction(1, 20000)


def to_rgb(planes: list[np.ndarray], kr: float, kb: float, full: bool) -> np.ndarray:
    """Mean-preserving R'G'B' in 8-bit codes at the size of the chroma planes."""
    y, u, v = (plane.astype(float) for plane in planes)
    height, width = u.shape
    y = y[: 2 * height, : 2 * width].reshape(height, 2, width, 2).mean(axis=(1, 3))
    if full:
        luma, cb, cr = y / 255, (u - 128) / 255, (v - 128) / 255
    else:
        luma, cb, cr = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    green = (luma - kr * red - kb * blue) / (1 - kr - kb)
    return 255 * np.stack([red, green, blue])


@pytest.mark.parametrize(
    ("name", "full"), [("bt601_full_range.mp4", True), ("untagged.mp4", False)]
)
def test_real_colours_stay(media_dir: Path, tmp_path: Path, name: str, full: bool) -> None:
    output = tmp_path / "out.mkv"
    result = run(media_dir / name, output)
    assert result.check.ok, result.check.failures
    before, after = planes_of(media_dir / name), planes_of(output)
    assert len(before) == len(after)
    primaries, transfer, matrix, span = tags(output)
    assert 2 not in (primaries, transfer, matrix)
    assert span == (2 if full else 1)
    kr, kb = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114)}[matrix]
    for index in range(0, len(before), 15):
        a = to_rgb(before[index], kr, kb, full)
        b = to_rgb(after[index], kr, kb, full)
        error = b.reshape(3, b.shape[1] // 2, 2, b.shape[2] // 2, 2).mean(axis=(2, 4)) - a
        assert np.abs(error.mean(axis=(1, 2))).max() < 0.5
