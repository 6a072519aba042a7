"""Workers: what they give back, and what becomes of one that dies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from vsr.batch.executor import Failure, Said
from vsr.batch.processes import Processes
from vsr.errors import DecodeError, DeviceError, OutputError, OutputExistsError, VsrError


def double(job: Any, number: int) -> int:
    job.say("half", number, now=True)
    return 2 * number


def refuse(_job: Any, kind: type[VsrError]) -> None:
    raise kind("it cannot be\ndone", hint="do\nanother")


def crash(_job: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stumble(_job: Any) -> None:
    raise ZeroDivisionError("oops")


def linger(_job: Any, folder: Path) -> None:
    try:
        (folder / "begun").touch()
        time.sleep(60)
    finally:
        (folder / "cleaned").touch()


def gpu(_job: Any) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def answers(processes: Processes, count: int) -> list[Said]:
    found: list[Said] = []
    while len(found) < count:
        said = processes.wait()
        if said is not None:
            found.append(said)
    return found


def test_values_progress_and_failures() -> None:
    with Processes(2) as processes:
        processes.begin(7, double, 21)
        assert (processes.num_busy, processes.num_free) == (1, 1)
        progress, done = answers(processes, 2)
        assert (progress.key, progress.kind, progress.value) == (7, "progress", ("half", 21))
        assert (done.key, done.kind, done.value) == (7, "done", 42)
        for kind, code, may_pass in (
            (DecodeError, 3, False),
            (OutputError, 6, True),
            (OutputExistsError, 6, False),
        ):
            failure = processes.ask(refuse, kind)
            assert isinstance(failure, Failure)
            assert isinstance(failure.error, kind)
            assert failure.message == "it cannot be done (do another)"
            assert (failure.exit_code, failure.may_pass) == (code, may_pass)
        bug = processes.ask(stumble)
        assert "bug of ours (ZeroDivisionError: oops)" in bug.message
        assert bug.exit_code == 70
        assert "in stumble" in bug.detail


def test_a_worker_that_dies_costs_one_piece_of_work() -> None:
    with Processes(1) as processes:
        failure = processes.ask(crash)
        assert isinstance(failure, Failure)
        assert "killed by SIGKILL" in failure.message
        assert failure.may_pass
        assert processes.ask(double, 2) == 4


def test_an_error_lets_workers_clean_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Processes(1) as processes:
        processes.begin(1, linger, tmp_path)
        while not (tmp_path / "begun").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert (tmp_path / "cleaned").exists()


def test_each_worker_has_its_gpu_and_its_heir_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,7")
    with Processes(2, gpus=(0, 2)) as processes:
        for _ in range(2):
            processes.begin(1, gpu)
            processes.begin(2, gpu)
            assert {said.key: said.value for said in answers(processes, 2)} in (
                {1: "4", 2: "7"},
                {1: "7", 2: "4"},
            )
            processes.ask(crash)
    with pytest.raises(DeviceError, match="names only 3"):
        Processes(1, gpus=(3,))
