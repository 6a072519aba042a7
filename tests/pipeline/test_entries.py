"""Segments that start anywhere in a film read the frames that one read from its start gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.media.film import BT709, YUV420
from tests.pipeline.conftest import scan_here
from tests.pipeline.test_changes import glue
from tests.pipeline.test_damage import flip, noisy
from tests.pipeline.test_interlace import bars, fill
from vsr.config import resolve_config
from vsr.errors import DecodeError
from vsr.frame import Frame
from vsr.media import packets, reader
from vsr.media.encoder import SegmentEncoder
from vsr.pipeline import entries, planning
from vsr.pipeline.plan import Plan, make_segments
from vsr.pipeline.planning import make_plan
from vsr.pipeline.segment_source import SegmentSource
from vsr.pipeline.timeline import Timeline

MakeClip = Callable[..., Path]
X264_OPEN = {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0:b-adapt=0"}
X265 = "log-level=none:pools=1:frame-threads=1:keyint=8:min-keyint=8:scenecut=0"


@pytest.fixture(autouse=True)
def _scan_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started for each of these films."""
    monkeypatch.setattr(planning, "scan_and_listen", scan_here)


def plan_of(clip: Path, segment_frames: int = 8, **flags: Any) -> Plan:
    flags = {"model": "bicubic-x2", "device": "cpu", **flags}
    sets = [f"engine.segment_frames={segment_frames}"]
    return make_plan(clip, Path("out.mkv"), resolve_config(flags=flags, sets=sets))


def read(plan: Plan) -> list[Frame]:
    """The own frames of all segments."""
    frames: list[Frame] = []
    for segment in plan.segments:
        given = list(SegmentSource(plan, segment).frames())
        assert [frame.pts for frame in given] == plan.read_pts(segment.index)
        frames += given[segment.warmup : len(given) - segment.lookahead]
    return frames


def assert_same(frames: list[Frame], expected: list[Frame]) -> None:
    assert [frame.pts for frame in frames] == [frame.pts for frame in expected]
    for frame, other in zip(frames, expected, strict=True):
        assert described(frame) == described(other)
        for plane, wanted in zip(frame.planes, other.planes, strict=True):
            assert np.array_equal(plane, wanted), f"picture at {frame.pts} differs"


def described(frame: Frame) -> Frame:
    """All but the planes, and a timecode that comes with whatever picture is next in line."""
    kept = tuple(data for data in frame.side_data if data.kind != "GOP_TIMECODE")
    return replace(frame, planes=(), side_data=kept)


def assert_split_as_whole(clip: Path, **flags: Any) -> Plan:
    plan = plan_of(clip, **flags)
    assert len(plan.segments) > 1
    assert_same(read(plan), read(as_whole(plan)))
    return plan


def as_whole(plan: Plan) -> Plan:
    """The plan with one segment, which is decoded from the start of the film."""
    times = [segment.timeline for segment in plan.segments]
    timeline = Timeline.from_frames(
        [pts for one in times for pts in one.pts()],
        [ticks for one in times for ticks in one.durations()],
    )
    return plan.model_copy(update={"segments": make_segments(timeline, (), ())})


def num_entries(plan: Plan) -> int:
    return sum(segment.entry_pts is not None for segment in plan.segments)


SEEKABLE: dict[str, dict[str, Any]] = {
    "closed.mkv": {"gop": 8, "bframes": 2},
    "edit list.mp4": {"gop": 8, "bframes": 3},
    "hidden start.mp4": {"gop": 8, "bframes": 2, "start": -3},
    "offset.mkv": {"gop": 8, "bframes": 2, "start": 50},
    "open.mkv": {"bframes": 3, "codec_options": X264_OPEN},
    "open.mp4": {"bframes": 3, "codec_options": X264_OPEN},
    "open.ts": {"bframes": 3, "codec_options": X264_OPEN},
    "cra.mkv": {
        "codec": "libx265",
        "bframes": 3,
        "codec_options": {"x265-params": f"{X265}:open-gop=1:bframes=3:b-adapt=0"},
    },
    "mpeg2.ts": {"codec": "mpeg2video", "gop": 8, "bframes": 2},
    "late.ts": {"gop": 8, "bframes": 2, "time_base": Fraction(1, 90000), "start": 900_000},
    "vfr.mkv": {"gop": 5, "time_base": Fraction(1, 1000), "pts": [7 * k * k for k in range(40)]},
    "prores.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1", "gop": 1},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 8, "codec_options": {"cpu-used": "8"}},
    "av1.mkv": {"codec": "libsvtav1", "gop": 8},
    "tall.mkv": {"gop": 8, "bframes": 2, "width": 64, "height": 720},
}


@pytest.mark.parametrize("name", SEEKABLE)
def test_every_segment_has_its_own_place_to_start(
    make_clip: MakeClip, tmp_path: Path, name: str
) -> None:
    clip = make_clip(tmp_path / name, **{"frames": 40, **SEEKABLE[name]})
    plan = assert_split_as_whole(clip)
    assert len(plan.segments) >= 4
    # The first group of pictures may be longer than the first segment.
    assert num_entries(plan) >= len(plan.segments) - 2
    for segment in plan.segments:
        assert segment.entry_pts is None or segment.entry_pts <= segment.timeline.first_pts


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.avi", {"codec": "mpeg4", "bframes": 1, "gop": 8}),
        ("b.mkv", {"gop": 1000}),
        ("c.h264", {"gop": 8, "container": "h264"}),
        ("refresh.mkv", {"codec_options": {"x264-params": "intra-refresh=1:keyint=8"}, "gop": 8}),
    ],
)
def test_decoding_from_the_start_is_done_by_few_segments(
    make_clip: MakeClip, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    clip = make_clip(tmp_path / name, frames=160, **options)
    plan = assert_split_as_whole(clip)
    assert num_entries(plan) == 0
    assert 3 <= len(plan.segments) <= 8


def test_a_clock_that_wraps_is_followed(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(
        tmp_path / "a.ts", frames=40, gop=8, start=2**33 - 60_000, time_base=Fraction(1, 90_000)
    )
    assert_split_as_whole(clip)


@pytest.mark.parametrize("how", ["bwdif", "bob"])
@pytest.mark.parametrize("kind", ["tff", "bff"])
def test_fields_are_paired_as_in_the_whole_film(
    make_clip: MakeClip, tmp_path: Path, how: str, kind: str
) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=40, gop=4, height=64, fill=fill(kind, bars))
    plan = assert_split_as_whole(clip, deinterlace=how)
    assert num_entries(plan) >= len(plan.segments) - 1


def test_only_combed_pictures_are_made_progressive_wherever_a_segment_starts(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=40, gop=4, height=64, fill=fill("mixed", bars))
    plan = assert_split_as_whole(clip)
    assert plan.interlace.frames
    assert num_entries(plan) == len(plan.segments) - 1


def test_telecine_is_undone_from_the_start(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=40, gop=4, height=64, fill=fill(None, bars))
    plan = assert_split_as_whole(clip, deinterlace="ivtc")
    assert num_entries(plan) == 0


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "ffv1", "mjpeg", "prores_ks"])
@pytest.mark.parametrize("hit", [range(7, 10), range(15, 18), range(16, 17), range(24, 26)])
def test_damaged_films_show_the_same(
    make_clip: MakeClip, tmp_path: Path, codec: str, hit: range
) -> None:
    more: dict[str, Any] = {"pixel_format": "yuvj420p"} if codec == "mjpeg" else {}
    if codec == "ffv1":
        more = {"codec_options": {"level": "3", "slicecrc": "1", "slices": "4"}}
    if codec == "libx264":
        more = {"bframes": 2}
    name = "a.mkv"
    if codec == "prores_ks":
        name, more = "a.mov", {"pixel_format": "yuv422p10le"}
    clip = make_clip(tmp_path / name, codec=codec, frames=40, gop=8, fill=noisy, **more)
    flip(clip, packets=hit)
    plan = assert_split_as_whole(clip)
    # What a damaged JPEG or ProRes shows depends on all that was decoded before.
    assert num_entries(plan) >= (codec not in ("mjpeg", "prores_ks"))


def test_a_plane_of_colour_alone_tells_pictures_apart() -> None:
    luma, chroma = np.zeros((32, 32), np.uint8), np.zeros((16, 16), np.uint8)
    frame = Frame(planes=(luma, chroma, chroma), layout=YUV420, color=BT709, pts=0)
    other = replace(frame, planes=(luma, chroma, chroma + np.uint8(1)))
    assert entries.mark(frame) == entries.mark(replace(frame, pts=7))
    assert entries.mark(frame) != entries.mark(other)


def test_lost_pictures_are_filled_from_before_the_border(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=40, gop=8, fill=noisy)
    with av.open(str(clip)) as container:
        found = [p for p in container.demux(video=0) if p.size]
    data = bytearray(clip.read_bytes())
    for index in (15, 16, 17):
        payload = bytes(found[index])
        start = data.find(payload)
        data[start : start + len(payload)] = bytes(len(payload))
    clip.write_bytes(data)
    plan = assert_split_as_whole(clip)
    assert len(plan.concealed) >= 2
    assert num_entries(plan) >= 1


@pytest.mark.parametrize("change", [{"width": 96, "height": 72}, {"sar": Fraction(2)}])
def test_changes_of_form_are_seen_from_any_start(
    make_clip: MakeClip, tmp_path: Path, change: dict[str, Any]
) -> None:
    film = glue(make_clip, tmp_path, [{}, change, {}, change, {}], ".ts")
    plan = assert_split_as_whole(film)
    assert len(plan.segments) >= 3


@pytest.mark.parametrize(
    "flags",
    [
        {"start": 0.5, "duration": 0.9},
        {"start": 1},
        {"sample": "3x0.3s"},
        {"sample": "2x0.5s", "deinterlace": "bob"},
    ],
)
def test_parts_are_read_from_near_them(
    make_clip: MakeClip, tmp_path: Path, flags: dict[str, Any]
) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=80, gop=8, bframes=2)
    plan = assert_split_as_whole(clip, **flags)
    # Not even the first begins at the film's start.
    assert num_entries(plan) == len(plan.segments)


def test_captions_come_with_their_pictures(make_clip: MakeClip, tmp_path: Path) -> None:
    from tests.media.film import frames, settings_for, video_info

    settings = settings_for(video_info(frame_rate=Fraction(5)), encoder_preset="ultrafast")
    clip = tmp_path / "a.mkv"
    made = [
        replace(frame, side_data=(replace(frame.side_data[0], data=b"\xfc" + bytes([k, 1])),))
        for k, frame in enumerate(frames(settings, range(0, 16000, 400), captions=b"\xfc\x94\x2c"))
    ]
    with SegmentEncoder(clip, settings) as encoder:
        for frame in made:
            encoder.encode(frame)
    plan = assert_split_as_whole(clip)
    assert num_entries(plan) >= 2
    found = [[d for d in frame.side_data if d.kind == "A53_CC"] for frame in read(plan)]
    assert found == [list(frame.side_data) for frame in made]


def test_a_place_that_lies_is_not_used(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pictures say that decoding may start at them, and few are right."""
    clip = make_clip(tmp_path / "a.mkv", frames=40, gop=16, bframes=0)
    push = entries.Landmarks.push

    def say(self: entries.Landmarks, frame: Frame) -> None:
        self.note_key_packet(frame.pts)
        push(self, replace(frame, is_key=True))

    monkeypatch.setattr(entries.Landmarks, "push", say)
    plan = assert_split_as_whole(clip)
    real = {16 * 512 * k for k in range(3)} | {640 * k for k in range(3)}
    assert {one.entry_pts for one in plan.segments} <= real | {None}


def test_another_film_is_refused_by_every_segment(make_clip: MakeClip, tmp_path: Path) -> None:
    plan = plan_of(make_clip(tmp_path / "a.mkv", frames=40, gop=8))
    other = make_clip(tmp_path / "b.mkv", frames=40, gop=8, rate=Fraction(24))
    changed = plan.model_copy(update={"source_path": other})
    for segment in plan.segments[1:]:
        with pytest.raises(DecodeError, match=r"another frame|was not found"):
            list(SegmentSource(changed, segment).frames())


def test_a_segment_stops_reading_at_its_end(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(make_clip(tmp_path / "a.mkv", frames=400, gop=8), 16)
    read_from, seen = packets.read_packets_from, []

    def count(*arguments: Any) -> Any:
        for packet in read_from(*arguments):
            seen.append(packet.pts)
            yield packet

    monkeypatch.setattr(reader, "read_packets_from", count)
    segment = plan.segments[3]
    assert len(list(SegmentSource(plan, segment).frames())) == segment.num_frames
    assert len(seen) <= segment.num_frames + 16


@pytest.mark.parametrize(
    "name",
    [
        "corrupted.mp4",
        "discard_first_keyframe.mp4",
        "edit_list_positive_shift.mp4",
        "edit_list_preroll.mp4",
        "fragmented.mp4",
        "hevc_10bit.mp4",
        "interlaced_xdcam_1080i50.mov",
        "invalid_nal.mp4",
        "mpeg2_mp2.ts",
        "odd_420_vp9.mp4",
        "sample.flv",
        "vfr.mp4",
    ],
)
def test_real_films_are_read_the_same_from_every_start(media_dir: Path, name: str) -> None:
    plan = plan_of(media_dir / name, 24, duration=5, codec="ffv1")
    assert_same(read(plan), read(as_whole(plan)))
