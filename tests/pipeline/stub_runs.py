"""What takes the place of `run_segment` in children of the tests, found there by its name."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av

from vsr.errors import EncodeError
from vsr.pipeline.plan import Plan
from vsr.pipeline.segment import Effort, OnFrame, SegmentResult, segment_name
from vsr.pipeline.stages import StageClock, run_stages

NUM_FRAMES = 3


def finish(
    plan: Plan, index: int, folder: Path, *, on_frame: OnFrame, effort: Effort
) -> SegmentResult:
    """A segment whose file says which it is."""
    clock = StageClock()
    path = folder / segment_name(index)
    path.write_text(f"segment {index} of {plan.model.id}, tiles of {effort.tile_px}")
    for done in range(1, NUM_FRAMES + 1):
        on_frame(done, clock)
    return SegmentResult(
        index,
        path,
        NUM_FRAMES,
        path.stat().st_size,
        "",
        clock.times(),
        (),
        reason=str(os.getpid()),
        notes=("plain",) if effort.is_plain else (),
    )


def _first_time(folder: Path, index: int) -> bool:
    """Note that segment `index` was begun; whether never before."""
    name = folder / f"begun-{index}"
    tries = json.loads(name.read_text()) if name.exists() else []
    name.write_text(json.dumps([*tries, os.getpid()]))
    return not tries


def crash_once(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Segment 1 dies of SIGSEGV the first time, half written."""
    if index == 1 and _first_time(folder, index):
        (folder / segment_name(index)).write_text("half")
        os.kill(os.getpid(), signal.SIGSEGV)
    return finish(plan, index, folder, **rest)


def _staged(stage: str, act: Callable[[], None]) -> None:
    """Run real stages, one of which acts."""

    def source() -> Iterator[int]:
        if stage == "decode":
            act()
        yield 1

    def push(item: int) -> list[int]:
        if stage == "infer":
            act()
        return [item]

    def write(_: int) -> None:
        if stage == "encode":
            act()

    run_stages(source(), push, list, write, lambda: None)


def _segfault() -> None:
    ctypes.string_at(0)


def crash_decoding(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    _first_time(folder, index)
    _staged("decode", _segfault)
    raise AssertionError("still alive")


def crash_encoding(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    _staged("encode", _segfault)
    raise AssertionError("still alive")


def hang_inferring(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    _first_time(folder, index)
    _staged("infer", lambda: time.sleep(600))
    raise AssertionError("not stopped")


def spin(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Use a processor for ever, or, for segment 1, for longer than a watchdog of the tests."""
    end = time.monotonic() + (3.0 if index == 1 else 600.0)
    while time.monotonic() < end:
        pass
    return finish(plan, index, folder, **rest)


def stop_once(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """The first time the whole process is stopped."""
    if _first_time(folder, index):
        os.kill(os.getpid(), signal.SIGSTOP)
    return finish(plan, index, folder, **rest)


def hold_the_interpreter(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Native code that sleeps and lets no other thread of Python run."""
    (folder / f"pid-{index}").write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)
    raise AssertionError("not killed")


def sleep(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Write a part, then go on for ever."""
    path = folder / segment_name(index)
    path.write_text("half")
    (folder / f"pid-{index}").write_text(str(os.getpid()))

    def push(_: int) -> list[int]:
        time.sleep(0.02)
        return []

    try:
        rest["on_frame"](1, StageClock())
        run_stages(itertools.count(), push, list, print, list)
    except BaseException:
        path.unlink()
        (folder / f"cleaned-{index}").touch()
        raise
    raise AssertionError("not stopped")


def refuse(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    error = EncodeError("the encoder is tired", hint="let it sleep")
    error.add_note("in stage encode, at pts 12")
    raise error


def stumble(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    raise ZeroDivisionError("a bug of ours")


def run_out_of_memory(
    plan: Plan, index: int, folder: Path, *, effort: Effort, **rest: Any
) -> SegmentResult:
    """Memory suffices for tiles of 64."""
    with (folder / f"tiles-{index}").open("a") as file:
        file.write(f"{effort.tile_px}\n")
    if effort.tile_px is None or effort.tile_px > 64:
        raise MemoryError
    return finish(plan, index, folder, effort=effort, **rest)


def never_enough(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")


def alone_only(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Memory suffices for one at a time."""
    mine = folder / f"at-work-{index}"
    mine.touch()
    time.sleep(0.5 if index == 0 else 0.2)
    try:
        if index != 0 and (folder / "at-work-0").exists():
            raise MemoryError
        return finish(plan, index, folder, **rest)
    finally:
        mine.unlink()


def kill_itself(plan: Plan, index: int, folder: Path, *, effort: Effort, **rest: Any) -> Any:
    """As the system does when memory runs out, until tiles are used."""
    if effort.tile_px is None:
        _first_time(folder, index)
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(plan, index, folder, effort=effort, **rest)


def make_noise(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Write to everything that might be mistaken for the way to the parent."""
    os.write(1, b"\x80\x05garbage\n" * 5)
    os.write(2, b"[x @ 0x55d0] a message\n" * 3)
    os.system("echo from a grandchild")
    sys.stdout.write("printed\n")
    sys.stdout.flush()
    sys.stderr.write("to stderr\n")
    assert sys.stdin.read() == ""
    result = finish(plan, index, folder, **rest)
    for _ in range(300):
        os.write(2, b"y" * 9999 + b"\n")
    return result


def complain(plan: Plan, index: int, folder: Path, **rest: Any) -> SegmentResult:
    """Have FFmpeg itself complain."""
    with contextlib.suppress(av.error.FFmpegError):
        av.open(str(Path(__file__)))
    context = av.CodecContext.create("h264", "r")
    with contextlib.suppress(av.error.FFmpegError):
        context.decode(av.Packet(b"\x00\x00\x00\x01\x65" + bytes(range(200))))
    return finish(plan, index, folder, **rest)


def count_quickly(plan: Plan, index: int, folder: Path, *, on_frame: OnFrame, **rest: Any) -> Any:
    clock = StageClock()
    for done in range(20000):
        on_frame(done, clock)
    return finish(plan, index, folder, on_frame=on_frame, **rest)
