"""Digests of packets: what is taken off before, and what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import pytest

from vsr.media.cues import plain_text, read_cues
from vsr.media.fingerprint import bare_payload, fingerprint, packet_times

MakeClip = Callable[..., Path]


def adts(payload: bytes, *, checksum: bool = False) -> bytes:
    """AAC in an ADTS frame, ISO/IEC 13818-7, 6.2."""
    length = len(payload) + (9 if checksum else 7)
    header = bytes(
        [
            *(0xFF, 0xF0 if checksum else 0xF1, 0x50),
            *(0x80 | length >> 11, length >> 3 & 0xFF, (length & 7) << 5 | 0x1F, 0xFC),
        ]
    )
    return header + (b"\x12\x34" if checksum else b"") + payload


@pytest.mark.parametrize("checksum", [False, True])
def test_adts_headers_are_taken_off(checksum: bool) -> None:
    framed = adts(b"payload of some length", checksum=checksum)
    assert bare_payload("aac", framed) == (b"payload of some length", "ADTS headers")
    assert bare_payload("mp3", framed) == (framed, "")
    assert bare_payload("aac", framed + b"x") == (framed + b"x", "")


def test_digests_are_those_of_the_packets(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "s.mkv", audio=["flac"], attachment="note.txt", bframes=2)
    found = fingerprint(path, [1, 7], film=0)
    assert set(found.prints) == {1}
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        data = [bytes(p) for p in packets]
        first = int.from_bytes(hashlib.sha256(data[0]).digest()[:8], "little")
        times = sorted(p.pts for p in packets if p.pts is not None)
    track = found.prints[1]
    assert list(track.sizes) == [len(piece) for piece in data]
    assert track.digests[0] == first
    assert track.bytes_sha256 == hashlib.sha256(b"".join(data)).hexdigest()
    assert list(track.pts) == times
    assert track.time(1) == times[1] * Fraction(1, 1000)
    assert [(f.name, f.size_bytes) for f in found.attachments] == [("note.txt", 14)]
    assert list(packet_times(path, 0)) == [40 * k for k in range(12)]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (b"0,0,Default,,0,0,0,,Hello, world", "Hello, world"),
        (b"0,0,D,,0,0,0,,{\\i1}Two{\\i0} \\N lines\\hhere", "Two\nlines here"),
        (b"nonsense", ""),
    ],
)
def test_plain_text(event: bytes, text: str) -> None:
    assert plain_text(event) == text


@pytest.mark.parametrize(("codec", "suffix"), [("subrip", ".mkv"), ("mov_text", ".mp4")])
def test_cues(make_clip: MakeClip, tmp_path: Path, codec: str, suffix: str) -> None:
    cues = read_cues(make_clip(tmp_path / f"s{suffix}", subtitles=codec), 1)
    assert [(c.start_s, c.text) for c in cues] == [
        (Fraction(0), "First line"),
        (Fraction(1, 5), "Zweite Zeile: äöü"),
    ]
