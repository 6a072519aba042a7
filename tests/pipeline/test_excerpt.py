"""Parts of a film: exact frames, and everything beside them moved by the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.media.film import frames, settings_for, video_info
from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.frame import SideData
from vsr.media.encoder import SegmentEncoder
from vsr.media.probe import Chapter, probe
from vsr.media.stretches import Stretch, cut_chapters
from vsr.pipeline.check import check
from vsr.pipeline.excerpt import Wish, find_parts, moved_pts, wishes
from vsr.pipeline.timeline import Timeline
from vsr.pipeline.upscale import UpscaleResult, upscale

MakeClip = Callable[..., Path]
BASE = Fraction(1, 1000)


def times(*pts: int) -> Timeline:
    return Timeline.from_frames(pts, [0] * len(pts))


def test_frames_belong_where_they_begin_and_the_result_begins_at_zero() -> None:
    film = times(100, 140, 200, 260, 300, 340)
    (part,) = find_parts(
        [Wish(Fraction(1, 20), Fraction(1, 5))], film, BASE, Fraction(25), reaches_end=True
    )
    assert (part.first, part.num_frames, part.moved) == (2, 2, -200)
    assert part.stretch == Stretch(start=Fraction(1, 5), end=Fraction(3, 10), shift=Fraction(-1, 5))
    assert moved_pts((part,), [200, 260]) == [0, 60]


def test_the_films_own_ends_stay_open() -> None:
    film = times(100, 140, 180)
    wishes = [Wish(Fraction(0), None)]
    (whole,) = find_parts(wishes, film, BASE, Fraction(25), reaches_end=True)
    assert whole.stretch == Stretch(start=None, end=None, shift=Fraction(0))
    assert whole.moved == 0


def test_stretches_follow_one_another_without_a_gap() -> None:
    film = times(*range(0, 1000, 40))
    wishes = [Wish(Fraction(k, 10), Fraction(k + 1, 10)) for k in (1, 4, 7)]
    parts = find_parts(wishes, film, BASE, Fraction(25), reaches_end=True)
    pts = [t for p in parts for t in film.pts()[p.first : p.first + p.num_frames]]
    assert pts == [120, 160, 400, 440, 480, 720, 760]
    assert moved_pts(parts, pts) == [0, 40, 80, 120, 160, 200, 240]


def test_nothing_there_is_said_with_the_length_of_the_film() -> None:
    with pytest.raises(ConfigError, match=r"no picture begins from 2\.000 s on: .* 0\.080 s"):
        find_parts([Wish(Fraction(2), None)], times(0, 40), BASE, Fraction(25), reaches_end=True)


def test_chapters_are_clipped_moved_and_joined_again() -> None:
    chapters = [
        Chapter(id=k, start=k * 100, end=k * 100 + 100, time_base=BASE, metadata={"title": str(k)})
        for k in range(4)
    ]
    stretches = [
        Stretch(start=Fraction(1, 20), end=Fraction(3, 20), shift=Fraction(-1, 20)),
        Stretch(start=Fraction(4, 25), end=Fraction(9, 50), shift=Fraction(-3, 50)),
        Stretch(start=Fraction(3, 10), end=None, shift=Fraction(-9, 50)),
    ]
    cut = cut_chapters(chapters, stretches)
    assert [(c.start, c.end, c.metadata["title"]) for c in cut] == [
        (0, 50, "0"),
        (50, 120, "1"),
        (120, 220, "3"),
    ]


@pytest.fixture(scope="module")
def film(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(
        tmp_path_factory.mktemp("excerpt") / "film.mp4",
        frames=50,
        bframes=2,
        gop=10,
        audio=["aac", "aac"],
        subtitles="mov_text",
        chapters=4,
    )


def run(source: Path, output: Path, **flags: Any) -> UpscaleResult:
    config = {"model": "bicubic-x2", "device": "cpu", **flags}
    return upscale(source, output, resolve_config(flags=config))


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)  # type: ignore[union-attr]
        return [(p.pts * base, bytes(p)) for p in container.demux(stream) if p.size]  # type: ignore[operator]


def frame_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)  # type: ignore[union-attr]
        return [frame.pts * base for frame in container.decode(stream)]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("suffix", "flags", "frames"),
    [
        (".mkv", {"start": "1.3"}, [range(33, 50)]),
        (".mp4", {"start": "0.5", "duration": "0:00.6"}, [range(13, 28)]),
        (".mkv", {"duration": 0.4}, [range(10)]),
        (".mp4", {"duration": 0.4}, [range(10)]),
        (".mkv", {"sample": "2x0.4s"}, [range(8, 18), range(33, 43)]),
        (".mp4", {"sample": "2x0.4s"}, [range(8, 18), range(33, 43)]),
    ],
)
def test_frames_sound_and_check(
    film: Path, tmp_path: Path, suffix: str, flags: dict[str, Any], frames: list[range]
) -> None:
    output = tmp_path / f"part{suffix}"
    result = run(film, output, **flags)
    assert result.check.ok
    num = sum(map(len, frames))
    assert [round(t * 25) for t in frame_times(output)] == list(range(num))
    assert any("Only a part" in str(entry.get("note")) for entry in result.plan)
    before, after = packets(film, "audio"), packets(output, "audio")
    expected, origin = [], Fraction(0)
    for taken in frames:
        start, end = Fraction(taken[0], 25), Fraction(taken[-1] + 1, 25)
        low = Fraction(-1) if taken[0] == 0 else start
        high = Fraction(9) if taken[-1] == 49 else end
        expected += [(t - start + origin, data) for t, data in before if low <= t < high]
        origin += end - start
    assert [data for _, data in after] == [data for _, data in expected]
    moved = [a - b for (a, _), (b, _) in zip(after, expected, strict=True)]
    assert max(map(abs, moved)) <= Fraction(1, 1000) + Fraction(1, 96000)
    again = check(film, output)
    assert again.ok, again.failures


def test_chapters_and_subtitles_of_the_part(film: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.mkv"
    run(film, output, start="0.2", duration="1")
    with av.open(str(output)) as container:
        marks = [(c["start"], c["end"], c["metadata"]["title"]) for c in container.chapters()]
    unit = marks[-1][1] // 1000 or 1
    assert [(a // unit, b // unit, title) for a, b, title in marks] == [
        (0, 300, "Chapter 1"),
        (300, 800, "Chapter 2"),
        (800, 1000, "Chapter 3"),
    ]
    assert [t for t, _ in packets(output, "subtitle")] == [0]


def test_more_samples_than_film_take_all_of_it(film: Path) -> None:
    info = probe(film)
    assert wishes(resolve_config(flags={"sample": "3x10s"}), info) == ()
    assert wishes(resolve_config(flags={"sample": "1x1s"}), info) == (
        Wish(Fraction(1, 2), Fraction(3, 2)),
    )


def test_a_start_after_the_end_is_refused(film: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the film lasts 2\.000 s"):
        run(film, tmp_path / "none.mkv", start="7")
    assert list(tmp_path.iterdir()) == []


def test_two_parts_give_the_same_bytes(film: Path, tmp_path: Path) -> None:
    for name in ("a.mkv", "b.mkv"):
        run(film, tmp_path / name, start="0.8", duration="0.4")
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_captions_of_what_is_taken(tmp_path: Path) -> None:
    """Those of the rest of the film are not missed."""
    settings = settings_for(video_info(frame_rate=Fraction(5)), encoder_preset="ultrafast")
    made = frames(settings, range(0, 4000, 400), captions=b"\xfc\x94\x2c")
    with SegmentEncoder(tmp_path / "film.mkv", settings) as encoder:
        for index, frame in enumerate(made):
            data = b"\xfc" + bytes([index, 1])
            encoder.encode(replace(frame, side_data=(SideData("A53_CC", data),)))
    result = run(tmp_path / "film.mkv", tmp_path / "out.mkv", start="0.02", duration="0.04")
    (captions,) = (row for row in result.check.rows if row.name == "closed captions")
    assert (captions.source, captions.result) == ("in 4 frames", "in 4 frames")
