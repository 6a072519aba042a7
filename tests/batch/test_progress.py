"""What is drawn of a batch while it runs."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vsr.batch.events import Event
from vsr.batch.manifest import Manifest
from vsr.batch.opening import copy_manifest
from vsr.cli import batch_progress
from vsr.cli.batch_progress import show_progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    manifest = copy_manifest(tmp_path)
    for name in ("one.mp4", "esc\x1b[2J.mp4", f"{60 * 'long'}.mp4"):
        manifest.add(name, "waiting", output=name, width=10, height=10, frames=100)
    return manifest


def test_a_bar_for_each_clip_and_one_for_all(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(batch_progress, "_BAR_EVERY_S", 0.0)
    clips = {clip.path[0]: clip for clip in manifest.clips()}

    def progress(clip: str, done: int) -> Event:
        return Event(
            kind="progress", clip=clips[clip], phase="upscale", frames_done=done, frames=100
        )

    with show_progress(manifest, 2, events=False) as show:
        for clip in "oel":
            show(Event(kind="started", clip=clips[clip], frames=100))
        show(progress("o", 50))
        show(progress("e", 25))
        drawn = screen.getvalue()
        assert " 50 %|" in drawn
        assert "upscale one.mp4" in drawn
        assert "esc\\x1b[2J.mp4" in drawn
        assert "…" in drawn
        # Half of one of three and a quarter of another.
        assert " 25 %|" in drawn
        assert "0/3 clips" in drawn
        assert drawn.count("batch") >= 2
        # Each has its own line, the first below the total.
        assert "\n\n\n" in drawn
        show(Event(kind="done", clip=clips["o"]))
        show(Event(kind="quarantined", clip=replace(clips["e"], error="it is broken")))
        show(progress("l", 99))
        drawn = screen.getvalue()
        assert "vsr: quarantined esc\\x1b[2J.mp4: it is broken" in drawn
        assert "2/3 clips" in drawn
    assert "\x1b[2J" not in screen.getvalue()


def test_what_earlier_runs_have_made_is_no_part_of_the_pace(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([10.0, 10.0, 20.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr("vsr.cli.batch_progress.time.monotonic", lambda: next(times))
    first, *others = manifest.clips()
    manifest.set_progress({clip.id: 100 for clip in others} | {first.id: 50})
    with show_progress(manifest, 1, events=True) as show:
        show(Event(kind="started", clip=first, frames=100))
        show(Event(kind="progress", clip=first, phase="upscale", frames_done=60, frames=100))
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    # 260 of 300 frames, of which ten took ten seconds.
    assert (document["share"], document["eta_seconds"]) == (0.8667, 40.0)


def test_a_large_cluster_leaves_bars_out(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(batch_progress, "_MAX_CLIP_BARS", 1)
    with show_progress(manifest, 2, events=False) as show:
        for clip in manifest.clips():
            show(Event(kind="started", clip=clip, frames=100))
    assert screen.getvalue().count("begun") == 1
