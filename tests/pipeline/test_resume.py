"""Whatever ends a run: the same command goes on, to the bytes of a run that nothing disturbed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline.conftest import scan_here
from vsr.config import UpscaleConfig, resolve_config
from vsr.engine import device
from vsr.errors import (
    ConfigError,
    DecodeError,
    JobCancelledError,
    OutputError,
    OutputExistsError,
)
from vsr.pipeline import joining, journal, planning, request, space
from vsr.pipeline import output as output_module
from vsr.pipeline import upscale as upscale_module
from vsr.pipeline.journal import Journal
from vsr.pipeline.output import WorkFolder
from vsr.pipeline.record import record_path
from vsr.pipeline.result import Progress, UpscaleResult
from vsr.pipeline.upscale import upscale
from vsr.pipeline.workers import LocalWorkers

MakeClip = Callable[..., Path]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


def config(**flags: Any) -> UpscaleConfig:
    wishes = {"model": "bicubic-x2", "device": "cpu", "encoder_preset": "ultrafast", **flags}
    return resolve_config(flags=wishes, sets=["engine.isolate=false", "engine.segment_frames=8"])


@pytest.fixture(autouse=True)
def _scan_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves a second for each run: what a child would say is not of interest here."""
    monkeypatch.setattr(planning, "scan_and_listen", scan_here)


def shots(frame: Any, index: int) -> None:
    """Three shots of another brightness each."""
    rng = np.random.default_rng(index // 8)
    for plane in frame.planes:
        row = rng.integers(16, 235, plane.buffer_size, dtype=np.uint8)
        plane.update(row.tobytes())


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return make_clip(path, frames=24, gop=8, audio=["aac"], fill=shots)


@pytest.fixture(scope="module")
def expected(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    output = tmp_path_factory.mktemp("expected") / "out.mkv"
    upscale(film, output, config())
    return output.read_bytes()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mkv"


@pytest.fixture
def source(film: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    folder = tmp_path / "in"
    folder.mkdir()
    return Path(shutil.copy2(film, folder / "film.mp4"))


def work(output: Path) -> Path:
    return output.with_name(f".{output.name}.vsr-work")


def left_beside(output: Path) -> list[str]:
    return sorted(path.name for path in output.parent.iterdir() if path.is_file())


def lose_only_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cleaned up, as in a process that was killed."""
    leave = Journal.__exit__

    def die(self: Journal, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, Killed):
            self._work.release()
        else:
            leave(self, kind, error, traceback)

    monkeypatch.setattr(Journal, "__exit__", die)


class Disk:
    """Counts everything that is made durable, and ends the run before one of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kill_at: int | None) -> None:
        self.count = 0
        self.kill_at = kill_at
        for owner, name in ((Path, "replace"), (Path, "rename"), (os, "fsync"), (Path, "rmdir")):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))
        if kill_at is not None:
            lose_only_the_lock(monkeypatch)

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.count == self.kill_at:
                raise Killed
            self.count += 1
            return function(*arguments, **named)

        return call


def test_a_kill_before_any_step_on_disk_changes_no_byte(
    film: Path, tmp_path: Path, expected: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, None)
        upscale(film, tmp_path / "whole.mkv", config())
    assert disk.count > 15
    num_resumed = 0
    for step in range(disk.count):
        output = tmp_path / f"{step}" / "out.mkv"
        output.parent.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, step)
            with suppress(Killed):
                upscale(film, output, config())
        result = upscale(film, output, config())
        assert output.read_bytes() == expected, step
        assert left_beside(output) == [".out.mkv.vsr.json", "out.mkv"], step
        assert not work(output).exists(), step
        num_resumed += result.resumed_segments > 0 or result.already_complete
    assert num_resumed > 5


def killed(film: Path, output: Path, after: int = 1, **flags: Any) -> int:
    """Run until `after` segments are entered, then be killed; how many there are."""
    add, count, total = Journal.add, 0, 0

    def add_and_die(self: Journal, result: Any) -> Any:
        nonlocal count, total
        entered = add(self, result)
        count, total = count + 1, self._num_segments
        if count == after:
            raise Killed
        return entered

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upscale_module, "open_workers", lambda _: LocalWorkers())
        patch.setattr(Journal, "add", add_and_die)
        lose_only_the_lock(patch)
        with pytest.raises(Killed):
            upscale(film, output, config(**flags))
    return total


def no_scan(*_: object, **__: object) -> None:
    raise AssertionError("the source was scanned again")


def test_a_resumed_run_neither_scans_nor_makes_again_what_is_done(
    film: Path, output: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = killed(film, output)
    monkeypatch.setattr(upscale_module, "make_plan", no_scan)
    seen: list[Progress] = []
    result = upscale(film, output, config(), progress=seen.append)
    assert output.read_bytes() == expected
    assert (result.resumed_segments, result.segments) == (1, total)
    assert result.exact
    done = [progress.num_done for progress in seen if progress.phase == "upscale"]
    assert done == sorted(done)
    assert done == [] or done[-1] == 24


def test_already_complete(film: Path, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = upscale(film, output, config())
    before = {path: path.stat().st_mtime_ns for path in output.parent.rglob("*")}
    monkeypatch.setattr(upscale_module, "make_plan", no_scan)
    for again in (config(), config(overwrite=True), config(workers=3)):
        second = upscale(film, output, again)
        assert second == first.model_copy(update={"already_complete": True})
    assert {path: path.stat().st_mtime_ns for path in output.parent.rglob("*")} == before
    assert UpscaleResult.model_validate_json(second.model_dump_json()) == second


def test_a_touched_result_is_still_ours_and_a_changed_one_is_not(
    film: Path, output: Path, expected: bytes
) -> None:
    upscale(film, output, config())
    os.utime(output, (1, 1))
    assert upscale(film, output, config()).already_complete
    output.write_bytes(expected[:-1] + b"\0")
    with pytest.raises(OutputExistsError):
        upscale(film, output, config())
    with pytest.raises(OutputExistsError):
        upscale(film, output, config(restart=True))
    output.unlink()
    assert not upscale(film, output, config()).already_complete
    assert output.read_bytes() == expected


def test_a_result_made_otherwise_is_named_and_left(film: Path, output: Path) -> None:
    upscale(film, output, config())
    before = output.read_bytes()
    with pytest.raises(OutputExistsError, match=r"crf: default -> 30\.0") as caught:
        upscale(film, output, config(crf=30.0))
    assert caught.value.exit_code == 6
    assert output.read_bytes() == before
    upscale(film, output, config(crf=30.0, restart=True))
    assert output.read_bytes() != before
    upscale(film, output, config(overwrite=True))
    assert output.read_bytes() == before


def test_restart_makes_a_finished_result_anew(film: Path, output: Path, expected: bytes) -> None:
    upscale(film, output, config())
    again = upscale(film, output, config(restart=True))
    assert not again.already_complete
    assert output.read_bytes() == expected


def test_restart_forgets_what_was_done(film: Path, output: Path, expected: bytes) -> None:
    killed(film, output, crf=40.0)
    result = upscale(film, output, config(restart=True))
    assert result.resumed_segments == 0
    assert output.read_bytes() == expected
    assert not work(output).exists()


@pytest.mark.parametrize(
    ("flags", "change"),
    [
        ({"crf": 30.0}, "crf: default -> 30.0"),
        ({"model": "bicubic-x4"}, "model: bicubic-x2 -> bicubic-x4"),
        ({"audio": "none"}, "audio: all -> none"),
        ({"threads": 3}, "threads: 0 -> 3"),
    ],
)
def test_other_settings_are_refused(
    film: Path, output: Path, flags: dict[str, Any], change: str
) -> None:
    killed(film, output)
    entries = sorted(path.name for path in work(output).iterdir())
    with pytest.raises(ConfigError, match=change) as caught:
        upscale(film, output, config(**flags))
    assert caught.value.exit_code == 2
    assert "--restart" in str(caught.value)
    kept = {path.name for path in work(output).iterdir()}
    assert kept >= {name for name in entries if name.startswith(("segment", "plan", "run"))}


def test_settings_that_change_no_byte_are_free(film: Path, output: Path, expected: bytes) -> None:
    killed(film, output)
    flags = {"model": "bicubic-x2", "device": "cpu", "encoder_preset": "ultrafast", "workers": 2}
    sets = ["engine.isolate=false", "engine.segment_frames=8", "engine.queue_frames=3"]
    result = upscale(film, output, resolve_config(flags=flags, sets=sets))
    assert result.resumed_segments == 1
    assert output.read_bytes() == expected


def test_another_version_is_refused(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(film, output)
    versions = request.installed_versions()
    monkeypatch.setattr(request, "installed_versions", lambda: {**versions, "av": "99.0"})
    with pytest.raises(ConfigError, match=rf"av {versions['av']} -> 99\.0"):
        upscale(film, output, config())


def test_another_kind_of_device_is_refused(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(film, output, after=2)
    (work(output) / "segment-000000.json").unlink()
    monkeypatch.setattr(device, "device_class", lambda _: "cpu of tomorrow")
    with pytest.raises(ConfigError, match=r"another device: cpu .* -> cpu of tomorrow"):
        upscale(film, output, config())
    assert not output.exists()
    result = upscale(film, output, config(mixed_devices=True, device="auto"))
    assert not result.exact
    told = [event for event in result.events if event["kind"] == "device"]
    assert "made on cpu of tomorrow" in str(told)
    assert len(told) == 2, "one segment was made before"
    assert result.resumed_segments == 1


def test_other_weights_are_refused(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = output.with_name("mine.safetensors")
    weights.write_bytes(b"one")
    killed(film, output)
    header = json.loads((work(output) / "run.json").read_bytes())
    assert header["request"]["weights"] is None
    header["request"]["weights"] = {
        "file": str(weights),
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
    }
    (work(output) / "run.json").write_text(json.dumps(header))
    weights.write_bytes(b"two")
    with pytest.raises(
        ConfigError, match=r"weights mine\.safetensors: 7692c3ad3540 -> 3fc4ccfe7458"
    ):
        upscale(film, output, config())
    weights.write_bytes(b"one")
    assert upscale(film, output, config()).resumed_segments == 1


def test_a_touched_source_is_the_same(source: Path, output: Path, expected: bytes) -> None:
    killed(source, output)
    os.utime(source, (1, 1))
    result = upscale(source, output, config())
    assert result.resumed_segments == 1
    assert output.read_bytes() == expected


def test_a_moved_source_is_the_same(source: Path, output: Path, expected: bytes) -> None:
    killed(source, output)
    moved = source.rename(source.with_name("elsewhere.mp4"))
    assert upscale(moved, output, config()).resumed_segments == 1
    assert output.read_bytes() == expected


@pytest.mark.parametrize("how", ["longer", "other", "packets"])
def test_another_source_is_refused(
    source: Path, output: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(source, output)
    data = bytearray(source.read_bytes())
    if how == "longer":
        data += b"\0\0\0\x08free"
    elif how == "other":
        data[-1] ^= 1
    else:
        header = json.loads((work(output) / "run.json").read_bytes())
        header["request"]["source"]["packets"]["sha256"] = "0" * 64
        (work(output) / "run.json").write_text(json.dumps(header))
    source.write_bytes(data)
    match = {
        "longer": r"source: \d+ bytes -> \d+ bytes",
        "other": "its (head|tail) ",
        "packets": "its packets 0000",
    }
    with pytest.raises(ConfigError, match=match[how]):
        upscale(source, output, config())
    assert (work(output) / "segment-000000.mkv").exists()


def test_content_that_only_the_whole_digest_tells_is_refused(film: Path, output: Path) -> None:
    killed(film, output)
    (work(output) / "source.json").write_text(json.dumps({"sha256": "0" * 64}))
    with pytest.raises(ConfigError, match="sha256 000000000000 -> "):
        upscale(film, output, config())
    assert not output.exists()


@pytest.mark.parametrize("name", ["run.json", "plan.json", "segment-000000.json"])
@pytest.mark.parametrize("how", ["torn", "missing", "empty", "wrong"])
def test_a_damaged_journal_is_rebuilt_from_what_verifies(
    film: Path, output: Path, expected: bytes, name: str, how: str
) -> None:
    killed(film, output)
    path = work(output) / name
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes({"torn": data[: len(data) // 2], "empty": b"", "wrong": b"[1]"}[how])
    result = upscale(film, output, config())
    assert output.read_bytes() == expected
    assert result.resumed_segments == (0 if name.startswith("segment") else 1)


def test_a_damaged_segment_is_made_again(film: Path, output: Path, expected: bytes) -> None:
    killed(film, output)
    path = work(output) / "segment-000000.mkv"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert upscale(film, output, config()).resumed_segments == 0
    assert output.read_bytes() == expected


@pytest.mark.parametrize("name", ["run.json", "segment-000000.json"])
def test_a_newer_journal_is_refused(film: Path, output: Path, name: str) -> None:
    killed(film, output)
    path = work(output) / name
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps({**document, "journal_format": 2, "more": 1}))
    with pytest.raises(ConfigError, match=r"newer version.*format 2"):
        upscale(film, output, config())
    assert upscale(film, output, config(restart=True)).resumed_segments == 0


def test_segments_of_an_unknown_plan_are_not_thrown_away(film: Path, output: Path) -> None:
    killed(film, output)
    (work(output) / "run.json").unlink()
    with pytest.raises(ConfigError, match="another plan"):
        upscale(film, output, config(crf=40.0))
    assert upscale(film, output, config()).resumed_segments == 1


def test_two_runs_at_once(film: Path, output: Path) -> None:
    refused: list[OutputError] = []

    def second(progress: Progress) -> None:
        if progress.phase == "join" and not refused:
            with pytest.raises(OutputError, match=f"process {os.getpid()}") as caught:
                upscale(film, output, config())
            refused.append(caught.value)

    upscale(film, output, config(), progress=second)
    assert refused
    assert refused[0].exit_code == 6
    assert output.exists()


def test_a_locked_folder_is_left_alone(tmp_path: Path) -> None:
    output = tmp_path / "out.y4m"
    with WorkFolder(output) as folder:
        (folder / "half").touch()
        with pytest.raises(OutputError, match="another run"), WorkFolder(output):
            pass
        assert (folder / "half").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("what", ["folder", "record", "lock"])
def test_nothing_is_written_through_a_planted_link(film: Path, output: Path, what: str) -> None:
    elsewhere = output.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("mine")
    if what == "folder":
        work(output).symlink_to(elsewhere)
    elif what == "record":
        record_path(output).symlink_to(elsewhere / "precious")
    else:
        work(output).mkdir()
        (work(output) / "lock").symlink_to(elsewhere / "precious")
    with pytest.raises(OutputError) as caught:
        upscale(film, output, config())
    assert caught.value.exit_code == 6
    assert (elsewhere / "precious").read_text() == "mine"
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]
    assert not output.exists()


def test_should_stop_leaves_what_can_be_gone_on_with(
    film: Path, output: Path, expected: bytes
) -> None:
    seen: list[Progress] = []

    def is_enough() -> bool:
        return any(p.phase == "upscale" and p.num_done >= 10 for p in seen)

    with pytest.raises(JobCancelledError, match="the same command goes on") as caught:
        upscale(film, output, config(), progress=seen.append, should_stop=is_enough)
    assert caught.value.exit_code == 130
    assert not list(work(output).glob("at-work-*"))
    upscale(film, output, config())
    assert output.read_bytes() == expected


def test_a_source_that_changes_meanwhile_leaves_nothing(source: Path, output: Path) -> None:
    def touch(progress: Progress) -> None:
        if progress.phase == "check":
            os.utime(source, (1, 1))

    with pytest.raises(DecodeError, match="changed while it was read"):
        upscale(source, output, config(), progress=touch)
    assert left_beside(output) == []
    assert not work(output).exists()


def test_too_small_a_disk_is_refused_with_numbers(
    film: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _: 100)
    with pytest.raises(OutputError, match=r"will need about .* and 100 bytes are free") as caught:
        upscale(film, output, config())
    assert caught.value.exit_code == 6
    assert left_beside(output) == []
    assert not work(output).exists()


def test_a_disk_that_fills_up_stops_the_run(
    film: Path, output: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        is_done = False
        add = Journal.add

        def add_and_fill(self: Journal, result: Any) -> Any:
            nonlocal is_done
            is_done = True
            return add(self, result)

        patch.setattr(Journal, "add", add_and_fill)
        patch.setattr(space, "free_bytes", lambda _: 10 if is_done else 1 << 40)
        with pytest.raises(OutputError, match=r"joining what is done.*the same command goes on"):
            upscale(film, output, config())
    assert not output.exists()
    assert upscale(film, output, config()).resumed_segments == 1
    assert output.read_bytes() == expected


@pytest.mark.parametrize("name", ["plan.json", "segment-000000.json", "result.json"])
def test_a_full_disk_is_one_sentence_and_can_be_gone_on_with(
    film: Path, output: Path, expected: bytes, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = output_module.write_whole

    def full(path: Path, data: bytes) -> None:
        if path.name == name:
            raise OSError(28, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_whole", full)
        with pytest.raises(OutputError, match=r"No space left on device.*make room") as caught:
            upscale(film, output, config())
    assert caught.value.exit_code == 6
    assert not output.exists()
    upscale(film, output, config())
    assert output.read_bytes() == expected


def test_a_record_that_cannot_be_kept_costs_no_result(
    film: Path, output: Path, expected: bytes
) -> None:
    record_path(output).mkdir()
    upscale(film, output, config())
    assert output.read_bytes() == expected
    assert not work(output).exists()


def test_a_join_that_fails_keeps_all_segments(
    film: Path, output: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, output: Path, **__: object) -> None:
        output.write_bytes(b"half")
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(joining, "join_segments", fail)
        with pytest.raises(Killed):
            upscale(film, output, config())
    result = upscale(film, output, config())
    assert result.resumed_segments == result.segments
    assert output.read_bytes() == expected


@pytest.mark.usefixtures("isolated")
def test_two_workers_go_on_to_the_same_bytes(film: Path, output: Path, expected: bytes) -> None:
    total = killed(film, output)
    flags = {"model": "bicubic-x2", "device": "cpu", "encoder_preset": "ultrafast", "workers": 2}
    result = upscale(film, output, resolve_config(flags=flags, sets=["engine.segment_frames=8"]))
    assert (result.segments, result.resumed_segments) == (total, 1)
    assert output.read_bytes() == expected
