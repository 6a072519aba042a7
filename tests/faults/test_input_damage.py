"""Rows 7 to 9: bytes that are not what was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from tests.faults.damage import cut_out, flip, noisy, reorder, spans, zero
from tests.faults.promise import Faults, MakeClip, quick_only

NUM_FRAMES = 24
CODECS: dict[str, dict[str, Any]] = {
    "h264": {"codec": "libx264", "bframes": 2},
    "hevc": {
        "codec": "libx265",
        "codec_options": {"x265-params": "log-level=none:pools=1:frame-threads=1"},
    },
    "mpeg2": {"codec": "mpeg2video"},
    "mpeg4": {"codec": "mpeg4"},
    "prores": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
    "ffv1": {
        "codec": "ffv1",
        "codec_options": {"level": "3", "slicecrc": "1", "slices": "4"},
    },
    "vp9": {
        "codec": "libvpx-vp9",
        "codec_options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "av1": {"codec": "libsvtav1"},
    "mjpeg": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
}


def film_of(codec: str, faults: Faults, make_clip: MakeClip, **options: Any) -> Path:
    wanted = {"height": 64, "gop": 12, "frames": NUM_FRAMES, "fill": noisy, **CODECS[codec]}
    return make_clip(faults.source / "film.mkv", **{**wanted, **options})


@pytest.mark.fault(row=7, injected="100 bytes XORed all over the film, in Matroska")
@pytest.mark.parametrize("codec", quick_only(["hevc", "vp9"], CODECS))
def test_flipped_bits(faults: Faults, make_clip: MakeClip, codec: str) -> None:
    film = film_of(codec, faults, make_clip)
    flip(film)
    faults.continued(film, num_frames=NUM_FRAMES, damaged=True)


@pytest.mark.fault(row=7, injected="100 bytes XORed all over a DV film, in AVI")
@pytest.mark.slow
def test_flipped_bits_of_dv(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(
        faults.source / "film.avi",
        codec="dvvideo",
        width=720,
        height=576,
        frames=6,
        fill=noisy,
    )
    flip(film)
    faults.continued(film, "--scale", "1", num_frames=6, damaged=True)


@pytest.mark.fault(row=7, injected="1 byte XORed in a slice of FFV1 with checksums")
def test_one_flipped_bit_of_ffv1(faults: Faults, make_clip: MakeClip) -> None:
    film = film_of("ffv1", faults, make_clip)
    flip(film, 1)
    document = faults.continued(film, num_frames=NUM_FRAMES, damaged=True)
    assert document["damaged_frames"] == 1


@pytest.mark.fault(row=7, injected="the same damaged film twice")
@pytest.mark.slow
def test_damage_gives_the_same_bytes_again(faults: Faults, make_clip: MakeClip) -> None:
    film = film_of("h264", faults, make_clip)
    flip(film)
    first = faults.continued(film)["digests"]["result"]
    (faults.target / "result.mkv").unlink()
    for record in faults.target.iterdir():
        record.unlink()
    assert faults.continued(film)["digests"]["result"] == first


HARM = {
    "20 kB zeroed": lambda path: zero(path, 20_000),
    "5 kB taken out": lambda path: cut_out(path, 5_000),
}


@pytest.mark.fault(row=8, injected="bytes zeroed or taken out in the middle")
@pytest.mark.parametrize("suffix", quick_only([".ts"], [".mkv", ".ts"]))
@pytest.mark.parametrize("harm", HARM)
def test_holes(faults: Faults, make_clip: MakeClip, harm: str, suffix: str) -> None:
    film = make_clip(
        faults.source / f"film{suffix}",
        frames=100,
        gop=10,
        fill=noisy,
        audio=["mp2"],
    )
    HARM[harm](film)
    document = faults.continued(film, damaged=True)
    assert 90 <= document["frames"] <= 100


@pytest.mark.fault(row=8, injected="a 5 kB hole of zeroes in the middle of an mp4's pictures")
def test_a_hole_in_mp4(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.mp4", frames=100, gop=10, fill=noisy, audio=["aac"])
    middle = spans(film)[50]
    with film.open("r+b") as file:
        file.seek(middle.start)
        file.write(bytes(5_000))
    faults.continued(film, num_frames=100, damaged=True)


def doubled(packets: list[Any]) -> list[Any]:
    with_copy = packets[:30]
    for packet in packets[10:13]:
        copy = av.Packet(bytes(packet))
        copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
        with_copy.insert(with_copy.index(packet) + 1, copy)
    return with_copy


def swapped(packets: list[Any]) -> list[Any]:
    order = packets[:30]
    times = [packet.dts for packet in order]
    order[10], order[11] = order[11], order[10]
    order[20], order[22] = order[22], order[20]
    for packet, dts in zip(order, times, strict=True):
        # Only dts has to rise; the pictures keep their own times.
        packet.dts = dts - 400
    return order


@pytest.mark.fault(row=8, injected="3 packets doubled; 2 pairs of packets swapped, in Matroska")
@pytest.mark.parametrize("how", [doubled, swapped])
def test_packets_in_disorder(faults: Faults, make_clip: MakeClip, how: Any) -> None:
    plain = make_clip(faults.source / "plain.mkv", frames=30, gop=10, codec="mpeg4", fill=noisy)
    film = reorder(plain, faults.source / "film.mkv", how)
    plain.unlink()
    document = faults.continued(film)
    assert 30 <= document["frames"] <= 33
    assert document["events"]


@pytest.mark.fault(row=9, injected="100 bytes XORed in the packets of the sound")
@pytest.mark.parametrize("suffix", quick_only([".mkv"], [".mkv", ".mp4"]))
def test_damaged_sound(faults: Faults, make_clip: MakeClip, suffix: str) -> None:
    options: dict[str, Any] = {"frames": 50, "audio": ["aac"], "fill": noisy, "gop": 10}
    film = make_clip(faults.source / f"film{suffix}", **options)
    pictures = faults.continued(film, suffix=".mp4", damaged=False)
    sound = packets(faults.target / "result.mp4", "video")
    for path in faults.target.iterdir():
        path.unlink()
    flip(film, kind="audio")
    document = faults.continued(film, suffix=".mp4")
    assert document["frames"] == pictures["frames"]
    # Sound is copied, not decoded: where the container has checksums, they tell.
    assert suffix != ".mkv" or "checksum" in {event["kind"] for event in document["events"]}
    assert packets(faults.target / "result.mp4", "video") == sound
    faults.tell("pictures as without damage, sound copied packet by packet")


def packets(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]
