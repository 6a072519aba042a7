"""The commands around a run: dry runs, listing, retrying, putting aside, exporting."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from vsr.batch.opening import open_manifest, read_manifest
from vsr.cli.main import run

MakeClip = Callable[..., Path]
WISHES = ("--model", "bicubic-x2", "--device", "cpu", "--encoder-preset", "ultrafast")
pytestmark = pytest.mark.usefixtures("work_here")


@pytest.fixture
def tree(tmp_path: Path, make_clip: MakeClip) -> Path:
    source = tmp_path / "src"
    (source / "a").mkdir(parents=True)
    make_clip(source / "a" / "x.mp4", frames=3)
    make_clip(source / "b.mp4", frames=4)
    (source / "bad.mp4").write_bytes(b"nonsense" * 100)
    os.mkfifo(source / "pipe.mp4")
    return source


@pytest.fixture
def out(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of a batch that is planned."""
    out = tmp_path / "out"
    assert run(["batch", "plan", str(tree), str(out), *WISHES, "--no-estimate"]) == 0
    capsys.readouterr()
    return out


def test_dry_runs_write_nothing(
    tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run(["batch", "plan", str(tree), str(tmp_path / "out"), *WISHES, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "to be made: 2 clips, 7 frames" in shown
    assert "with one worker" in shown
    assert shown.count("quarantined: ") == 2
    assert run(["batch", "run", str(tree), str(tmp_path / "out"), *WISHES, "--dry-run"]) == 7
    assert "4 clips: 0 done, 2 waiting, 2 quarantined" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_plan_as_json(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["batch", "plan", str(tree), str(out), "--exclude", "a", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scan"]["new"] == 3
    assert document["estimate"]["seconds"] > 0
    assert (document["total"], document["waiting"]) == (3, 1)
    assert [clip["clip"] for clip in document["clips"]] == ["b.mp4", "bad.mp4", "pipe.mp4"]


def test_status_keys_that_scripts_rely_on(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "status", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    wanted = "total done running waiting failed quarantined frames_done eta_seconds clips"
    assert set(wanted.split()) <= set(document)
    assert document["eta_seconds"] is None


def test_a_run_stays_with_its_plan(
    tree: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["batch", "run", str(tree), str(out), *WISHES, "--crf", "30"]) == 2
    assert "planned otherwise: crf: None -> 30.0" in capsys.readouterr().err
    assert run(["batch", "run", str(tree), str(out)]) == 7
    assert (out / "a" / "x.mp4").is_file()
    captured = capsys.readouterr()
    assert "100 %  2/2 clips" in captured.err
    assert "4 clips: 2 done, 2 quarantined; 7 frames" in captured.out


def test_metrics(tree: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "vsr.prom"
    wishes = ["batch", "-q", "run", str(tree), str(out), "--metrics", str(file)]
    file.write_text("mine")
    assert run(wishes) == 6
    assert file.read_text() == "mine"
    assert "vsr.prom exists already" in capsys.readouterr().err
    file.unlink()
    for _ in range(2):
        assert run(wishes) == 7
        lines = file.read_text().splitlines()
        assert 'vsr_batch_clips{state="done"} 2' in lines
        assert 'vsr_batch_clips{state="quarantined"} 2' in lines
        assert "vsr_batch_frames_done 7" in lines
        assert all(line.startswith(("# HELP ", "# TYPE ", "vsr_batch_")) for line in lines)


def test_a_changed_film_takes_the_place_of_its_result(
    tree: Path, out: Path, make_clip: MakeClip
) -> None:
    assert run(["batch", "-q", "run", str(tree), str(out)]) == 7
    before = (out / "b.mp4").read_bytes(), (out / "a" / "x.mp4").stat().st_mtime_ns
    make_clip(tree / "b.mp4", frames=6)
    (tree / "bad.mp4").unlink()
    (tree / "pipe.mp4").unlink()
    assert run(["batch", "-q", "plan", str(tree), str(out)]) == 0
    assert run(["batch", "-q", "run", str(tree), str(out)]) == 0
    assert (out / "b.mp4").read_bytes() != before[0]
    assert (out / "a" / "x.mp4").stat().st_mtime_ns == before[1]
    with read_manifest(out) as manifest:
        clips = {clip.path: (clip.state, clip.frames) for clip in manifest.clips()}
    assert clips["b.mp4"] == ("done", 6)
    assert clips["bad.mp4"][0] == "vanished"


def test_a_file_of_somebody_else_stays(
    tree: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "b.mp4").write_text("mine")
    assert run(["batch", "run", str(tree), str(out)]) == 7
    assert "b.mp4 exists already" in capsys.readouterr().out
    assert (out / "b.mp4").read_text() == "mine"
    assert run(["batch", "retry", str(out), "b.mp4"]) == 0
    assert run(["batch", "-q", "run", str(tree), str(out), "--overwrite"]) == 7
    assert (out / "b.mp4").read_bytes() != b"mine"


def test_retry_and_quarantine(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "quarantine", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["bad.mp4", "pipe.mp4"]
    assert run(["batch", "quarantine", str(out), "b.mp4"]) == 0
    assert run(["batch", "quarantine", str(out), "--json"]) == 0
    text = capsys.readouterr().out
    rows = json.loads(text[text.index("[") :])
    assert rows[0]["error"] == "put aside by hand"
    assert run(["batch", "retry", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "2 clips will be tried again" in shown
    assert "1 are no video files" in shown
    with read_manifest(out) as manifest:
        assert manifest.counts()["waiting"] == 3
    assert run(["batch", "retry", str(out), "none.mp4"]) == 2
    assert "is called 'none.mp4'" in capsys.readouterr().err


def test_export(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_manifest(out) as manifest:
        manifest.add(os.fsdecode(b"caf\xe9\n.mp4"), "waiting", output="x.mkv")
    assert run(["batch", "export", str(out)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["clip"] for row in rows][1:4] == ["b.mp4", "bad.mp4", "caf\\udce9\n.mp4"]
    assert run(["batch", "export", str(out), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["history"][0]["state"] == "waiting"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["status", "none"], 2, "no manifest"),
        (["run", "src", "src"], 2, "among the sources"),
        (["plan", "none", "out"], 3, "expected the folder"),
        (["plan", "src", "out", "--min-size", "big"], 2, "no amount of data"),
        (["run", "src", "out", "--events", "--json"], 2, "cannot both go to stdout"),
        (["plan", "src", "out", "--model", "bicubik-x2"], 4, "bicubic-x2"),
        (["plan", "src", "out", "--set", "scal=2"], 2, "scale"),
        (["retry", "out"], 2, "no manifest"),
    ],
)
def test_wrong_wishes(
    tree: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["batch", *arguments]) == code
    shown = capsys.readouterr().err
    assert word in shown
    assert "Traceback" not in shown
    is_begun = arguments[:3] == ["plan", "src", "out"] and "bicubik-x2" in arguments
    assert (tmp_path / "out").exists() is is_begun
