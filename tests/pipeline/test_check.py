"""A result that is not the same film fails, and the failing row says in what.

Results are real ones; tampering and the verdict beside ours are the oracle's, which knows nothing
of vsr.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.pipeline.oracle import altered, differences, facts, nearest, pictures, remux
from vsr.config import resolve_config
from vsr.media.fingerprint import Fingerprint
from vsr.pipeline.check import CheckResult, check
from vsr.pipeline.check_streams import _pushed
from vsr.pipeline.declared import TAG, Declared
from vsr.pipeline.upscale import upscale

MakeClip = Callable[..., Path]
NUM_FRAMES = 12
CONTAINERS = (".mkv", ".mp4")
BT709 = (1, 1, 1, 1)


def enlarge(source: Path, result: Path, **flags: Any) -> CheckResult:
    wishes = {"model": "bicubic-x2", "device": "cpu", "crf": 8, "encoder_preset": "veryfast"}
    return upscale(source, result, resolve_config(flags={**wishes, **flags})).check


@pytest.fixture(scope="module", params=CONTAINERS)
def film(
    request: pytest.FixtureRequest, make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A source and its clean result, in one container."""
    folder = tmp_path_factory.mktemp("check")
    source = make_clip(
        folder / f"source{request.param}",
        frames=NUM_FRAMES,
        color=BT709,
        audio=["flac", "flac"],
        subtitles="subrip" if request.param == ".mkv" else "mov_text",
        chapters=2,
        metadata={"title": "A film", "artist": "Somebody"},
    )
    result = folder / f"result{request.param}"
    assert enlarge(source, result).ok
    return source, result


@pytest.fixture
def tampered(film: tuple[Path, Path], tmp_path: Path) -> Callable[..., tuple[set[str], set[str]]]:
    """Copy the clean result with a change; names of failed rows, and what the oracle sees."""

    def tamper(**how: Any) -> tuple[set[str], set[str]]:
        source, result = film
        copy = remux(result, tmp_path / f"tampered{result.suffix}", **how)
        return failed(source, copy), differences(facts(source), facts(copy))

    return tamper


def failed(source: Path, result: Path) -> set[str]:
    found = check(source, result)
    assert found.ok == (not found.failures)
    return {row.name for row in found.failures}


def said(source: Path, result: Path, name: str) -> str:
    row = next(row for row in check(source, result).rows if row.name == name)
    return f"{row.source} | {row.result} | {row.note}"


# --- clean results ---------------------------------------------------------------------------


def test_the_oracle_agrees_on_a_clean_result(film: tuple[Path, Path]) -> None:
    source, result = film
    assert failed(source, result) == set()
    assert differences(facts(source), facts(result)) == set()
    before, after = pictures(source), pictures(result, (64, 48))
    assert nearest(before, after) == list(range(NUM_FRAMES))
    means = [np.mean(film, axis=(0, 1, 2)) for film in (before, after)]
    assert np.abs(means[0] - means[1]).max() < 0.5


def test_every_claim_has_a_row(film: tuple[Path, Path]) -> None:
    rows = {row.name for row in check(*film).rows}
    assert rows >= {
        *("decodes", "frames", "pts", "duration"),
        *("picture order", "picture likeness", "picture colour"),
        *("size", "display aspect ratio", "pixel aspect ratio", "rotation"),
        *("colour tags", "sample depth", "streams", "labels of streams"),
        *("audio 0", "audio 0 in time", "audio 1", "audio 1 in time"),
        *("subtitle 0", "subtitle 0 in time", "chapters", "tags", "attachments and covers"),
    }


def test_a_plain_copy_passes(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    assert tampered() == (set(), set())


def test_encoding_again_without_loss_passes(
    tampered: Callable[..., tuple[set[str], set[str]]],
) -> None:
    assert tampered(redraw=lambda frames: frames) == (set(), set())


# --- sound -----------------------------------------------------------------------------------


def test_one_changed_sound_packet(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film

    def change(packet: Any, name: str, number: int) -> list[Any]:
        if (name, number) != ("audio 1", 3):
            return [packet]
        data = bytearray(bytes(packet))
        data[len(data) // 2] ^= 1
        return [altered(packet, bytes(data))]

    copy = remux(result, tmp_path / f"r{result.suffix}", change=change)
    assert failed(source, copy) == {"audio 1"}
    assert "1 packets differ, the first is packet 3 at 0.288 s" in said(source, copy, "audio 1")
    assert differences(facts(source), facts(copy)) == {"audio"}


def test_a_lost_sound_packet(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    names, seen = tampered(change=lambda p, name, k: [] if (name, k) == ("audio 0", 4) else [p])
    assert names == {"audio 0"}
    assert "audio" in seen


def test_swapped_sound_tracks(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def order(names: list[str]) -> list[str]:
        return [{"audio 0": "audio 1", "audio 1": "audio 0"}.get(name, name) for name in names]

    names, seen = tampered(order=order)
    assert names == {"audio 0", "audio 1", "labels of streams"}
    assert seen == {"audio", "labels"}


def test_late_sound(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def delay(packet: Any, name: str, number: int) -> list[Any]:
        if name == "audio 1" and number >= 5:
            ticks = round(Fraction(1, 100) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return [packet]

    names, seen = tampered(change=delay)
    assert names == {"audio 1 in time"}
    assert seen == {"audio_offsets"}


def test_a_missing_track(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    names, _ = tampered(order=lambda names: [n for n in names if n != "audio 1"], change=only_known)
    assert names == {"audio 1", "streams"}


def only_known(packet: Any, name: str, number: int) -> list[Any]:
    return [] if name == "audio 1" else [packet]


# --- pictures --------------------------------------------------------------------------------


def test_a_dropped_frame(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    names, seen = tampered(redraw=lambda frames: frames[:-1])
    assert names == {"frames", "pts"}
    assert seen == {"times"}


def test_a_frame_dropped_with_its_time(
    tampered: Callable[..., tuple[set[str], set[str]]],
) -> None:
    def drop(packet: Any, name: str, number: int) -> list[Any]:
        return [] if name == "video 0" and not packet.is_keyframe and number == 11 else [packet]

    names, seen = tampered(change=drop)
    assert names >= {"frames", "pts"}
    assert seen >= {"times"}


def test_two_swapped_frames(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film

    def swap(frames: list[Any]) -> list[Any]:
        frames[5], frames[6] = frames[6], frames[5]
        return frames

    copy = remux(result, tmp_path / f"r{result.suffix}", redraw=swap)
    # Where pictures move fast, the fields of another frame have other colours too.
    assert failed(source, copy) - {"picture colour"} == {"picture order"}
    expected = "2 of 12 misplaced | frame 5 is nearer to source frame 6, frame 6 is nearer"
    assert expected in said(source, copy, "picture order")
    assert differences(facts(source), facts(copy)) == set()
    found = nearest(pictures(source), pictures(copy, (64, 48)))
    assert found == [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11]


def test_one_doubled_and_one_dropped(
    tampered: Callable[..., tuple[set[str], set[str]]],
) -> None:
    def repeat(frames: list[Any]) -> list[Any]:
        return [*frames[:4], again(frames[3]), *frames[4:8], *frames[9:]]

    names, seen = tampered(redraw=repeat)
    assert names - {"picture colour"} == {"picture order"}
    assert seen == set()


def again(frame: Any) -> Any:
    """The same picture in a frame of its own."""
    copy = av.VideoFrame.from_ndarray(frame.to_ndarray(), frame.format.name)
    copy.time_base = frame.time_base
    return copy


def test_all_black(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    names, seen = tampered(redraw=lambda frames: [black(frame) for frame in frames])
    assert names == {"picture likeness", "picture colour"}
    assert seen == set()


def black(frame: Any) -> Any:
    picture = again(frame)
    for plane, code in zip(picture.planes, (16, 128, 128), strict=True):
        plane.update(bytes([code]) * plane.buffer_size)
    return picture


def test_one_black_tile_in_one_frame(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def blot(frames: list[Any]) -> list[Any]:
        luma = frames[7].planes[0]
        rows = np.frombuffer(bytes(luma), np.uint8).reshape(luma.height, luma.line_size).copy()
        rows[:32, :32] = 16
        frames[7] = again(frames[7])
        frames[7].planes[0].update(rows.tobytes())
        return frames

    assert tampered(redraw=blot)[0] == {"picture colour"}


@pytest.mark.parametrize("first", [0, 4])
def test_pts_one_tick_late(tampered: Callable[..., tuple[set[str], set[str]]], first: int) -> None:
    """All of them, or all from one frame on."""

    def shift(packet: Any, name: str, number: int) -> list[Any]:
        if name == "video 0" and number >= first:
            packet.pts += 1
            packet.dts = packet.dts if packet.dts is None else packet.dts + 1
        return [packet]

    names, _ = tampered(change=shift)
    assert names == {"pts"}


def test_one_pts_one_tick_off(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film
    ordered = sorted(time for time in facts(result).times)

    def shift(packet: Any, name: str, number: int) -> list[Any]:
        if name == "video 0" and packet.pts * packet.time_base == ordered[5]:
            packet.pts += 1
        return [packet]

    copy = remux(result, tmp_path / f"r{result.suffix}", change=shift)
    assert failed(source, copy) == {"pts"}
    assert "frame 5 is +1 ticks off" in said(source, copy, "pts")


def test_a_flipped_range_flag(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film
    for redraw in (None, lambda frames: frames):
        # In the header alone, and in the pictures as well where those have a place for it.
        copy = remux(result, tmp_path / f"r{result.suffix}", color_range=2, redraw=redraw)
        assert "colour tags" in failed(source, copy)
        assert "range" in said(source, copy, "colour tags")


def test_a_flipped_range_shows_in_the_pictures(make_clip: MakeClip, tmp_path: Path) -> None:
    """ffv1 has no range of its own: the flag in the header decides what its codes mean."""
    source = make_clip(tmp_path / "s.mkv", color=BT709)
    assert enlarge(source, tmp_path / "r.mkv", codec="ffv1", crf=None, encoder_preset=None).ok
    copy = remux(tmp_path / "r.mkv", tmp_path / "t.mkv", color_range=2)
    assert failed(source, copy) == {"colour tags", "picture colour"}
    means = [np.mean(pictures(path), axis=(0, 1, 2)) for path in (source, copy)]
    assert np.abs(means[0] - means[1]).max() > 0.5


# --- everything else ---------------------------------------------------------------------------


def test_a_removed_tag(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film

    def without(tags: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in tags.items() if key.lower() != "artist"}

    copy = remux(result, tmp_path / f"r{result.suffix}", tags=without)
    assert failed(source, copy) == {"tags"}
    assert "artist is missing" in said(source, copy, "tags").lower()
    assert differences(facts(source), facts(copy)) == {"tags"}


def test_another_language(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def rename(name: str, tags: dict[str, str]) -> dict[str, str]:
        return {**tags, "language": "ita"} if name == "audio 0" else tags

    assert tampered(stream_tags=rename) == ({"labels of streams"}, {"labels"})


def test_a_moved_chapter(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def move(marks: list[Any]) -> list[Any]:
        ticks = round(Fraction(1, 20) / marks[1]["time_base"])
        marks[0]["end"] += ticks
        marks[1]["start"] += ticks
        return marks

    assert tampered(chapters=move) == ({"chapters"}, {"chapters"})


def test_a_renamed_chapter(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def rename(marks: list[Any]) -> list[Any]:
        return [{**mark, "metadata": {"title": "Other"}} for mark in marks]

    assert tampered(chapters=rename) == ({"chapters"}, {"chapters"})


def test_changed_subtitle_text(tampered: Callable[..., tuple[set[str], set[str]]]) -> None:
    def change(packet: Any, name: str, number: int) -> list[Any]:
        data = bytes(packet)
        if name == "subtitle 0" and b"First" in data:
            return [altered(packet, data.replace(b"First", b"Wurst"))]
        return [packet]

    assert tampered(change=change) == ({"subtitle 0"}, {"subtitles"})


@pytest.mark.parametrize(("codec", "suffix"), [("subrip", ".mp4"), ("mov_text", ".mkv")])
def test_changed_text_of_converted_subtitles(
    make_clip: MakeClip, tmp_path: Path, codec: str, suffix: str
) -> None:
    inner = ".mkv" if codec == "subrip" else ".mp4"
    source = make_clip(tmp_path / f"s{inner}", subtitles=codec, color=BT709)
    result = tmp_path / f"r{suffix}"
    assert enlarge(source, result).ok

    def change(packet: Any, name: str, number: int) -> list[Any]:
        data = bytes(packet)
        if name == "subtitle 0" and b"First" in data:
            return [altered(packet, data.replace(b"First", b"Wurst"))]
        return [packet]

    copy = remux(result, tmp_path / f"t{suffix}", change=change)
    assert failed(source, copy) == {"subtitle 0"}
    assert "'Wurst line' instead of 'First line'" in said(source, copy, "subtitle 0")


def test_a_broken_result_is_a_failed_row_not_an_error(
    film: tuple[Path, Path], tmp_path: Path
) -> None:
    source, result = film
    broken = tmp_path / result.name
    broken.write_bytes(result.read_bytes()[:50])
    assert failed(source, broken) == {"decodes"}
    assert failed(source, tmp_path / "absent.mkv") == {"decodes"}


def test_a_damaged_picture(film: tuple[Path, Path], tmp_path: Path) -> None:
    source, result = film

    def change(packet: Any, name: str, number: int) -> list[Any]:
        if (name, number) != ("video 0", 4):
            return [packet]
        data = bytes(packet)
        return [altered(packet, data[: len(data) // 2] + bytes(len(data) - len(data) // 2))]

    copy = remux(result, tmp_path / f"r{result.suffix}", change=change)
    assert "decodes" in failed(source, copy)


def test_what_was_left_out_has_to_be_declared(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mkv", audio=["flac", "flac"], color=BT709)
    result = tmp_path / "r.mkv"
    assert enlarge(source, result).ok

    def leave_out(text: str | None) -> Path:
        def tag(tags: dict[str, str]) -> dict[str, str]:
            return tags if text is None else {**tags, TAG: text}

        return remux(
            result,
            tmp_path / "t.mkv",
            order=lambda names: [n for n in names if n != "audio 1"],
            change=only_known,
            tags=tag,
        )

    assert failed(source, leave_out(None)) == {"audio 1", "streams"}
    assert failed(source, leave_out(Declared(left_out=(2,)).to_tag())) == set()
    assert failed(source, leave_out("nonsense")) == {"declaration"}


# --- no false alarm ----------------------------------------------------------------------------


def still(frame: Any, index: int) -> None:
    draw(frame, lambda y, x, plane: 60 + 2 * (x % 16) + 3 * (y % 8))


def nothing(frame: Any, index: int) -> None:
    draw(frame, lambda y, x, plane: np.full_like(x, 128 if plane else 16))


def noise(frame: Any, index: int) -> None:
    random = np.random.default_rng(index)
    draw(frame, lambda y, x, plane: random.integers(16, 236, x.shape))


def fade(frame: Any, index: int) -> None:
    share = 1 - index / (NUM_FRAMES - 1)

    def fill(y: np.ndarray, x: np.ndarray, plane: int) -> np.ndarray:
        return 128 + 0 * x if plane else 16 + share * (100 + x + y)

    draw(frame, fill)


def slow_fade(frame: Any, index: int) -> None:
    draw(frame, lambda y, x, plane: 128 + 0 * x if plane else 80 + x + index // 3)


def draw(frame: Any, fill: Callable[[np.ndarray, np.ndarray, int], Any]) -> None:
    for number, plane in enumerate(frame.planes):
        y, x = np.mgrid[0 : plane.height, 0 : plane.line_size]
        plane.update(np.asarray(fill(y, x, number)).astype(np.uint8).tobytes())


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("fill", [still, nothing, noise, fade, slow_fade])
def test_no_false_alarm(
    make_clip: MakeClip, tmp_path: Path, suffix: str, fill: Callable[[Any, int], None]
) -> None:
    source = make_clip(tmp_path / "s.mkv", frames=NUM_FRAMES, fill=fill, codec="ffv1")
    found = enlarge(source, tmp_path / f"r{suffix}", crf=18)
    assert found.ok, found.failures
    alone = check(source, tmp_path / f"r{suffix}")
    assert alone.ok, alone.failures


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_no_false_alarm_at_variable_rate(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    pts = [0, 1001, 1502, 3003, 3300, 7000, 7900, 9009, 9050, 12012, 13000, 14000]
    source = make_clip(
        tmp_path / "s.mp4", pts=pts, time_base=Fraction(1, 30000), rate=30, bframes=2, audio=["aac"]
    )
    found = enlarge(source, tmp_path / f"r{suffix}")
    assert found.ok, found.failures


def test_low_quality_is_no_alarm(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mp4")
    found = enlarge(source, tmp_path / "r.mp4", crf=35)
    assert found.ok, found.failures


# --- what was changed on purpose ---------------------------------------------------------------


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_cut_is_held_to_what_it_declares(
    make_clip: MakeClip, tmp_path: Path, suffix: str
) -> None:
    source = make_clip(
        tmp_path / "s.mkv", frames=30, color=BT709, audio=["ac3"], subtitles="subrip", chapters=3
    )
    result = tmp_path / f"r{suffix}"
    assert enlarge(source, result, start=0.2, duration=0.6).ok
    assert failed(source, result) == set()

    def without(tags: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in tags.items() if key.upper() != TAG}

    assert failed(source, remux(result, tmp_path / f"t{suffix}", tags=without)) >= {
        *("frames", "pts", "duration", "audio 0", "chapters")
    }


def test_a_ratio_that_is_no_whole_number(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "s.mkv", color=BT709)
    assert enlarge(source, tmp_path / "r.mkv", size="110x82", fit="stretch").ok
    assert failed(source, tmp_path / "r.mkv") == set()


@pytest.mark.parametrize(
    ("times_us", "expected_us"),
    [
        ([0, 24_000, 48_000], 0),
        # Three at one time: two ticks for the last.
        ([0, 24_000, 48_000, 48_000, 48_000], 2000),
        ([0, 24_000, 47_900, 48_000, 48_000], 1900),
        ([0, 47_000, 48_000], 0),
        # A time before the one before is no crowd.
        ([0, 60_000, 48_000], 0),
    ],
)
def test_sound_gives_way_by_no_more_than_a_tick_for_each(
    times_us: list[int], expected_us: int
) -> None:
    found = Fingerprint(Fraction(1, 10**6))
    for time in times_us:
        found.pts.append(time)
        found.digests.append(0)
    pushed = _pushed(found, len(times_us) - 1, Fraction(1, 1000))
    assert pushed == Fraction(expected_us, 10**6)
