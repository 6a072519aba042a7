"""Segments in children: crashes, hangs and noise cost one try, and nobody is left behind."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import stub_runs
from vsr.config import resolve_config
from vsr.errors import (
    DecodeError,
    DeviceError,
    DeviceMemoryError,
    EncodeError,
    JobCancelledError,
)
from vsr.pipeline import handout
from vsr.pipeline.child import cpu_seconds
from vsr.pipeline.death import stage_of
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.plan import Plan, Segment
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment import SegmentResult, run_segment, segment_name
from vsr.pipeline.stages import StageTimes
from vsr.pipeline.timeline import Timeline

MakeClip = Callable[..., Path]
NUM_SEGMENTS = 4
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Of a clip of 12 frames; four segments for the stubs."""
    clip = make_clip(tmp_path_factory.mktemp("isolate") / "c.mkv")
    config = resolve_config(flags={"model": "bicubic-x2", "device": "cpu"})
    whole = make_plan(clip, Path("out.mkv"), config)
    times, durations = whole.segments[0].timeline.pts(), whole.segments[0].timeline.durations()
    segments = []
    for index in range(NUM_SEGMENTS):
        part = slice(3 * index, 3 * index + 3)
        timeline = Timeline.from_frames(times[part], durations[part])
        segments.append(Segment(index=index, first_frame=3 * index, timeline=timeline, cuts=()))
    return whole.model_copy(update={"segments": tuple(segments)})


class Seen:
    """What a run told its caller."""

    def __init__(self) -> None:
        self.results: dict[int, SegmentResult] = {}
        self.frames: list[tuple[int, int]] = []

    def on_frame(self, index: int, num_done: int, times: StageTimes) -> None:
        assert times.wall_s >= 0
        self.frames.append((index, num_done))

    def on_done(self, result: SegmentResult) -> None:
        self.results[result.index] = result


def make(
    plan: Plan,
    folder: Path,
    run: Callable[..., SegmentResult],
    *,
    count: int = 1,
    indices: tuple[int, ...] = (0, 1),
    should_stop: Callable[[], bool] = lambda: False,
    seen: Seen | None = None,
    **settings: Any,
) -> Seen:
    seen = seen or Seen()
    with WorkerPool(count, run=run, **settings) as pool:
        pool.run(
            plan,
            indices,
            folder,
            on_frame=seen.on_frame,
            on_done=seen.on_done,
            should_stop=should_stop,
        )
    return seen


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("segment-*")}


def is_alive(process_id: int) -> bool:
    """Whether it runs; a zombie that waits for somebody else's parent does not."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def tries(folder: Path, index: int) -> list[int]:
    found: list[int] = json.loads((folder / f"begun-{index}").read_text())
    return found


def test_two_workers_make_the_files_of_one(make_clip: MakeClip, tmp_path: Path, plan: Plan) -> None:
    """With the real thing: whole films as segments."""
    clip = make_clip(tmp_path / "c.mkv", frames=8)
    flags = {"model": "bicubic-x2", "device": "cpu"}
    whole = make_plan(clip, Path("out.mkv"), resolve_config(flags=flags))
    twice = (whole.segments[0], whole.segments[0].model_copy(update={"index": 1}))
    whole = whole.model_copy(update={"segments": twice})
    made = {}
    for count in (0, 1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        if count:
            seen = make(whole, folder, run_segment, count=count)
            assert seen.frames[-1][1] == 8
            assert {r.num_frames for r in seen.results.values()} == {8}
        else:
            run_segment(whole, 0, folder)
            run_segment(whole, 1, folder)
        made[count] = files(folder)
    assert made[0] == made[1] == made[2]
    assert len(made[0]) == 2


def test_one_child_makes_them_all_and_two_share(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.finish, indices=(0, 1, 2, 3))
    assert sorted(seen.results) == [0, 1, 2, 3]
    assert len({r.reason for r in seen.results.values()}) == 1
    assert seen.frames[-1] == (3, stub_runs.NUM_FRAMES)
    other = tmp_path / "two"
    other.mkdir()
    make(plan, other, stub_runs.finish, count=2, indices=(0, 1, 2, 3))
    assert files(other) == files(tmp_path)


def test_a_crash_costs_one_try(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen = make(plan, tmp_path, stub_runs.crash_once, indices=(0, 1, 2))
    assert sorted(seen.results) == [0, 1, 2]
    assert files(tmp_path)[segment_name(1)].startswith(b"segment 1")
    assert seen.results[0].reason != seen.results[1].reason
    assert "segment 1 (0.120-0.240 s): its process was killed by SIGSEGV" in caplog.text
    # A driver may have been at fault: the second time goes without what only a GPU has.
    assert {i: r.notes for i, r in seen.results.items()} == {0: (), 1: ("plain",), 2: ()}


def test_a_crash_each_time_names_time_stage_and_signal(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(DecodeError) as caught:
        make(plan, tmp_path, stub_runs.crash_decoding, retries=1)
    assert caught.value.message == (
        "The process that made segment 0 (0.000-0.120 s) was killed by SIGSEGV in stage decode, "
        "2 times."
    )
    assert len(set(tries(tmp_path, 0))) == 2
    with pytest.raises(EncodeError, match="in stage encode"):
        make(plan, tmp_path, stub_runs.crash_encoding, retries=0)


def test_a_hang_is_ended_and_named(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"made no progress for \d s in stage infer, 2 times"):
        make(plan, tmp_path, stub_runs.hang_inferring, retries=1, watchdog_s=1.0)
    first, second = tries(tmp_path, 0)
    assert first != second
    assert not is_alive(first) and not is_alive(second)


def test_a_stopped_child_hangs_too(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.stop_once, indices=(0,), watchdog_s=1.0)
    assert len(tries(tmp_path, 0)) == 2
    assert not is_alive(tries(tmp_path, 0)[0])
    assert list(seen.results) == [0]


@pytest.mark.skipif(cpu_seconds(os.getpid()) is None, reason="no /proc here")
def test_a_busy_child_does_not_hang_until_its_limit(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.spin, indices=(1,), watchdog_s=0.8, retries=0)
    assert list(seen.results) == [1]
    with pytest.raises(DeviceError, match="made no progress for 2 s"):
        make(plan, tmp_path, stub_runs.spin, indices=(0,), watchdog_s=0.8, limit_s=2, retries=0)


def test_what_a_child_refuses_arrives_whole(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(EncodeError) as caught:
        make(plan, tmp_path, stub_runs.refuse, grace_s=600)
    assert caught.value.message == "the encoder is tired"
    assert caught.value.hint == "let it sleep"
    assert caught.value.__notes__ == ["in stage encode, at pts 12"]


def test_a_bug_arrives_with_its_traceback(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug of ours") as caught:
        make(plan, tmp_path, stub_runs.stumble)
    assert "in stumble" in str(caught.value)


def test_noise_spoils_nothing_and_is_counted(
    plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = make(plan, tmp_path, stub_runs.make_noise)
    for result in seen.results.values():
        assert result.num_messages == 5 + 3 + 1 + 1 + 1 + 300
        assert len(result.messages) <= 8
        assert any("garbage" in line for line in result.messages)
    out, err = capfd.readouterr()
    assert out == err == ""


def test_ffmpeg_is_heard(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.complain)
    assert all(r.num_messages > 0 and r.messages for r in seen.results.values())
    assert not any("0x" in line for r in seen.results.values() for line in r.messages)


def test_progress_is_not_told_too_often(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.count_quickly, indices=(0,))
    assert 2 <= len(seen.frames) < 200


def test_memory_that_runs_out_makes_tiles(
    plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan.model_copy(update={"video": replace(plan.video, width=400, height=300)})
    seen = make(plan, tmp_path, stub_runs.run_out_of_memory, indices=(1,))
    assert (tmp_path / "tiles-1").read_text().split() == ["None", "208", "112", "64"]
    assert list(seen.results) == [1]
    assert "tiles of 208 px" in caplog.text


def test_memory_that_never_suffices_is_an_error(plan: Plan, tmp_path: Path) -> None:
    assert plan.video.width <= 128
    with pytest.raises(DeviceMemoryError, match=r"segment 0 .*even in tiles of 64"):
        make(plan, tmp_path, stub_runs.never_enough)


def test_memory_that_runs_out_makes_fewer_at_a_time(plan: Plan, tmp_path: Path) -> None:
    seen = make(plan, tmp_path, stub_runs.alone_only, count=2, indices=(0, 1, 2))
    assert sorted(seen.results) == [0, 1, 2]
    assert all(b"tiles of None" in data for data in files(tmp_path).values())


def test_the_system_that_kills_for_memory_is_believed_the_second_time(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter(range(100))
    monkeypatch.setattr(handout, "memory_kills", lambda: next(kills))
    big = plan.model_copy(update={"video": replace(plan.video, width=400, height=300)})
    seen = make(big, tmp_path, stub_runs.kill_itself, indices=(0,), retries=0)
    assert len(tries(tmp_path, 0)) == 2
    assert list(seen.results) == [0]
    assert b"tiles of 208" in files(tmp_path)[segment_name(0)]


def test_another_kill_is_a_crash(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handout, "memory_kills", lambda: 7)
    with pytest.raises(DeviceError, match="killed by SIGKILL, 2 times"):
        make(plan, tmp_path, stub_runs.kill_itself, indices=(0,), retries=1)


def test_a_stop_abandons_and_cleans_up(plan: Plan, tmp_path: Path) -> None:
    seen = Seen()
    with pytest.raises(JobCancelledError):
        make(
            plan,
            tmp_path,
            stub_runs.sleep,
            count=2,
            seen=seen,
            should_stop=lambda: len({index for index, _ in seen.frames}) == 2,
        )
    assert files(tmp_path) == {}
    for index in (0, 1):
        assert (tmp_path / f"cleaned-{index}").exists()
        assert not is_alive(int((tmp_path / f"pid-{index}").read_text()))


def test_who_does_not_clean_up_is_ended(plan: Plan, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(JobCancelledError):
        make(
            plan,
            tmp_path,
            stub_runs.hold_the_interpreter,
            grace_s=0.3,
            should_stop=lambda: (tmp_path / "pid-0").exists(),
        )
    assert time.monotonic() - started < 20
    assert not is_alive(int((tmp_path / "pid-0").read_text()))


def test_an_interrupt_ends_all_at_once(plan: Plan, tmp_path: Path) -> None:
    def interrupt() -> bool:
        if (tmp_path / "pid-0").exists():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        make(plan, tmp_path, stub_runs.sleep, should_stop=interrupt)
    assert files(tmp_path) == {}
    wait_for(lambda: not is_alive(int((tmp_path / "pid-0").read_text())))


def test_signals_of_the_terminal_are_left_to_the_parent(plan: Plan, tmp_path: Path) -> None:
    def poke() -> bool:
        if not (tmp_path / "pid-0").exists():
            return False
        child = int((tmp_path / "pid-0").read_text())
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            os.kill(child, number)
        time.sleep(0.2)
        assert is_alive(child)
        return True

    with pytest.raises(JobCancelledError):
        make(plan, tmp_path, stub_runs.sleep, should_stop=poke, indices=(0,))


def test_it_works_from_another_thread(plan: Plan, tmp_path: Path) -> None:
    found: list[Seen] = []
    thread = threading.Thread(
        target=lambda: found.append(make(plan, tmp_path, stub_runs.crash_once))
    )
    thread.start()
    thread.join(60)
    assert sorted(found[0].results) == [0, 1]


SCRIPT = """
import pickle, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.pipeline import stub_runs
from vsr.pipeline.isolate import WorkerPool
folder = Path({folder!r})
plan = pickle.loads((folder / "plan.pickle").read_bytes())
done = []
with WorkerPool(2, run=stub_runs.{run}) as pool:
    pool.run(plan, (0, 1), folder, on_frame=lambda *_: None, on_done=done.append,
             should_stop=lambda: False)
print(sorted(result.index for result in done))
"""


@pytest.fixture
def script(plan: Plan, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a plain script, without any guard around its work."""
    (tmp_path / "plan.pickle").write_bytes(pickle.dumps(plan))
    started: list[subprocess.Popen[str]] = []

    def start(run: str, *, is_file: bool = True) -> subprocess.Popen[str]:
        text = SCRIPT.format(root=str(ROOT), folder=str(tmp_path), run=run)
        if is_file:
            (tmp_path / "plain.py").write_text(text)
        arguments = [str(tmp_path / "plain.py")] if is_file else ["-i"]
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        if not is_file:
            assert process.stdin is not None
            # A blank line ends a block for the prompt.
            process.stdin.write(text.replace("\nprint", "\n\nprint") + "\n")
            process.stdin.flush()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("is_file", [True, False], ids=["script", "prompt"])
def test_it_works_from_a_plain_script_and_at_the_prompt(
    script: Callable[..., subprocess.Popen[str]], is_file: bool
) -> None:
    out, err = script("finish", is_file=is_file).communicate(timeout=60)
    assert out.strip().endswith("[0, 1]"), err


@pytest.mark.parametrize("run", ["sleep", "hold_the_interpreter"])
def test_children_die_with_a_killed_parent(
    script: Callable[..., subprocess.Popen[str]], tmp_path: Path, run: str
) -> None:
    parent = script(run)
    names = [tmp_path / f"pid-{index}" for index in (0, 1)]
    wait_for(lambda: all(name.exists() and name.read_text() for name in names), 60)
    children = [int(name.read_text()) for name in names]
    assert all(is_alive(child) for child in children)
    parent.kill()
    wait_for(lambda: not any(is_alive(child) for child in children))


@pytest.mark.skipif(sys.platform != "linux", reason="limits on address space are Linux's")
def test_a_child_that_cannot_start_is_one_clear_error(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "plan.pickle").write_bytes(pickle.dumps(plan))
    text = SCRIPT.format(root=str(ROOT), folder=str(tmp_path), run="finish").replace(
        "done = []",
        "done = []\nimport resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (200 << 20, 200 << 20))",
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert "A worker process could not be started" in last, done.stderr
    assert done.returncode == 1


DUMP = """Fatal Python error: Segmentation fault

Thread 0x00007f01 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 327 in wait
  File "/x/vsr/pipeline/stages.py", line 50 in put
  File "/x/vsr/pipeline/stages.py", line 146 in decode
  File "/x/vsr/pipeline/stages.py", line 251 in run

Thread 0x00007f02 (most recent call first):
  File "/x/vsr/engine/runner.py", line 1 in push
  File "/x/vsr/pipeline/stages.py", line 176 in infer
"""


def test_the_stage_is_read_from_the_threads() -> None:
    assert stage_of(DUMP) == "infer"
    assert stage_of(DUMP.replace("Thread 0x00007f01", "Current thread 0x00007f01")) == "decode"
    assert stage_of(DUMP.replace("threading.py", "reader.py")) == "decode or infer"
    assert stage_of("Fatal Python error: Aborted\n") is None
