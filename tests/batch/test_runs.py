"""`vsr batch` as a user meets it: real worker processes, real kills, real bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vsr
from tests.batch.conftest import do_work_here
from vsr.batch.manifest import FOLDER_NAME
from vsr.batch.opening import read_manifest
from vsr.cli.main import run
from vsr.pipeline.output import sha256_of

MakeClip = Callable[..., Path]
ROOT = Path(vsr.__file__).parent.parent
WISHES = (
    *("--model", "bicubic-x2", "--device", "cpu", "--encoder-preset", "ultrafast"),
    *("--set", "engine.isolate=false", "--set", "engine.segment_frames=12"),
)
HOSTILE = ('a b/it\'s "x".mp4', "ünïcode 映画.mp4", "line\nbreak.mp4", "-x %0A.mp4")
LISTS = ("manifest-sha256.txt", "sources-sha256.txt")
BROKEN = ("a/cut.mp4", "pipe.mp4")


def hostile_names() -> tuple[str, ...]:
    """With one that is no UTF-8, where the file system takes it."""
    return (*HOSTILE, os.fsdecode(b"caf\xe9.mkv")) if sys.platform == "linux" else HOSTILE


@pytest.fixture(scope="module")
def tree(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("archive") / "src"
    for number, name in enumerate(("a/x.mp4", "b/x.mp4", "b/x.avi", *hostile_names())):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        # Every clip is another film, so that no result can pass for another's.
        make_clip(path, frames=6 + 2 * number, codec=codec)
    make_clip(source / "a" / "cut.mp4", truncate=0.5)
    os.mkfifo(source / "pipe.mp4")
    (source / "a" / "loop").symlink_to(source)
    (source / "notes.txt").write_text("no film")
    return source


def vsr_batch(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vsr", "batch", *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_signals,
        **options,
    )


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def results(out: Path) -> dict[str, str]:
    """Path and digest of every film in a folder of results."""
    films = (path for path in out.rglob("*") if path.suffix in (".mp4", ".mkv", ".mov"))
    return {os.fspath(path.relative_to(out)): sha256_of(path) for path in films}


def listed(path: Path) -> dict[bytes, bytes]:
    """Digest by path, of a list in the form of BagIt."""
    pairs = (line.split(b"  ", 1) for line in path.read_bytes().split(b"\n")[:-1])
    return {name: digest for digest, name in pairs}


@pytest.fixture(scope="module")
def calm(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a batch that nobody disturbed, made without worker processes."""
    out = tmp_path_factory.mktemp("calm") / "out"
    with pytest.MonkeyPatch.context() as patch:
        do_work_here(patch)
        assert run(["batch", "-q", "run", str(tree), str(out), *WISHES]) == 7
    return out


def test_the_tree_is_kept(calm: Path) -> None:
    out = calm
    wanted = {"a/x.mp4", "b/x.mp4", "b/x.mkv", *hostile_names()}
    assert set(results(out)) == wanted
    assert {path.name for path in out.iterdir() if path.name.startswith(".")} >= {FOLDER_NAME}
    assert not list(out.rglob("*.vsr-work"))


def test_status(calm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = calm
    assert run(["batch", "status", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    num_good = 3 + len(hostile_names())
    assert (document["total"], document["done"]) == (num_good + 2, num_good)
    assert document["quarantined"] == 2
    assert document["eta_seconds"] == 0
    assert document["frames_done"] == sum(6 + 2 * number for number in range(num_good))
    clips = {clip["clip"]: clip for clip in document["clips"]}
    for name in BROKEN:
        assert clips[name]["state"] == "quarantined"
        assert clips[name]["exit_code"] == 3
        assert len(clips[name]["error"].splitlines()) == 1
    assert run(["batch", "status", str(out)]) == 0
    assert f"{num_good} done, 2 quarantined" in capsys.readouterr().out


def test_fixity(tree: Path, calm: Path) -> None:
    out = calm
    found = results(out)
    with read_manifest(out) as manifest:
        done = manifest.clips("done")
    results_list, sources_list = (listed(out / name) for name in LISTS)
    for clip in done:
        assert clip.output is not None
        assert clip.result_sha256 == found[clip.output]
        assert clip.source_sha256 == sha256_of(tree / clip.path)
        sidecar = json.loads((out / f"{clip.output}.json").read_bytes())
        assert sidecar["digests"]["result"] == clip.result_sha256
        assert sidecar["settings"]["model"] == "bicubic-x2"
        written = os.fsencode(clip.output).replace(b"%", b"%25").replace(b"\n", b"%0A")
        assert results_list[written].decode() == clip.result_sha256
    assert len(results_list) == len(sources_list) == len(done)


def test_all_over_again_makes_nothing(tree: Path, calm: Path) -> None:
    out = calm
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    before = {path: date for path, date in before.items() if FOLDER_NAME not in path.parts}
    assert run(["batch", "-q", "run", str(tree), str(out)]) == 7
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_lost_manifest_loses_no_work(tree: Path, calm: Path, tmp_path: Path) -> None:
    """The journals are the truth: what is finished is found finished."""
    out = calm
    kept = (out / FOLDER_NAME).rename(tmp_path / "kept")
    lists = [
        (out / name).rename(tmp_path / name)
        for name in ("manifest-sha256.txt", "sources-sha256.txt")
    ]
    before = {name: (out / name).stat().st_mtime_ns for name in results(out)}
    assert run(["batch", "-q", "run", str(tree), str(out), *WISHES]) == 7
    assert {name: (out / name).stat().st_mtime_ns for name in results(out)} == before
    with read_manifest(out) as manifest:
        notes = {step[2] for clip in manifest.clips("done") for step in manifest.history(clip.id)}
    assert "an earlier run had made it" in notes
    for path in lists:
        assert (out / path.name).read_bytes() == path.read_bytes()
    assert kept.is_dir()


def test_killed_again_and_again(tree: Path, calm: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    draw = random.Random(9)
    # Before anything is planned; then while clips are begun, made, and done.
    for moment in (None, "started", "progress", "done"):
        with vsr_batch("run", tree, out, *WISHES, "--workers", "2", "--events") as process:
            assert process.stdout is not None
            if moment is not None:
                _ = next(line for line in process.stdout if json.loads(line)["event"] == moment)
            time.sleep(draw.uniform(0, 0.6))
            process.kill()
            process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
    with vsr_batch("run", tree, out, *WISHES, "--workers", "2", "--events") as process:
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 7, stderr
    events = [json.loads(line) for line in stdout.splitlines()]
    assert events[-1]["share"] == 1
    assert results(out) == results(calm)
    assert [path for path in tmp_path.iterdir() if path != out] == []
    assert not list(out.rglob("*.vsr-work"))
    with read_manifest(out) as manifest:
        for clip in manifest.clips("done"):
            states = [state for _, state, _ in manifest.history(clip.id)]
            assert states.count("done") == 1, clip.path
        assert [clip.path for clip in manifest.clips("quarantined")] == sorted(BROKEN)
    for name in LISTS:
        assert (out / name).read_bytes() == (calm / name).read_bytes()


def test_signals_and_a_second_run(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with vsr_batch("run", tree, out, *WISHES, "--events") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "started":
                break
        assert run(["batch", "run", str(tree), str(out)]) == 6
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("vsr: interrupted; ")
    assert last.endswith("clips are done; the same command goes on with the rest")
    with read_manifest(out) as manifest:
        assert manifest.clips("running") == []
        assert len(manifest.clips("waiting")) >= 1
