"""`vsr report` and `vsr upscale --report` as a user meets them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.media import picture_files as files
from vsr.cli.main import run
from vsr.cli.report import _told_by_file
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import card_of

MakeClip = Callable[..., Path]
UPSCALE = ["upscale", "--model", "bicubic-x2", "--device", "cpu", "-q"]


@pytest.fixture(scope="module")
def films(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source and its result, made with --report."""
    folder = tmp_path_factory.mktemp("report")
    source = make_clip(folder / "a <b>film.mkv", frames=6)
    result = folder / "large.mkv"
    assert run([*UPSCALE, "--report", "--", str(source), str(result)]) == 0
    return source, result


def test_upscale_leaves_a_page_with_what_it_did(films: tuple[Path, Path]) -> None:
    _, result = films
    page = result.with_name("large.mkv.report.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;film.mkv" in page
    assert "<b>film" not in page
    document = json.loads(result.with_name("large.mkv.report.json").read_text())
    assert document["check"]["ok"] is True
    assert document["run"]["model"] == "bicubic-x2"
    assert document["run"]["settings"]["model"] == "bicubic-x2"
    assert len(document["frames"]) == document["num_frames"] == 6


def woven(times: Callable[[int], tuple[float, float]]) -> Callable[[Any, int], None]:
    """A wave that moves, in two fields of other times, the upper one first."""

    def fill(frame: Any, index: int) -> None:
        for number, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            if number == 0:
                y, x = np.mgrid[: plane.height, : plane.line_size]
                time = np.where(y % 2, *reversed(times(index)))
                wave = np.sin((x - 6 * time) / 3) * np.cos((y + 2 * time) / 4)
                rows[:] = np.rint(128 + 80 * wave)
            plane.update(rows.tobytes())

    return fill


def pulled_down(index: int) -> tuple[float, float]:
    """Four pictures of film in five frames."""
    upper, lower = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))[index % 5]
    return 4 * (index // 5) + upper, 4 * (index // 5) + lower


@pytest.mark.parametrize(
    ("how", "times", "num_frames"),
    [
        ("bwdif", lambda index: (index, index + 0.5), 15),
        ("bob", lambda index: (index, index + 0.5), 30),
        ("ivtc", pulled_down, 12),
    ],
)
def test_film_made_progressive_is_held_against_its_source_made_so(
    make_clip: MakeClip,
    tmp_path: Path,
    how: str,
    times: Callable[[int], tuple[float, float]],
    num_frames: int,
) -> None:
    options = {"x264-params": "tff=1", "crf": "8"}
    source = make_clip(
        tmp_path / "fields.mkv", height=64, frames=15, fill=woven(times), codec_options=options
    )
    result = tmp_path / "whole.mkv"
    assert run([*UPSCALE, "--report", "--deinterlace", how, "--", str(source), str(result)]) == 0
    document = json.loads(result.with_name("whole.mkv.report.json").read_text())
    assert document["num_frames"] == num_frames
    assert document["findings"] == []
    # Held against the fields themselves, it has 20 dB.
    assert min(frame["psnr_db"] for frame in document["frames"]) > 35


def test_the_report_of_a_clean_result(
    films: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source, result = films
    page = tmp_path / "page.html"
    capfd.readouterr()
    arguments = ["report", "--json", "-q", "-o", str(page), "--reference", str(result)]
    assert run([*arguments, "--", str(source), str(result)]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads((tmp_path / "page.json").read_text())
    assert document["findings"] == []
    assert document["ok"] is True
    assert document["summary"]["reference_psnr_db"] == 100
    with (tmp_path / "page.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert (tmp_path / "page.edl").read_text().startswith("TITLE: large.mkv\n")
    # Its own page is written anew, another's file is left alone.
    assert run(["report", "-q", "--no-check", "-o", str(page), str(source), str(result)]) == 0
    page.write_text("mine")
    assert run(["report", "-q", "--no-check", "-o", str(page), str(source), str(result)]) == 6
    assert page.read_text() == "mine"


def test_what_a_result_says_of_itself_is_on_the_page(
    films: tuple[Path, Path], tmp_path: Path
) -> None:
    source, result = films
    page = tmp_path / "page.html"
    assert run(["report", "-q", "--no-check", "-o", str(page), str(source), str(result)]) == 0
    told = json.loads((tmp_path / "page.json").read_text())["run"]
    assert told["model"] == "bicubic-x2"
    assert len(told["settings_sha256"]) == 64
    assert told["digests"] == {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in (("source", source), ("result", result))
    }
    text = page.read_text(encoding="utf-8")
    assert all(digest in text for digest in told["digests"].values())


def test_a_tag_opens_no_file_and_brings_no_other_card(tmp_path: Path) -> None:
    film = tmp_path / "film.mkv"
    film.write_bytes(b"1")
    for model in (str(film), "flowprop-s-x2-bi"):
        tags = {"VSR_MODEL": model, "VSR_WEIGHTS_SHA256": "0" * 64}
        told = _told_by_file(film, tmp_path, tags)
        assert "model_card" not in told
        assert told["digests"]["weights"] == "0" * 64
        assert "result" not in told["digests"]
    card = card_of(get_spec("flowprop-s-x2-bi"))
    assert card is not None
    told = _told_by_file(film, film, {**tags, "vsr_weights_sha256": card.sha256})
    assert told["model_card"]["id"] == "flowprop-s-x2-bi"


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "bits"),
    [
        ("a.%03d.png", "png", "rgb24", 8),
        ("a.%03d.tif", "tiff", "rgb48le", 16),
        ("a.%03d.dpx", "dpx", "gbrp10be", 10),
        ("a.%03d.exr", "exr", "gbrpf32le", 32),
    ],
)
def test_pictures_have_a_report_too(
    tmp_path: Path, name: str, codec: str, pixel_format: str, bits: int
) -> None:
    source, result = tmp_path / "in", tmp_path / "out"
    if codec == "exr":
        source.mkdir()
        for index in range(3):
            light = np.asarray(files.pattern(index, 48, 64, 16) / 65535.0, np.float32)
            data = files.encode("exr", light**2, pixel_format)
            (source / (name % index)).write_bytes(data)
    else:
        wrap = files.dpx_with_headers if codec == "dpx" else bytes
        options = {"size": (48, 64), "wrap": wrap}
        files.write_sequence(source, name, codec, pixel_format, bits, 3, **options)
    assert run([*UPSCALE, "--report", "--", str(source), str(result)]) == 0
    assert (tmp_path / "out.report.html").is_file()
    document = json.loads((tmp_path / "out.report.json").read_text())
    assert document["check"]["ok"] is True
    assert (document["num_frames"], document["source_size"]) == (3, [64, 48])
    # As displayed: plainly enlarged, whatever curve lies between the codes and the eye.
    assert min(frame["psnr_db"] for frame in document["frames"]) > 25
    assert abs(document["summary"]["psnr_db"] - document["summary"]["plain_psnr_db"]) < 4
    assert document["frames"][2]["time_s"] == pytest.approx(2 / 24, abs=1e-5)
    arguments = ["report", "-q", "--json", "-o", str(tmp_path / "again.html")]
    pattern = result / name
    assert run([*arguments, "--reference", str(result), str(source), str(pattern)]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["summary"]["reference_psnr_db"] == 100
    assert again["summary"]["psnr_db"] == document["summary"]["psnr_db"]


def test_pictures_of_a_film_and_a_film_of_pictures(
    films: tuple[Path, Path], tmp_path: Path
) -> None:
    source, _ = films
    pictures, film = tmp_path / "frames", tmp_path / "film.mkv"
    pictures.mkdir()
    assert run([*UPSCALE, "--report", "--", str(source), str(pictures / "f.%04d.png")]) == 0
    document = json.loads((tmp_path / "frames.report.json").read_text())
    assert document["check"]["ok"] is True
    assert document["num_frames"] == 6
    assert run([*UPSCALE, "--report", "--frame-rate", "25", "--", str(pictures), str(film)]) == 0
    document = json.loads((tmp_path / "film.mkv.report.json").read_text())
    assert document["num_frames"] == 6
    assert document["source_size"] == [128, 96]


def test_the_truth_of_the_whole_film_serves_an_excerpt(
    films: tuple[Path, Path], make_clip: MakeClip, tmp_path: Path
) -> None:
    source = make_clip(tmp_path / "film.mkv", frames=20)
    whole, part = tmp_path / "whole.mkv", tmp_path / "part.mkv"
    assert run([*UPSCALE, "--", str(source), str(whole)]) == 0
    assert run([*UPSCALE, "--start", "0.4", "--", str(source), str(part)]) == 0
    for truth, expected in ((whole, True), (part, True), (films[1], False)):
        page = tmp_path / "page.html"
        arguments = ["report", "-q", "--no-check", "-o", str(page), "--reference", str(truth)]
        assert run([*arguments, str(source), str(part)]) == 0
        frames = json.loads((tmp_path / "page.json").read_text())["frames"]
        assert len(frames) == 10
        found = [frame["reference_psnr_db"] for frame in frames]
        assert all(value is not None and value > 35 for value in found) is expected


def test_what_goes_away_has_no_report(films: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("-", str(tmp_path / "raw.y4m")):
        assert run([*UPSCALE, "--report", "--", str(films[0]), name]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_reference_of_another_size(films: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = films
    arguments = ["report", "--no-check", "-o", str(tmp_path / "p.html"), "--reference", str(source)]
    assert run([*arguments, str(source), str(result)]) != 0
    assert list(tmp_path.iterdir()) == []


def test_an_input_is_never_replaced(films: tuple[Path, Path]) -> None:
    source, result = films
    before = source.read_bytes()
    assert run(["report", "--overwrite", "-o", str(source), str(source), str(result)]) == 2
    assert source.read_bytes() == before


def shifted(film: Path, path: Path, frame: int, ticks: int) -> Path:
    """The same packets, one of them so many ticks later."""
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        target.metadata.update(source.metadata)
        old = source.streams.video[0]
        new = target.add_stream_from_template(old, opaque=True)
        # Without it the muxer takes a clock of its own.
        new.time_base = old.time_base
        packets = [p for p in source.demux(old) if p.size]
        late = sorted(packets, key=lambda p: p.pts or 0)[frame]
        for packet in packets:
            if packet is late and packet.pts is not None:
                packet.pts += ticks
            packet.stream = new
            target.mux(packet)
    return path


def test_a_shift_of_two_ticks_is_named_on_the_page(
    make_clip: MakeClip, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = make_clip(tmp_path / "film.mp4", frames=6)
    result = tmp_path / "large.mp4"
    assert run([*UPSCALE, "--", str(source), str(result)]) == 0
    late = shifted(result, tmp_path / "late.mp4", 3, 2)
    page = tmp_path / "late.html"
    capfd.readouterr()
    # As of `vsr check`: a script need not read the page.
    assert run(["report", "-q", "-o", str(page), str(source), str(late)]) == 1
    assert "pts: Not as in the source" in capfd.readouterr().out
    document = json.loads((tmp_path / "late.json").read_text())
    assert document["ok"] is False
    assert "pts" in [finding["kind"] for finding in document["findings"]]
    assert "NOT the same film" in document["verdict"]
    assert "<strong>pts</strong>" in page.read_text(encoding="utf-8")
    assert run(["report", "-q", "--no-check", "-o", str(page), str(source), str(late)]) == 0
    # The same done without a shift is not named so; copying lost the title of the stream.
    even = shifted(result, tmp_path / "even.mp4", 3, 0)
    assert run(["report", "-q", "-o", str(page), str(source), str(even)]) == 1
    kinds = [f["kind"] for f in json.loads((tmp_path / "late.json").read_text())["findings"]]
    assert kinds == ["labels of streams"]
