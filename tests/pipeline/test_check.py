"""A result that is not the same film fails, and the failing row says in what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import av
import pytest

from vsr.pipeline.check import check

MakeClip = Callable[..., Path]


def remux(source: Path, target: Path, change: Callable[[Any, int], Iterable[Any]]) -> Path:
    """Copy a file packet by packet; `change(packet, number of its kind)` gives what to write."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        streams = {
            stream.index: writer.add_stream_from_template(stream, opaque=True)
            for stream in reader.streams
            if stream.type in ("video", "audio")
        }
        counts = dict.fromkeys(streams, 0)
        for packet in reader.demux([reader.streams[index] for index in streams]):
            if not packet.size:
                continue
            index = packet.stream_index
            for changed in change(packet, counts[index]):
                changed.stream = streams[index]
                writer.mux(changed)
            counts[index] += 1
    return target


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("check") / "film.mkv"
    return make_clip(path, codec="ffv1", audio=["pcm_s16le", "pcm_s16le"], frames=12)


def failed(film: Path, result: Path) -> set[str]:
    verdict = check(film, result)
    assert verdict.ok == (not verdict.failures)
    return {row.name for row in verdict.failures}


def test_a_copy_is_the_same_film(film: Path, tmp_path: Path) -> None:
    copy = remux(film, tmp_path / "copy.mkv", lambda packet, _: [packet])
    assert failed(film, copy) == set()
    assert len(check(film, copy).rows) >= 8


def test_a_dropped_frame_is_found(film: Path, tmp_path: Path) -> None:
    result = remux(
        film,
        tmp_path / "r.mkv",
        lambda packet, n: [] if packet.stream.type == "video" and n == 5 else [packet],
    )
    assert failed(film, result) >= {"frames", "pts"}


def test_a_moved_frame_is_found(film: Path, tmp_path: Path) -> None:
    def move(packet: Any, number: int) -> list[Any]:
        if packet.stream.type == "video" and number == 5:
            packet.pts += 2
            packet.dts += 2
        return [packet]

    assert failed(film, remux(film, tmp_path / "r.mkv", move)) == {"pts"}


def test_a_changed_audio_packet_is_found(film: Path, tmp_path: Path) -> None:
    def change(packet: Any, number: int) -> list[Any]:
        if packet.stream_index != 2 or number != 1:
            return [packet]
        data = bytearray(bytes(packet))
        data[7] ^= 1
        other = av.Packet(bytes(data))
        other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
        other.duration = packet.duration
        return [other]

    assert failed(film, remux(film, tmp_path / "r.mkv", change)) == {"audio 1"}


def test_swapped_audio_is_found(film: Path, tmp_path: Path) -> None:
    swapped = tmp_path / "r.mkv"
    with av.open(str(film)) as reader, av.open(str(swapped), "w") as writer:
        order = [0, 2, 1]
        targets = {
            index: writer.add_stream_from_template(reader.streams[index], opaque=True)
            for index in order
        }
        for packet in reader.demux():
            if packet.size:
                packet.stream = targets[packet.stream_index]
                writer.mux(packet)
    assert failed(film, swapped) == {"audio 0", "audio 1"}


def test_late_sound_is_found(film: Path, tmp_path: Path) -> None:
    def delay(packet: Any, number: int) -> list[Any]:
        if packet.stream_index == 1:
            packet.pts += 20
            packet.dts += 20
        return [packet]

    assert failed(film, remux(film, tmp_path / "r.mkv", delay)) == {"audio 0 against the picture"}


def test_missing_sound_is_found(film: Path, tmp_path: Path) -> None:
    with av.open(str(film)) as reader, av.open(str(tmp_path / "r.mkv"), "w") as writer:
        target = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = target
                writer.mux(packet)
    assert failed(film, tmp_path / "r.mkv") >= {"audio 0", "audio 1", "audio streams"}


def test_a_broken_result_is_a_failed_row_not_an_error(film: Path, tmp_path: Path) -> None:
    broken = tmp_path / "r.mkv"
    broken.write_bytes(film.read_bytes()[:50])
    assert failed(film, broken) == {"decodes"}
    assert failed(film, tmp_path / "absent.mkv") == {"decodes"}


def test_a_truncated_result_is_found(film: Path, tmp_path: Path) -> None:
    cut = tmp_path / "r.mkv"
    cut.write_bytes(film.read_bytes()[: film.stat().st_size * 2 // 3])
    assert "frames" in failed(film, cut)
