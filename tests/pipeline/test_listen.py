"""The scan in a process of its own: the same scan, its errors, and what it does when that dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.media.probe import probe
from vsr.pipeline import isolate, listen
from vsr.pipeline.child import Child
from vsr.pipeline.conceal import conceal, find_missing
from vsr.pipeline.scan import scan

MakeClip = Callable[..., Path]


def test_the_child_tells_what_the_parent_would_see(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "ünï c.mkv", bframes=2)
    info = probe(path).video
    seen: list[int] = []
    found = listen.scan_and_listen(path, info, decode_threads=2, on_frame=seen.append)
    assert found == scan(path, info, decode_threads=2)
    assert seen == sorted(set(seen)) and seen[-1] == 12


def test_a_refusal_crosses_over_as_it_is(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "c.mkv")
    info = probe(path).video
    path.write_bytes(path.read_bytes()[:600] + bytes(20000))
    with pytest.raises((DecodeError, OSError, UnsupportedVideoError)) as caught:
        listen.scan_and_listen(path, info, decode_threads=1)
    assert getattr(caught.value, "exit_code", None) == 3
    assert getattr(caught.value, "hint", None)


def _kills_itself(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_child_is_an_error_of_the_source(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "c.mkv", frames=24)
    # Named in the child as it is here.
    monkeypatch.setattr(isolate, "do_scan", _kills_itself)
    with pytest.raises(DecodeError, match="SIGKILL, 3 times") as caught:
        listen.scan_and_listen(path, probe(path).video, decode_threads=1)
    assert caught.value.exit_code == 3


def test_without_a_child_the_film_is_scanned_here(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "c.mkv")
    monkeypatch.setattr(sys, "executable", "")
    found = listen.scan_and_listen(path, probe(path).video, decode_threads=1)
    assert found.timeline.num_frames == 12


def test_an_interrupt_leaves_no_child(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "c.mkv")
    started: list[Child] = []

    class Remembered(Child):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            started.append(self)

    monkeypatch.setattr(isolate, "Child", Remembered)

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        listen.scan_and_listen(path, probe(path).video, decode_threads=1, on_frame=interrupt)
    assert started[0].process.poll() is not None


def test_a_pool_scans_and_keeps_its_child(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "c.mkv")
    info = probe(path).video
    with isolate.WorkerPool() as pool:
        pool.start()
        child = pool.take()
        pool.give_back(child)
        for _ in range(2):
            found = listen.scan_and_listen(path, info, decode_threads=1, pool=pool)
            assert found.timeline.num_frames == 12
        assert pool.take() is child
    assert child.process.poll() is not None


def test_missing_pictures_by_their_packets() -> None:
    pts = [0, 10, 20, 50, 60, 70]
    packets = [0, 10, 20, 30, 40, 50, 60, 65, 70, 80]
    found = find_missing(packets, pts, first_trouble=20, tick_s=0.004)
    # 65 is half a step from its neighbours: a second field, not a picture.
    assert found == (30, 40, 80)


def test_missing_pictures_where_most_are_lost() -> None:
    packets = list(range(0, 240, 10))
    pts = [0, 40, 80, 100, 120, 160, 200, 210, 220]
    found = find_missing(packets, pts, first_trouble=10, tick_s=0.004)
    assert sorted({*found, *pts}) == packets


def test_fields_of_whole_pictures_are_not_missing() -> None:
    packets, pts = list(range(0, 240, 10)), list(range(0, 240, 20))
    assert find_missing(packets, pts, first_trouble=0, tick_s=0.004) == ()


def test_missing_pictures_by_the_rhythm_alone() -> None:
    pts = [0, 33, 67, 100, 133, 167, 300, 333, 367, 400, 433]
    assert find_missing(pts, pts, first_trouble=None, tick_s=0.001) == (200, 233, 267)
    far = [*pts, 60_000]
    assert 30_000 not in find_missing(far, far, first_trouble=None, tick_s=0.001)


def test_the_start_counts_only_after_a_trouble() -> None:
    packets = [0, 10, 20, 30, 40, 50]
    pts = packets[2:]
    assert find_missing(packets, pts, first_trouble=30, tick_s=0.004) == ()
    assert find_missing(packets, pts, first_trouble=0, tick_s=0.004) == (0, 10)


def test_a_gap_of_no_whole_number_of_steps_is_left() -> None:
    pts = [0, 10, 20, 30, 55, 65, 75, 85, 95, 105]
    assert find_missing(pts, pts, first_trouble=None, tick_s=0.004) == ()


def test_repeats_carry_no_captions(make_clip: MakeClip, tmp_path: Path) -> None:
    from dataclasses import replace

    from vsr.frame import SideData
    from vsr.media.reader import FrameReader

    path = make_clip(tmp_path / "c.mkv", frames=3)
    with FrameReader(path) as reader:
        frames = [replace(f, side_data=(SideData("A53_CC", b"x"),)) for f in reader]
    out = list(conceal(frames, [-40, 20, 100, 120]))
    assert [f.pts for f in out] == [-40, 0, 20, 40, 80, 100, 120]
    assert [f.is_concealed for f in out] == [True, False, True, False, False, True, True]
    assert all(bool(f.side_data) != f.is_concealed for f in out)
    assert out[2].planes is frames[0].planes
    assert out[5].planes is frames[2].planes
