"""`vsr report` and `vsr upscale --report` as a user meets them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from vsr.cli.main import run

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
    assert run(["report", "-q", "-o", str(page), str(source), str(late)]) == 0
    assert "pts: Not as in the source" in capfd.readouterr().out
    document = json.loads((tmp_path / "late.json").read_text())
    assert document["ok"] is False
    assert "pts" in [finding["kind"] for finding in document["findings"]]
    assert "NOT the same film" in document["verdict"]
    assert "<strong>pts</strong>" in page.read_text(encoding="utf-8")
    # The same done without a shift is not named so.
    even = shifted(result, tmp_path / "even.mp4", 3, 0)
    assert run(["report", "-q", "-o", str(page), str(source), str(even)]) == 0
    kinds = [f["kind"] for f in json.loads((tmp_path / "late.json").read_text())["findings"]]
    assert "pts" not in kinds
