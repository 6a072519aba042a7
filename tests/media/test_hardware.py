"""A card's decoder gives what the processor's gives, or is not used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.media.fake_hardware import FakeHardware
from tests.media.film import video_info
from vsr.errors import HardwareDecodeError
from vsr.frame import Frame
from vsr.media.hardware import (
    NUM_COMPARED,
    CudaDecoder,
    DecoderChoice,
    choose_decoder,
    hardware_of,
    is_worth_a_try,
)
from vsr.media.reader import FrameReader

MakeClip = Callable[..., Path]


def read(path: Path, hardware: Any = None, **options: Any) -> list[Frame]:
    with FrameReader(path, hardware=hardware, follow_changes=True, **options) as reader:
        frames = list(reader)
        assert reader.events == []
    return frames


def same(a: Frame, b: Frame) -> bool:
    def plain(frame: Frame) -> Frame:
        # An encoder's note is repeated as often as the decoder's threads have it.
        kept = tuple(data for data in frame.side_data if data.kind != "SEI_UNREGISTERED")
        return replace(frame, planes=(), side_data=kept)

    return plain(a) == plain(b) and all(
        left.dtype == right.dtype and np.array_equal(left, right)
        for left, right in zip(a.planes, b.planes, strict=True)
    )


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("hardware") / "clip.mkv", frames=30, bframes=2)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le", "yuv444p"])
def test_frames_are_as_the_software_decoder_gives_them(
    make_clip: MakeClip, tmp_path: Path, pixel_format: str
) -> None:
    path = make_clip(
        tmp_path / "clip.mkv",
        codec="libx265" if "10" in pixel_format else "libx264",
        pixel_format=pixel_format,
        frames=12,
        sar=Fraction(4, 3),
        full_range=True,
    )
    hardware = FakeHardware()
    wanted, found = read(path, threads=4), read(path, hardware, threads=4)
    assert len(wanted) == 12
    assert all(map(same, wanted, found))
    assert hardware.thread_counts == [1]


def test_entry_and_end_hold(clip: Path) -> None:
    wanted = read(clip)
    middle, last = wanted[11].pts, wanted[20].pts
    found = read(clip, FakeHardware(), start_pts=middle, end_pts=last)
    assert all(map(same, wanted[11:20], found))
    assert len(found) == 9


@pytest.mark.parametrize(
    "options",
    [
        {"fail_at": 1},
        {"fail_at": 20},
        {"fail_at": 5, "error": MemoryError("no surface")},
        {"missing": True},
        {"unfit": True},
    ],
)
def test_what_goes_wrong_is_not_taken_for_damage(clip: Path, options: dict[str, Any]) -> None:
    with (
        pytest.raises(HardwareDecodeError),
        FrameReader(clip, hardware=FakeHardware(**options)) as reader,
    ):
        list(reader)


def test_a_damaged_picture_is_for_the_software_decoder(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=24, gop=24)
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]
    offset, size = packets[10]
    for place in range(offset + 8, offset + size):
        data[place] ^= 0x5A
    clip.write_bytes(data)
    with FrameReader(clip) as reader:
        frames = list(reader)
        assert reader.events or any(frame.is_corrupt for frame in frames)
    with pytest.raises(HardwareDecodeError), FrameReader(clip, hardware=FakeHardware()) as reader:
        list(reader)


class Clock:
    """Seconds pass as a list says, one entry for each question."""

    def __init__(self, *times: float) -> None:
        self._times = iter(times)

    def __call__(self) -> float:
        return next(self._times)


FASTER = (0, 0, 23, 100, 101, 110)
"""Asked before, after the first picture and at the end; 1 s for each picture, then 9/23 s."""
SLOWER = (0, 0, 23, 100, 200, 240)


def choice(clip: Path, hardware: FakeHardware, *times: float, **options: Any) -> DecoderChoice:
    software = partial(FrameReader, clip)
    return choose_decoder(
        software, lambda: FrameReader(clip, hardware=hardware), clock=Clock(*times), **options
    )


def test_the_faster_one_is_chosen_where_both_are_equal(clip: Path) -> None:
    found = choice(clip, FakeHardware(), *FASTER)
    assert found.name == "cuda"
    assert found.reason == (
        f"the first {NUM_COMPARED} pictures are the same, "
        "393.39 ms a picture on the GPU and 1000.00 ms without"
    )
    assert choice(clip, FakeHardware(), *SLOWER).name == "software"
    assert "1000.00 ms without" in choice(clip, FakeHardware(), *SLOWER).reason
    assert choice(clip, FakeHardware(), *SLOWER, must_be_faster=False).name == "cuda"


def brighter(picture: av.VideoFrame) -> None:
    plane = picture.planes[1]
    codes = bytearray(bytes(plane))
    codes[5] ^= 1
    plane.update(bytes(codes))


def later(picture: av.VideoFrame) -> None:
    assert picture.pts is not None
    picture.pts += 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"change": brighter}, "another picture 0"),
        ({"change": later}, "with another time"),
        ({"drop": 29}, None),
        ({"drop": 3}, "another picture 3"),
        ({"missing": True}, "is not there"),
        ({"unfit": True}, "does not decode h264"),
        ({"fail_at": 9}, "refused a packet"),
    ],
)
def test_another_picture_or_none_is_not_chosen(
    clip: Path, options: dict[str, Any], said: str | None
) -> None:
    found = choice(clip, FakeHardware(**options), *FASTER, must_be_faster=False)
    assert (found.name == "cuda") == (said is None)
    assert said is None or said in found.reason


def test_one_picture_proves_nothing(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mkv", frames=1, bframes=0)
    found = choice(path, FakeHardware(), *FASTER)
    assert (found.name, "too few" in found.reason) == ("software", True)


def test_readers_are_closed_whatever_happens(clip: Path) -> None:
    closed = []

    class Source:
        def __iter__(self) -> Iterator[Frame]:
            raise HardwareDecodeError("it broke")

        def close(self) -> None:
            closed.append(True)

    found = choose_decoder(Source, Source)
    assert found == DecoderChoice("software", "it broke")
    assert closed == [True]


def test_large_progressive_pictures_are_worth_a_try() -> None:
    assert is_worth_a_try(video_info(width=1920, height=1080)) is None
    assert is_worth_a_try(video_info(width=1080, height=1920)) is None
    assert is_worth_a_try(video_info(width=1280, height=720)) is not None
    large = replace(video_info(width=1920, height=1080), is_interlaced=True)
    assert is_worth_a_try(large) == "the film is interlaced"


def test_without_a_card_its_decoder_says_so(clip: Path) -> None:
    """Or decodes, where there is one."""
    try:
        frames = read(clip, CudaDecoder(0))
    except HardwareDecodeError as error:
        assert "GPU 0" in error.message
    else:
        assert all(map(same, read(clip), frames))
    assert hardware_of("software", "cuda:0") is None
    assert isinstance(hardware_of("cuda", "cuda:1"), CudaDecoder)


@pytest.mark.usefixtures("needs_cuda")
@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv420p"), ("libx265", "yuv420p"), ("libx265", "yuv420p10le")],
)
def test_nvdec_gives_the_same_pictures(
    make_clip: MakeClip, tmp_path: Path, codec: str, pixel_format: str
) -> None:
    path = make_clip(
        tmp_path / "clip.mkv",
        codec=codec,
        pixel_format=pixel_format,
        width=1920,
        height=1080,
        frames=40,
        bframes=2,
    )
    wanted, found = read(path, threads=3), read(path, CudaDecoder(0))
    assert len(found) == len(wanted) == 40
    assert all(map(same, wanted, found))
    tried = choose_decoder(
        partial(FrameReader, path, threads=3),
        lambda: FrameReader(path, hardware=CudaDecoder(0)),
        must_be_faster=False,
    )
    assert tried.name == "cuda", tried.reason
