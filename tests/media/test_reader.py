from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.frame import Frame, PlaneLayout
from vsr.media import formats
from vsr.media.probe import ProbeLimits, probe
from vsr.media.reader import FrameReader, find_decode_entry

MakeClip = Callable[..., Path]


def read(path: Path, **options: Any) -> list[Frame]:
    with FrameReader(path, **options) as reader:
        return list(reader)


def same(a: Frame, b: Frame) -> bool:
    return a.pts == b.pts and all(
        np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True)
    )


class TestTimestamps:
    @pytest.mark.parametrize(
        ("name", "options", "time_base", "pts"),
        [
            ("a.mp4", {}, Fraction(1, 12800), [512 * k for k in range(12)]),
            ("b.mp4", {"bframes": 3}, Fraction(1, 12800), [512 * k for k in range(12)]),
            (
                "c.mkv",
                {"bframes": 2, "start": 50},
                Fraction(1, 1000),
                [2000 + 40 * k for k in range(12)],
            ),
            (
                "d.mp4",
                {"start": 50, "bframes": 2},
                Fraction(1, 12800),
                [512 * (50 + k) for k in range(12)],
            ),
            (
                "vfr.mp4",
                {
                    "pts": [0, 1001, 1100, 5000, 5001, 90000],
                    "time_base": Fraction(1, 30000),
                    "bframes": 2,
                },
                Fraction(1, 30000),
                [0, 1001, 1100, 5000, 5001, 90000],
            ),
            (
                "e.ts",
                {"codec": "mpeg2video", "bframes": 2, "container_options": {"muxdelay": "0"}},
                Fraction(1, 90000),
                None,
            ),
            (
                "f.avi",
                {"codec": "mpeg4", "bframes": 2},
                Fraction(1, 25),
                list(range(1, 13)),
            ),  # one frame of decoding delay
            ("g.webm", {"codec": "libvpx-vp9"}, Fraction(1, 1000), [40 * k for k in range(12)]),
            (
                "h.mkv",
                {"codec": "libx265", "bframes": 2, "pixel_format": "yuv420p10le"},
                Fraction(1, 1000),
                [40 * k for k in range(12)],
            ),
            (
                "i.mkv",
                {"codec": "libsvtav1", "width": 64, "height": 64},
                Fraction(1, 1000),
                [40 * k for k in range(12)],
            ),
            (
                "j.mov",
                {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
                Fraction(1, 12800),
                [512 * k for k in range(12)],
            ),
        ],
    )
    @pytest.mark.parametrize("threads", [1, 2])
    def test_exact(
        self,
        make_clip: MakeClip,
        tmp_path: Path,
        name: str,
        options: dict[str, Any],
        time_base: Fraction,
        pts: list[int] | None,
        threads: int,
    ) -> None:
        clip = make_clip(tmp_path / name, **options)
        with FrameReader(clip, threads=threads) as reader:
            got = [frame.pts for frame in reader]
            assert reader.info.time_base == time_base
            assert reader.events == []
        if pts is None:
            pts = [got[0] + 3600 * k for k in range(12)]
        assert got == pts

    def test_durations(self, make_clip: MakeClip, tmp_path: Path) -> None:
        assert {f.duration for f in read(make_clip(tmp_path / "a.mp4"))} == {512}

    def test_a_rate_of_one_frame_per_tick_says_nothing(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        """Remuxed variable rate in Matroska claims 1000 frames a second."""
        source = make_clip(tmp_path / "a.mkv", pts=[0, 33, 90], time_base=Fraction(1, 1000))
        clip = tmp_path / "b.mkv"
        with av.open(str(source)) as old, av.open(str(clip), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
            stream.rate = Fraction(1000)
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    packet.duration = 0
                    new.mux(packet)
        assert probe(clip).video.frame_rate is None
        assert [(f.pts, f.duration) for f in read(clip)] == [(0, 0), (33, 0), (90, 0)]

    def test_edit_list_cuts_the_start(self, make_clip: MakeClip, tmp_path: Path) -> None:
        """MP4 written with a negative first pts hides those frames behind an edit list."""
        clip = make_clip(tmp_path / "a.mp4", start=-3, frames=12)
        expected = [f.pts for f in av.open(str(clip)).decode(video=0)]
        assert [f.pts for f in read(clip)] == expected
        assert len(expected) in (9, 12)


class TestPlanes:
    """Known samples, packed by hand into each format, come back as they were."""

    SIZE = (22, 14)

    def reference(self, bits: int, sub: tuple[int, int], count: int = 3) -> list[np.ndarray]:
        width, height = self.SIZE
        source = np.random.default_rng(bits * 10 + count)
        dtype = np.uint8 if bits == 8 else np.uint16
        shapes = [(height, width)] + [(-(-height >> sub[1]), -(-width >> sub[0]))] * 2
        shapes.append((height, width))
        return [source.integers(0, 1 << bits, shapes[k], dtype) for k in range(count)]

    def check(
        self,
        make_clip: MakeClip,
        path: Path,
        pixel_format: str,
        layout: PlaneLayout,
        planes: Sequence[np.ndarray],
        packed: Sequence[np.ndarray],
    ) -> None:
        """`packed`: one 2-D array per plane of FFmpeg's, with the bytes of every row."""

        def fill(frame: av.VideoFrame, index: int) -> None:
            for target, rows in zip(frame.planes, packed, strict=True):
                data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
                width = target.line_size or data.shape[1]
                padded = np.full((len(rows), width), 0xAB, np.uint8)
                padded[:, : data.shape[1]] = data[:, :width]
                target.update(padded.tobytes())

        width, height = self.SIZE
        plan = formats.pixel_format(pixel_format)
        picture = av.VideoFrame(width, height, pixel_format)
        fill(picture, 0)
        assert (plan.name, plan.layout) == (pixel_format, layout)
        self.compare(formats.read_planes(picture, plan, VideoReformatter()), planes, layout)
        if pixel_format.startswith(("p01", "x2")):
            return  # no container that av writes names these formats
        clip = make_clip(
            path, codec="rawvideo", pixel_format=pixel_format, width=width, height=height,
            frames=2, fill=fill,
        )  # fmt: skip
        info = probe(clip).video
        assert (info.pixel_format, info.layout) == (pixel_format, layout)
        frames = read(clip)
        assert len(frames) == 2
        for frame in frames:
            self.compare(frame.planes, planes, layout)

    def compare(
        self, found: Sequence[np.ndarray], planes: Sequence[np.ndarray], layout: PlaneLayout
    ) -> None:
        assert len(found) == layout.num_planes == len(planes)
        for got, want in zip(found, planes, strict=True):
            assert got.dtype == layout.dtype
            assert got.dtype.isnative
            np.testing.assert_array_equal(got, want)

    @pytest.mark.parametrize(
        ("name", "bits", "sub"),
        [
            ("yuv420p", 8, (1, 1)),
            ("yuv422p", 8, (1, 0)),
            ("yuv444p", 8, (0, 0)),
            ("yuv440p", 8, (0, 1)),
            ("yuv411p", 8, (2, 0)),
            ("yuv410p", 8, (2, 2)),
            ("yuv420p10le", 10, (1, 1)),
            ("yuv420p10be", 10, (1, 1)),
            ("yuv422p12be", 12, (1, 0)),
            ("yuv444p14le", 14, (0, 0)),
            ("yuv444p16be", 16, (0, 0)),
        ],
    )
    def test_planar_yuv(
        self, make_clip: MakeClip, tmp_path: Path, name: str, bits: int, sub: tuple[int, int]
    ) -> None:
        planes = self.reference(bits, sub)
        order: Literal[">", "="] = ">" if name.endswith("be") else "="
        packed = [plane.astype(plane.dtype.newbyteorder(order)) for plane in planes]
        layout = PlaneLayout(bits=bits, log2_chroma_w=sub[0], log2_chroma_h=sub[1])
        self.check(make_clip, tmp_path / "a.nut", name, layout, planes, packed)

    @pytest.mark.parametrize(
        ("name", "bits", "shift"),
        [("nv12", 8, 0), ("nv21", 8, 0), ("p010le", 10, 6), ("p010be", 10, 6), ("p016le", 16, 0)],
    )
    def test_semi_planar(
        self, make_clip: MakeClip, tmp_path: Path, name: str, bits: int, shift: int
    ) -> None:
        luma, u, v = planes = self.reference(bits, (1, 1))
        first, second = (v, u) if name == "nv21" else (u, v)
        packed = [luma << shift, np.stack([first, second], -1).reshape(len(u), -1) << shift]
        if name.endswith("be"):
            packed = [plane.astype(">u2") for plane in packed]
        layout = PlaneLayout(bits=bits, log2_chroma_w=1, log2_chroma_h=1)
        self.check(make_clip, tmp_path / "a.nut", name, layout, planes, packed)

    @pytest.mark.parametrize("name", ["yuyv422", "uyvy422", "yvyu422", "y210le"])
    def test_packed_422(self, make_clip: MakeClip, tmp_path: Path, name: str) -> None:
        bits = 10 if name == "y210le" else 8
        luma, u, v = planes = self.reference(bits, (1, 0))
        even, odd = luma[:, ::2], luma[:, 1::2]
        order = {
            "yuyv422": (even, u, odd, v),
            "y210le": (even, u, odd, v),
            "uyvy422": (u, even, v, odd),
            "yvyu422": (even, v, odd, u),
        }[name]
        packed = [np.stack(order, -1).reshape(len(luma), -1) << (16 - bits if bits > 8 else 0)]
        layout = PlaneLayout(bits=bits, log2_chroma_w=1)
        self.check(make_clip, tmp_path / "a.nut", name, layout, planes, packed)

    @pytest.mark.parametrize(
        ("name", "bits", "order"),
        [
            ("rgb24", 8, "RGB"),
            ("bgr24", 8, "BGR"),
            ("rgba", 8, "RGBA"),
            ("argb", 8, "ARGB"),
            ("rgb48le", 16, "RGB"),
            ("bgr48be", 16, "BGR"),
            ("rgba64le", 16, "RGBA"),
        ],
    )
    def test_packed_rgb(
        self, make_clip: MakeClip, tmp_path: Path, name: str, bits: int, order: str
    ) -> None:
        planes = self.reference(bits, (0, 0), len(order))
        by_letter = dict(zip("GBRA", planes, strict=False))
        packed = np.stack([by_letter[letter] for letter in order], -1).reshape(len(planes[0]), -1)
        if name.endswith("be"):
            packed = packed.astype(">u2")
        layout = PlaneLayout(bits=bits, is_rgb=True, has_alpha="A" in order)
        self.check(make_clip, tmp_path / "a.nut", name, layout, planes, [packed])

    @pytest.mark.parametrize(
        ("name", "shifts"), [("x2rgb10le", (20, 10, 0)), ("x2bgr10le", (0, 10, 20))]
    )
    def test_ten_bit_rgb_words(
        self, make_clip: MakeClip, tmp_path: Path, name: str, shifts: tuple[int, int, int]
    ) -> None:
        g, b, r = planes = self.reference(10, (0, 0))
        words = np.zeros_like(g, np.uint32)
        for plane, shift in zip((r, g, b), shifts, strict=True):
            words |= plane.astype(np.uint32) << shift
        layout = PlaneLayout(bits=10, is_rgb=True)
        self.check(make_clip, tmp_path / "a.nut", name, layout, planes, [words.astype("<u4")])

    def test_gray(self, make_clip: MakeClip, tmp_path: Path) -> None:
        for name, bits in (("gray", 8), ("gray10le", 10), ("gray16be", 16)):
            plane = self.reference(bits, (0, 0), 1)[0]
            packed = plane.astype(">u2") if name.endswith("be") else plane
            layout = PlaneLayout(bits=bits, is_gray=True)
            self.check(make_clip, tmp_path / f"{name}.nut", name, layout, [plane], [packed])

    def test_gray_with_alpha(self, make_clip: MakeClip, tmp_path: Path) -> None:
        luma, alpha = planes = self.reference(8, (0, 0), 2)
        packed = np.stack([luma, alpha], -1).reshape(len(luma), -1)
        layout = PlaneLayout(bits=8, is_gray=True, has_alpha=True)
        self.check(make_clip, tmp_path / "a.nut", "ya8", layout, planes, [packed])

    def test_palette(self, make_clip: MakeClip, tmp_path: Path) -> None:
        index = self.reference(8, (0, 0), 1)[0]
        colors = np.random.default_rng(1).integers(0, 256, (256, 4), np.uint8)
        colors[:, 3] = 255  # stored as B, G, R, A
        blue, green, red, _ = (colors[:, k][index] for k in range(4))
        layout = PlaneLayout(bits=8, is_rgb=True)
        self.check(
            make_clip, tmp_path / "a.nut", "pal8", layout, [green, blue, red],
            [index, colors.reshape(1, -1)],
        )  # fmt: skip

    @pytest.mark.parametrize("size", [(33, 21), (1, 1), (2, 17)])
    @pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "yuv411p"])
    def test_odd_sizes(
        self, make_clip: MakeClip, tmp_path: Path, size: tuple[int, int], name: str
    ) -> None:
        clip = make_clip(
            tmp_path / "a.nut", codec="rawvideo", pixel_format=name, width=size[0], height=size[1],
            frames=2,
        )  # fmt: skip
        for frame, plain in zip(read(clip), av.open(str(clip)).decode(video=0), strict=True):
            assert (frame.width, frame.height) == size
            for number, (got, plane) in enumerate(zip(frame.planes, plain.planes, strict=True)):
                rows, columns = frame.layout.plane_size(number, *size)
                assert got.shape == (rows, columns)
                raw = np.frombuffer(bytes(plane), got.dtype).reshape(plane.height, -1)
                np.testing.assert_array_equal(got, raw[:rows, :columns])

    def test_native_planes_are_views_that_outlive_the_reader(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=12)
        kept = read(clip)
        assert all(plane.base is not None for frame in kept for plane in frame.planes)
        for frame, plain in zip(kept, av.open(str(clip)).decode(video=0), strict=True):
            luma = np.frombuffer(bytes(plain.planes[0]), np.uint8).reshape(48, -1)[:, :64]
            np.testing.assert_array_equal(frame.planes[0], luma)


class TestRange:
    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("a.mp4", {"bframes": 2, "gop": 6}),
            ("b.mkv", {"bframes": 2, "gop": 6, "start": 30}),
            ("open.mkv", {"bframes": 2, "gop": 6, "codec_options": {"x264-params": "open-gop=1"}}),
            (
                "c.mkv",
                {
                    "codec": "libx265",
                    "bframes": 2,
                    "gop": 6,
                    "codec_options": {"x265-params": "open-gop=1:log-level=none:pools=1"},
                },
            ),
            ("d.ts", {"codec": "mpeg2video", "bframes": 2, "gop": 6}),
            ("e.avi", {"codec": "mpeg4", "bframes": 1, "gop": 6}),
            ("f.webm", {"codec": "libvpx-vp9", "gop": 6}),
            ("intra.mkv", {"codec_options": {"x264-params": "intra-refresh=1:keyint=8"}, "gop": 8}),
            (
                "vfr.mp4",
                {"pts": [k * k for k in range(1, 25)], "time_base": Fraction(1, 1000), "gop": 5},
            ),
        ],
    )
    def test_any_start_gives_the_same_frames(
        self, make_clip: MakeClip, tmp_path: Path, name: str, options: dict[str, Any], threads: int
    ) -> None:
        clip = make_clip(tmp_path / name, **{"frames": 24, **options})
        whole = read(clip)
        info = probe(clip).video
        assert len(whole) == 24
        for first in (0, 1, 5, 6, 7, 11, 12, 13, 18, 23):
            part = read(clip, start_pts=whole[first].pts, threads=threads, info=info)
            assert len(part) == 24 - first
            assert all(map(same, part, whole[first:]))

    def test_half_open(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", frames=24, gop=6, bframes=2)
        part = read(clip, start_pts=41, end_pts=200)
        assert [f.pts for f in part] == [80, 120, 160]

    def test_entry_of_a_plan(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=24, gop=6, bframes=2)
        whole = read(clip)
        assert find_decode_entry(clip, whole[14].pts) == whole[12].pts
        assert find_decode_entry(clip, whole[12].pts) == whole[12].pts
        assert find_decode_entry(clip, whole[3].pts) is None
        assert find_decode_entry(clip, 0) is None
        for start in (12, 14):
            part = read(clip, start_pts=whole[start].pts, entry_pts=whole[12].pts)
            assert len(part) == 24 - start
            assert all(map(same, part, whole[start:]))
        assert read(clip, entry_pts=whole[12].pts)[0].pts == whole[12].pts
        with pytest.raises(DecodeError, match="key packet at pts 6656 was not found"):
            read(clip, start_pts=whole[14].pts, entry_pts=whole[13].pts)


def packets_of(path: Path) -> list[tuple[int, int]]:
    """(byte offset, size) of every video packet."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        return [(p.pos, p.size) for p in packets if p.pos is not None]


class TestDamage:
    def test_flipped_bytes_are_noticed(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=24, gop=24)
        data = bytearray(clip.read_bytes())
        offset, size = packets_of(clip)[10]
        for position in range(offset + 8, offset + size):
            data[position] ^= 0x5A
        clip.write_bytes(data)
        with FrameReader(clip) as reader:
            frames = list(reader)
            assert 20 <= len(frames) <= 24
            kinds = {event.kind for event in reader.events}
            assert kinds & {"decode_error", "corrupt_frame"}
            assert all(a.pts < b.pts for a, b in pairwise(frames))
            flagged = [f.pts for f in frames if f.is_corrupt]
            listed = sum(e.count for e in reader.events if e.kind == "corrupt_frame")
            assert len(flagged) == listed

    def test_refused_packets_are_counted_and_bounded(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=24)
        data = bytearray(clip.read_bytes())
        for offset, size in packets_of(clip)[4:]:
            # The frame header sits behind the block header; a zero there is no FFV1 frame.
            start = data.index(clip.read_bytes()[offset + 20 : offset + size - 4], offset)
            data[start - 40 : start + 60] = bytes(100)
        clip.write_bytes(data)
        with FrameReader(clip) as reader:
            assert len(list(reader)) < 24
            assert reader.events
        with pytest.raises(DecodeError):
            read(clip, max_consecutive_errors=0)

    def test_truncated_matroska_ends_early_and_says_so(
        self, make_clip: MakeClip, tmp_path: Path
    ) -> None:
        clip = make_clip(
            tmp_path / "a.mkv", frames=24, rate=5, codec="ffv1", time_base=Fraction(1, 5)
        )
        clip.write_bytes(clip.read_bytes()[: packets_of(clip)[12][0]])
        with FrameReader(clip) as reader:
            assert [f.pts for f in reader] == [200 * k for k in range(12)]
            assert [event.kind for event in reader.events] == ["short"]

    def test_truncated_avi_says_so_too(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.avi", codec="mpeg4", frames=100, gop=10, truncate=0.5)
        with FrameReader(clip) as reader:
            count = len(list(reader))
            assert 10 < count < 90
            assert "short" in {event.kind for event in reader.events}

    def test_nothing_decodable(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=6)
        data = bytearray(clip.read_bytes())
        for offset, size in packets_of(clip):
            data[offset : offset + size] = bytes(size)
        clip.write_bytes(data)
        with pytest.raises(DecodeError, match="No picture"):
            read(clip)

    def test_duplicate_timestamps_are_spread(self, make_clip: MakeClip, tmp_path: Path) -> None:
        source = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=6)
        clip = tmp_path / "b.mkv"
        with av.open(str(source)) as old, av.open(str(clip), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
            for packet in old.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    if packet.pts == 120:
                        packet.pts = packet.dts = 80
                    new.mux(packet)
        with FrameReader(clip) as reader:
            frames = list(reader)
            assert [f.pts for f in frames] == [0, 40, 80, 120, 160, 200]
            (event,) = reader.events
            assert (event.kind, event.start_pts, event.count) == ("duplicate_pts", 120, 1)


class TestChanges:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"width": 32, "height": 32}, "from 64x48 yuv420p to 32x32 yuv420p"),
            ({"pixel_format": "yuv422p"}, "from 64x48 yuv420p to 64x48 yuv422p"),
            ({"color": (9, 16, 9, 1)}, "colour"),
        ],
    )
    def test_refused_with_the_place(
        self, make_clip: MakeClip, tmp_path: Path, change: dict[str, Any], words: str
    ) -> None:
        options = {"frames": 6, "color": (1, 1, 1, 1)}
        first = make_clip(tmp_path / "a.ts", **options)
        second = make_clip(tmp_path / "b.ts", **{**options, "start": 6, **change})
        clip = tmp_path / "c.ts"
        clip.write_bytes(first.read_bytes() + second.read_bytes())
        with pytest.raises(UnsupportedVideoError, match=re.escape(words)) as caught:
            read(clip)
        assert re.search(r"at pts \d+ \(\d+\.\d{3} s\)", str(caught.value))

    def test_size_beyond_the_limit(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", frames=2)
        with pytest.raises(UnsupportedVideoError, match="64x48"):
            read(clip, limits=ProbeLimits(max_pixels=100))


class TestRealMedia:
    def test_every_file_against_plain_decoding(self, media_dir: Path) -> None:
        """Frame count and pts of each file equal those of a bare decode loop."""
        paths = sorted(path for path in media_dir.iterdir() if path.is_file())
        assert paths, f"{media_dir} holds no files"
        for path in paths:
            with FrameReader(path) as reader:
                got = []
                for frame in reader:
                    got.append(frame.pts)
                    shapes = [plane.shape for plane in frame.planes]
                    assert shapes == [
                        frame.layout.plane_size(k, frame.width, frame.height)
                        for k in range(frame.layout.num_planes)
                    ]
                    assert {plane.dtype for plane in frame.planes} == {frame.layout.dtype}
            expected: list[int] = []
            with av.open(str(path)) as container:
                stream = container.streams[reader.info.stream_index]
                assert isinstance(stream, av.VideoStream)
                stream.thread_type = "AUTO"
                stream.codec_context.thread_count = 1
                for packet in container.demux(stream):
                    try:
                        decoded = packet.decode()
                    except av.FFmpegError:
                        continue
                    for plain in decoded:
                        assert plain.pts is not None
                        expected.append(plain.pts)
            # Only a file whose own timestamps run backward may differ, and then by order alone.
            kinds = {event.kind for event in reader.events}
            assert got == (sorted(expected) if "swapped_pts" in kinds else expected), path.name
            assert all(a < b for a, b in pairwise(got)), path.name

    def test_start_in_the_middle(self, media_dir: Path) -> None:
        for name in (
            "nasa_2audio_2subs.mp4",
            "vfr_jump.mp4",
            "edit_list_preroll.mp4",
            "discard_first_keyframe.mp4",
            "mpeg2_mp2.ts",
            "chapters.mkv",
            "sample.flv",
        ):
            whole = read(media_dir / name)
            for first in (1, len(whole) // 2, len(whole) - 1):
                part = read(media_dir / name, start_pts=whole[first].pts)
                assert len(part) == len(whole) - first, name
                assert all(map(same, part, whole[first:])), name

    def test_what_the_awkward_ones_are(self, media_dir: Path) -> None:
        nasa = probe(media_dir / "nasa_2audio_2subs.mp4")
        assert (nasa.video.width, nasa.video.height, nasa.video.num_frames) == (320, 180, 325)
        assert [s.kind for s in nasa.streams].count("audio") == 2
        assert [s.kind for s in nasa.streams].count("subtitle") == 2
        hdr = probe(media_dir / "hdr10_mastering_av1.mp4").video
        assert hdr.codec == "av1"
        assert hdr.mastering_display is not None and hdr.content_light is not None
        captions = read(media_dir / "captions_608.mp4")
        assert any(d.kind == "A53_CC" and d.data for d in captions[0].side_data)
        assert probe(media_dir / "rotate_and_reflect.mp4").video.display_matrix is not None
        assert probe(media_dir / "interlaced_dv_ntsc.mov").video.is_interlaced
        with FrameReader(media_dir / "corrupted.mp4") as reader:
            assert len(list(reader)) == 49
            assert {e.kind for e in reader.events} == {"decode_error", "corrupt_frame"}
