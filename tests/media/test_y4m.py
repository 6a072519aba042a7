"""Raw pictures, read back by plain av."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from vsr.errors import UnsupportedVideoError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Frame,
    Matrix,
    PlaneLayout,
    Primaries,
    Transfer,
    VideoInfo,
)
from vsr.media.settings import EncoderSettings
from vsr.media.y4m import Y4mWriter, constant_rate, y4m_header, y4m_settings

MS = Fraction(1, 1000)


def settings_of(
    layout: PlaneLayout,
    *,
    full_range: bool = False,
    location: ChromaLocation = ChromaLocation.LEFT,
    sar: Fraction = Fraction(1),
    size: tuple[int, int] = (36, 22),
) -> EncoderSettings:
    color = ColorSpec(
        primaries=Primaries.BT709,
        transfer=Transfer.BT709,
        matrix=Matrix.RGB if layout.is_rgb else Matrix.BT709,
        full_range=full_range,
        chroma_location=location,
    )
    info = VideoInfo(
        stream_index=0,
        codec="h264",
        width=18,
        height=11,
        pixel_format="x",
        layout=layout,
        color=color,
        time_base=MS,
        frame_rate=Fraction(30000, 1001),
        num_frames=None,
        start_pts=0,
        duration_s=None,
        sample_aspect_ratio=sar,
    )
    return y4m_settings(info, color, *size)


def write(settings: EncoderSettings, count: int = 3) -> tuple[bytes, list[Frame]]:
    layout = settings.layout
    rng = np.random.default_rng(0)
    frames = [
        Frame(
            planes=tuple(
                rng.integers(
                    0, 1 << layout.bits, layout.plane_size(k, settings.width, settings.height)
                ).astype(layout.dtype)
                for k in range(layout.num_planes)
            ),
            layout=layout,
            color=settings.color,
            pts=index,
        )
        for index in range(count)
    ]
    buffer = io.BytesIO()
    writer = Y4mWriter(buffer, settings)
    for frame in frames:
        writer.encode(frame)
    summary = writer.close()
    assert (summary.num_frames, summary.num_bytes) == (count, len(buffer.getvalue()))
    return buffer.getvalue(), frames


@pytest.mark.parametrize(
    ("layout", "pixel_format"),
    [
        (PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1), "yuv420p"),
        (PlaneLayout(bits=8, log2_chroma_w=1), "yuv422p"),
        (PlaneLayout(bits=8), "yuv444p"),
        (PlaneLayout(bits=8, log2_chroma_w=2), "yuv411p"),
        (PlaneLayout(bits=8, is_gray=True), "gray"),
        (PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1), "yuv420p10le"),
        (PlaneLayout(bits=10, log2_chroma_w=1), "yuv422p10le"),
        (PlaneLayout(bits=12), "yuv444p12le"),
        (PlaneLayout(bits=12, is_gray=True), "gray12le"),
        (PlaneLayout(bits=8, is_rgb=True), "yuv444p"),
        (PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1, has_alpha=True), "yuv420p"),
        (PlaneLayout(bits=8, log2_chroma_w=2, log2_chroma_h=2), "yuv420p"),
    ],
)
def test_plain_av_reads_the_same_samples(layout: PlaneLayout, pixel_format: str) -> None:
    settings = settings_of(layout, sar=Fraction(16, 15))
    data, frames = write(settings)
    assert settings.pixel_format == pixel_format
    with av.open(io.BytesIO(data), "r", format="yuv4mpegpipe") as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (36, 22)
        assert Fraction(str(stream.average_rate)) == Fraction(30000, 1001)
        assert Fraction(str(stream.sample_aspect_ratio)) == Fraction(16, 15)
        decoded = list(container.decode(stream))
    assert [frame.pts for frame in decoded] == [0, 1, 2]
    assert all(frame.format.name == pixel_format for frame in decoded)
    assert not any(frame.interlaced_frame for frame in decoded)
    for frame, written in zip(decoded, frames, strict=True):
        for plane, samples in zip(frame.planes, written.planes, strict=True):
            raw = np.frombuffer(bytes(plane), samples.dtype).reshape(plane.height, -1)
            assert np.array_equal(raw[:, : plane.width], samples)


@pytest.mark.parametrize(("full", "code"), [(False, 1), (True, 2)])
def test_range(full: bool, code: int) -> None:
    layout = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
    data, _ = write(settings_of(layout, full_range=full), 1)
    with av.open(io.BytesIO(data), "r", format="yuv4mpegpipe") as container:
        assert int(next(container.decode(video=0)).color_range) == code


def test_header_to_the_letter() -> None:
    narrow = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
    deep = PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1)
    assert y4m_header(settings_of(narrow)) == (
        b"YUV4MPEG2 W36 H22 F30000:1001 Ip A1:1 C420mpeg2 XCOLORRANGE=LIMITED\n"
    )
    assert y4m_header(settings_of(deep, full_range=True, sar=Fraction(4, 3))) == (
        b"YUV4MPEG2 W36 H22 F30000:1001 Ip A4:3 C420p10 XYSCSS=420P10 XCOLORRANGE=FULL\n"
    )
    center = settings_of(narrow, location=ChromaLocation.CENTER)
    assert b" C420jpeg " in y4m_header(center)
    assert b" C420paldv " in y4m_header(settings_of(narrow, location=ChromaLocation.TOPLEFT))
    # A place that the header cannot name is not kept: the samples are put to the left instead.
    assert settings_of(deep, location=ChromaLocation.CENTER).color.chroma_location.name == "LEFT"
    assert settings_of(narrow, location=ChromaLocation.TOP).color.chroma_location.name == "LEFT"


def test_odd_sizes() -> None:
    layout = PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1)
    data, frames = write(settings_of(layout, size=(35, 21)), 2)
    assert frames[0].planes[1].shape == (11, 18)
    with av.open(io.BytesIO(data), "r", format="yuv4mpegpipe") as container:
        assert len(list(container.decode(video=0))) == 2


@pytest.mark.parametrize(
    ("rate", "time_base"),
    [
        (Fraction(24000, 1001), MS),
        (Fraction(30000, 1001), MS),
        (Fraction(25), Fraction(1, 90000)),
        (Fraction(60000, 1001), Fraction(1, 90000)),
        (Fraction(12), Fraction(1, 12)),
    ],
)
def test_the_rate_of_rounded_times(rate: Fraction, time_base: Fraction) -> None:
    pts = [round(k / rate / time_base) + 7 for k in range(500)]
    assert constant_rate(pts, time_base) == rate
    assert constant_rate(pts, time_base, rate) == rate


def test_uneven_times_are_refused() -> None:
    with pytest.raises(UnsupportedVideoError, match="do not come evenly") as caught:
        constant_rate([0, 40, 80, 200, 240], MS, Fraction(25))
    assert caught.value.exit_code == 3
    assert constant_rate([5], MS, Fraction(24)) == 24
