"""Running a batch: who is tried again, who is put aside, and what stops it."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import pytest

from tests.batch.conftest import failure_of
from vsr.batch import running
from vsr.batch.events import Event
from vsr.batch.executor import Failure, Said
from vsr.batch.opening import open_manifest
from vsr.batch.policy import Policy, read_quiet_hours
from vsr.batch.rules import Rule
from vsr.batch.running import run_batch
from vsr.batch.settings import Settings
from vsr.batch.walk import Filters
from vsr.config import UpscaleConfig
from vsr.errors import (
    DecodeError,
    DeviceError,
    JobCancelledError,
    OpenError,
    OutputError,
    OutputExistsError,
)
from vsr.pipeline.result import UpscaleResult
from vsr.pipeline.verdict import CheckResult

CRASH = Failure(error=None, message="the process was killed by SIGSEGV", exit_code=5, may_pass=True)
BUG = Failure(
    error=None, message="a bug of ours", exit_code=70, may_pass=True, detail="Traceback: line 3"
)
BROKEN = failure_of(DecodeError("no picture could be decoded"))
FULL = failure_of(OutputError("the disk is full"), may_pass=True)


def result(name: str) -> UpscaleResult:
    return UpscaleResult(
        source=name,
        result=name,
        frames=4,
        width=2,
        height=2,
        model="bicubic-x2",
        scale=2,
        device="cpu",
        seconds=1.0,
        fps=4.0,
        bottleneck="infer",
        stages={},
        plan=[],
        events=[],
        check=CheckResult(ok=True, rows=()),
        digests={"source": "s" * 64, "result": name.encode().hex().ljust(64, "0")},
    )


class Script:
    """An executor that answers by a script: clip's name -> what becomes of each try."""

    outcomes: dict[str, list[Any]]
    fit: Any = None

    def __init__(self, count: int) -> None:
        self.count = count
        self._busy: deque[tuple[int, str]] = deque()
        self.calls: list[tuple[str, int]] = []
        Script.last = self

    last: Script

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nobody to end."""

    @property
    def num_busy(self) -> int:
        return len(self._busy)

    @property
    def num_free(self) -> int:
        return self.count - len(self._busy)

    def ask(self, *_: object) -> Any:
        return self.fit

    def begin(self, key: int, _make: object, source: Path, *rest: Any) -> None:
        assert self.num_free > 0
        self.calls.append((source.name, rest[-1]))
        self._busy.append((key, source.name))

    def wait(self) -> Said:
        key, name = self._busy.popleft()
        outcome = self.outcomes.get(name, [None]).pop(0)
        if isinstance(outcome, tuple):
            self._busy.appendleft((key, name))
            return Said(key=key, kind="progress", value=outcome)
        if isinstance(outcome, Failure):
            return Said(key=key, kind="failed", value=outcome)
        return Said(key=key, kind="done", value=result(name))


class Batch:
    """A batch of three clips that is run by a script."""

    def __init__(self, folder: Path) -> None:
        self.out = folder / "out"
        self.events: list[Event] = []
        self._source = folder / "src"
        self.rules: tuple[Rule, ...] = ()
        self.manifest = open_manifest(self.out)
        (folder / "src").mkdir()
        for name in ("a", "b", "c"):
            (folder / "src" / name).touch()
            self.manifest.add(name, "waiting", output=f"{name}.mkv", frames=4, width=2, height=2)

    def run(
        self,
        outcomes: dict[str, list[Any]],
        *,
        should_stop: Callable[[], bool] | None = None,
        workers: int = 1,
        **wishes: Any,
    ) -> str:
        """Run, and say the states of all clips."""
        Script.outcomes = outcomes
        settings = Settings(
            source=self._source, config=UpscaleConfig(), filters=Filters(), rules=self.rules
        )
        policy = Policy(**{"min_free_bytes": 0, **wishes})
        run_batch(
            self.manifest,
            settings,
            policy,
            Script(workers),
            on_event=self.events.append,
            should_stop=should_stop,
        )
        return self.states()

    def states(self) -> str:
        return " ".join(f"{clip.path}:{clip.state}" for clip in self.manifest.clips())


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path)
    yield made
    made.manifest.close()


def test_all_done(batch: Batch) -> None:
    assert batch.run({"a": [("upscale", 2, 4), None]}, workers=2) == "a:done b:done c:done"
    assert [event.kind for event in batch.events].count("done") == 3
    clip = batch.manifest.clips()[0]
    assert (clip.frames_done, clip.attempts, clip.source_sha256) == (4, 0, "s" * 64)
    sidecar = json.loads((batch.out / "a.mkv.json").read_text())
    assert sidecar["clip"] == "a"
    assert sidecar["digests"]["source"] == "s" * 64
    lines = (batch.out / "manifest-sha256.txt").read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["a.mkv", "b.mkv", "c.mkv"]


def test_what_may_pass_is_tried_again_after_the_others(batch: Batch) -> None:
    assert batch.run({"a": [CRASH, CRASH, None]}) == "a:done b:done c:done"
    assert [name for name, _ in Script.last.calls] == ["a", "b", "c", "a", "a"]
    clip = batch.manifest.clips()[0]
    assert (clip.error, clip.exit_code) == (None, None)
    assert [state for _, state, _ in batch.manifest.history(clip.id)].count("failed") == 2


def test_too_many_crashes_are_put_aside(batch: Batch) -> None:
    assert batch.run({"b": [CRASH] * 9}, retries=1) == "a:done b:quarantined c:done"
    assert batch.manifest.clips()[1].error == CRASH.message
    assert batch.manifest.clips()[1].attempts == 2
    assert batch.events[-1].kind == "quarantined"


def test_the_history_says_where_a_bug_is(batch: Batch) -> None:
    assert batch.run({"a": [BUG]}, retries=0) == "a:quarantined b:done c:done"
    assert batch.manifest.clips()[0].error == BUG.message
    assert batch.manifest.history(1)[-1][1:] == ("quarantined", BUG.detail)


def test_what_cannot_pass_is_tried_once(batch: Batch) -> None:
    assert batch.run({"a": [BROKEN]}) == "a:quarantined b:done c:done"
    assert len(Script.last.calls) == 3
    clip = batch.manifest.clips()[0]
    assert (clip.error, clip.exit_code) == (BROKEN.message, 3)


def test_an_unfit_machine_quarantines_none(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Script, "fit", failure_of(DeviceError("no CUDA device")))
    with pytest.raises(DeviceError, match="no CUDA device"):
        batch.run({})
    assert batch.states() == "a:waiting b:waiting c:waiting"


def test_a_tree_that_is_not_mounted_quarantines_none(batch: Batch, tmp_path: Path) -> None:
    for path in (tmp_path / "src").iterdir():
        path.unlink()
    with pytest.raises(OpenError, match=r"are not in .* any more"):
        batch.run({})
    assert batch.states() == "a:waiting b:waiting c:waiting"


def test_a_disk_that_fills_up_stops_the_run(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10**9, 10**9, 10])
    monkeypatch.setattr(running, "free_bytes", lambda _: next(free))
    with pytest.raises(OutputError, match="no further clip was begun"):
        batch.run({"b": [FULL]}, min_free_bytes=1000)
    assert batch.states() == "a:done b:waiting c:waiting"
    assert batch.manifest.clips()[1].attempts == 0


def test_a_stopped_run_leaves_clips_waiting(batch: Batch) -> None:
    answers = iter([False, False, True])
    with pytest.raises(JobCancelledError, match="1 of 3 clips are done"):
        batch.run({"b": [("upscale", 2, 4)] * 9}, should_stop=lambda: next(answers))
    assert batch.states() == "a:done b:waiting c:waiting"
    assert "a.mkv" in (batch.out / "manifest-sha256.txt").read_text()


def test_a_new_file_forgets_unfinished_work_once(batch: Batch) -> None:
    batch.run({})
    batch.manifest.move(1, "waiting", fresh=2)
    batch.run({"a": [("scan", 1, 4), ("upscale", 1, 4), CRASH, None]})
    assert Script.last.calls == [("a", 2), ("a", 1)]
    assert batch.manifest.clip(1).fresh == 0


def test_nothing_is_written_over_files_of_others(batch: Batch) -> None:
    (batch.out / "a.mkv.json").write_text('{"mine": true}')
    assert batch.run({}) == "a:quarantined b:done c:done"
    assert (batch.out / "a.mkv.json").read_text() == '{"mine": true}'


def test_a_list_of_somebody_else_is_refused(batch: Batch) -> None:
    (batch.out / "manifest-sha256.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"manifest-sha256\.txt exists already"):
        batch.run({})
    assert (batch.out / "manifest-sha256.txt").read_text() == "mine"


def test_no_link_leads_out_of_the_results(batch: Batch, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    batch.manifest.add("d", "waiting", output="link/deep/d.mkv", frames=1)
    (batch.out / "link").symlink_to(elsewhere)
    assert batch.run({}) == "a:done b:done c:done d:quarantined"
    assert "leads out" in str(batch.manifest.clips()[3].error)
    assert list(elsewhere.iterdir()) == []


def test_urgent_clips_come_first(batch: Batch) -> None:
    priorities = (Rule(path="c", priority=2), Rule(path="a", priority=-1))
    batch.run({}, priorities=priorities)
    assert [name for name, _ in Script.last.calls] == ["c", "b", "a"]


def test_each_clip_gets_what_the_rules_say(batch: Batch) -> None:
    batch.rules = (Rule(path="b", settings={"crf": 9}),)
    batch.run({})
    crfs = [json.loads((batch.out / f"{c}.mkv.json").read_text())["settings"]["crf"] for c in "abc"]
    assert crfs == [None, 9, None]


def test_nothing_is_begun_in_quiet_hours(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = iter([7, 9, 10, 17, 18, 18, 18])
    waited: list[float] = []

    class Clock:
        @staticmethod
        def now() -> datetime:
            return datetime(2026, 1, 1, next(hours))

    monkeypatch.setattr(running, "datetime", Clock)
    monkeypatch.setattr(running, "sleep", waited.append)
    quiet = read_quiet_hours("08:00-18:00")
    # The first is begun at seven and finished at nine; then two looks at the clock until six.
    assert batch.run({"a": [("upscale", 1, 4), None]}, quiet=quiet) == "a:done b:done c:done"
    assert len(waited) == 2
