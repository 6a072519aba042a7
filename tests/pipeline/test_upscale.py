"""End to end: the same film, only larger; and nothing at the output's name unless it is.

The results are read back by plain av calls, so that vsr cannot confirm its own errors.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from vsr.config import UpscaleConfig, resolve_config
from vsr.errors import (
    CheckFailedError,
    ConfigError,
    OpenError,
    OutputError,
    OutputExistsError,
)
from vsr.pipeline import check as check_module
from vsr.pipeline import joining
from vsr.pipeline import upscale as upscale_module
from vsr.pipeline.check import CheckResult, CheckRow
from vsr.pipeline.upscale import Progress, UpscaleResult, upscale

MakeClip = Callable[..., Path]


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


@dataclass
class Film:
    """What plain av says of a file."""

    times: list[Fraction]
    size: tuple[int, int]
    audio: list[tuple[int, str]]
    subtitles: int
    chapters: list[str]


def read(path: Path) -> Film:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        base = Fraction(video.time_base.numerator, video.time_base.denominator)  # type: ignore[union-attr]
        frames = list(container.decode(video))
        size = (frames[0].width, frames[0].height)
        times = [frame.pts * base for frame in frames if frame.pts is not None]
    audio = []
    with av.open(str(path)) as container:
        subtitles = len(container.streams.subtitles)
        chapters = [chapter["metadata"]["title"] for chapter in container.chapters()]
        for stream in container.streams.audio:
            digest, count = hashlib.sha256(), 0
            with av.open(str(path)) as again:
                for packet in again.demux(again.streams[stream.index]):
                    if packet.size:
                        digest.update(bytes(packet))
                        count += 1
            audio.append((count, digest.hexdigest()))
    return Film(times, size, audio, subtitles, chapters)


def left_beside(output: Path) -> list[str]:
    names = sorted(path.name for path in output.parent.iterdir())
    return [name for name in names if not (name.startswith(".") and name.endswith(".vsr.json"))]


@pytest.fixture
def film(make_clip: MakeClip, tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return make_clip(
        folder / "film.mp4",
        bframes=2,
        pts=[0, 512, 1024, 1536, 2304, 2560, 4096, 4608, 5120, 5632, 6144, 8192],
        time_base=Fraction(1, 12800),
        audio=["aac", "aac"],
        subtitles="mov_text",
        chapters=2,
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "result.mkv"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_the_same_film_only_larger(film: Path, output: Path, suffix: str) -> None:
    output = output.with_suffix(suffix)
    result = upscale(film, output, config())
    before, after = read(film), read(output)
    assert after.size == (128, 96)
    assert len(after.times) == 12
    if suffix == ".mkv":
        # Sound starts before the pictures and Matroska knows no negative times: all moves alike.
        moved = [b - a for a, b in zip(before.times, after.times, strict=True)]
        assert max(moved) - min(moved) <= Fraction(1, 1000)
    else:
        assert after.times == before.times
    assert after.audio == before.audio
    assert after.subtitles == 1
    assert after.chapters == before.chapters == ["Chapter 1", "Chapter 2"]
    assert left_beside(output) == [output.name]
    assert result.check.ok, result.check.failures
    assert result.frames == 12
    assert (result.width, result.height) == (128, 96)
    assert result.bottleneck in ("decode", "infer", "encode")
    assert result.digests["result"] == hashlib.sha256(output.read_bytes()).hexdigest()


def test_mkv_to_mkv_keeps_every_millisecond(make_clip: MakeClip, output: Path) -> None:
    pts = [0, 33, 67, 100, 133, 200, 201, 300]
    source = make_clip(
        output.with_name("s.mkv"), rate=30, time_base=Fraction(1, 1000), pts=pts, bframes=2
    )
    upscale(source, output, config())
    assert read(output).times == [Fraction(t, 1000) for t in pts]


def test_ten_bits_stay_ten_bits(make_clip: MakeClip, output: Path) -> None:
    source = make_clip(
        output.with_name("s.mkv"),
        codec="libx265",
        pixel_format="yuv420p10le",
        color=(9, 16, 9, 1),
        sar=Fraction(4, 3),
    )
    upscale(source, output, config(encoder_preset="ultrafast"))
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert context.pix_fmt == "yuv420p10le"
        assert [context.color_primaries, context.color_trc, context.colorspace] == [9, 16, 9]
        assert context.color_range == 1
        sar = stream.sample_aspect_ratio
        assert sar is not None
        assert Fraction(sar.numerator, sar.denominator) == Fraction(4, 3)


def test_two_runs_give_the_same_file(film: Path, output: Path) -> None:
    other = output.with_name("again.mkv")
    upscale(film, output, config())
    upscale(film, other, config())
    assert output.read_bytes() == other.read_bytes()


def test_progress_goes_through_all_phases(film: Path, output: Path) -> None:
    seen: list[Progress] = []
    upscale(film, output, config(), progress=seen.append)
    phases = list(dict.fromkeys(progress.phase for progress in seen))
    assert phases == ["scan", "upscale", "join", "check"]
    done = [p.num_done for p in seen if p.phase == "upscale"]
    assert done == list(range(1, 13))
    assert {p.num_frames for p in seen if p.phase == "upscale"} == {12}


def test_the_result_is_plain_data(film: Path, output: Path) -> None:
    result = upscale(film, output, config())
    again = UpscaleResult.model_validate_json(result.model_dump_json())
    assert again == result
    kinds = [entry["kind"] for entry in result.plan if "kind" in entry]
    assert kinds.count("audio") == 2


@pytest.mark.parametrize("how", ["same", "hardlink", "symlink", "dotted"])
def test_output_equal_to_input_is_refused(film: Path, how: str) -> None:
    before = film.read_bytes()
    output = film.with_name("link.mp4")
    if how == "same":
        output = film
    elif how == "hardlink":
        output.hardlink_to(film)
    elif how == "symlink":
        output.symlink_to(film)
    else:
        output = film.parent / ".." / "in" / film.name
    with pytest.raises(ConfigError, match="the source itself") as caught:
        upscale(film, output, config(overwrite=True))
    assert caught.value.exit_code == 2
    assert film.read_bytes() == before


def test_an_existing_file_is_left_alone(film: Path, output: Path) -> None:
    output.write_bytes(b"precious")
    with pytest.raises(OutputExistsError) as caught:
        upscale(film, output, config())
    assert caught.value.exit_code == 6
    assert output.read_bytes() == b"precious"
    assert left_beside(output) == [output.name]
    upscale(film, output, config(overwrite=True))
    assert read(output).size == (128, 96)


@pytest.mark.parametrize("kind", ["directory", "fifo", "dangling"])
def test_what_is_no_file_is_never_replaced(film: Path, output: Path, kind: str) -> None:
    if kind == "directory":
        output.mkdir()
    elif kind == "fifo":
        os.mkfifo(output)
    else:
        output.symlink_to(output.with_name("nowhere"))
    with pytest.raises(OutputExistsError):
        upscale(film, output, config(overwrite=kind != "dangling"))
    assert os.path.lexists(output)


def test_a_folder_that_is_not_there(film: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist") as caught:
        upscale(film, tmp_path / "no" / "where.mkv", config())
    assert caught.value.exit_code == 6


def test_refusals_come_before_any_work(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("planned")

    monkeypatch.setattr(upscale_module, "make_plan", fail)
    output.write_bytes(b"")
    for source, target, error in (
        (film, output, OutputExistsError),
        (film, output.with_suffix(".avi"), ConfigError),
        (film.with_name("none.mp4"), output.with_name("new.mkv"), OpenError),
        (film, output.parent / "no" / "new.mkv", OutputError),
    ):
        with pytest.raises(error):
            upscale(source, target, config())
    assert left_beside(output) == [output.name]


def test_what_a_killed_run_left_is_in_nobodys_way(film: Path, output: Path) -> None:
    old = output.with_name(f".{output.name}.vsr-work")
    old.mkdir()
    (old / "segment-000000.mkv").write_bytes(b"half")
    upscale(film, output, config())
    assert left_beside(output) == [output.name]


def test_an_error_in_mid_run_leaves_what_is_done(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OutputError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(joining, "join_segments", fail)
        with pytest.raises(OutputError, match=r"no space.*1 of 1 segments are done and kept"):
            upscale(film, output, config())
    assert left_beside(output) == [".result.mkv.vsr-work"]
    assert upscale(film, output, config()).resumed_segments == 1
    assert left_beside(output) == [output.name]


def test_a_result_that_fails_its_check_is_kept_under_another_name(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = CheckRow(name="frames", ok=False, source="12", result="11")
    monkeypatch.setattr(check_module, "check", lambda *_, **__: CheckResult(ok=False, rows=(row,)))
    with pytest.raises(CheckFailedError, match="frames is 11, expected 12") as caught:
        upscale(film, output, config())
    assert caught.value.exit_code == 1
    assert left_beside(output) == ["result.rejected.mkv"]


def test_an_interrupt_leaves_no_thread_and_no_half_file(film: Path, output: Path) -> None:
    released = threading.Event()

    def interrupt(progress: Progress) -> None:
        if progress.phase == "upscale" and not released.is_set():
            released.set()
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        upscale(film, output, config(), progress=interrupt)
    work = output.with_name(".result.mkv.vsr-work")
    assert left_beside(output) == [work.name]
    assert sorted(path.name for path in work.iterdir()) == ["lock", "plan.json", "run.json"]
    assert not [t for t in threading.enumerate() if t.name.startswith("vsr-")]
    upscale(film, output, config())
    assert left_beside(output) == [output.name]


@pytest.mark.parametrize("name", ["-x.mkv", "a b'c\"d.mkv", "ünï%03d.mkv", "concat:x.mkv"])
def test_odd_names_are_only_names(film: Path, output: Path, name: str) -> None:
    source = film.rename(film.with_name(name).with_suffix(".mp4"))
    target = output.with_name(name)
    upscale(source, target, config())
    assert left_beside(target) == [name]
