"""Encoder settings, and segments as files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import pytest

from tests.media.film import (
    BT709,
    YUV420,
    YUV420_10,
    frames,
    settings_for,
    video_info,
    write_segments,
)
from vsr.errors import ConfigError, EncodeError, OutputError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    ContentLight,
    MasteringDisplay,
    Matrix,
    PlaneLayout,
    Primaries,
    Transfer,
)
from vsr.media.codecs import choose_layout, pixel_format_name
from vsr.media.encoder import EncoderSettings, SegmentEncoder
from vsr.media.probe import probe

VFR = [0, 512, 1000, 1024, 1536, 3000, 3001, 3500, 4096, 5000]
RGB = PlaneLayout(bits=8, is_rgb=True)
GRAY = PlaneLayout(bits=8, is_gray=True)
PQ = ColorSpec(primaries=Primaries.BT2020, transfer=Transfer.PQ, matrix=Matrix.BT2020_NCL)
P3 = MasteringDisplay(
    red=(Fraction(34000, 50000), Fraction(16000, 50000)),
    green=(Fraction(13250, 50000), Fraction(34500, 50000)),
    blue=(Fraction(7500, 50000), Fraction(3000, 50000)),
    white=(Fraction(15635, 50000), Fraction(16450, 50000)),
    min_luminance=Fraction(1, 200),
    max_luminance=Fraction(1000),
)


@pytest.mark.parametrize(
    ("layout", "color", "encoder", "pixel_format"),
    [
        (YUV420, BT709, "libx264", "yuv420p"),
        (replace(YUV420, log2_chroma_h=0), BT709, "libx264", "yuv422p"),
        (PlaneLayout(bits=8), BT709, "libx264", "yuv444p"),
        (PlaneLayout(bits=8, log2_chroma_w=2), BT709, "libx264", "yuv420p"),
        (GRAY, BT709, "libx264", "yuv420p"),
        (RGB, BT709, "libx264", "yuv444p"),
        (YUV420_10, BT709, "libx265", "yuv420p10le"),
        (replace(YUV420, bits=12), BT709, "libx265", "yuv420p12le"),
        (replace(YUV420, bits=14), BT709, "libx265", "yuv420p12le"),
        (YUV420, PQ, "libx265", "yuv420p"),
        (PlaneLayout(bits=32, is_rgb=True, is_float=True), BT709, "libx265", "gbrp12le"),
    ],
)
def test_default_codec_follows_the_source(
    layout: PlaneLayout, color: ColorSpec, encoder: str, pixel_format: str
) -> None:
    settings = settings_for(video_info(layout), color=color)
    assert (settings.codec, settings.pixel_format) == (encoder, pixel_format)


@pytest.mark.parametrize(
    ("profile", "container", "encoder"),
    [
        ("access", "mp4", "libx264"),
        ("mezzanine", "mov", "prores_ks"),
        ("preservation", "mkv", "ffv1"),
    ],
)
def test_profile_picks_the_codec(profile: str, container: str, encoder: str) -> None:
    assert settings_for(profile=profile, container=container).codec == encoder


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"codec": "vp8"}, "codec 'vp8' is not known"),
        ({"crf": 52}, "goes from 0 to 51"),
        ({"crf": -1}, "goes from 0 to 51"),
        ({"codec": "av1", "crf": 0}, "goes from 1 to 63"),
        ({"codec": "ffv1", "crf": 10}, "no constant quality"),
        ({"encoder_preset": "warp"}, "no preset 'warp'"),
        ({"codec": "av1", "encoder_preset": "14"}, "no preset '14'"),
        ({"codec": "ffv1", "encoder_preset": "fast"}, "no preset 'fast'"),
        ({"codec": "prores", "encoder_preset": "4444"}, "does not hold yuv422p10le"),
        ({"codec": "prores", "container": "mp4"}, "mp4 cannot hold prores"),
        ({"codec": "ffv1", "container": "mov"}, "mov cannot hold ffv1"),
        ({"container": "avi"}, "container 'avi' is not known"),
        ({"profile": "best"}, "profile 'best' is not known"),
        ({"profile": "preservation", "codec": "h264"}, "means codec ffv1"),
        ({"width": 63}, "divisible by 2x2, not 63x48"),
        ({"threads": 0}, "at least 1, not 0"),
        ({"options": {"no_such": "1"}}, "has no option 'no_such'"),
        ({"options": {"aq-mode": "-2"}}, "goes from -1"),
        ({"options": {"tune": "no-such"}}, "refused"),
    ],
)
def test_what_the_encoder_does_not_take_is_refused(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_for(**wishes)
    assert words in caught.value.message
    assert "\n" not in str(caught.value)


def test_settings_survive_json() -> None:
    info = video_info(
        YUV420_10,
        time_base=Fraction(1001, 30000),
        frame_rate=Fraction(30000, 1001),
        mastering_display=P3,
        content_light=ContentLight(max_cll=1000, max_fall=400),
        sample_aspect_ratio=Fraction(16, 15),
    )
    settings = settings_for(info, color=PQ)
    assert EncoderSettings.model_validate_json(settings.model_dump_json()) == settings


def test_losses_and_notes_are_said() -> None:
    alpha = settings_for(video_info(PlaneLayout(bits=8, has_alpha=True)))
    assert alpha.losses == ("alpha channel (the picture is made opaque)",)
    assert settings_for(video_info(replace(YUV420, bits=14))).losses == (
        "sample depth: yuv420p14le becomes yuv420p12le in hevc",
    )
    assert settings_for(video_info(GRAY)).notes == (
        "gray becomes yuv420p: what h264 has nearest to it",
    )
    hdr = video_info(YUV420_10, mastering_display=P3)
    assert settings_for(hdr, codec="ffv1").losses == (
        "mastering display and content light (ffv1 has no field)",
    )
    partial = video_info(YUV420_10, mastering_display=replace(P3, white=None))
    assert settings_for(partial).losses == (
        "mastering display (the source gives no chromaticities)",
    )


def test_color_of_the_frames_fits_the_layout() -> None:
    rgb = replace(BT709, matrix=Matrix.RGB, full_range=True)
    assert settings_for(video_info(RGB), color=rgb).color == replace(
        BT709, matrix=Matrix.BT709, full_range=False
    )
    assert settings_for(video_info(RGB), color=rgb, codec="ffv1").color == rgb
    assert settings_for().color.chroma_location == ChromaLocation.LEFT


@pytest.mark.parametrize(
    "encoder",
    ["libx264", "libx265", "libsvtav1", "ffv1", "prores_ks", "h264_nvenc", "hevc_nvenc"],
)
def test_every_chosen_layout_is_one_the_encoder_has(encoder: str) -> None:
    supported = {f.name for f in av.Codec(encoder, "w").video_formats or ()}
    for bits in range(8, 17):
        for shape in ({}, {"is_rgb": True}, {"is_gray": True}, {"log2_chroma_w": 1}):
            layout, name = choose_layout(encoder, PlaneLayout(bits=bits, **shape))
            assert name in supported
            stored = "p010le" if encoder == "hevc_nvenc" and layout.bits == 10 else "bgr0"
            assert name in (pixel_format_name(layout), stored)


@pytest.mark.parametrize(
    ("codec", "layout"),
    [
        ("h264", YUV420),
        ("h264", YUV420_10),
        ("h264", PlaneLayout(bits=8)),
        ("hevc", YUV420_10),
        ("hevc", replace(YUV420, bits=12)),
        ("hevc", RGB),
        ("av1", YUV420_10),
        ("ffv1", YUV420),
        ("ffv1", RGB),
        ("ffv1", GRAY),
        ("ffv1", replace(YUV420, bits=16)),
        ("prores", replace(YUV420, bits=10, log2_chroma_h=0)),
    ],
)
def test_pictures_and_tags_survive(tmp_path: Path, codec: str, layout: PlaneLayout) -> None:
    full = replace(BT709, matrix=Matrix.RGB, full_range=True) if layout.is_rgb else BT709
    settings = settings_for(video_info(layout), color=full, codec=codec)
    made = frames(settings, VFR)
    (path,) = write_segments(tmp_path, settings, made, 1)
    with av.open(str(path)) as opened:
        context = opened.streams.video[0].codec_context
        tags = [context.color_primaries, context.color_trc, context.colorspace, context.color_range]
        decoded = list(opened.decode(video=0))
    assert [int(t) for t in tags] == [1, 1, int(full.matrix), 2 if layout.is_rgb else 1]
    assert len(decoded) == len(made)
    scale = 1 << (layout.bits - 8)
    for picture, frame in zip(decoded, made, strict=True):
        if picture.format.name == "bgr0":
            planes = [picture.to_ndarray(format="rgb24")[:, :, k] for k in (1, 2, 0)]
        else:
            planes = [
                np.ndarray(
                    want.shape, want.dtype, bytes(got), strides=(got.line_size, want.itemsize)
                )
                for got, want in zip(picture.planes, frame.planes, strict=True)
            ]
        for got, want in zip(planes, frame.planes, strict=True):
            error = np.abs(got.astype(np.int64) - want.astype(np.int64))
            assert error.max() == 0 if codec == "ffv1" else error.mean() < 4 * scale


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for codec in ("h264", "hevc", "av1", "ffv1", "prores"):
        settings = settings_for(codec=codec)
        made = frames(settings, VFR, captions=b"\xfc\x94\x2c")
        digests = set()
        for run in range(3):
            (tmp_path / f"{run}").mkdir(exist_ok=True)
            (path,) = write_segments(tmp_path / f"{run}", settings, made, 1)
            digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert len(digests) == 1, codec


@pytest.mark.parametrize(("width", "height"), [(64, 64), (48, 96), (36, 64)])
def test_hevc_of_pictures_as_small_as_its_blocks_is_the_same_each_time(
    tmp_path: Path, width: int, height: int
) -> None:
    settings = settings_for(video_info(YUV420_10, width=width, height=height), codec="hevc")
    rng = np.random.default_rng(5)
    wild = []
    for frame in frames(settings, [512 * index for index in range(10)]):
        # Blocks of extreme colours, new in every picture.
        planes = [
            np.kron(
                rng.integers(0, 2, (-(-plane.shape[0] // 8), -(-plane.shape[1] // 8))),
                np.full((8, 8), 1023),
            )[: plane.shape[0], : plane.shape[1]].astype(plane.dtype)
            for plane in frame.planes
        ]
        wild.append(replace(frame, planes=cast(Any, tuple(planes))))
    digests = set()
    for _ in range(6):
        (path,) = write_segments(tmp_path, settings, wild, 1)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_are_written_into_their_own_frames(tmp_path: Path, codec: str) -> None:
    settings = settings_for(codec=codec)
    made = [
        frame
        for index, pts in enumerate(VFR)
        # Zeros and ones, which would look like a start code without escaping.
        for frame in frames(settings, [pts], captions=bytes([0xFC, index, 0, 0, 0, 1, 0, 0, 3]))
    ]
    (path,) = write_segments(tmp_path, settings, made, 1)
    with av.open(str(path)) as opened:
        got = [
            bytes(datum)
            for frame in opened.decode(video=0)
            for datum in cast(Any, frame.side_data)
            if datum.type.name == "A53_CC"
        ]
    assert got == [frame.side_data[0].data for frame in made]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_static_hdr_metadata_are_written(tmp_path: Path, codec: str) -> None:
    light = ContentLight(max_cll=1000, max_fall=400)
    info = video_info(YUV420_10, mastering_display=P3, content_light=light)
    settings = settings_for(info, codec=codec, color=PQ)
    (path,) = write_segments(tmp_path, settings, frames(settings, VFR[:3]), 1)
    video = probe(path).video
    assert video.content_light == light
    assert (video.color.primaries, video.color.transfer) == (Primaries.BT2020, Transfer.PQ)
    got = video.mastering_display
    assert got is not None
    if codec != "av1":
        assert got == P3
        return
    # AV1 counts chromaticities in 1/65536.
    for name in ("red", "green", "blue", "white"):
        for a, b in zip(getattr(got, name), getattr(P3, name), strict=True):
            assert abs(a - b) < Fraction(1, 40000)


def test_ten_bits_keep_their_codes(tmp_path: Path) -> None:
    settings = settings_for(video_info(YUV420_10, width=960, height=16), width=960, height=16)
    assert settings.codec == "libx265"
    ramp = np.tile(np.arange(64, 1024, dtype=np.uint16), (16, 1))
    (frame,) = frames(settings, [0])
    frame = replace(frame, planes=(ramp, *(np.full_like(p, 512) for p in frame.planes[1:])))
    (path,) = write_segments(tmp_path, settings, [frame], 1)
    with av.open(str(path)) as opened:
        picture = next(opened.decode(video=0))
    plane = picture.planes[0]
    got = np.ndarray((16, 960), np.uint16, bytes(plane), strides=(plane.line_size, 2))
    assert len(np.unique(got)) >= 700


def test_key_frames_close_every_group(tmp_path: Path) -> None:
    info = video_info(frame_rate=Fraction(25))
    settings = settings_for(info, codec="hevc").model_copy(update={"gop": 5})
    made = frames(settings, [512 * k for k in range(12)])
    (path,) = write_segments(tmp_path, settings, made, 1)
    with av.open(str(path)) as opened:
        packets = [p for p in opened.demux(video=0) if p.size]
    keys = [k for k, p in enumerate(packets) if p.is_keyframe]
    assert keys[0] == 0
    assert len(keys) >= 3
    for key in keys:
        # Closed: nothing after a key frame, in order of decoding, is shown before it.
        first = packets[key].pts
        assert first is not None
        assert all(p.pts is not None and p.pts >= first for p in packets[key:])


def test_frames_of_another_kind_are_our_own_bug(tmp_path: Path) -> None:
    settings = settings_for()
    (frame,) = frames(settings, [0])
    wrong_size = replace(frame, planes=tuple(p[:-2, :-2] for p in frame.planes))
    wrong_dtype = replace(frame, planes=tuple(p.astype(np.uint16) for p in frame.planes))
    wrong_layout = replace(frame, layout=YUV420_10)
    wrong_chroma = replace(frame, planes=(frame.planes[0],) * 3)
    for wrong in (wrong_size, wrong_dtype, wrong_layout, wrong_chroma):
        with pytest.raises(AssertionError), SegmentEncoder(tmp_path / "a.seg", settings) as encoder:
            encoder.encode(wrong)
        assert not (tmp_path / "a.seg").exists()


def test_read_only_and_strided_planes_are_taken(tmp_path: Path) -> None:
    settings = settings_for(codec="ffv1")
    (frame,) = frames(settings, [0])
    strided = []
    for plane in frame.planes:
        wide = np.zeros((plane.shape[0], plane.shape[1] + 7), plane.dtype)
        wide[:, : plane.shape[1]] = plane
        wide.flags.writeable = False
        strided.append(wide[:, : plane.shape[1]])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one, two = (
        write_segments(tmp_path / name, settings, [made], 1)[0].read_bytes()
        for name, made in (("a", frame), ("b", replace(frame, planes=tuple(strided))))
    )
    assert one == two


def test_pts_must_rise(tmp_path: Path) -> None:
    settings = settings_for()
    with (
        pytest.raises(EncodeError, match="512 came after 512"),
        SegmentEncoder(tmp_path / "a.seg", settings) as encoder,
    ):
        for frame in frames(settings, [0, 512, 512]):
            encoder.encode(frame)
    assert not (tmp_path / "a.seg").exists()


def test_an_empty_segment_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="at least one frame"):
        SegmentEncoder(tmp_path / "a.seg", settings_for()).close()
    assert not (tmp_path / "a.seg").exists()


def test_a_folder_that_is_missing_is_an_output_error(tmp_path: Path) -> None:
    settings = settings_for()
    with (
        pytest.raises(OutputError),
        SegmentEncoder(tmp_path / "no" / "a.seg", settings) as encoder,
    ):
        encoder.encode(frames(settings, [0])[0])
        encoder.close()


def test_summary_counts(tmp_path: Path) -> None:
    settings = settings_for()
    encoder = SegmentEncoder(tmp_path / "a.seg", settings)
    for frame in frames(settings, VFR):
        encoder.encode(frame)
    summary = encoder.close()
    assert summary.num_frames == len(VFR)
    assert summary.num_bytes == (tmp_path / "a.seg").stat().st_size
    assert encoder.close() is summary


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: data[:60], "cannot be read back"),
        (lambda data: data[: len(data) * 2 // 3], r"holds \d+ packets, expected 30"),
    ],
)
def test_what_the_disk_lost_is_noticed_when_a_segment_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Any, words: str
) -> None:
    """A file that is shorter than what was written, as after a lost write."""
    path = tmp_path / "a.seg"
    settings = settings_for()
    encoder = SegmentEncoder(path, settings)
    for frame in frames(settings, range(30)):
        encoder.encode(frame)
    monkeypatch.setattr(
        "vsr.media.encoder.sync_file", lambda path: path.write_bytes(harm(path.read_bytes()))
    )
    with pytest.raises(EncodeError, match=words):
        encoder.close()
