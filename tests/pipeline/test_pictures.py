"""Image sequences end to end, read back by plain av calls and compared with plain arithmetic."""

from __future__ import annotations

import os
import signal
import struct
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.media import picture_files as files
from vsr.config import UpscaleConfig, resolve_config
from vsr.errors import (
    CheckFailedError,
    ConfigError,
    LossRefusedError,
    OutputExistsError,
    UnsupportedVideoError,
)
from vsr.models.image.interpolation import imresize
from vsr.pipeline import upscale_pictures as module
from vsr.pipeline.check_pictures import check_pictures
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.upscale import Progress, UpscaleResult, upscale
from vsr.pipeline.verdict import CheckResult, CheckRow

MakeClip = Callable[..., Path]
Array = np.ndarray[Any, Any]


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


def larger(samples: Array) -> Array:
    """Bicubic, twice as large, not rounded."""
    image = torch.from_numpy(samples.astype(np.float64)).permute(2, 0, 1)
    result: Array = imresize(image, scale=2).permute(1, 2, 0).numpy()
    return result


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def notes(result: UpscaleResult) -> str:
    return " ".join(entry["note"] for entry in result.plan if "note" in entry)


def samples_of(codec: str, paths: list[Path]) -> list[Array]:
    return [files.decode(codec, path.read_bytes())[1] for path in paths]


KINDS = [
    ("png", "rgb24", 8),
    ("png", "rgb48be", 16),
    ("png", "gray16be", 16),
    ("tiff", "rgb48le", 16),
    ("dpx", "gbrp10be", 10),
    ("dpx", "gbrp12be", 12),
    ("dpx", "rgb48be", 16),
]


@pytest.mark.parametrize(("codec", "pixel_format", "bits"), KINDS)
def test_pictures_into_the_same_kind(
    tmp_path: Path, codec: str, pixel_format: str, bits: int
) -> None:
    paths = files.write_sequence(
        tmp_path / "in", f"scan_%05d.{codec}", codec, pixel_format, bits, 24, first=86398
    )
    out = tmp_path / "out"
    result = upscale(tmp_path / "in", out, config())
    assert names(out) == [path.name for path in paths]
    assert names(tmp_path) == ["in", "out"]
    for path in paths:
        name, before = files.decode(codec, path.read_bytes())
        again, after = files.decode(codec, (out / path.name).read_bytes())
        assert again == name
        expected = np.clip(larger(before), 0, (1 << bits) - 1)
        assert np.abs(after.astype(np.float64) - expected).max() <= 1
    assert result.check.ok
    assert (result.frames, result.width, result.height) == (24, 64, 48)
    assert "24 a second was taken" in notes(result)


def test_film_scans_pass_their_curve_and_keep_their_headers(tmp_path: Path) -> None:
    paths = files.write_sequence(
        tmp_path / "in", "a.%04d.dpx", "dpx", "gbrp10be", 10, 3, wrap=files.dpx_with_headers
    )
    result = upscale(tmp_path / "in", tmp_path / "out", config(frame_rate="16"))
    assert "Film densities pass Cineon's curve" in notes(result)
    assert "Lost" not in notes(result)
    for path in paths:
        data = (tmp_path / "out" / path.name).read_bytes()
        assert data[801] == 1
        assert data[1664:1682] == b"EK0123456789ABCDEF"
        assert struct.unpack_from(">I", data, 1920) == (0x01020304,)
        before, after = (files.decode("dpx", d)[1].astype(float) for d in (path.read_bytes(), data))
        reduced = after.reshape(24, 2, 32, 2, 3).mean(axis=(1, 3))
        # The curve changes how neighbours are mixed, not what a flat place is.
        assert np.abs(reduced - before).mean() < 4
        assert after.min() >= 0 and after.max() > 900


@pytest.mark.parametrize("options", [{"format": "half"}, {}])
def test_flat_places_of_linear_light_come_back(tmp_path: Path, options: dict[str, str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    values = [-0.25, 0.0, 0.001, 0.18, 0.5, 1.0, 7.5, 1000.0, 60000.0]
    for index, value in enumerate(values):
        samples = np.full((8, 10, 3), np.float16(value), np.float32) * np.array(
            [1, 0.5, 0.25], np.float32
        )
        data = files.encode("exr", samples, "gbrpf32le", **options)
        data = files.exr_with(data, b"shot", b"string", b"x1", lines=8)
        (folder / f"f{index}.exr").write_bytes(data)
    result = upscale(folder, tmp_path / "out", config())
    assert result.check.ok
    for index, value in enumerate(values):
        data = (tmp_path / "out" / f"f{index}.exr").read_bytes()
        name, after = files.decode("exr", data)
        assert name == ("gbrpf16le" if options else "gbrpf32le")
        assert b"shot\0string\0" in data
        assert after.shape == (16, 20, 3)
        expected = np.float32(np.float16(value)) * np.array([1, 0.5, 0.25], np.float32)
        np.testing.assert_allclose(
            after.astype(np.float64), np.broadcast_to(expected, after.shape), rtol=1e-3, atol=1e-7
        )


def test_alpha_is_kept(tmp_path: Path) -> None:
    paths = files.write_sequence(tmp_path / "in", "a%d.png", "png", "rgba64be", 16, 2)
    upscale(tmp_path / "in", tmp_path / "out", config())
    for path in paths:
        name, after = files.decode("png", (tmp_path / "out" / path.name).read_bytes())
        assert name == "rgba64be"
        expected = np.clip(larger(files.decode("png", path.read_bytes())[1]), 0, 65535)
        assert np.abs(after.astype(np.float64) - expected).max() <= 1


@pytest.mark.parametrize(("codec", "pixel_format", "bits"), [KINDS[1], KINDS[4]])
def test_into_prores_and_back(tmp_path: Path, codec: str, pixel_format: str, bits: int) -> None:
    paths = files.write_sequence(
        tmp_path / "in", f"a.%03d.{codec}", codec, pixel_format, bits, 24, size=(48, 64)
    )
    film = tmp_path / "film.mov"
    result = upscale(tmp_path / "in", film, config(codec="prores", frame_rate="23.976"))
    assert result.check.ok
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "prores"
        frames = list(container.decode(stream))
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)  # type: ignore[union-attr]
    assert [f.pts * base for f in frames if f.pts is not None] == [
        Fraction(1001 * k, 24000) for k in range(24)
    ]
    assert frames[0].format.name == "yuv444p10le"
    back = upscale(film, tmp_path / f"b.%04d.{codec}", config())
    assert back.check.ok
    made = sorted(tmp_path.glob(f"b.*.{codec}"))
    assert [p.name for p in made] == [f"b.{k:04d}.{codec}" for k in range(1, 25)]
    top = (1 << bits) - 1
    for before, after in zip(samples_of(codec, paths), samples_of(codec, made), strict=True):
        # ProRes has 10 bits: the way there and back costs a few hundredths at the worst.
        reduced = after.reshape(48, 4, 64, 4, 3).mean(axis=(1, 3)) / (
            (1 << 16) - 1 if bits == 16 else top
        )
        assert np.abs(reduced - before / top).mean() < 0.004


def test_a_film_becomes_pictures_and_says_what_they_cannot_hold(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    film = make_clip(tmp_path / "film.mkv", frames=5, audio=["aac"], chapters=2)
    target = tmp_path / "pictures" / "f_####.png"
    result = upscale(film, target, config())
    assert names(target.parent) == [f"f_{k:04d}.png" for k in range(1, 6)]
    said = notes(result)
    assert "audio" in said and "chapters" in said and "time of each frame" in said
    with pytest.raises(LossRefusedError, match="audio"):
        upscale(film, tmp_path / "strict" / "f_####.png", config(strict=True))
    assert not (tmp_path / "strict").exists()


def test_pictures_into_matroska_keep_the_timeline(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 7)
    result = upscale(tmp_path / "in" / "a.%03d.png", tmp_path / "o.mkv", config(frame_rate="25"))
    assert result.check.ok
    with av.open(str(tmp_path / "o.mkv")) as container:
        times = [frame.pts for frame in container.decode(video=0)]
    assert times == [40 * k for k in range(7)]


def test_the_plan_is_plain_data_and_repeats(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb48be", 16, 3)
    from vsr.pipeline.pictures import find_pictures, probe_pictures

    pictures = find_pictures(tmp_path / "in", tmp_path / "out", config())
    info = probe_pictures(tmp_path / "in", pictures)
    plan = make_plan(tmp_path / "in", tmp_path / "out", config(), info=info, pictures=pictures)
    again = Plan.model_validate_json(plan.model_dump_json())
    assert again == plan
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = find_pictures(tmp_path / "moved", tmp_path / "elsewhere", config())
    other = make_plan(
        tmp_path / "moved", tmp_path / "elsewhere", config(), info=info, pictures=moved
    )
    assert other.digest() == plan.digest()
    upscale(tmp_path / "moved", tmp_path / "one", config(threads=1))
    upscale(tmp_path / "moved", tmp_path / "two", config(threads=3))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 3)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.002.png").write_bytes(b"precious")
    (out / "b.txt").write_bytes(b"other")
    with pytest.raises(OutputExistsError, match=r"a\.002\.png exists already"):
        upscale(tmp_path / "in", out, config())
    assert names(out) == ["a.002.png", "b.txt"]
    assert (out / "a.002.png").read_bytes() == b"precious"
    upscale(tmp_path / "in", out, config(overwrite=True))
    assert names(out) == ["a.001.png", "a.002.png", "a.003.png", "b.txt"]
    for same in (tmp_path / "in", tmp_path / "in" / "a.%03d.png"):
        with pytest.raises(ConfigError, match="the source itself"):
            upscale(tmp_path / "in", same, config(overwrite=True))


def test_mixed_sizes_end_before_anything_is_made(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 3)
    files.write_sequence(
        tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 1, first=4, size=(24, 30)
    )
    with pytest.raises(UnsupportedVideoError, match=r"a\.004\.png is 30x24, the first 32x24"):
        upscale(tmp_path / "in", tmp_path / "out", config())
    assert names(tmp_path) == ["in"]


def test_an_interrupt_leaves_no_picture_and_no_thread(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 12)
    released = threading.Event()

    def interrupt(progress: Progress) -> None:
        if progress.phase == "upscale" and not released.is_set():
            released.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        upscale(tmp_path / "in", tmp_path / "out", config(), progress=interrupt)
    assert names(tmp_path) == ["in"]
    assert not [t for t in threading.enumerate() if t.name.startswith("vsr-")]


def test_a_rejected_sequence_stands_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb24", 8, 2)
    row = CheckRow(name="pictures", ok=False, source="2", result="1")
    monkeypatch.setattr(
        module, "check_pictures", lambda *_, **__: CheckResult(ok=False, rows=(row,))
    )
    with pytest.raises(CheckFailedError, match="pictures is 1, expected 2"):
        upscale(tmp_path / "in", tmp_path / "out", config())
    assert names(tmp_path) == ["in", "out.rejected"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    files.write_sequence(tmp_path / "in", "a.%03d.png", "png", "rgb48be", 16, 8, size=(48, 64))
    upscale(tmp_path / "in", tmp_path / "out", config())
    assert check_pictures(tmp_path / "in", tmp_path / "out").ok
    return tmp_path / "in", tmp_path / "out"


def swap(out: Path) -> None:
    (out / "a.003.png").rename(out / "x")
    (out / "a.004.png").rename(out / "a.003.png")
    (out / "x").rename(out / "a.004.png")


def drop(out: Path) -> None:
    (out / "a.008.png").unlink()


def renumber(out: Path) -> None:
    for number in range(8, 0, -1):
        (out / f"a.{number:03d}.png").rename(out / f"a.{number + 1:03d}.png")


def shallow(out: Path) -> None:
    for index, path in enumerate(sorted(out.iterdir())):
        path.write_bytes(files.encode("png", files.pattern(index, 96, 128, 8), "rgb24"))


def black(out: Path) -> None:
    for path in out.iterdir():
        path.write_bytes(files.encode("png", np.zeros((96, 128, 3), np.uint16), "rgb48be"))


def tint(out: Path) -> None:
    for path in out.iterdir():
        samples = files.decode("png", path.read_bytes())[1]
        samples[..., 1] = np.minimum(samples[..., 1] * 1.1, 65535)
        path.write_bytes(files.encode("png", samples, "rgb48be"))


def cut_off(out: Path) -> None:
    data = (out / "a.005.png").read_bytes()
    (out / "a.005.png").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("tamper", "rows"),
    [
        (swap, {"order"}),
        (drop, {"pictures", "names"}),
        (renumber, {"names"}),
        (shallow, {"sample depth"}),
        (black, {"likeness"}),
        (tint, {"colour"}),
        (cut_off, {"decodes"}),
    ],
)
def test_tampered_pictures_are_found(
    pair: tuple[Path, Path], tamper: Callable[[Path], None], rows: set[str]
) -> None:
    tamper(pair[1])
    proof = check_pictures(*pair)
    assert not proof.ok
    assert rows <= {row.name for row in proof.failures}


def test_check_and_probe_take_sequences_from_the_command_line(pair: tuple[Path, Path]) -> None:
    from click.testing import CliRunner

    from vsr.cli.main import cli

    source, result = map(str, pair)
    run = CliRunner()
    found = run.invoke(cli, ["check", source, result])
    assert found.exit_code == 0, found.output
    assert run.invoke(cli, ["check", result, source]).exit_code == 1
    (pair[1] / "a.003.png").rename(pair[1].parent / "kept")
    gap = run.invoke(cli, ["check", source, result])
    assert gap.exit_code == 1, gap.output
    assert "a.003.png is missing" in gap.output
    (pair[1].parent / "kept").rename(pair[1] / "a.003.png")
    said = run.invoke(cli, ["probe", source])
    assert said.exit_code == 0, said.output
    assert "64x48" in said.output
    planned = run.invoke(
        cli,
        ["upscale", source, f"{source}-x2", "--model", "bicubic-x2", "--dry-run"],
    )
    assert planned.exit_code == 0, planned.output
    assert not Path(f"{source}-x2").exists()
    again = run.invoke(
        cli,
        ["probe", source, "--for", str(pair[0].parent / "o.mov"), "--model", "bicubic-x2"],
    )
    assert again.exit_code == 0, again.output
