from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

import vsr
from vsr.errors import MediaError, NoVideoStreamError, OpenError, UnsupportedVideoError
from vsr.frame import ContentLight, Matrix, PlaneLayout, Primaries, Transfer
from vsr.media.probe import ProbeLimits, open_input, probe, to_fraction

MakeClip = Callable[..., Path]


class TestDescription:
    def test_everything_a_rich_file_holds(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(
            tmp_path / "rich.mkv",
            audio=("aac", "flac"),
            subtitles="subrip",
            chapters=2,
            cover_art=True,
            attachment="notes.txt",
            metadata={"title": "A film"},
            sar=Fraction(16, 15),
            color=(9, 16, 9, 1),
        )
        info = probe(clip)
        assert info.container == "matroska,webm"
        assert info.size_bytes == clip.stat().st_size
        assert info.metadata["title"] == "A film"
        assert [s.kind for s in info.streams] == [
            *("video", "audio", "audio", "subtitle", "attachment", "video")
        ]
        assert [s.codec for s in info.streams][:4] == ["h264", "aac", "flac", "subrip"]
        assert [(s.language, s.title) for s in info.streams[1:3]] == [
            ("eng", "Track 1"),
            ("deu", "Track 2"),
        ]
        assert [(s.channels, s.sample_rate) for s in info.streams[1:3]] == [(2, 48000)] * 2
        assert [s.is_cover_art for s in info.streams] == [False] * 5 + [True]
        assert [c.metadata["title"] for c in info.chapters] == ["Chapter 1", "Chapter 2"]
        assert [(c.start * c.time_base, c.end * c.time_base) for c in info.chapters] == [
            (0, Fraction(24, 100)),
            (Fraction(24, 100), Fraction(48, 100)),
        ]
        assert [(a.name, a.mimetype, a.size_bytes) for a in info.attachments] == [
            ("notes.txt", "text/plain", 14)
        ]
        assert info.video.sample_aspect_ratio == Fraction(16, 15)
        assert info.video.color.primaries is Primaries.BT2020
        assert info.video.color.transfer is Transfer.PQ
        assert info.video.color.matrix is Matrix.BT2020_NCL
        assert not info.video.color.full_range
        assert any("cover art" in warning for warning in info.warnings)

    def test_video_of_an_mp4(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", start=50, bframes=2, rotation=90, frames=10)
        video = probe(clip).video
        assert (video.codec, video.width, video.height) == ("h264", 64, 48)
        assert video.time_base == Fraction(1, 12800)
        assert video.frame_rate == 25
        assert video.num_frames == 10
        assert video.start_pts == 50 * 512
        assert video.rotation == 90
        assert video.display_matrix is not None and len(video.display_matrix) == 9
        assert video.display_matrix[0] == 0 and abs(video.display_matrix[1]) == 65536
        assert video.sample_aspect_ratio == 1
        assert video.color.matrix is Matrix.UNSPECIFIED
        assert not video.is_interlaced

    @pytest.mark.parametrize(
        ("codec", "pixel_format", "layout"),
        [
            ("libx264", "yuv420p", PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)),
            ("libx265", "yuv420p10le", PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1)),
            ("ffv1", "yuv422p12le", PlaneLayout(bits=12, log2_chroma_w=1)),
            ("ffv1", "gbrp16le", PlaneLayout(bits=16, is_rgb=True)),
            ("ffv1", "yuva444p", PlaneLayout(bits=8, has_alpha=True)),
            ("ffv1", "gray", PlaneLayout(bits=8, is_gray=True)),
        ],
    )
    def test_layout(
        self,
        make_clip: MakeClip,
        tmp_path: Path,
        codec: str,
        pixel_format: str,
        layout: PlaneLayout,
    ) -> None:
        clip = make_clip(tmp_path / "a.mkv", codec=codec, pixel_format=pixel_format, frames=2)
        video = probe(clip).video
        assert (video.pixel_format, video.layout) == (pixel_format, layout)

    def test_full_range_by_tag_and_by_name(self, make_clip: MakeClip, tmp_path: Path) -> None:
        tagged = make_clip(tmp_path / "a.mp4", full_range=True, frames=2)
        named = make_clip(tmp_path / "b.mkv", codec="mjpeg", pixel_format="yuvj422p", frames=2)
        limited = make_clip(tmp_path / "c.mp4", frames=2)
        assert [probe(c).video.color.full_range for c in (tagged, named, limited)] == [
            *(True, True, False)
        ]

    def test_interlaced_by_flag(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(
            tmp_path / "a.mkv", codec_options={"x264-params": "tff=1:log-level=none"}, frames=3
        )
        video = probe(clip).video
        assert video.is_interlaced

    def test_hdr_static_metadata(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(
            tmp_path / "hdr.mkv",
            codec="libx265",
            pixel_format="yuv420p10le",
            color=(9, 16, 9, 1),
            frames=3,
            codec_options={
                "x265-params": "log-level=none:pools=1:max-cll=1000,400:master-display="
                "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
            },
        )
        video = probe(clip).video
        assert video.content_light == ContentLight(max_cll=1000, max_fall=400)
        display = video.mastering_display
        assert display is not None
        assert display.red == (Fraction(34000, 50000), Fraction(16000, 50000))
        assert display.green == (Fraction(13250, 50000), Fraction(34500, 50000))
        assert display.blue == (Fraction(7500, 50000), Fraction(3000, 50000))
        assert display.white == (Fraction(15635, 50000), Fraction(16450, 50000))
        assert display.min_luminance == Fraction(50, 10000)
        assert display.max_luminance == 1000

    def test_tags_that_are_not_utf8(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", metadata={"title": "Caf\u00e9 noir"}, frames=2)
        data = clip.read_bytes()
        assert "Caf\u00e9".encode() in data
        clip.write_bytes(data.replace("Caf\u00e9".encode(), b"Caf\xe9!"))
        assert probe(clip).metadata["title"] == b"Caf\xe9! noir".decode("utf-8", "surrogateescape")

    def test_first_default_stream_is_the_film(self, tmp_path: Path) -> None:
        clip = tmp_path / "two.mkv"
        with av.open(str(clip), "w") as output:
            streams = []
            none, default = av.stream.Disposition(0), av.stream.Disposition.default
            for size, disposition in ((64, none), (32, default)):
                stream = output.add_stream("ffv1", rate=25)
                stream.width = stream.height = size
                stream.pix_fmt = "yuv420p"
                stream.disposition = disposition
                streams.append(stream)
            for stream in streams:
                frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = 0, Fraction(1, 25)
                for packet in [*stream.encode(frame), *stream.encode(None)]:
                    output.mux(packet)
        info = probe(clip)
        assert (info.video.stream_index, info.video.width) == (1, 32)
        assert any("stream 1 (32x32)" in warning for warning in info.warnings)
        assert probe(clip, stream_index=0).video.width == 64
        with pytest.raises(NoVideoStreamError, match="Stream 7"):
            probe(clip, stream_index=7)

    def test_a_matrix_that_shears_is_damage(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", rotation=90)
        turned = probe(clip)
        assert turned.video.display_matrix is not None
        stored = struct.pack(">9i", *turned.video.display_matrix)
        data = clip.read_bytes()
        assert data.count(stored) == 1
        sheared = struct.pack(">9i", 1 << 16, 0, 0, 1 << 26, 1 << 16, 0, 0, 0, 1 << 30)
        clip.write_bytes(data.replace(stored, sheared))
        found = probe(clip)
        assert found.video.display_matrix is None
        assert found.video.rotation == 0
        assert any("shear" in warning for warning in found.warnings)


class TestRefusals:
    """Bad input ends in one sentence with a hint, and the exit code of the input."""

    def refuse(self, path: Path, kind: type[MediaError], words: str) -> None:
        with pytest.raises(kind, match=words) as caught:
            probe(path)
        assert caught.value.exit_code == 3
        assert caught.value.hint
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        self.refuse(tmp_path / "no.mp4", OpenError, "does not exist")

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "a.mp4").touch()
        self.refuse(tmp_path / "a.mp4", OpenError, "is empty")

    def test_directory(self, tmp_path: Path) -> None:
        self.refuse(tmp_path, OpenError, "is a directory")

    def test_named_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.mp4")
        self.refuse(tmp_path / "a.mp4", OpenError, "is a named pipe")

    def test_device(self) -> None:
        self.refuse(Path("/dev/zero"), OpenError, "is a device")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_unreadable(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=2)
        clip.chmod(0)
        self.refuse(clip, OpenError, "cannot be read: Permission denied")

    @pytest.mark.parametrize("data", [b"x", bytes(range(256)) * 40, b"\0" * 5000])
    def test_bytes_that_are_no_video(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.mp4").write_bytes(data)
        self.refuse(tmp_path / "a.mp4", OpenError, "is not a video container|holds text")

    @pytest.mark.parametrize(
        "text",
        [
            "This is not a film.\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n",
            "ffconcat version 1.0\nfile other.mp4\n",
            "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
            "Grüße " * 1000,
        ],
    )
    def test_text_named_mp4(self, tmp_path: Path, make_clip: MakeClip, text: str) -> None:
        make_clip(tmp_path / "other.mp4", frames=2)
        (tmp_path / "a.mp4").write_text(text, encoding="utf-8")
        self.refuse(tmp_path / "a.mp4", OpenError, "holds text")

    def test_playlist_cannot_open_another_file(self, tmp_path: Path, make_clip: MakeClip) -> None:
        make_clip(tmp_path / "other.mp4", frames=2)
        playlist = tmp_path / "a.m3u8"
        playlist.write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path / 'other.mp4'}\n")
        self.refuse(playlist, OpenError, "holds text")

    def test_no_video_stream(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", video=False, audio=("aac",))
        self.refuse(clip, NoVideoStreamError, "no video stream, only audio")

    def test_only_cover_art(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mkv", video=False, audio=("flac",), cover_art=True)
        self.refuse(clip, NoVideoStreamError, "cover art")

    def test_mp4_cut_off_before_its_index(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.mp4", truncate=0.5)
        self.refuse(clip, OpenError, "was cut off before its index was written")

    def test_xyz_pictures(self, make_clip: MakeClip, tmp_path: Path) -> None:
        clip = make_clip(tmp_path / "a.nut", codec="rawvideo", pixel_format="xyz12le", frames=1)
        self.refuse(clip, UnsupportedVideoError, "pixel format xyz12le")

    @pytest.mark.parametrize(
        ("limits", "words"),
        [
            (ProbeLimits(max_streams=2), "3 streams, more than the 2"),
            (ProbeLimits(max_chapters=1), "2 chapters, more than the 1"),
            (ProbeLimits(max_attachment_bytes=10), "14 bytes of attachments"),
            (ProbeLimits(max_metadata_bytes=10), "bytes of metadata"),
            (ProbeLimits(max_pixels=64 * 48 - 1), "pictures of 64x48"),
        ],
    )
    def test_limits(
        self, make_clip: MakeClip, tmp_path: Path, limits: ProbeLimits, words: str
    ) -> None:
        clip = make_clip(
            tmp_path / "a.mkv", audio=("aac",), chapters=2, attachment="a.txt", frames=2
        )
        probe(clip, limits=ProbeLimits(max_pixels=64 * 48, max_streams=3))
        with pytest.raises(UnsupportedVideoError, match=words):
            probe(clip, limits=limits)

    def test_a_whitelist_cannot_be_widened(self, tmp_path: Path) -> None:
        (tmp_path / "a.m3u8").write_text("#EXTM3U\n")
        with pytest.raises(OpenError):
            open_input(
                tmp_path / "a.m3u8",
                options={"format_whitelist": "hls", "protocol_whitelist": "http,file"},
            )


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "concat:x.mp4",
            "-x.mp4",
            "%03d.mp4",
            "http:x.mp4",
            "a b\n.mp4",
            "ü.mp4",
            "x" * 251 + ".mp4",
        ],
    )
    def test_taken_literally(
        self, make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        plain = make_clip(tmp_path / "plain.mp4", frames=2)
        plain.rename(tmp_path / name)
        monkeypatch.chdir(tmp_path)
        assert probe(Path(name)).video.num_frames == 2

    def test_not_utf8(self, make_clip: MakeClip, tmp_path: Path) -> None:
        plain = make_clip(tmp_path / "plain.mp4", frames=2)
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4"))
        plain.rename(path)
        assert probe(path).video.num_frames == 2

    def test_a_url_opens_no_socket(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.5)
            port = server.getsockname()[1]
            seen: list[object] = []

            def listen() -> None:
                with contextlib.suppress(TimeoutError):
                    seen.append(server.accept())

            listener = threading.Thread(target=listen)
            listener.start()
            with pytest.raises(OpenError, match="does not exist"):
                probe(Path(f"http://127.0.0.1:{port}/x.mp4"))
            listener.join()
        assert seen == []

    def test_a_name_with_a_null_byte(self) -> None:
        with pytest.raises(OpenError):
            probe(Path("a\0b.mp4"))


def test_rationals_of_every_version_of_av() -> None:
    class Falsy:
        numerator, denominator = 0, 1

        def __bool__(self) -> bool:
            return False

    class Undefined:
        numerator, denominator = 1, 0

    assert to_fraction(None) is None
    assert to_fraction(Falsy()) is None
    assert to_fraction(Undefined()) is None
    assert to_fraction(Fraction(30000, 1001)) == Fraction(30000, 1001)


def test_media_never_imports_torch() -> None:
    code = "import sys, vsr.media.reader, vsr.media.filters; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(vsr.__file__).parents[1])


def test_damaged_headers_end_in_our_errors(make_clip: MakeClip, tmp_path: Path) -> None:
    """Any byte may be wrong; what comes out is a description or one of our errors."""
    clip = make_clip(tmp_path / "a.mp4", frames=3, audio=("aac",))
    data = bytearray(clip.read_bytes())
    index = data.index(b"moov")
    for offset in range(index - 4, len(data), 61):
        damaged = bytearray(data)
        damaged[offset : offset + 4] = struct.pack(">I", 0xFFFFFF7F)
        clip.write_bytes(damaged)
        try:
            probe(clip)
        except MediaError as error:
            assert error.hint
