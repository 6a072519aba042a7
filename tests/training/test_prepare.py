from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from vsr.errors import ConfigError, OutputError
from vsr.training import prepare
from vsr.training.data import FrameStore
from vsr.training.prepare import build_store, default_store

MakeClip = Callable[..., Path]

WIDTH, HEIGHT, NUM_FRAMES = 48, 40, 5


@pytest.fixture
def data(tmp_path: Path, make_clip: MakeClip) -> Path:
    """Two clips and two pictures."""
    folder = tmp_path / "data"
    for name in ("video", "photo"):
        (folder / name).mkdir(parents=True)
    for name in ("walk_01.mkv", "walk_02.mkv"):
        make_clip(folder / "video" / name, **clip_options())
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[..., 0] = 200  # OpenCV's order: blue
    picture[5:, :, 2] = 90
    write_picture(folder / "photo" / "sea é.png", picture)
    write_picture(folder / "photo" / "land.png", picture[:10])
    return folder


def clip_options() -> dict[str, Any]:
    return {"codec": "ffv1", "width": WIDTH, "height": HEIGHT, "frames": NUM_FRAMES}


def write_picture(path: Path, pixels: np.ndarray) -> None:
    done, encoded = cv2.imencode(path.suffix, pixels)
    assert done
    path.write_bytes(encoded.tobytes())


def test_every_file_is_in_the_store(data: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    store = build_store(data, tmp_path / "store", lambda done, total: seen.append((done, total)))
    assert [(clip.name, clip.frames.shape) for clip in store.clips] == [
        ("photo/land.png", (1, 10, 30, 3)),
        ("photo/sea é.png", (1, 20, 30, 3)),
        ("video/walk_01.mkv", (NUM_FRAMES, HEIGHT, WIDTH, 3)),
        ("video/walk_02.mkv", (NUM_FRAMES, HEIGHT, WIDTH, 3)),
    ]
    assert seen == [(done, 4) for done in range(5)]
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == [
        "frames.u8",
        "index.json",
    ]
    sea = store.clips[1].frames[0]
    assert sea[0, 0].tolist() == [0, 0, 200]
    assert sea[19, 29].tolist() == [90, 0, 200]
    # Numbered files are one series; other files stand for themselves.
    assert [clip.group for clip in store.clips] == [
        "photo/land",
        "photo/sea é",
        "video/walk",
        "video/walk",
    ]
    assert store.sources == [("photo", "unknown"), ("video", "unknown")]


def test_video_keeps_its_luma(data: Path, tmp_path: Path) -> None:
    store = build_store(data, tmp_path / "store")
    with av.open(str(data / "video" / "walk_01.mkv")) as container:
        planes = [frame.to_ndarray()[:HEIGHT] for frame in container.decode(video=0)]
    for rgb_HWC, luma in zip(store.clips[2].frames, planes, strict=True):
        # Not tagged and small: BT.601, limited range. Where no channel is clipped it inverts.
        expected = (luma.astype(np.float64) - 16) * 255 / 219
        got = rgb_HWC.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
        whole = (rgb_HWC.min(axis=-1) > 0) & (rgb_HWC.max(axis=-1) < 255)
        assert whole.mean() > 0.3
        assert np.abs(got - expected)[whole].max() < 0.75


def test_an_unchanged_folder_is_not_decoded_again(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "store"
    seen: list[int] = []
    first = build_store(data, target)
    again = build_store(data, target, lambda done, _: seen.append(done))
    assert seen == []
    assert [clip.name for clip in again.clips] == [clip.name for clip in first.clips]
    os.utime(data / "photo" / "land.png", ns=(1, 1))
    build_store(data, target, lambda done, _: seen.append(done))
    assert seen == [0, 1, 2, 3, 4]
    # What was opened before stays readable.
    assert int(first.clips[1].frames[0, 0, 0, 2]) == 200
    (data / "photo" / "land.png").unlink()
    assert len(build_store(data, target).clips) == 3


@pytest.mark.parametrize("name", ["frames.u8", "index.json"])
def test_a_cut_store_is_made_anew(data: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "store"
    build_store(data, target)
    file = target / name
    file.write_bytes(file.read_bytes()[:-1])
    assert len(build_store(data, target).clips) == 4


@pytest.mark.parametrize("name", ["video/a.mkv", "video/cut.mp4", "photo/a.png"])
def test_a_damaged_file_is_left_out_with_one_warning(
    data: Path, tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, make_clip: MakeClip
) -> None:
    damaged = data / name
    if damaged.suffix == ".mkv":
        make_clip(damaged, width=64, height=64, frames=12)
        content = bytearray(damaged.read_bytes())
        third = len(content) // 3
        content[third : 2 * third] = bytes(third)
        damaged.write_bytes(content)
    elif damaged.suffix == ".mp4":
        make_clip(damaged, width=WIDTH, height=HEIGHT, frames=NUM_FRAMES, truncate=0.6)
    else:
        damaged.write_bytes((data / "photo" / "land.png").read_bytes()[:40])
    whole = build_store_of_whole(data, tmp_path, damaged)
    with caplog.at_level(logging.WARNING, "vsr.training"):
        store = build_store(data, tmp_path / "store")
    assert [clip.name for clip in store.clips] == [clip.name for clip in whole.clips]
    for one, other in zip(store.clips, whole.clips, strict=True):
        assert np.array_equal(one.frames, other.frames)
    size = (tmp_path / "store" / "frames.u8").stat().st_size
    assert size == sum(clip.frames.size for clip in store.clips)
    (record,) = [record for record in caplog.records if record.name.startswith("vsr.training")]
    assert f"{name} is left out" in record.getMessage()


def build_store_of_whole(data: Path, tmp_path: Path, damaged: Path) -> FrameStore:
    kept = damaged.read_bytes()
    damaged.unlink()
    store = build_store(data, tmp_path / "whole")
    damaged.write_bytes(kept)
    return store


def test_folders_without_anything_usable_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        build_store(tmp_path / "none", tmp_path / "store")
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").write_text("nothing")
    (empty / ".hidden.png").write_bytes((data / "photo" / "land.png").read_bytes())
    with pytest.raises(ConfigError, match="no videos and no pictures"):
        build_store(empty, tmp_path / "store")
    (empty / "a.png").write_bytes(b"text")
    with pytest.raises(ConfigError, match="none of the 1 files"):
        build_store(empty, tmp_path / "store")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_failed_build_leaves_the_old_store(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "store"
    build_store(data, target)
    for file in data.rglob("*.*"):
        file.write_bytes(b"text")
    with pytest.raises(ConfigError):
        build_store(data, target)
    assert len(FrameStore(target).clips) == 4
    assert len(list(target.iterdir())) == 2


def test_a_store_that_cannot_be_written_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        build_store(data, tmp_path / "file")


def test_an_index_names_origin_and_licence(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [
        {"file": "train/video/walk_01.mkv", "origin": "A. Walker", "licence": "CC-BY-4.0"},
        {"file": "walk_02.mkv", "origin": "A. Walker", "licence": "CC-BY-4.0"},
        {"file": "gone.mkv", "origin": "Nobody"},
    ]
    (data / "video" / "index.json").write_text(json.dumps(entries))
    store = build_store(data, tmp_path / "store")
    assert store.sources == [("A. Walker", "CC-BY-4.0"), ("photo", "unknown")]
    assert {clip.group for clip in store.videos} == {"A. Walker"}
    entries[0]["licence"] = "CC0-1.0"
    (data / "video" / "index.json").write_text(json.dumps(entries))
    assert ("A. Walker", "CC0-1.0") in build_store(data, tmp_path / "store").sources
    (data / "video" / "index.json").write_text('{"file": 3}')
    with caplog.at_level(logging.WARNING, "vsr.training"):
        assert build_store(data, tmp_path / "store").sources[1] == ("video", "unknown")
    assert "is no list of files" in caplog.text


def test_of_a_long_video_the_beginning_is_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(prepare, "MAX_FRAMES", 3)
    with caplog.at_level(logging.WARNING, "vsr.training"):
        store = build_store(data, tmp_path / "store")
    assert [len(clip.frames) for clip in store.videos] == [3, 3]
    assert caplog.text.count("first 3 frames are taken") == 2


def test_interlaced_video_is_left_out(
    data: Path, tmp_path: Path, make_clip: MakeClip, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"x264-params": "tff=1"}
    make_clip(data / "tape.mkv", width=64, height=64, frames=4, codec_options=options)
    with caplog.at_level(logging.WARNING, "vsr.training"):
        store = build_store(data, tmp_path / "store")
    assert "tape.mkv is left out: it is interlaced" in caplog.text
    assert len(store.videos) == 2


def test_each_folder_has_a_store_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSR_HOME", str(tmp_path / "home"))
    one, two = default_store(tmp_path / "a" / "train"), default_store(tmp_path / "b" / "train")
    assert one.parent == two.parent == tmp_path / "home" / "training"
    assert one != two
    assert one == default_store(tmp_path / "a" / ".." / "a" / "train")
    monkeypatch.delenv("VSR_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_store(tmp_path).parent == tmp_path / ".cache" / "vsr" / "training"
