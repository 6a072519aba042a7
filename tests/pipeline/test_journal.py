"""The journal by itself: what is entered can be found again, and what ended badly is swept."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import scan_here
from vsr.config import UpscaleConfig, resolve_config
from vsr.engine.guards import GuardEvent
from vsr.errors import ConfigError, JobCancelledError, ModelError, OutputError
from vsr.media.damage import KIND_SHORT, DamageEvent
from vsr.media.packets import index_packets
from vsr.pipeline import planning
from vsr.pipeline.journal import Journal
from vsr.pipeline.output import WorkFolder, beside, write_whole
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.reading import SourceHash
from vsr.pipeline.request import Request
from vsr.pipeline.segment import SegmentResult
from vsr.pipeline.stages import StageTimes

MakeClip = Callable[..., Path]


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("film") / "film.mp4", bframes=2)


@pytest.fixture(scope="module")
def plan(film: Path) -> Plan:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "scan_and_listen", scan_here)
        return make_plan(film, Path("out.mkv"), config())


@pytest.fixture
def request_(film: Path, plan: Plan) -> Request:
    return Request.of(film, config()).planned(plan)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.mkv"


def finished(folder: Path, plan: Plan, data: bytes = b"pictures") -> SegmentResult:
    """A segment that somebody made."""
    path = folder / "some.mkv"
    path.write_bytes(data)
    return SegmentResult(
        index=0,
        path=path,
        num_frames=plan.segments[0].num_frames,
        num_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        times=StageTimes(1.5, {"decode": 0.5, "infer": 1.0, "encode": 0.25}),
        damage=(DamageEvent(kind=KIND_SHORT, start_pts=3, end_pts=None, detail="short"),),
        events=(GuardEvent("nan", 2, 1, "redone in float32", "2 values"),),
        exact=False,
        reason="tiles of 64 px",
    )


def test_what_is_entered_is_found_again(output: Path, plan: Plan, request_: Request) -> None:
    with (
        pytest.raises(OutputError, match=r"1 of 1 segments.*the same command"),
        Journal(output) as journal,
    ):
        journal.begin(request_, plan)
        entered = journal.add(finished(journal.desk(), plan))
        journal.note_source("a" * 64)
        raise OutputError("the disk is full")
    with pytest.raises(KeyboardInterrupt), Journal(output) as journal:
        header = journal.header()
        assert header is not None
        assert header.request == request_
        assert journal.plan(header) == plan
        assert journal.source_sha256() == "a" * 64
        journal.begin(request_, plan)
        assert journal.done == {0: entered}
        assert entered.path == journal.folder / "segment-000000.mkv"
        raise KeyboardInterrupt
    assert sorted(path.name for path in beside(output, ".vsr-work").iterdir()) == [
        "lock",
        "plan.json",
        "run.json",
        "segment-000000.json",
        "segment-000000.mkv",
        "source.json",
    ]


def test_what_another_process_began_is_taken_over(
    output: Path, plan: Plan, request_: Request
) -> None:
    with pytest.raises(JobCancelledError), Journal(output) as journal:
        journal.begin(request_, plan)
        raise JobCancelledError("planned")
    with Journal(output) as journal:
        journal.take_over(plan)
        entered = journal.add(finished(journal.desk(), plan))
    with Journal(output) as journal:
        journal.begin(request_, plan)
        assert journal.done == {0: entered}
    other = plan.model_copy(update={"decode_threads": 7})
    with pytest.raises(OutputError, match="begun anew"), Journal(output) as journal:
        journal.take_over(other)
    assert (journal.folder / "segment-000000.json").exists()


def test_an_interrupt_is_told_how_far_it_is(output: Path, plan: Plan, request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt) as caught, Journal(output) as journal:
        journal.begin(request_, plan)
        raise KeyboardInterrupt
    assert caught.value.__notes__ == [
        "0 of 1 segments are done and kept; the same command goes on from there"
    ]


@pytest.mark.parametrize("is_planned", [True, False])
def test_an_error_before_any_work_leaves_nothing(
    output: Path, plan: Plan, request_: Request, is_planned: bool
) -> None:
    with pytest.raises(ModelError), Journal(output) as journal:
        if is_planned:
            journal.begin(request_, plan)
            (journal.desk() / "half.mkv").touch()
        raise ModelError("the weights are of another network")
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("how", ["bytes", "size", "gone", "frames"])
def test_a_segment_that_is_not_as_entered_is_not_trusted(
    output: Path, plan: Plan, request_: Request, how: str
) -> None:
    with pytest.raises(KeyboardInterrupt), Journal(output) as journal:
        journal.begin(request_, plan)
        made = finished(journal.desk(), plan)
        entered = journal.add(replace(made, num_frames=3) if how == "frames" else made)
        raise KeyboardInterrupt
    if how == "gone":
        entered.path.unlink()
    elif how != "frames":
        entered.path.write_bytes(b"picturez" if how == "bytes" else b"picture")
    with Journal(output) as journal:
        journal.begin(request_, plan)
        assert journal.done == {}
        assert not entered.path.exists()
        journal.discard()
    assert list(output.parent.iterdir()) == []


def test_begin_sweeps_what_is_not_finished(output: Path, plan: Plan, request_: Request) -> None:
    with Journal(output) as journal:
        journal.begin(request_, plan)
        (journal.desk() / "half.mkv").touch()
        for name in ("joined.mkv.part", "segment-000000.mkv", "run.json.part", "result.json"):
            (journal.folder / name).touch()
        journal.begin(request_, plan)
        names = sorted(path.name for path in journal.folder.iterdir())
        assert names == ["lock", "plan.json", "run.json"]
        journal.discard()


def test_segments_of_another_plan_are_refused(output: Path, plan: Plan, request_: Request) -> None:
    with pytest.raises(KeyboardInterrupt), Journal(output) as journal:
        journal.begin(request_, plan)
        journal.add(finished(journal.desk(), plan))
        raise KeyboardInterrupt
    other = plan.model_copy(update={"scale": 3})
    with pytest.raises(ConfigError, match="another plan"), Journal(output) as journal:
        journal.begin(request_, other)
    with Journal(output) as journal:
        journal.begin(request_, other, anew=True)
        assert journal.done == {}
        journal.discard()


def test_the_digest_of_a_request_forgets_dates_and_workers(film: Path, plan: Plan) -> None:
    first = Request.of(film, config()).planned(plan)
    same = Request.of(film, config(workers=4, overwrite=True, restart=True)).planned(plan)
    assert same.digest() == first.digest()
    assert Request.of(film, config(crf=20.0)).planned(plan).digest() != first.digest()
    os.utime(film, (film.stat().st_atime, film.stat().st_mtime + 5))
    assert Request.of(film, config()).planned(plan).source == first.source


def test_the_scan_and_a_later_reading_index_the_same_packets(film: Path, plan: Plan) -> None:
    packets = plan.source.packets
    assert packets is not None
    assert packets.num_packets == 12
    assert index_packets(film, plan.video.stream_index, 12) == packets
    assert index_packets(film, plan.video.stream_index, 11) != packets


def test_all_of_a_source_is_read_beside_the_run(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 20_000)
    with SourceHash(path) as whole:
        assert whole.wait() == hashlib.sha256(path.read_bytes()).hexdigest()
        assert whole.found() == whole.wait()


def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "entry.json"
    write_whole(path, b"old")

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_a_work_folder_is_private_and_its_name_fits(tmp_path: Path) -> None:
    output = tmp_path / ("x" * 251 + ".mkv")
    with WorkFolder(output) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list(tmp_path.iterdir()) == []


def test_a_work_folder_of_another_kind_is_not_wiped(
    output: Path, plan: Plan, request_: Request
) -> None:
    with pytest.raises(KeyboardInterrupt), Journal(output) as journal:
        journal.begin(request_, plan)
        journal.add(finished(journal.desk(), plan))
        raise KeyboardInterrupt
    with pytest.raises(ConfigError, match="unfinished run"), WorkFolder(output):
        pass
    assert (beside(output, ".vsr-work") / "segment-000000.mkv").exists()
