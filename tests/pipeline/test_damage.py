"""Damaged films: they finish, the damage is counted, and no time is lost."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from vsr.config import resolve_config
from vsr.errors import CheckFailedError, ConfigError
from vsr.media import damage
from vsr.media.probe import probe
from vsr.pipeline.listen import scan_and_listen
from vsr.pipeline.retime import damage_limit
from vsr.pipeline.scan import Scan
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]

NUM_FRAMES = 24
CODECS: dict[str, dict[str, Any]] = {
    "libx264": {"bframes": 2},
    "libx265": {"codec_options": {"x265-params": "log-level=none:pools=1:frame-threads=1"}},
    "mpeg2video": {},
    "mpeg4": {},
    "ffv1": {"codec_options": {"level": "3", "slicecrc": "1", "slices": "4"}},
    "libvpx": {"codec_options": {"deadline": "realtime", "cpu-used": "8"}},
    "libvpx-vp9": {"codec_options": {"deadline": "realtime", "cpu-used": "8"}},
    "mjpeg": {"pixel_format": "yuvj420p"},
    "prores_ks": {"pixel_format": "yuv422p10le"},
    "libsvtav1": {},
}
UNDETECTABLE = frozenset({"libvpx", "libvpx-vp9", "mjpeg", "prores_ks"})
"""No checksums: flipped bits may give a valid stream of other pictures."""


def noisy(frame: Any, index: int) -> None:
    """Pictures that take bytes to code; every plane of whatever depth."""
    rng = np.random.default_rng(index // 3)
    for number, plane in enumerate(frame.planes):
        bits = frame.format.components[number].bits
        wide = bits > 8
        rows = np.zeros((plane.height, plane.line_size), np.uint8)
        view = rows.view("<u2") if wide else rows
        low, high = (64 << (bits - 8), 190 << (bits - 8)) if wide else (64, 190)
        view[:] = rng.integers(low, high, view.shape)
        plane.update(rows.tobytes())


def flip(path: Path, *, packets: range, per_packet: int = 3) -> list[int]:
    """Flip bits inside whole packets of the film; returns the frames' ranks hit, by pts."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [p for p in container.demux(stream) if p.size]
        spans = [(p.pts, p.size, bytes(p)) for p in found]
    rng = np.random.default_rng(5)
    for index in packets:
        _, size, payload = spans[index]
        start = data.find(payload[-min(size, 64) :])
        assert start >= 0, "the packet is not stored whole"
        start -= size - min(size, 64)
        for place in rng.integers(size // 3, size, per_packet):
            data[start + int(place)] ^= 0xA5
    path.write_bytes(data)
    hit = [pts for pts, _, _ in spans if pts is not None]
    assert len(hit) == len(spans)
    return [hit[index] for index in packets]


def scanned(path: Path) -> Scan:
    return scan_and_listen(path, probe(path).video, decode_threads=2)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_finishes_with_all_its_times(
    codec: str, make_clip: MakeClip, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"height": 64, "gop": 6, "fill": noisy, **CODECS[codec]}
    path = make_clip(tmp_path / "c.mkv", codec=codec, frames=NUM_FRAMES, **options)
    sound = scanned(path)
    assert sound.events == ()
    assert sound.num_damaged == 0
    flip(path, packets=range(8, 11))
    found = scanned(path)
    assert found.timeline.pts() == sound.timeline.pts()
    if codec not in UNDETECTABLE:
        assert found.num_damaged > 0
        assert found.decode_threads == 1
        assert found.events
    assert found == scanned(path), "a second reading differs"


def test_a_failed_checksum_is_heard(make_clip: MakeClip, tmp_path: Path) -> None:
    """FFV1 says so in its log and nowhere else."""
    path = make_clip(tmp_path / "c.mkv", frames=12, fill=noisy, codec="ffv1",
                     codec_options=CODECS["ffv1"]["codec_options"])  # fmt: skip
    hit = flip(path, packets=range(5, 6), per_packet=1)
    found = scanned(path)
    kinds = {event.kind for event in found.events}
    assert kinds == {damage.KIND_DECODER_MESSAGE}
    assert found.events[0].start_pts == hit[0]
    assert "CRC" in found.events[0].detail or "crc" in found.events[0].detail.lower()
    assert " @ 0x" not in found.events[0].detail
    assert found.num_damaged == 1


@pytest.fixture
def gap(make_clip: MakeClip, tmp_path: Path) -> tuple[Path, list[int]]:
    """A clip that has lost frames 9 to 11 of 24, and the times of all."""
    path = make_clip(
        tmp_path / "gap.mkv", codec="libx265", height=64, gop=12, frames=24, fill=noisy,
        **CODECS["libx265"],
    )  # fmt: skip
    times = scanned(path).timeline.pts()
    with av.open(str(path)) as container:
        payloads = [bytes(p) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for payload in payloads[9:12]:
        start = data.find(payload)
        # Not a unit of HEVC any more: the decoder refuses the packet.
        data[start : start + 12] = b"\xff" * 12
    path.write_bytes(data)
    return path, times


def run(source: Path, **flags: Any) -> UpscaleResult:
    wanted = {"model": "bicubic-x2", "device": "cpu", "codec": "ffv1", "overwrite": True, **flags}
    return upscale(source, source.with_name("out.mkv"), resolve_config(flags=wanted))


def test_lost_pictures_are_repeats_at_their_own_times(gap: tuple[Path, list[int]]) -> None:
    path, times = gap
    found = scanned(path)
    assert found.timeline.pts() == times
    assert found.num_decoded + len(found.concealed) == len(times)
    assert set(times[9:12]) <= set(found.concealed)
    result = run(path)
    assert result.frames == 24
    assert result.check.ok, result.check.failures
    assert result.damaged_frames >= 3
    filled = [event for event in result.events if event["kind"] == "concealed"]
    assert filled[0]["start_s"] == 0.36
    with av.open(result.result) as container:
        stream = container.streams.video[0]
        pictures = [f.to_ndarray() for f in container.decode(stream)]
    assert len(pictures) == 24
    assert np.array_equal(pictures[8], pictures[9])
    assert np.array_equal(pictures[8], pictures[11])


def test_a_damaged_film_gives_the_same_bytes_again(gap: tuple[Path, list[int]]) -> None:
    path, _ = gap
    first = run(path)
    data = Path(first.result).read_bytes()
    assert run(path).digests == first.digests
    assert Path(first.result).read_bytes() == data


def test_more_damage_than_allowed_rejects_the_result(gap: tuple[Path, list[int]]) -> None:
    path, _ = gap
    with pytest.raises(CheckFailedError, match="damage") as caught:
        run(path, max_damage="2")
    assert caught.value.exit_code == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["gap.mkv", "out.rejected.mkv"]
    assert run(path, max_damage="100%").check.ok


@pytest.mark.parametrize(
    ("text", "limit"),
    [("0", 0), ("12", 12), (12, 12), ("5%", 10), ("0.05", 10), (0.5, 100), ("1.0", 200)],
)
def test_an_amount_of_damage(text: str | float, limit: int) -> None:
    assert damage_limit(text, 200) == limit


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "101%", "5 %x"])
def test_no_amount_of_damage(text: str) -> None:
    with pytest.raises(ConfigError, match="max-damage"):
        damage_limit(text, 200)


def test_gaps_of_a_sound_film_are_left_alone(make_clip: MakeClip, tmp_path: Path) -> None:
    pts = [0, 1, 2, 3, 9, 10, 11, 12, 13, 14]
    path = make_clip(tmp_path / "c.mkv", pts=pts, frames=10, rate=Fraction(25))
    found = scanned(path)
    assert found.concealed == ()
    assert found.timeline.pts() == [40 * tick for tick in pts]


def test_real_damaged_files(media_dir: Path) -> None:
    for name, lost in (("corrupted.mp4", 1), ("invalid_nal.mp4", 1)):
        found = scanned(media_dir / name)
        assert len(found.concealed) == lost
        assert found.num_damaged >= lost
        assert found.decode_threads == 1
        steps = {
            b - a for a, b in zip(found.timeline.pts(), found.timeline.pts()[1:], strict=False)
        }
        assert len(steps) == 1
