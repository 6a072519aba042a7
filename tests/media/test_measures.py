"""Comparing filters say of our frames what they say of the decoder's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.filter import Graph

from tests.media.film import YUV420, YUV420_10
from vsr.frame import PlaneLayout
from vsr.media.measures import Xpsnr
from vsr.media.reader import FrameReader

MakeClip = Callable[..., Path]
SIZE = {"width": 64, "height": 48, "frames": 8}


def said_by_the_filter(result: Path, reference: Path) -> list[float]:
    """Frames straight from the decoder into the filter, as a user of FFmpeg would do it."""
    with av.open(str(result)) as one, av.open(str(reference)) as two:
        stream = two.streams.video[0]
        graph = Graph()
        sources = [graph.add_buffer(template=stream) for _ in range(2)]
        compare, sink = graph.add("xpsnr"), graph.add("buffersink")
        for index, source in enumerate(sources):
            source.link_to(compare, 0, index)
        compare.link_to(sink)
        graph.configure()
        values = []
        for rank, pair in enumerate(zip(two.decode(video=0), one.decode(video=0), strict=True)):
            for index, picture in enumerate(pair):
                picture.pts, picture.time_base = rank, stream.time_base
                graph.push(picture, at=index)
            values.append(float(graph.vpull().metadata["lavfi.xpsnr.xpsnr.y"]))
    return values


def mine(result: Path, reference: Path) -> list[float]:
    with FrameReader(result) as one, FrameReader(reference) as two:
        pairs = list(zip(one, two, strict=True))
    meter = Xpsnr(pairs[0][0].layout, SIZE["width"], SIZE["height"])
    return [meter.score(*pair) for pair in pairs]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_xpsnr_is_what_the_filter_says(
    make_clip: MakeClip, tmp_path: Path, pixel_format: str
) -> None:
    reference, result = (
        make_clip(
            tmp_path / f"{crf}.mkv", pixel_format=pixel_format, codec_options={"crf": crf}, **SIZE
        )
        for crf in ("4", "35")
    )
    expected = said_by_the_filter(result, reference)
    assert mine(result, reference) == expected
    assert len(expected) == SIZE["frames"]
    assert all(15 < value < 60 for value in expected)
    assert mine(reference, reference) == [math.inf] * SIZE["frames"]


def test_what_the_filter_cannot_take_is_said(make_clip: MakeClip, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xpsnr"):
        Xpsnr(PlaneLayout(bits=32, is_rgb=True, is_float=True), 64, 48)
    with pytest.raises(ValueError, match="70 pixels wide"):
        Xpsnr(YUV420_10, 70, 48)
    with FrameReader(make_clip(tmp_path / "a.mkv", **SIZE)) as reader:
        frame = next(iter(reader))
    luma = (np.clip(frame.planes[0], 0, 250) + 3).astype(np.uint8)
    brighter = replace(frame, planes=(luma, *frame.planes[1:]))
    meter = Xpsnr(YUV420, SIZE["width"], SIZE["height"])
    assert meter.score(frame, frame) == math.inf
    assert 25 < meter.score(brighter, frame) < 45
