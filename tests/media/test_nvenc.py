"""A card's encoder is used on request alone, and refused in one sentence where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from tests.media.film import YUV420, frames, pictures, settings_for, video_info
from vsr.config import resolve_config
from vsr.errors import ConfigError, DeviceError
from vsr.frame import Frame, PlaneLayout
from vsr.media import settings as settings_module
from vsr.media.codecs import validate_options
from vsr.media.encoder import SegmentEncoder, to_av_frame
from vsr.media.formats import pixel_format, read_planes
from vsr.media.options import merge_options
from vsr.media.settings import EncoderSettings

YUV420_10 = replace(YUV420, bits=10)
ENCODERS = ("h264_nvenc", "hevc_nvenc")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes everything."""
    monkeypatch.setattr(settings_module, "_trial_open", lambda *_: None)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_where_it_is_absent_one_sentence_says_so(encoder: str) -> None:
    try:
        settings_for(codec=encoder, options={"spatial-aq": 1})
    except DeviceError as error:
        assert error.message.startswith(f"{encoder} was asked for, and no NVIDIA card here encodes")
        assert error.hint == f"use --codec {encoder[:4]}, which every machine has"
        assert error.exit_code == 5
    else:
        pytest.skip("there is one")


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_its_settings_promise_constant_quality(encoder: str) -> None:
    settings = settings_for(codec=encoder, crf=23.0, encoder_preset="p6")
    assert settings.codec == encoder
    wanted = {"cq": "23", "rc": "vbr", "b": "0", "preset": "p6", "strict_gop": "1"}
    assert wanted.items() <= settings.options.items()
    assert "crf" not in settings.options
    assert any("other cards" in note for note in settings.notes)
    validate_options(encoder, settings.options)
    with pytest.raises(ConfigError, match="no preset 'veryfast'"):
        settings_for(codec=encoder, encoder_preset="veryfast")
    with pytest.raises(ConfigError, match="goes from 1 to 51"):
        settings_for(codec=encoder, crf=0.0)


def test_a_fixed_quantiser_takes_the_place_of_quality() -> None:
    ours = {"cq": "19", "rc": "vbr", "b": "0"}
    merged = merge_options("h264_nvenc", ours, {"qp": 21})
    assert merged == {"rc": "constqp", "b": "0", "qp": "21"}


def test_nothing_chooses_it_by_itself() -> None:
    for profile in (None, "access"):
        for layout in (YUV420, YUV420_10):
            settings = settings_for(video_info(layout), profile=profile)
            assert settings.codec in ("libx264", "libx265")


def test_it_can_be_asked_for() -> None:
    assert resolve_config(flags={"codec": "hevc_nvenc"}).codec == "hevc_nvenc"


@pytest.mark.usefixtures("card")
def test_depth_is_kept_where_it_can_be() -> None:
    deep = settings_for(video_info(YUV420_10), codec="hevc_nvenc")
    assert (deep.layout, deep.pixel_format, deep.losses) == (YUV420_10, "p010le", ())
    flat = settings_for(video_info(YUV420_10), codec="h264_nvenc")
    assert flat.layout == YUV420
    assert any("sample depth" in loss for loss in flat.losses)
    full = settings_for(video_info(PlaneLayout(bits=8)), codec="h264_nvenc")
    assert full.pixel_format == "yuv444p"


@pytest.mark.usefixtures("card")
def test_ten_bits_are_laid_out_as_cards_take_them() -> None:
    settings = settings_for(video_info(YUV420_10), codec="hevc_nvenc", width=50, height=34)
    (frame,) = given(settings, 1)
    picture = to_av_frame(frame, settings)
    assert picture.format.name == "p010le"
    found = read_planes(picture, pixel_format("p010le"), VideoReformatter())
    for left, right in zip(frame.planes, found, strict=True):
        np.testing.assert_array_equal(left, right)


def given(settings: EncoderSettings, count: int) -> list[Frame]:
    return list(frames(settings, list(range(count))))


@pytest.mark.usefixtures("needs_cuda")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_card_that_has_it_encodes(tmp_path: Path, encoder: str) -> None:
    try:
        settings = settings_for(codec=encoder, width=640, height=360)
    except DeviceError as error:
        # Cards for data centres have none.
        assert "no NVIDIA card here encodes" in error.message
        return
    path = tmp_path / "segment.mkv"
    with SegmentEncoder(path, settings) as writer:
        for frame in given(settings, 30):
            writer.encode(frame)
        assert writer.close().num_frames == 30
    assert len(pictures(path)) == 30
