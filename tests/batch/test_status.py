"""How far a batch is, in numbers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vsr.batch.manifest import Manifest
from vsr.batch.opening import copy_manifest, open_manifest
from vsr.batch.status import status


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return copy_manifest(tmp_path / "out")


def add(manifest: Manifest, state: str, frames: int, seconds: float | None = None) -> int:
    number = len(manifest.clips())
    return manifest.add(
        f"{number}.mp4",
        state,  # type: ignore[arg-type]
        output=f"{number}.mkv",
        width=10,
        height=10,
        frames=frames,
        frames_done=frames if state == "done" else 0,
        seconds=seconds,
    )


def eta(manifest: Manifest) -> float | None:
    left: float | None = status(manifest)["eta_seconds"]
    return left


def test_time_left(manifest: Manifest) -> None:
    assert eta(manifest) == 0
    add(manifest, "waiting", 100)
    assert eta(manifest) is None
    # A second for each ten frames, as far as one clip can tell.
    add(manifest, "done", 50, 5.0)
    assert eta(manifest) == 10
    # Two tell of 4 s for each clip and 0.02 s for each frame.
    add(manifest, "done", 100, 6.0)
    assert eta(manifest) == 6
    manifest.set_note("workers", "2")
    assert eta(manifest) == 3
    waiting = manifest.clips("waiting")[0]
    manifest.set_progress({waiting.id: 50})
    assert eta(manifest) == 2.5
    assert status(manifest)["frames_done"] == 200
    manifest.move(waiting.id, "quarantined")
    assert eta(manifest) == 0


def test_longer_clips_that_took_less_are_no_trend(manifest: Manifest) -> None:
    add(manifest, "done", 10, 10.0)
    add(manifest, "done", 20, 5.0)
    add(manifest, "waiting", 30)
    assert eta(manifest) == 15


def test_clips_that_do_not_say_how_long_they_are(manifest: Manifest) -> None:
    add(manifest, "done", 0, 10.0)
    add(manifest, "waiting", 0)
    assert eta(manifest) == 10


def test_of_ten_thousand_clips(tmp_path: Path) -> None:
    """Said within a second, by a program that loads nothing that looks at films."""
    with open_manifest(tmp_path / "out") as manifest, manifest.together():
        for number in range(10_000):
            path = f"{number}.mkv"
            manifest.add(path, "done", output=path, frames=4, frames_done=4, seconds=1.0)
    code = (
        "import sys, time\n"
        "from vsr.cli.main import run\n"
        "assert run(sys.argv[1:]) == 0\n"
        "print(time.process_time())\n"
        "print(sorted({'av', 'numpy', 'pydantic', 'ray', 'torch'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "batch", "status", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
    )
    line, cpu_s, loaded = done.stdout.splitlines()
    assert line.startswith("10000 clips: 10000 done; 40000 frames")
    assert float(cpu_s) < 1
    assert loaded == "[]"
