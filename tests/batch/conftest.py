"""For the tests of batches: small trees, and workers that are this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from vsr.batch import forecast, processes, scan
from vsr.batch.executor import Failure, Said
from vsr.config import UpscaleConfig
from vsr.errors import VsrError
from vsr.pipeline import listen
from vsr.pipeline import upscale as upscale_module
from vsr.pipeline.workers import LocalWorkers

MakeClip = Callable[..., Path]


class Job:
    """Stands for a worker's own, and keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, ...]] = []

    def say(self, *values: Any, now: bool = False) -> None:
        self.said.append(values)


class ProcessesHere:
    """`Processes` without any: each thing is done at once, and heard of later."""

    def __init__(self, count: int, _gpus: object = ()) -> None:
        self.count = count
        self._said: deque[Said] = deque()
        self.num_busy = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nobody to end."""

    @property
    def num_free(self) -> int:
        return self.count - self.num_busy

    def begin(self, key: int, function: Callable[..., Any], *arguments: Any) -> None:
        self.num_busy += 1
        job = Job()
        try:
            said = Said(key=key, kind="done", value=function(job, *arguments))
        except VsrError as error:
            said = Said(key=key, kind="failed", value=failure_of(error))
        self._said += [Said(key=key, kind="progress", value=values) for values in job.said]
        self._said.append(said)

    def wait(self) -> Said | None:
        said = self._said.popleft()
        self.num_busy -= said.kind != "progress"
        return said

    def ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.begin(0, function, *arguments)
        while True:
            said = self.wait()
            assert said is not None
            if said.kind != "progress":
                return said.value


def failure_of(error: VsrError, *, may_pass: bool = False) -> Failure:
    return Failure(error=error, message=str(error), exit_code=error.exit_code, may_pass=may_pass)


def do_work_here(patch: pytest.MonkeyPatch) -> None:
    """Start no process for any work of a batch; the bytes are the same."""
    for module in (forecast, processes, scan):
        patch.setattr(module, "Processes", ProcessesHere)
    patch.setattr(listen, "can_start", lambda: False)
    patch.setattr(upscale_module, "open_workers", lambda _: LocalWorkers())


@pytest.fixture
def work_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do all work in this process."""
    do_work_here(monkeypatch)


@pytest.fixture
def config() -> UpscaleConfig:
    return UpscaleConfig(model="bicubic-x2", device="cpu", encoder_preset="ultrafast")
