"""Scanning again: new and changed files are taken up, finished ones left alone, lost ones noted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vsr.batch.manifest import Clip, Manifest
from vsr.batch.opening import copy_manifest
from vsr.batch.scan import ScanReport
from vsr.batch.settings import is_planned, plan, refuse_other_wishes, stored_settings
from vsr.batch.walk import Filters
from vsr.config import UpscaleConfig
from vsr.errors import ConfigError, JobCancelledError, UnknownModelError
from vsr.pipeline.output import sha256_of

MakeClip = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("work_here")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return copy_manifest(tmp_path / "out")


@pytest.fixture
def tree(tmp_path: Path, make_clip: MakeClip) -> Path:
    source = tmp_path / "src"
    (source / "a").mkdir(parents=True)
    make_clip(source / "a" / "x.mp4", frames=3)
    make_clip(source / "x.mp4", frames=3)
    return source


def again(manifest: Manifest, tree: Path, config: UpscaleConfig, **wishes: Any) -> ScanReport:
    return plan(manifest, tree, config, None, **wishes)


def by_path(manifest: Manifest) -> dict[str, Clip]:
    return {clip.path: clip for clip in manifest.clips()}


def finish(manifest: Manifest, tree: Path, path: str) -> None:
    clip = by_path(manifest)[path]
    manifest.move(clip.id, "done", source_sha256=sha256_of(tree / path), result_sha256="r")


def test_first_plan(manifest: Manifest, tree: Path, config: UpscaleConfig) -> None:
    (tree / "a" / "broken.mp4").write_bytes(bytes(range(256)) * 9)
    (tree / "a" / "empty.mp4").touch()
    os.mkfifo(tree / "pipe.mp4")
    assert not is_planned(manifest)
    report = again(manifest, tree, config)
    assert (report.new, report.refused, report.unchanged) == (5, 3, 0)
    assert is_planned(manifest)
    clips = by_path(manifest)
    good = clips["a/x.mp4"]
    assert (good.state, good.output) == ("waiting", "a/x.mp4")
    assert (good.width, good.height, good.frames, good.codec) == (64, 48, 3, "h264")
    for name, word in (("a/broken.mp4", "broken"), ("a/empty.mp4", "empty"), ("pipe.mp4", "pipe")):
        assert clips[name].state == "quarantined"
        assert word in str(clips[name].error)
        assert clips[name].exit_code == 3


def test_unchanged_files_are_not_opened(
    manifest: Manifest, tree: Path, config: UpscaleConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tree / "pipe.mp4")
    again(manifest, tree, config)
    finish(manifest, tree, "x.mp4")
    before = manifest.clips()
    monkeypatch.setattr("vsr.batch.scan.look_at", None)
    monkeypatch.setattr("vsr.batch.scan.digest", None)
    report = again(manifest, tree, config)
    assert (report.new, report.changed, report.vanished) == (0, 0, 0)
    assert report.unchanged == 3
    assert manifest.clips() == before


def test_a_new_date_alone_is_no_change(
    manifest: Manifest, tree: Path, config: UpscaleConfig
) -> None:
    again(manifest, tree, config)
    finish(manifest, tree, "x.mp4")
    os.utime(tree / "x.mp4", ns=(10**18, 10**18))
    assert again(manifest, tree, config).unchanged == 2
    clip = by_path(manifest)["x.mp4"]
    assert (clip.state, clip.mtime_ns) == ("done", 10**18)


def test_changed_bytes_are_made_anew(
    manifest: Manifest, tree: Path, config: UpscaleConfig, make_clip: MakeClip
) -> None:
    again(manifest, tree, config)
    finish(manifest, tree, "x.mp4")
    data = bytearray((tree / "x.mp4").read_bytes())
    data[-1] ^= 1
    (tree / "x.mp4").write_bytes(data)
    assert again(manifest, tree, config).changed == 1
    clip = by_path(manifest)["x.mp4"]
    assert (clip.state, clip.fresh, clip.result_sha256) == ("waiting", 2, None)
    assert clip.output == "x.mp4"
    make_clip(tree / "a" / "x.mp4", frames=5)
    again(manifest, tree, config)
    assert by_path(manifest)["a/x.mp4"].frames == 5


def test_vanished_and_back(manifest: Manifest, tree: Path, config: UpscaleConfig) -> None:
    again(manifest, tree, config)
    finish(manifest, tree, "x.mp4")
    for path in (tree / "x.mp4", tree / "a" / "x.mp4"):
        path.rename(path.with_suffix(".away"))
    assert again(manifest, tree, config).vanished == 2
    assert again(manifest, tree, config).vanished == 0
    clips = by_path(manifest)
    assert (clips["x.mp4"].state, clips["x.mp4"].is_gone) == ("done", True)
    assert (clips["a/x.mp4"].state, clips["a/x.mp4"].is_gone) == ("vanished", True)
    for path in (tree / "x.mp4", tree / "a" / "x.mp4"):
        path.with_suffix(".away").rename(path)
    again(manifest, tree, config)
    clips = by_path(manifest)
    assert (clips["x.mp4"].state, clips["x.mp4"].is_gone) == ("done", False)
    assert (clips["a/x.mp4"].state, clips["a/x.mp4"].is_gone) == ("waiting", False)


def test_a_stopped_scan_goes_on(manifest: Manifest, tree: Path, config: UpscaleConfig) -> None:
    answers = iter([False, True])
    with pytest.raises(JobCancelledError):
        again(manifest, tree, config, should_stop=lambda: next(answers))
    assert len(manifest.clips()) == 1
    assert not is_planned(manifest)
    report = again(manifest, tree, config)
    assert (report.new, report.unchanged) == (1, 1)


def test_what_no_clip_can_be_made_with_quarantines_none(manifest: Manifest, tree: Path) -> None:
    with pytest.raises(UnknownModelError):
        again(manifest, tree, UpscaleConfig(model="bicubik-x2"))
    assert manifest.clips() == []


def test_other_wishes(manifest: Manifest, tree: Path, config: UpscaleConfig) -> None:
    again(manifest, tree, config)
    other = config.model_copy(update={"crf": 30.0})
    assert refuse_other_wishes(manifest, tree, None, None) == stored_settings(manifest)
    assert refuse_other_wishes(manifest, tree, config, None).config == config
    with pytest.raises(ConfigError, match="planned otherwise: crf: None -> 30"):
        refuse_other_wishes(manifest, tree, other, None)
    with pytest.raises(ConfigError, match="which files are clips"):
        refuse_other_wishes(manifest, tree, None, Filters(include=("*.mov",)))
    with pytest.raises(ConfigError, match="source: "):
        refuse_other_wishes(manifest, tree / "a", None, None)
    # Nothing was begun: another wish costs nothing.
    assert again(manifest, tree, other).changed == 2
    finish(manifest, tree, "x.mp4")
    with pytest.raises(ConfigError, match=r"begun otherwise: crf: 30\.0 -> None"):
        again(manifest, tree, config)
    assert by_path(manifest)["x.mp4"].state == "done"
    again(manifest, tree, config, restart=True)
    assert by_path(manifest)["x.mp4"].state == "waiting"


def test_filters_stay(manifest: Manifest, tree: Path, config: UpscaleConfig) -> None:
    plan(manifest, tree, config, Filters(include=("a/*",)))
    assert list(by_path(manifest)) == ["a/x.mp4"]
    again(manifest, tree, config)
    assert list(by_path(manifest)) == ["a/x.mp4"]


def test_one_name_for_two(manifest: Manifest, tree: Path, make_clip: MakeClip) -> None:
    make_clip(tree / "x.avi", codec="mpeg4", frames=3)
    make_clip(tree / "x.mkv", frames=3)
    config = UpscaleConfig(model="bicubic-x2", device="cpu", container="mkv")
    again(manifest, tree, config)
    outputs = {clip.path: clip.output for clip in manifest.clips()}
    assert outputs["x.mkv"] == "x.mkv"
    assert outputs["x.avi"] == "x.avi.mkv"
    assert outputs["x.mp4"] == "x.mp4.mkv"
