"""One pass over the source: exact times, cuts, and one decoder thread where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsr.errors import DecodeError
from vsr.media.probe import probe
from vsr.pipeline.scan import scan

MakeClip = Callable[..., Path]


def two_scenes(frame: Any, index: int) -> None:
    """Vertical stripes, from frame 7 on horizontal ones; every plane of an 8-bit frame."""
    for plane in frame.planes:
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if plane.width == frame.width:
            y, x = np.mgrid[0 : plane.height, 0 : plane.line_size]
            rows = np.where(((x + index) if index < 7 else y) // 8 % 2, 200, 60).astype(np.uint8)
        plane.update(rows.tobytes())


def test_times_and_cuts(make_clip: MakeClip, tmp_path: Path) -> None:
    pts = [0, 3, 4, 9, 11, 12, 20, 21, 22, 30, 31, 40]
    clip = make_clip(tmp_path / "c.mkv", pts=pts, bframes=2, fill=two_scenes, codec="libx264")
    info = probe(clip).video
    seen: list[int] = []
    found = scan(clip, info, decode_threads=2, on_frame=seen.append)
    in_ms = [40 * tick for tick in pts]
    assert [int(t * info.time_base * 1000) for t in found.timeline.pts()] == in_ms
    assert found.cuts == (7,)
    assert found.decode_threads == 2
    assert found.events == ()
    assert seen == list(range(1, 13))


def test_a_damaged_source_is_decoded_by_one_thread(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "d.mkv", frames=24, gop=24, width=64, height=64)
    data = bytearray(clip.read_bytes())
    for position in range(len(data) // 2, len(data) // 2 + 200, 7):
        data[position] ^= 0x55
    clip.write_bytes(data)
    found = scan(clip, probe(clip).video, decode_threads=4)
    assert found.events
    assert found.decode_threads == 1
    assert found == scan(clip, probe(clip).video, decode_threads=4)


def test_a_source_without_pictures_is_an_error(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "e.mkv")
    info = probe(clip).video
    empty = make_clip(tmp_path / "f.mkv", frames=1, codec="mpeg4")
    data = empty.read_bytes()
    start = data.rfind(b"\x00\x00\x01\xb6")
    empty.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(DecodeError):
        scan(empty, info, decode_threads=1)
