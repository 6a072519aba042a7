"""A user's encoder options, purposes and DNxHR."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.color import complete
from vsr.errors import ConfigError
from vsr.frame import Frame, Matrix
from vsr.media.encoder import SegmentEncoder
from vsr.media.options import merge_options, parse_option
from vsr.media.probe import probe
from vsr.media.settings import EncoderSettings, resolve_settings

MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("options") / "a.mkv", frames=3)


def settings_for(
    path: Path, *, size: tuple[int, int] = (256, 192), **wishes: Any
) -> EncoderSettings:
    video = probe(path).video
    color, _ = complete(video.color, video.width, video.height, video.layout)
    arguments: dict[str, Any] = {
        "codec": None,
        "crf": None,
        "encoder_preset": None,
        "profile": None,
        "threads": 1,
        "container": "mkv",
    }
    return resolve_settings(
        info=video, color=color, width=size[0], height=size[1], **{**arguments, **wishes}
    )


def test_parse() -> None:
    assert parse_option("bf=2") == ("bf", "2")
    assert parse_option("x264-params=ref=4:me=umh") == ("x264-params", "ref=4:me=umh")
    for text in ("bf", "=2", "bf=", ""):
        with pytest.raises(ConfigError, match="name=value"):
            parse_option(text)


def test_parameters_are_merged_key_by_key(clip: Path) -> None:
    options = settings_for(clip, codec="h264", options={"x264-params": "ref=4", "bf": 2}).options
    assert options["x264-params"] == "cpu-independent=1:ref=4"
    assert options["bf"] == "2"
    assert options["crf"] == "17"


def test_a_fixed_quantiser_replaces_crf() -> None:
    assert merge_options("libx264", {"crf": "17"}, {"qp": 0}) == {"qp": "0"}


@pytest.mark.parametrize(
    ("codec", "options", "words"),
    [
        ("h264", {"b": "2M"}, "bit rate"),
        ("h264", {"maxrate": "2M"}, "bit rate"),
        ("h264", {"x264-params": "bitrate=500"}, "bit rate"),
        ("hevc", {"x265-params": "bitrate=500"}, "bit rate"),
        ("av1", {"svtav1-params": "rc=1"}, "bit rate"),
        ("h264", {"x264-params": "ref=4:pass=1"}, "several passes"),
        ("h264", {"passlogfile": "x"}, "several passes"),
        ("h264", {"threads": 2}, "--set threads=N"),
        ("h264", {"crf": 3}, "--crf"),
        ("hevc", {"x265-params": "open-gop=1"}, "closed"),
        ("h264", {"nonsense": 1}, "has no option 'nonsense'"),
        ("h264", {"x264-params": "nonsense=1"}, "Error parsing option 'nonsense = 1'"),
        ("hevc", {"x265-params": "nonsense=1"}, "Unknown option: nonsense"),
        ("av1", {"svtav1-params": "nonsense=1"}, "Error parsing option nonsense"),
        ("h264", {"tune": "nosuch"}, "refused"),
        ("h264", {"aq-mode": -2}, "goes from -1"),
    ],
)
def test_refused_before_the_run(
    clip: Path, codec: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        settings_for(clip, codec=codec, options=options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "encoder"), [("libx264", "libx264"), ("ffv1", "ffv1"), ("prores_ks", "prores_ks")]
)
def test_same_codec(make_clip: MakeClip, tmp_path: Path, source: str, encoder: str) -> None:
    pixel_format = "yuv422p10le" if source == "prores_ks" else "yuv420p"
    path = make_clip(tmp_path / "a.mkv", codec=source, frames=2, pixel_format=pixel_format)
    assert settings_for(path, same_codec=True).codec == encoder


def test_same_codec_without_an_encoder(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "a.mpg", codec="mpeg2video", frames=2)
    with pytest.raises(ConfigError, match="mpeg2video cannot be encoded"):
        settings_for(path, same_codec=True)
    with pytest.raises(ConfigError, match="contradict"):
        settings_for(path, same_codec=True, codec="h264")


def test_purposes(clip: Path) -> None:
    assert settings_for(clip, profile="access").codec == "libx264"
    assert settings_for(clip, profile="access", codec="hevc").codec == "libx265"
    assert settings_for(clip, profile="mezzanine").codec == "prores_ks"
    dnxhr = settings_for(clip, profile="mezzanine", codec="dnxhr", container="mov")
    assert (dnxhr.codec, dnxhr.options["profile"]) == ("dnxhd", "dnxhr_hq")
    assert settings_for(clip, profile="preservation").codec == "ffv1"
    for wishes, words in (
        ({"profile": "access", "codec": "ffv1"}, "h264 or hevc or av1"),
        ({"profile": "preservation", "container": "mp4"}, "FFV1 in Matroska"),
        ({"codec": "dnxhr"}, "mkv cannot hold dnxhr"),
        ({"codec": "dnxhr", "container": "mp4"}, "mp4 cannot hold dnxhr"),
        ({"codec": "dnxhr", "container": "mov", "size": (128, 96)}, "256x120"),
        ({"codec": "dnxhr", "container": "mov", "encoder_preset": "dnxhr_hqx"}, "does not hold"),
    ):
        with pytest.raises(ConfigError, match=words):
            settings_for(clip, **wishes)


def frames_for(settings: EncoderSettings, count: int) -> list[Frame]:
    """Waves: at its fixed rate DNxHR cannot hold noise."""
    layout, top = settings.layout, (1 << settings.layout.bits) - 1
    frames = []
    for index in range(count):
        planes = []
        for number in range(layout.num_planes):
            rows, columns = layout.plane_size(number, settings.width, settings.height)
            y, x = np.mgrid[0:rows, 0:columns]
            wave = 0.5 + 0.4 * np.sin((x + 3 * index) / 9) * np.cos(y / 7)
            planes.append((wave * top).astype(layout.dtype))
        frames.append(Frame(planes=tuple(planes), layout=layout, color=settings.color, pts=index))
    return frames


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p10le"])
def test_dnxhr_repeats_and_is_read_as_written(
    make_clip: MakeClip, tmp_path: Path, pixel_format: str
) -> None:
    path = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=2, pixel_format=pixel_format)
    settings = settings_for(path, codec="dnxhr", container="mov")
    assert settings.color.matrix is Matrix.BT709
    digests = set()
    for threads in (1, 2):
        out = tmp_path / f"{threads}.seg"
        with SegmentEncoder(out, settings.model_copy(update={"threads": threads})) as encoder:
            for frame in frames_for(settings, 4):
                encoder.encode(frame)
        digests.add(hashlib.sha256(out.read_bytes()).hexdigest())
    assert len(digests) == 1, "bytes differ by the number of threads"
    with av.open(str(out)) as container:
        decoded = list(container.decode(video=0))
    assert len(decoded) == 4
    assert decoded[0].format.name == settings.pixel_format
    assert int(decoded[0].colorspace) == 1
    first = frames_for(settings, 1)[0].planes[0].astype(int)
    plane = decoded[0].planes[0]
    back = (
        np.frombuffer(bytes(plane), settings.layout.dtype)
        .reshape(plane.height, -1)[:, : plane.width]
        .astype(int)
    )
    assert np.abs(back - first).mean() < (1 << settings.layout.bits - 8)
