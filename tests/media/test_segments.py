"""The join: the same film, read back with av alone and compared exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.media.film import (
    YUV420_10,
    frames,
    pictures,
    read,
    remake,
    settings_for,
    video_info,
    write_segments,
)
from vsr.errors import EncodeError, OpenError
from vsr.frame import ColorSpec, Frame, Matrix, Primaries, Transfer
from vsr.media.encoder import EncoderSettings, SegmentEncoder
from vsr.media.probe import probe
from vsr.media.segments import join_segments
from vsr.media.streams import plan_streams
from vsr.media.timing import (
    average_rate,
    decode_times,
    frame_durations,
    is_leap,
    lone_time,
    movie_timescale,
    rescale,
    spread,
)

CONTAINERS = ["mkv", "mp4", "mov"]
TB = Fraction(1, 90000)
VFR = [180000 + t for t in (0, 3003, 3600, 9009, 9190, 18018, 18100, 24024, 30030, 36036, 48048)]
MILLISECOND = Fraction(1, 1000)


def round_ms(time: Fraction) -> Fraction:
    """To a millisecond, halves away from zero, by another route than the code under test."""
    return Fraction(int(abs(time) * 1000 + Fraction(1, 2)), 1000) * (1 if time >= 0 else -1)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, make_clip: Any) -> dict[str, Path]:
    """A source of each kind with everything in it: VFR, a start offset, two audio tracks..."""
    folder = tmp_path_factory.mktemp("rich")
    common = {
        "time_base": TB,
        "pts": VFR,
        "rate": Fraction(30000, 1001),
        "bframes": 3,
        "audio": ["aac", "aac"],
        "chapters": 2,
        "sar": Fraction(16, 15),
        "color": (1, 1, 1, 1),
        "metadata": {"title": "A film", "comment": "äöü"},
    }
    return {
        "mkv": make_clip(
            folder / "a.mkv", **common, subtitles="subrip", attachment="note.txt", cover_art=True
        ),
        "mp4": make_clip(folder / "b.mp4", **common, subtitles="mov_text"),
        "mov": make_clip(folder / "c.mov", **common, subtitles="mov_text"),
    }


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("origin", CONTAINERS)
@pytest.mark.parametrize("num_segments", [1, 3])
def test_the_film_is_the_same(
    rich: dict[str, Path], origin: str, container: str, num_segments: int
) -> None:
    film = remake(rich[origin], container, num_segments=num_segments, encoder_preset="medium")
    before, chapters, tags = read(rich[origin])
    after, new_chapters, new_tags = read(film.path)
    assert film.summary.notes == ()
    assert film.summary.num_bytes == film.path.stat().st_size

    (video,) = [t for t in after if t.kind == "video" and not t.disposition & 1024]
    base = probe(rich[origin]).video.time_base
    wanted = [p * base for p in film.pts]
    if container == "mkv":
        assert sorted(video.times) == [round_ms(t) for t in wanted]
    else:
        assert sorted(video.times) == wanted
    assert len(video.data) == film.summary.num_frames == len(film.pts)
    assert video.pts != sorted(video.pts), "B-frames were asked for"

    sounds = [t for t in before if t.kind == "audio"]
    new_sounds = [t for t in after if t.kind == "audio"]
    assert [t.data for t in new_sounds] == [t.data for t in sounds]
    for old, new in zip(sounds, new_sounds, strict=True):
        half_tick = max(old.time_base, new.time_base) / 2
        errors = [abs(a - b) for a, b in zip(old.times, new.times, strict=True)]
        assert max(errors) <= (half_tick if old.time_base != new.time_base else 0)
        assert language(new) == language(old)
        assert title(new) == title(old)

    (text,) = [t for t in before if t.kind == "subtitle"]
    (new_text,) = [t for t in after if t.kind == "subtitle"]
    assert new_text.codec == ("subrip" if container == "mkv" else "mov_text")
    assert cues(new_text) == cues(text) == [(0, 200, "First line"), (200, 200, "Zweite Zeile: äöü")]
    assert language(new_text) == language(text) == "eng"

    assert new_chapters == chapters
    assert [c["title"] for c in chapters] == ["Chapter 1", "Chapter 2"]
    assert new_tags["title"] == tags["title"] == "A film"
    assert {k.lower(): v for k, v in new_tags.items()}["comment"] == "äöü"
    assert title(video) == "Film"
    assert len([t for t in after if t.kind in ("audio", "subtitle")]) == 3


def title(track: Any) -> str | None:
    """A stream's title, which mp4 calls its name."""
    found: str | None = track.tags.get("title", track.tags.get("name"))
    return found


def language(track: Any) -> str | None:
    """A stream's language; mov knows German by its other code only."""
    code = track.tags.get("language")
    return {"ger": "deu", "und": None}.get(code, code)


def cues(track: Any) -> list[tuple[int, int, str]]:
    """Subtitles as (start, duration, text), without the empty samples of mp4."""
    result = []
    for pts, length, data in zip(track.pts, track.durations, track.data, strict=True):
        text = data[2:] if track.codec == "mov_text" else data
        if text:
            unit = track.time_base * 1000
            result.append((round(pts * unit), round(length * unit), text.decode()))
    return result


@pytest.mark.parametrize("container", CONTAINERS)
def test_picture_properties_are_kept(tmp_path: Path, make_clip: Any, container: str) -> None:
    source = make_clip(
        tmp_path / "a.mp4", sar=Fraction(16, 15), rotation=90, full_range=True, rate=Fraction(24)
    )
    color = ColorSpec(
        primaries=Primaries.SMPTE170M,
        transfer=Transfer.SMPTE170M,
        matrix=Matrix.SMPTE170M,
        full_range=True,
    )
    film = remake(source, container, color=color)
    old, new = probe(source).video, probe(film.path).video
    assert new.sample_aspect_ratio == Fraction(16, 15)
    assert new.display_matrix == old.display_matrix
    assert new.rotation == old.rotation != 0
    assert (new.color.primaries, new.color.transfer, new.color.matrix, new.color.full_range) == (
        Primaries.SMPTE170M,
        Transfer.SMPTE170M,
        Matrix.SMPTE170M,
        True,
    )
    assert new.frame_rate == 24


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("ffv1", "mkv"),
        ("prores", "mkv"),
        ("prores", "mov"),
        ("av1", "mkv"),
        ("av1", "mp4"),
        ("hevc", "mov"),
    ],
)
@pytest.mark.parametrize("aspect", [Fraction(16, 15), Fraction(10, 11), Fraction(64, 45)])
def test_every_codec_keeps_the_shape_of_pixels(
    tmp_path: Path, make_clip: Any, codec: str, container: str, aspect: Fraction
) -> None:
    source = make_clip(tmp_path / "a.mkv", sar=aspect, frames=6, audio=["aac"])
    film = remake(source, container, codec=codec, encoder_preset=None)
    new = probe(film.path).video
    assert new.sample_aspect_ratio == aspect
    assert len(read(film.path)[0][0].pts) == 6


@pytest.mark.parametrize("container", ["mp4", "mov"])
def test_hevc_is_tagged_for_every_player(tmp_path: Path, make_clip: Any, container: str) -> None:
    source = make_clip(tmp_path / "a.mp4")
    film = remake(source, container, codec="hevc")
    with av.open(str(film.path)) as opened:
        assert opened.streams.video[0].codec_context.codec_tag == "hvc1"


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1"])
@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_joined_segments_play_what_was_written(
    tmp_path: Path, make_clip: Any, codec: str, container: str
) -> None:
    source = make_clip(tmp_path / "a.mp4", pts=VFR, time_base=TB, rate=Fraction(30))
    film = remake(source, container, codec=codec, encoder_preset=None)
    apart = [luma for path in film.segments for _, luma in pictures(path)]
    assert [luma for _, luma in pictures(film.path)] == apart
    assert len(set(apart)) == len(VFR)


def unlike(settings: EncoderSettings, lengths: Sequence[int]) -> list[list[Frame]]:
    """Stretches that an encoder treats differently: noise, black, pattern, in turn."""
    made = frames(settings, range(sum(lengths)))
    rng = np.random.default_rng(1)
    stretches: list[list[Frame]] = []
    for number, length in enumerate(lengths):
        stretch, made = made[:length], made[length:]
        for index, frame in enumerate(stretch if number % 3 else ()):
            top = 1 << settings.layout.bits
            code = rng.integers(0, top, (len(frame.planes), *frame.planes[0].shape))
            planes: Any = tuple(
                (code[k, : p.shape[0], : p.shape[1]] if number % 3 == 1 else p * 0).astype(p.dtype)
                for k, p in enumerate(frame.planes)
            )
            stretch[index] = replace(frame, planes=planes)
        stretches.append(stretch)
    return stretches


@pytest.mark.parametrize(
    ("codec", "containers"),
    [
        ("h264", CONTAINERS),
        ("hevc", CONTAINERS),
        ("av1", ["mkv", "mp4"]),
        ("ffv1", ["mkv"]),
        ("prores", ["mkv", "mov"]),
        ("dnxhr", ["mov"]),
    ],
)
def test_segments_of_any_length_and_content_have_one_header(
    tmp_path: Path, make_clip: Any, codec: str, containers: list[str]
) -> None:
    lengths = [1, 9, 2, 20, 1, 1, 12, 3, 30, 2]
    source = make_clip(tmp_path / "a.mp4", frames=sum(lengths), width=256, height=128)
    info = probe(source)
    headers, alone, paths = set(), [], []
    base = settings_for(info.video, codec=codec, container=containers[0], encoder_preset=None)
    for number, stretch in enumerate(unlike(base, lengths)):
        paths.append(tmp_path / f"{number}.mkv")
        with SegmentEncoder(paths[-1], base) as encoder:
            for frame in stretch:
                encoder.encode(frame)
        with av.open(str(paths[-1])) as opened:
            headers.add(opened.streams.video[0].codec_context.extradata)
        alone += [luma for _, luma in pictures(paths[-1])]
    assert len(headers) == 1
    assert len(alone) == sum(lengths)
    for container in containers:
        settings = settings_for(info.video, codec=codec, container=container, encoder_preset=None)
        joined = tmp_path / f"joined.{container}"
        join_segments(
            paths,
            [512 * k for k in range(len(alone))],
            [512] * len(alone),
            source=source,
            info=info,
            plan=plan_streams(info, container),
            settings=settings,
            output=joined,
            container=container,
            metadata={},
        )
        assert [luma for _, luma in pictures(joined)] == alone


def test_ten_bits_stay_ten_bits(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "a.mkv", pixel_format="yuv420p10le", codec="libx265")
    for container in CONTAINERS:
        film = remake(source, container)
        new = probe(film.path).video
        assert (new.codec, new.pixel_format, new.layout.bits) == ("hevc", "yuv420p10le", 10)


@pytest.mark.parametrize("container", CONTAINERS)
def test_two_runs_give_the_same_bytes(rich: dict[str, Path], container: str) -> None:
    for origin in CONTAINERS:
        digests = {
            hashlib.sha256(
                remake(rich[origin], container, name=f"run{run}").path.read_bytes()
            ).hexdigest()
            for run in range(2)
        }
        assert len(digests) == 1, origin


def test_sound_whose_time_runs_ahead_alone_drags_nothing_along(
    tmp_path: Path, make_clip: Any
) -> None:
    source = make_clip(tmp_path / "a.mkv", audio=["aac"], frames=24)
    before = next(t for t in read(source)[0] if t.kind == "audio")
    data = bytearray(source.read_bytes())
    # In front of a block's payload stand its time, in two bytes, and its flags.
    place = data.find(before.data[7])
    data[place - 3] ^= 1
    source.write_bytes(data)
    leapt = next(t for t in read(source)[0] if t.kind == "audio")
    assert leapt.pts[7] == before.pts[7] + 256
    after = next(t for t in read(remake(source, "mkv").path)[0] if t.kind == "audio")
    assert after.data == before.data
    assert after.times[:7] == before.times[:7]
    assert after.times[8:] == before.times[8:]
    assert abs(after.times[7] - before.times[7]) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("last", "end", "time", "following", "leaps"),
    [
        (0, 10, 10, 20, False),
        (0, 10, 300, 20, True),
        (20, 30, 7, 40, True),
        (20, 30, 20, 40, True),
        (0, 10, 20, 15, False),  # the next one is early, not this one late
        (0, 10, 300, 0, False),  # the clock starts anew
        (0, 10, 300, 310, False),  # a gap
        (None, None, 300, 10, True),
        (None, None, 0, 10, False),
    ],
)
def test_only_a_lone_leap_is_one(
    last: int | None, end: int | None, time: int, following: int, leaps: bool
) -> None:
    assert is_leap(last, end, time, 10, following) == leaps
    if leaps:
        assert lone_time(end, 10, following) < following


def test_audio_run_in_moves_nothing(tmp_path: Path, make_clip: Any) -> None:
    """AAC from mp4 begins before 0; Matroska says so by codec delay, and the film stays put."""
    source = make_clip(tmp_path / "a.mp4", audio=["aac"], frames=24)
    film = remake(source, "mkv")
    old, new = (next(t for t in read(p)[0] if t.kind == "audio") for p in (source, film.path))
    assert old.times[0] == Fraction(-1024, 48000)
    assert new.times[0] == round_ms(old.times[0]) == Fraction(-21, 1000)
    assert sorted(read(film.path)[0][0].times) == [round_ms(Fraction(k, 25)) for k in range(24)]
    samples = []
    for path in (source, film.path):
        with av.open(str(path)) as opened:
            samples.append(b"".join(bytes(f.planes[0]) for f in opened.decode(audio=0)))
    assert samples[0] == samples[1]


def test_offsets_of_audio_are_exact_in_mp4(tmp_path: Path, make_clip: Any) -> None:
    """mp4 counts the start of tracks in ticks of the movie, 1000 a second if nobody objects."""
    source = make_clip(
        tmp_path / "a.mp4",
        audio=["aac"],
        start=1234567,
        time_base=TB,
        container_options={"movie_timescale": "90000"},
    )
    film = remake(source, "mp4")
    before, after = read(source)[0], read(film.path)[0]
    assert sorted(after[0].times) == [p * TB for p in film.pts]
    assert min(after[0].times) == Fraction(1234567, 90000)
    assert [t.times for t in after if t.kind == "audio"] == [
        t.times for t in before if t.kind == "audio"
    ]


def test_frames_within_one_millisecond_survive_mkv(tmp_path: Path, make_clip: Any) -> None:
    pts = [0, 30, 60, 3000, 3040, 3080, 6000]
    source = make_clip(tmp_path / "a.mp4", pts=pts, time_base=TB, rate=Fraction(30))
    film = remake(source, "mkv", encoder_preset="medium", num_segments=1)
    (video,) = read(film.path)[0]
    assert sorted(video.times) == [round_ms(p * TB) for p in pts]
    exact = remake(source, "mp4", encoder_preset="medium", num_segments=2)
    assert sorted(read(exact.path)[0][0].times) == [p * TB for p in pts]


def test_attachments_and_cover(rich: dict[str, Path], jpeg_bytes: bytes) -> None:
    film = remake(rich["mkv"], "mkv")
    with av.open(str(film.path)) as opened:
        (note,) = opened.streams.attachments
        assert (note.name, note.mimetype, note.data) == (
            "note.txt",
            "text/plain",
            b"attached bytes",
        )
        (cover,) = [s for s in opened.streams.video if s.disposition & 1024]
        assert cover.metadata == {"filename": "cover.jpg", "mimetype": "image/jpeg"}
        assert next(bytes(p) for p in opened.demux(cover) if p.size) == jpeg_bytes


@pytest.mark.parametrize(("origin", "container"), [("a.mp4", "mkv"), ("a.mkv", "mp4")])
def test_cover_crosses_containers(
    tmp_path: Path, make_clip: Any, jpeg_bytes: bytes, origin: str, container: str
) -> None:
    source = make_clip(tmp_path / origin, cover_art=True, metadata={"title": "T"})
    film = remake(source, container, metadata={"vsr_model": "x", "genre": "g"})
    tracks, _, tags = read(film.path)
    (cover,) = [t for t in tracks if t.disposition & 1024]
    assert cover.data == [jpeg_bytes]
    lower = {k.lower(): v for k, v in tags.items()}
    assert (lower["title"], lower["genre"]) == ("T", "g")
    if container == "mkv":
        assert lower["vsr_model"] == "x"
    else:
        # mp4 writes either a cover or tags of any name.
        assert film.summary.notes == ("tag vsr_model was not written: mp4 cannot hold it",)


@pytest.mark.parametrize("container", CONTAINERS)
def test_tags_of_ours_are_written(tmp_path: Path, make_clip: Any, container: str) -> None:
    source = make_clip(tmp_path / "a.mkv", metadata={"title": "T", "my_own": "kept"})
    film = remake(source, container, metadata={"vsr_model": "bicubic-x2"})
    lower = {k.lower(): v for k, v in read(film.path)[2].items()}
    assert (lower["vsr_model"], lower["title"], lower["my_own"]) == ("bicubic-x2", "T", "kept")


@pytest.mark.parametrize("container", CONTAINERS)
def test_timecode_is_kept(tmp_path: Path, make_clip: Any, container: str) -> None:
    source = make_clip(tmp_path / "a.mov", metadata={"timecode": "01:00:00:10"}, audio=["aac"])
    assert any(s.kind == "data" for s in probe(source).streams)
    film = remake(source, container)
    tracks, _, tags = read(film.path)
    found = {v for t in [tags, *(t.tags for t in tracks)] for k, v in t.items() if "imecode" in k}
    found |= {v for k, v in tags.items() if k == "TIMECODE"}
    assert found == {"01:00:00:10"}
    assert film.plan.losses == ()


def test_dispositions_are_kept(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "a.mkv", audio=["aac", "aac"])
    marked = tmp_path / "b.mkv"
    wanted = {0: Disposition(1), 1: Disposition(0), 2: Disposition(1 | 8)}
    with av.open(str(source)) as reader, av.open(str(marked), "w") as writer:
        targets = {}
        for stream in reader.streams:
            targets[stream.index] = writer.add_stream_from_template(stream, opaque=True)
            targets[stream.index].disposition = wanted[stream.index]
        for packet in reader.demux():
            if packet.size:
                packet.stream = targets[packet.stream_index]
                writer.mux(packet)
    film = remake(marked, "mkv")
    assert {k: t.disposition for k, t in enumerate(read(film.path)[0])} == {
        k: t.disposition for k, t in enumerate(read(marked)[0])
    }
    assert read(film.path)[0][2].disposition & 8


def test_audio_the_container_refuses_is_converted(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "a.mkv", audio=["libopus"], frames=24)
    film = remake(source, "mov")
    assert [(a.action, a.target_codec) for a in film.plan.actions] == [
        ("video", None),
        ("convert", "aac"),
    ]
    with av.open(str(film.path)) as opened:
        sound = opened.streams.audio[0]
        assert sound.codec_context.name == "aac"
        assert sound.metadata["language"] == "eng"
        length = sum(f.samples for f in opened.decode(sound)) / sound.codec_context.sample_rate
    assert length == pytest.approx(24 / 25, abs=0.05)


def test_nothing_is_left_behind_on_failure(tmp_path: Path, make_clip: Any) -> None:
    source = make_clip(tmp_path / "a.mp4")
    info = probe(source)
    settings = settings_for(info.video)
    pts = [512 * k for k in range(12)]
    segments = write_segments(tmp_path, settings, frames(settings, pts), 2)
    plan = plan_streams(info, "mkv")

    def join(**changes: Any) -> None:
        values: dict[str, Any] = {
            "segments": segments,
            "pts": pts,
            "durations": [512] * 12,
            "source": source,
            "info": info,
            "plan": plan,
            "settings": settings,
            "output": tmp_path / "o.part",
            "container": "mkv",
            "metadata": {},
        }
        join_segments(**{**values, **changes})

    with pytest.raises(EncodeError, match="hold 12 frames, but 11 were planned"):
        join(pts=pts[:-1], durations=[512] * 11)
    with pytest.raises(EncodeError, match="0 comes after 512"):
        join(pts=[0, 512, *pts[:10]])
    with pytest.raises(EncodeError, match="cannot be read"):
        (tmp_path / "bad.seg").write_bytes(segments[0].read_bytes()[:20])
        join(segments=[tmp_path / "bad.seg", segments[1]])
    other = settings_for(video_info(YUV420_10))
    strange = write_segments(tmp_path, other, frames(other, pts[6:]), 1)
    with pytest.raises(EncodeError, match="other settings"):
        join(segments=[segments[0], strange[0]])
    with pytest.raises(OpenError):
        join(source=tmp_path / "gone.mp4")
    assert not (tmp_path / "o.part").exists()
    join()
    assert (tmp_path / "o.part").exists()


class TestTiming:
    """The arithmetic."""

    @pytest.mark.parametrize(
        ("value", "expected"), [(45, 1), (44, 0), (135, 2), (-45, -1), (-44, 0), (-135, -2)]
    )
    def test_rescale_rounds_halves_away_from_zero(self, value: int, expected: int) -> None:
        assert rescale(value, TB, MILLISECOND) == expected

    def test_decode_times(self) -> None:
        order = [0, 4, 2, 1, 3, 5, 8, 6, 7]
        pts = [10, 13, 15, 40, 41, 50, 60, 61, 62]
        dts = decode_times(order, pts)
        assert dts == [4, 7, 10, 13, 15, 40, 41, 50, 60]
        assert all(d <= pts[f] for d, f in zip(dts, order, strict=True))

    def test_decode_times_without_reordering_are_the_pts(self) -> None:
        assert decode_times([0, 1, 2], [5, 9, 11]) == [5, 9, 11]

    def test_spread(self) -> None:
        assert spread([0, 1, 1, 1, 5]) == [-2, -1, 0, 1, 5]

    def test_durations(self) -> None:
        assert frame_durations([0, 3, 4], [9, 9, 7], Fraction(1, 2)) == [3, 1, 7]
        assert frame_durations([0, 3, 4], [0, 0, 0], Fraction(1, 2)) == [3, 1, 1]
        assert frame_durations([8], [0], Fraction(1, 512)) == [512]

    def test_average_rate(self) -> None:
        pts = [k * 3003 for k in range(100)]
        assert average_rate(pts, TB, Fraction(30000, 1001)) == Fraction(30000, 1001)
        assert average_rate(pts, TB, Fraction(1000)) == Fraction(30000, 1001)
        assert average_rate(pts, TB, None) == Fraction(30000, 1001)
        assert average_rate([0], TB, None) == 25

    def test_movie_timescale(self) -> None:
        scale = movie_timescale([TB, Fraction(1, 44100), Fraction(1001, 30000)])
        assert all(scale % d == 0 for d in (1000, 90000, 44100, 30000))
        assert movie_timescale([Fraction(1, 999_999_937)]) == 1000
