"""Signals: the first one leaves what can be gone on with, the second one stops at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest

import vsr
from vsr.cli.main import run

MakeClip = Callable[..., Path]
ROOT = Path(vsr.__file__).parent.parent
FLAGS = ("--model", "bicubic-x4", "--device", "cpu", "--set", "engine.isolate=false")


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return make_clip(path, frames=40, width=320, height=240, codec_options={"preset": "ultrafast"})


def start(
    film: Path, output: Path, *flags: str, stdout: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "vsr", "upscale", str(film), str(output), *FLAGS, *flags]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=stdout,
        stderr=subprocess.PIPE,
        # Whoever runs the tests may ignore them, and the child would then, too.
        preexec_fn=_hear_signals,
    )


def _hear_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(stream: IO[bytes] | None, text: bytes) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never said")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_first_signal_leaves_what_can_be_gone_on_with(
    film: Path, tmp_path: Path, number: int, code: int
) -> None:
    output = tmp_path / "out.mkv"
    with start(film, output) as process:
        wait_for(process.stderr, b"10 %")
        process.send_signal(number)
        assert process.stderr is not None
        last = process.stderr.read().decode().strip().splitlines()[-1]
        assert process.wait(timeout=60) == code
    assert last.startswith("vsr: interrupted; ")
    assert "the same command goes on from there" in last
    assert [path.name for path in tmp_path.iterdir()] == [".out.mkv.vsr-work"]
    names = {path.name for path in (tmp_path / ".out.mkv.vsr-work").iterdir()}
    assert names >= {"run.json", "plan.json"}
    assert not [name for name in names if name.startswith("at-work")]


def test_the_second_signal_stops_at_once() -> None:
    code = (
        "import sys, time\n"
        "from vsr.cli.stopping import STOPPER\n"
        "STOPPER.listen()\n"
        "try:\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "finally:\n"
        "    print('cleaning', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_hear_signals,
    ) as process:
        wait_for(process.stdout, b"ready")
        process.send_signal(signal.SIGINT)
        wait_for(process.stdout, b"cleaning")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
        assert time.monotonic() - begun < 10
        assert process.stderr is not None
        assert b"stopped at once" in process.stderr.read()


def test_who_closes_stdout_and_stderr_costs_no_result(film: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    with start(film, output, "--json", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        wait_for(process.stderr, b"10 %")
        process.stdout.close()
        process.stderr.close()
        assert process.wait(timeout=120) == 141
    assert output.exists()
    assert not (tmp_path / ".out.mkv.vsr-work").exists()


def test_the_same_command_again_is_done_already(
    film: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, document = tmp_path / "out.mkv", tmp_path / "out.json"
    arguments = [
        "upscale",
        "-q",
        str(film),
        str(output),
        "--model",
        "bicubic-x2",
        "--device",
        "cpu",
    ]
    arguments += ["--encoder-preset", "ultrafast", "--json-file", str(document)]
    assert run(arguments) == 0
    first = json.loads(document.read_text())
    before = output.stat()
    capfd.readouterr()
    assert run(arguments) == 0
    assert "already complete" in capfd.readouterr().out
    assert os.path.samestat(before, output.stat())
    assert before.st_mtime_ns == output.stat().st_mtime_ns
    again = json.loads(document.read_text())
    assert (first.pop("already_complete"), again.pop("already_complete")) == (False, True)
    assert again == first
    assert run([*arguments, "--crf", "30"]) == 6
    assert "crf: default -> 30.0" in capfd.readouterr().err
    assert run([*arguments, "--crf", "30", "--restart", "--workers", "2"]) == 0
    assert json.loads(document.read_text())["digests"]["result"] != first["digests"]["result"]
