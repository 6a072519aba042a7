"""Rows 18 to 20: names and tags meant to do harm, bombs, and what has no place in mp4."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.faults.promise import FAST, Faults, MakeClip, decoded, listing, quick_only

NAMES = [
    "-x.mp4",
    "--overwrite.mp4",
    "%03d.mp4",
    "concat:a.mp4",
    "http:a.mp4",
    "new\nline.mp4",
    "<script>alert(1)<_script>.mp4",
    "n" * 251 + ".mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    "a\x1b[2Jb.mp4",
]


@pytest.mark.fault(row=18, injected="films of hostile names, read and written by relative names")
@pytest.mark.parametrize("name", quick_only(NAMES[::3], NAMES), ids=lambda name: ascii(name)[1:30])
def test_names(
    faults: Faults, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain = make_clip(faults.source.parent / "plain.mp4", frames=3)
    shutil.copy(plain, faults.source / name)
    monkeypatch.chdir(faults.target)
    ended = faults.run("-q", "upscale", *FAST, "--", os.path.join("..", "in", name), name)  # noqa: PTH118 - the name as typed
    assert ended.code == 0, ended.err
    assert listing(faults.target) == [name]
    assert "\x1b" not in ended.out + ended.err
    assert listing(faults.source) == [name]
    (faults.target / name).rename(faults.target / "copy.mp4")
    assert decoded(faults.target / "copy.mp4") == 3
    faults.tell("a plain file, 3 frames")


TAGS: dict[str, str] = {
    "not UTF-8": "Caf\u00e9 noir",
    "1 MB": "x" * 1_000_000,
    "control codes": "a\x1b[2J\x07b\rc",
    "markup": "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>",
    "empty": "",
}


@pytest.mark.fault(row=18, injected="titles of hostile text, in the file and on the stream")
@pytest.mark.parametrize("suffix", quick_only([".mkv"], [".mkv", ".mp4"]))
@pytest.mark.parametrize("kind", TAGS)
def test_tags(faults: Faults, make_clip: MakeClip, kind: str, suffix: str) -> None:
    text = TAGS[kind]
    film = make_clip(
        faults.source / "film.mkv", frames=3, metadata={"title": text, "comment": text}
    )
    if kind == "not UTF-8":
        data = film.read_bytes()
        film.write_bytes(data.replace("Caf\u00e9".encode(), b"Caf\xe9!"))
    document = faults.continued(film, num_frames=3, suffix=suffix)
    assert document["check"]["ok"]
    for flags in ((), ("--json",)):
        ended = faults.run("probe", *flags, film)
        assert ended.code == 0
        assert "\x1b" not in ended.out + ended.err
    if kind in ("markup", "1 MB"):
        with av.open(str(faults.target / f"result{suffix}")) as container:
            assert container.metadata["title"] == text
        faults.tell("the tag is kept as it was")


def _sizes(path: Path, width: int, height: int) -> None:
    """Let every header of an AVI declare another size."""
    data, told = path.read_bytes(), struct.pack("<ii", 64, 48)
    assert told in data
    path.write_bytes(data.replace(told, struct.pack("<ii", width, height)))


@pytest.mark.fault(row=19, injected="an AVI whose headers declare 60,000x60,000 or 9,000x9,000")
@pytest.mark.parametrize("side", [60_000, 9_000])
def test_a_huge_size(faults: Faults, make_clip: MakeClip, side: int) -> None:
    film = make_clip(faults.source / "film.avi", codec="ffv1", frames=3)
    _sizes(film, side, side)
    faults.refused(film)


@pytest.mark.fault(row=19, injected="a scale that makes 64x48 more pixels than any encoder takes")
def test_a_huge_result(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.mkv", width=16_384, height=16, codec="ffv1", frames=1)
    faults.refused(film, "--scale", "100", code=2)


def _element(name: bytes, data: bytes) -> bytes:
    return name + struct.pack(">Q", 1 << 56 | len(data)) + data


def _matroska(num_tracks: int) -> bytes:
    """A film of Matroska with so many tracks of raw sound, and a packet of the first."""
    head = _element(b"\x1a\x45\xdf\xa3", _element(b"\x42\x82", b"matroska"))
    sound = _element(b"\xb5", struct.pack(">d", 8000.0)) + _element(b"\x62\x64", b"\x10")
    tracks = b"".join(
        _element(
            b"\xae",
            _element(b"\xd7", struct.pack(">I", number))
            + _element(b"\x73\xc5", struct.pack(">I", number))
            + _element(b"\x83", b"\x02")
            + _element(b"\x86", b"A_PCM/INT/LIT")
            + _element(b"\xe1", sound),
        )
        for number in range(1, num_tracks + 1)
    )
    block = _element(b"\xa3", b"\x81\x00\x00\x80" + bytes(160))
    cluster = _element(b"\x1f\x43\xb6\x75", _element(b"\xe7", b"\x00") + block)
    return head + _element(b"\x18\x53\x80\x67", _element(b"\x16\x54\xae\x6b", tracks) + cluster)


@pytest.mark.fault(row=19, injected="a Matroska film of 101 or 1,000,000 tracks")
@pytest.mark.parametrize(
    ("num_tracks", "words"),
    [
        (101, "101 streams, more than the 100 allowed"),
        pytest.param(1_000_000, "more than the 100 allowed|cannot|not a", marks=pytest.mark.slow),
    ],
)
def test_a_million_streams(faults: Faults, num_tracks: int, words: str) -> None:
    film = faults.source / "film.mkv"
    film.write_bytes(_matroska(num_tracks))
    faults.refused(film, words=words)


def _y4m(path: Path, rate: str) -> Path:
    """Three raw pictures under a header that we write."""
    picture = bytes(64 * 48 * 3 // 2)
    head = f"YUV4MPEG2 W64 H48 F{rate} Ip A1:1 C420jpeg\n".encode()
    path.write_bytes(head + 3 * (b"FRAME\n" + picture))
    return path


@pytest.mark.fault(row=19, injected="a header of 1,000,000,000 pictures a second")
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_billion_frames_a_second(faults: Faults, suffix: str) -> None:
    film = _y4m(faults.source / "film.y4m", "1000000000:1")
    if suffix == ".mkv":
        faults.refused(film, code=2, words="milliseconds")
    else:
        faults.continued(film, num_frames=3, suffix=suffix)


@pytest.mark.fault(row=19, injected="12 frames under a header of 10,000 hours")
def test_ten_thousand_hours(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.mkv", frames=12)
    data = bytearray(film.read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    data[place : place + 8] = struct.pack(">d", 36_000_000_000.0)
    film.write_bytes(data)
    faults.refused(film, code=6, words="will need about .* GB of disk")


def _with_pgs(path: Path, make_clip: MakeClip) -> None:
    """A film with a track of picture subtitles, of one empty set."""
    plain = make_clip(path.with_name("plain.mkv"), frames=12, audio=["aac"], subtitles="subrip")
    with av.open(str(plain)) as reader, av.open(str(path), "w") as writer:
        kept = {s.index: writer.add_stream_from_template(s, opaque=True) for s in reader.streams}
        pgs = writer.add_mux_stream("hdmv_pgs_subtitle")
        pgs.time_base = Fraction(1, 1000)
        packet = av.Packet(b"\x16\x00\x0b\x00\x40\x00\x30\x10\x00\x00\x00\x00\x00\x00\x80\x00\x00")
        packet.pts = packet.dts = 0
        packet.time_base, packet.stream, packet.duration = Fraction(1, 1000), pgs, 100
        packets: list[Any] = [packet]
        for given in reader.demux():
            if given.size:
                given.stream = kept[given.stream_index]
                packets.append(given)
        for each in packets:
            writer.mux(each)


def _with_attachment(path: Path, make_clip: MakeClip) -> None:
    make_clip(path, frames=12, audio=["aac"], attachment="font.ttf", subtitles="subrip", chapters=2)


def _with_timecode(path: Path, make_clip: MakeClip) -> None:
    make_clip(path, frames=12, audio=["aac"], metadata={"timecode": "01:02:03:04"})


EXTRAS: dict[str, tuple[str, Callable[[Path, MakeClip], None], str]] = {
    "attachment": ("film.mkv", _with_attachment, "attachment"),
    "timecode": ("film.mov", _with_timecode, "timecode"),
    "PGS": ("film.mkv", _with_pgs, "pgs"),
}


@pytest.mark.fault(row=20, injected="films with an attachment, a timecode track, PGS, into mp4")
@pytest.mark.parametrize("extra", EXTRAS)
def test_what_mp4_has_no_place_for(faults: Faults, make_clip: MakeClip, extra: str) -> None:
    name, make, word = EXTRAS[extra]
    film = faults.source / name
    make(film, make_clip)
    document = faults.continued(film, num_frames=12, suffix=".mp4")
    said = [
        entry
        for entry in document["plan"]
        if word in " ".join(str(value) for value in entry.values()).lower()
    ]
    assert said, document["plan"]
    actions = {entry.get("action") for entry in said} - {None}
    faults.tell(f"in the report: {', '.join(sorted(actions)) or 'said'}")
    assert actions & {"drop", "keep", "convert"}
