"""Clusters of Matroska that are not what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.damage import spans
from vsr.media.checksums import broken_clusters

MakeClip = Callable[..., Path]


def test_one_flipped_bit_is_found_where_it_is(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mkv", codec="libvpx-vp9", frames=400, width=16, height=16)
    assert broken_clusters(path) == []
    hit = spans(path)[200]
    data = bytearray(path.read_bytes())
    data[hit.start + hit.size // 2] ^= 1
    path.write_bytes(data)
    (found,) = broken_clusters(path)
    assert found.offset < hit.start
    assert found.end_s is not None
    assert found.start_s <= hit.pts / 1000 < found.end_s


@pytest.mark.parametrize("name", ["a.webm", "a.mp4"])
def test_files_without_checksums_have_none_to_fail(
    make_clip: MakeClip, tmp_path: Path, name: str
) -> None:
    path = make_clip(tmp_path / name, codec="libvpx-vp9", frames=5)
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    assert broken_clusters(path) == []


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.7, 0.99])
def test_any_cut_is_borne(make_clip: MakeClip, tmp_path: Path, share: float) -> None:
    path = make_clip(tmp_path / "a.mkv", frames=30, truncate=share)
    assert broken_clusters(path) == []


def test_real_files_are_sound(media_dir: Path) -> None:
    for path in sorted(media_dir.glob("*.mkv")):
        assert broken_clusters(path) == [], path.name
