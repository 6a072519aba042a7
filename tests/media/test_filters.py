from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.errors import DecodeError, NoVideoStreamError
from vsr.frame import Frame, SideData
from vsr.media.filters import Deinterlacer, InverseTelecine, idet_report
from vsr.media.probe import probe
from vsr.media.reader import FrameReader

MakeClip = Callable[..., Path]


def scene(time: float, rows: int = 64, columns: int = 64) -> np.ndarray:
    """A pattern that moves four columns in a unit of time; its edges comb when fields differ."""
    x = np.arange(columns) - 4 * time
    y = np.arange(rows)[:, None]
    picture = 128 + 100 * np.sin(x / 4.0) * np.cos(y / 9.0)
    return np.asarray(np.rint(picture)).astype(np.uint8)


def draw(parity: str | None) -> Callable[[av.VideoFrame, int], None]:
    """A fill function for `make_clip`: progressive, or two fields half a frame apart."""

    def fill(frame: av.VideoFrame, index: int) -> None:
        picture = scene(index).copy()
        if parity is not None:
            late = 1 if parity == "tff" else 0
            picture[late::2] = scene(index + 0.5)[late::2]
        for number, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            if number == 0:
                rows[:, :64] = picture
            plane.update(rows.tobytes())

    return fill


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> MakeClip:
    def make(parity: str | None, frames: int = 16, **options: Any) -> Path:
        return make_clip(
            tmp_path / f"{parity}.mkv", codec="ffv1", height=64, frames=frames, fill=draw(parity),
            **options,
        )  # fmt: skip

    return make


@pytest.mark.parametrize("parity", ["tff", "bff"])
def test_idet_sees_interlacing_that_no_flag_tells(clip: MakeClip, parity: str) -> None:
    report = idet_report(clip(parity))
    assert report.num_frames == 16
    assert report.num_flagged == 0
    assert report.parity == parity
    assert report.interlaced_share > 0.9
    assert report.num_tff + report.num_bff + report.num_progressive + report.num_undetermined == 16


def test_idet_leaves_progressive_alone(clip: MakeClip) -> None:
    report = idet_report(clip(None))
    assert report.interlaced_share == 0.0
    assert report.num_progressive >= 14


def test_idet_stops_early(clip: MakeClip) -> None:
    assert idet_report(clip("tff"), max_frames=5).num_frames == 5


def test_idet_counts_flags(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(
        tmp_path / "a.mkv", codec_options={"x264-params": "tff=1:log-level=none"}, frames=6
    )
    assert idet_report(path).num_flagged == 6


def test_idet_needs_pictures(make_clip: MakeClip, tmp_path: Path) -> None:
    with pytest.raises(NoVideoStreamError):
        idet_report(make_clip(tmp_path / "a.mp4", video=False, audio=("aac",)))
    broken = make_clip(tmp_path / "b.mp4", frames=3)
    with av.open(str(broken)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(broken.read_bytes())
    for position, size in packets:
        assert position is not None
        data[position : position + size] = bytes(size)
    broken.write_bytes(data)
    with pytest.raises(DecodeError):
        idet_report(broken)


def combing(picture: np.ndarray) -> float:
    """Energy that alternates from row to row."""
    rows = picture.astype(np.float64)
    return float(np.abs(rows[:-2] - 2 * rows[1:-1] + rows[2:]).mean())


def deinterlace(path: Path, **options: Any) -> tuple[list[Frame], list[Frame], Deinterlacer]:
    info = probe(path).video
    filter_ = Deinterlacer(info, **options)
    with FrameReader(path) as reader:
        source = list(reader)
    out = [done for frame in source for done in filter_.push(frame)]
    return source, out + filter_.flush(), filter_


@pytest.mark.parametrize("parity", ["tff", "bff"])
def test_one_frame_for_each(clip: MakeClip, parity: str) -> None:
    source, out, filter_ = deinterlace(clip(parity), parity=parity)
    assert filter_.time_base == Fraction(1, 1000)
    assert [f.pts for f in out] == [f.pts for f in source]
    assert [f.duration for f in out] == [f.duration for f in source]
    assert not any(f.is_interlaced for f in out)
    progressive = combing(scene(8))
    middle = slice(2, -2)
    assert np.mean([combing(f.planes[0]) for f in source[middle]]) > 5 * progressive
    assert np.mean([combing(f.planes[0]) for f in out[middle]]) < 2 * progressive


def test_one_frame_for_each_field(clip: MakeClip) -> None:
    source, out, filter_ = deinterlace(clip("tff"), parity="tff", bob=True)
    assert filter_.time_base == Fraction(1, 2000)
    assert [f.pts * filter_.time_base for f in out] == [
        Fraction(20 * k, 1000) for k in range(2 * len(source))
    ]
    for index, frame in list(enumerate(out))[4:-4]:
        error = np.abs(frame.planes[0].astype(int) - scene(index / 2)).mean()
        assert error < 2.0, f"field {index} shows another moment"


def test_variable_rate_keeps_its_timestamps(clip: MakeClip) -> None:
    pts = [0, 40, 81, 200, 233, 240, 1000, 1001]
    path = clip("tff", frames=8, pts=pts, time_base=Fraction(1, 1000))
    _, out, _ = deinterlace(path, parity="tff")
    assert [f.pts for f in out] == pts
    _, out, _ = deinterlace(path, parity="tff", bob=True)
    assert [f.pts for f in out][0::2] == [2 * value for value in pts]


def test_what_belongs_to_a_frame_stays_with_it(clip: MakeClip) -> None:
    path = clip("tff", frames=5)
    info = probe(path).video
    with FrameReader(path) as reader:
        source = [
            replace(f, side_data=(SideData("A53_CC", bytes([k])),), is_corrupt=k == 2)
            for k, f in enumerate(reader)
        ]
    for bob, step in ((False, 1), (True, 2)):
        filter_ = Deinterlacer(info, parity="tff", bob=bob)
        out = [d for f in source for d in filter_.push(f)] + filter_.flush()
        assert [f.side_data for f in out[::step]] == [f.side_data for f in source]
        assert [f.is_corrupt for f in out[::step]] == [f.is_corrupt for f in source]
        assert all(f.side_data == () for f in out[1::2]) or not bob


def test_single_frames_can_stay_as_they_are(clip: MakeClip) -> None:
    path = clip("tff", frames=8)
    filter_ = Deinterlacer(probe(path).video, parity="tff")
    with FrameReader(path) as reader:
        source = list(reader)
    out = [d for k, f in enumerate(source) for d in filter_.push(f, is_combed=k % 2 == 0)]
    out += filter_.flush()
    for index, (before, after) in enumerate(zip(source, out, strict=True)):
        assert np.array_equal(before.planes[0], after.planes[0]) == (index % 2 == 1)


def test_the_last_field_comes_half_a_step_after_its_frame(clip: MakeClip) -> None:
    _, out, _ = deinterlace(clip("bff", frames=3), parity="bff", bob=True)
    assert [f.pts for f in out] == [0, 40, 80, 120, 160, 200]


def film_field(index: int) -> tuple[float, float]:
    """Times of the top and bottom field of picture `index` of a 3:2 pulldown, in film frames."""
    group, place = divmod(index, 5)
    top, bottom = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))[place]
    return 4 * group + top, 4 * group + bottom


def draw_telecine(frame: av.VideoFrame, index: int) -> None:
    top, bottom = film_field(index)
    picture = scene(top).copy()
    picture[1::2] = scene(bottom)[1::2]
    for number, plane in enumerate(frame.planes):
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if number == 0:
            rows[:, :64] = picture
        plane.update(rows.tobytes())


@pytest.mark.parametrize(("frames", "expected"), [(20, 16), (22, 18)])
def test_inverse_telecine_gives_the_film_back(
    make_clip: MakeClip, tmp_path: Path, frames: int, expected: int
) -> None:
    rate = Fraction(30000, 1001)
    path = make_clip(
        tmp_path / "t.avi",
        codec="ffv1",
        height=64,
        frames=frames,
        rate=rate,
        fill=draw_telecine,
    )
    info = probe(path).video
    filter_ = InverseTelecine(info, parity="tff")
    with FrameReader(path) as reader:
        out = [done for frame in reader for done in filter_.push(frame)]
    out += filter_.flush()
    assert len(out) == expected
    times = [f.pts * filter_.time_base for f in out]
    assert times[:16] == [k * Fraction(1001, 24000) for k in range(16)]
    assert times == sorted(set(times))
    for index, frame in list(enumerate(out))[1:15]:
        assert np.array_equal(frame.planes[0], scene(index)), f"film frame {index} is not whole"


def test_real_dv_and_xdcam(media_dir: Path) -> None:
    for name in ("interlaced_dv_ntsc.mov", "interlaced_xdcam_1080i50.mov"):
        assert idet_report(media_dir / name).num_flagged == 25
        source, out, _ = deinterlace(media_dir / name, parity="bff")
        assert [f.pts for f in out] == [f.pts for f in source]
        assert out[0].layout == source[0].layout
