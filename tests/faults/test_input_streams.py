"""Rows 10 to 13: films among other streams, films that change, and times that are not even."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.faults.damage import noisy, reorder
from tests.faults.promise import Faults, MakeClip, quick_only
from tests.pipeline.test_changes import NUM_EACH, glue
from tests.pipeline.test_container import two_films

MILLISECOND = Fraction(1, 1000)


def times(path: Path) -> list[Fraction]:
    """Of all pictures, in seconds, as av reads them."""
    with av.open(str(path)) as container:
        base: Any = container.streams.video[0].time_base
        return [
            frame.pts * Fraction(base.numerator, base.denominator)
            for frame in container.decode(video=0)
            if frame.pts is not None
        ]


def assert_same_rhythm(source: Path, result: Path) -> None:
    """Pictures follow each other as in the source, to Matroska's millisecond."""
    before, after = times(source), times(result)
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        assert abs((a - before[0]) - (b - after[0])) <= MILLISECOND


def events(document: dict[str, Any]) -> set[str]:
    return {event["kind"] for event in document["events"]}


def notes(document: dict[str, Any]) -> str:
    return " ".join(str(entry.get("note", "")) for entry in document["plan"])


@pytest.mark.fault(row=10, injected="sound without pictures; sound and cover art")
@pytest.mark.parametrize(
    ("cover", "words"), [(False, "no video stream, only audio"), (True, "only pictures are cover")]
)
def test_no_film(faults: Faults, make_clip: MakeClip, cover: bool, words: str) -> None:
    film = make_clip(faults.source / "a.mp4", video=False, audio=["aac"], cover_art=cover)
    faults.refused(film, words=words)


@pytest.mark.fault(row=10, injected="two films in one file")
def test_several_films(faults: Faults) -> None:
    film = two_films(faults.source / "two.mkv")
    document = faults.continued(film, num_frames=4)
    said = [entry["note"] for entry in document["plan"] if "video streams" in entry.get("note", "")]
    assert len(said) == 1
    faults.tell(said[0])


@pytest.mark.fault(row=10, injected="the codec's name overwritten, so that there is no decoder")
def test_an_unknown_codec(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "a.mkv", codec="ffv1", frames=3)
    data = film.read_bytes()
    assert data.count(b"V_FFV1") == 1
    film.write_bytes(data.replace(b"V_FFV1", b"V_ZZZ9"))
    faults.refused(film, words="codec that FFmpeg cannot name or decode")


@pytest.mark.fault(row=11, injected="streams of H.264 glued, the middle one of another kind")
@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("size", {"width": 96, "height": 72}),
        ("format", {"pixel_format": "yuv420p10le"}),
        ("pixel shape", {"sar": Fraction(2)}),
        ("matrix", {"color": (6, 6, 6, 1)}),
    ],
)
def test_changes_in_mid_stream(
    faults: Faults, make_clip: MakeClip, what: str, change: dict[str, Any]
) -> None:
    first: dict[str, Any] = {"color": (1, 1, 1, 1), "sar": Fraction(1)}
    parts = faults.source.parent / "parts"
    film = glue(make_clip, parts, [first, {**first, **change}, first], ".ts")
    film = film.rename(faults.source / "film.ts")
    document = faults.continued(film, num_frames=3 * NUM_EACH)
    assert "picture_change" in events(document)
    assert "changes its kind 2 times" in notes(document)
    faults.tell("both changes are events and a note")


@pytest.mark.fault(row=11, injected="the same, with PQ behind standard range")
def test_a_change_that_cannot_be_followed(faults: Faults, make_clip: MakeClip) -> None:
    parts: list[dict[str, Any]] = [
        {"color": (1, 1, 1, 1)},
        {"pixel_format": "yuv420p10le", "color": (9, 16, 9, 1)},
    ]
    film = glue(make_clip, faults.source.parent / "parts", parts, ".ts")
    faults.refused(film.rename(faults.source / "film.ts"), words="cannot be in one film")


@pytest.mark.fault(row=12, injected="steps of 1 to 900 ms")
@pytest.mark.parametrize("suffix", quick_only([".mp4"], [".mkv", ".mp4"]))
def test_variable_rate(faults: Faults, make_clip: MakeClip, suffix: str) -> None:
    pts = [0, 33, 67, 100, 133, 200, 201, 300, 1200, 1233, 1267, 1300]
    film = make_clip(faults.source / "film.mkv", time_base=MILLISECOND, rate=30, pts=pts)
    document = faults.continued(film, num_frames=12, suffix=suffix)
    assert_same_rhythm(film, faults.target / f"result{suffix}")
    assert document["events"] == []
    faults.tell("every time kept")


def _even(path: Path, make_clip: MakeClip, **options: Any) -> Path:
    return make_clip(path, time_base=MILLISECOND, pts=list(range(0, 480, 40)), **options)


@pytest.mark.fault(row=12, injected="a time twice; a time before the last")
@pytest.mark.parametrize(("kind", "name"), [("duplicate", "film.mkv"), ("backward", "film.mp4")])
def test_times_out_of_order(faults: Faults, make_clip: MakeClip, kind: str, name: str) -> None:
    plain = _even(faults.source / "plain.mkv", make_clip)

    def change(packets: list[Any]) -> list[Any]:
        for number, packet in enumerate(packets):
            if kind == "duplicate" and number == 5:
                packet.pts = packet.dts = 160
            if kind == "backward":
                packet.dts = number
                packet.pts = 80 if number == 6 else packet.pts
        return packets

    film = reorder(plain, faults.source / name, change)
    document = faults.continued(film, num_frames=12)
    assert events(document) & {f"{kind}_pts", "swapped_pts", "outlier_pts"}
    faults.tell(f"told: {', '.join(sorted(events(document)))}")


@pytest.mark.fault(row=12, injected="MPEG-4 with B-frames in AVI, raw H.264: no times at all")
@pytest.mark.parametrize(("name", "codec"), [("film.avi", "mpeg4"), ("film.h264", "libx264")])
def test_no_times(faults: Faults, make_clip: MakeClip, name: str, codec: str) -> None:
    film = make_clip(faults.source / name, codec=codec, bframes=2, frames=25)
    document = faults.continued(film)
    steps = {round((b - a) * 1000) for a, b in pairwise(times(faults.target / "result.mkv"))}
    assert len(steps) == 1
    assert document["frames"] >= 24
    faults.tell(f"even steps of {steps.pop()} ms")


@pytest.mark.fault(row=12, injected="a jump of 1,000 s in Matroska")
def test_a_jump(faults: Faults, make_clip: MakeClip) -> None:
    pts = [*range(0, 400, 40), *range(1_000_400, 1_000_800, 40)]
    film = make_clip(faults.source / "film.mkv", time_base=MILLISECOND, pts=pts)
    document = faults.continued(film, num_frames=20)
    span = times(faults.target / "result.mkv")
    if span[-1] - span[0] < 1000:
        assert events(document)
    faults.tell(f"the result lasts {float(span[-1] - span[0]):.2f} s")


@pytest.mark.fault(row=12, injected="a transport stream whose 33-bit clock wraps after 0.5 s")
def test_a_clock_that_wraps(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(
        faults.source / "film.ts",
        frames=30,
        time_base=Fraction(1, 90_000),
        start=2**33 - 45_000,
        container_options={"mpegts_copyts": "1"},
    )
    faults.continued(film, num_frames=30)
    assert_same_rhythm(film, faults.target / "result.mkv")
    faults.tell("every time kept")


@pytest.mark.fault(row=12, injected="a start before zero")
@pytest.mark.parametrize("suffix", quick_only([".mkv"], [".mkv", ".mp4"]))
def test_a_negative_start(faults: Faults, make_clip: MakeClip, suffix: str) -> None:
    film = make_clip(
        faults.source / "film.mov", start=-1536, time_base=Fraction(1, 12_800), audio=["aac"]
    )
    faults.continued(film, suffix=suffix)


STARTS: dict[str, dict[str, Any]] = {
    "2 s late": {"start": 25_600, "time_base": Fraction(1, 12_800)},
    "B-frames": {"bframes": 3},
    "edit list": {"bframes": 2, "start": 1024, "time_base": Fraction(1, 12_800)},
}


@pytest.mark.fault(row=13, injected="film and sound that start apart, from mp4 to all containers")
@pytest.mark.parametrize("suffix", quick_only([".mkv"], [".mkv", ".mp4", ".mov"]))
@pytest.mark.parametrize("start", STARTS)
def test_sound_stays_in_time(faults: Faults, make_clip: MakeClip, start: str, suffix: str) -> None:
    film = make_clip(faults.source / "film.mp4", audio=["aac"], frames=20, **STARTS[start])
    faults.continued(film, num_frames=20, suffix=suffix)
    assert_same_rhythm(film, faults.target / f"result{suffix}")


@pytest.mark.fault(row=13, injected="the first packets lost, so that an open GOP begins the film")
def test_an_open_group_begins_the_film(faults: Faults, make_clip: MakeClip) -> None:
    plain = make_clip(
        faults.source / "plain.mkv",
        frames=48,
        gop=12,
        bframes=2,
        fill=noisy,
        codec_options={"x264-params": "open-gop=1:keyint=12:b-adapt=0:log-level=none"},
    )

    def from_second_group(packets: list[Any]) -> list[Any]:
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        return packets[keys[1] :]

    film = reorder(plain, faults.source / "film.mkv", from_second_group)
    document = faults.continued(film)
    assert 36 <= document["frames"] <= 38
