"""The stream plan: what is kept, converted or dropped, and why."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.media.film import read, remake
from vsr.errors import ConfigError, OpenError
from vsr.media.matroska import display_size
from vsr.media.probe import probe
from vsr.media.streams import StreamPlan, plan_streams
from vsr.media.tags import container_tags, mov_language, stream_tags


def actions(plan: StreamPlan) -> list[tuple[str, str, str | None, bool]]:
    return [(a.kind, a.action, a.target_codec, a.is_loss) for a in plan.actions]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory, make_clip: Any) -> Path:
    folder = tmp_path_factory.mktemp("rich")
    path: Path = make_clip(
        folder / "a.mkv",
        audio=["aac", "libopus"],
        subtitles="subrip",
        attachment="font.ttf",
        cover_art=True,
        chapters=2,
        metadata={"title": "T", "my_own": "x"},
    )
    return path


def test_mkv_keeps_everything(rich: Path) -> None:
    plan = plan_streams(probe(rich), "mkv")
    assert actions(plan) == [
        ("video", "video", None, False),
        ("audio", "keep", None, False),
        ("audio", "keep", None, False),
        ("subtitle", "keep", None, False),
        ("attachment", "keep", None, False),
        ("cover", "keep", "attachment", False),
    ]
    assert plan.losses == ()
    assert plan.chapters
    assert {k.lower(): v for k, v in plan.metadata.items()} == {"title": "T", "my_own": "x"}


def test_mp4_converts_text_and_loses_attachments(rich: Path) -> None:
    plan = plan_streams(probe(rich), "mp4")
    assert actions(plan) == [
        ("video", "video", None, False),
        ("audio", "keep", None, False),
        ("audio", "keep", None, False),
        ("subtitle", "convert", "mov_text", False),
        ("attachment", "drop", None, True),
        ("cover", "keep", None, False),
    ]
    assert plan.losses == (
        f"attachment 4 ({plan.of(4).codec}): drop (mp4 cannot hold attachments)",
        "tag MY_OWN: mp4 cannot hold it",
    )
    # A cover and tags of any name exclude each other in mp4.
    assert not plan.use_metadata_keys
    assert plan.metadata == {"title": "T"}


def test_mov_loses_the_cover_and_converts_opus(rich: Path) -> None:
    plan = plan_streams(probe(rich), "mov")
    assert actions(plan)[1:] == [
        ("audio", "keep", None, False),
        ("audio", "convert", "aac", True),
        ("subtitle", "convert", "mov_text", False),
        ("attachment", "drop", None, True),
        ("cover", "drop", None, True),
    ]
    assert plan.use_metadata_keys
    assert plan.metadata == {"title": "T", "my_own": "x"}


def test_mov_text_becomes_subrip_in_mkv(tmp_path: Path, make_clip: Any) -> None:
    plan = plan_streams(probe(make_clip(tmp_path / "a.mp4", subtitles="mov_text")), "mkv")
    assert actions(plan)[1:] == [("subtitle", "convert", "subrip", False)]


def test_plan_survives_json(rich: Path) -> None:
    plan = plan_streams(probe(rich), "mp4")
    assert StreamPlan.model_validate_json(plan.model_dump_json()) == plan


def test_the_chapter_track_of_mp4_is_no_loss(tmp_path: Path, make_clip: Any) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", chapters=3, audio=["aac"]))
    assert [s.kind for s in info.streams] == ["video", "audio", "data"]
    plan = plan_streams(info, "mp4")
    assert actions(plan)[2] == ("data", "drop", None, False)
    assert "chapter" in plan.of(2).reason


def test_a_second_film_is_dropped_and_said(tmp_path: Path, make_clip: Any) -> None:
    one = make_clip(tmp_path / "a.mp4")
    two = tmp_path / "b.mp4"
    with av.open(str(one)) as reader, av.open(str(two), "w") as writer:
        source = reader.streams.video[0]
        targets = [writer.add_stream_from_template(source, opaque=True) for _ in range(2)]
        packets = [p for p in reader.demux(source) if p.size]
        for packet in packets:
            for target in targets:
                copy = av.Packet(bytes(packet))
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base, copy.is_keyframe = packet.time_base, packet.is_keyframe
                copy.stream = target
                writer.mux(copy)
    plan = plan_streams(probe(two), "mkv")
    assert [(a.action, a.is_loss) for a in plan.actions] == [("video", False), ("drop", True)]
    assert plan.losses == (
        "video 1 (h264): drop (a result holds one film; another stream was chosen)",
    )


@pytest.mark.parametrize(
    ("audio", "subs", "kept"),
    [
        ("all", "all", [1, 2, 3]),
        ("none", "all", [3]),
        ("eng", "none", [1]),
        ("1", "eng", [2, 3]),
        ("deu, 0", "0", [1, 2, 3]),
    ],
)
def test_streams_can_be_chosen(rich: Path, audio: str, subs: str, kept: list[int]) -> None:
    plan = plan_streams(probe(rich), "mkv", audio=audio, subs=subs)
    chosen = [
        a.index for a in plan.actions if a.kind in ("audio", "subtitle") and a.action == "keep"
    ]
    assert chosen == kept
    # What was not wished for is not lost.
    assert plan.losses == ()


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"audio": "jpn"}, "no audio stream matches 'jpn'; the source has 0:eng, 1:deu"),
        ({"subs": "7"}, "no subtitle stream matches '7'"),
    ],
)
def test_a_choice_that_matches_nothing_is_refused(
    rich: Path, choice: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_streams(probe(rich), "mkv", **choice)
    assert words in caught.value.message


def test_unknown_containers_and_missing_sources_are_refused(rich: Path) -> None:
    with pytest.raises(ConfigError, match="container 'avi' is not known"):
        plan_streams(probe(rich), "avi")
    with pytest.raises(OpenError):
        plan_streams(replace(probe(rich), path=rich.with_name("gone.mkv")), "mkv")


def test_tags_about_the_file_are_left_behind() -> None:
    tags = {
        "ENCODER": "x",
        "DURATION": "x",
        "DURATION-eng": "x",
        "major_brand": "x",
        "_STATISTICS_WRITING_APP-eng": "x",
        "BPS": "x",
        "COMMENT": "kept",
        "encoded_by": "kept too",
    }
    assert container_tags(tags, "mkv") == ({"COMMENT": "kept", "encoded_by": "kept too"}, [])
    assert container_tags(tags, "mp4") == ({"comment": "kept", "encoded_by": "kept too"}, [])
    assert container_tags(tags, "mp4", any_key=False) == ({"comment": "kept"}, ["encoded_by"])


def test_tags_of_streams() -> None:
    tags = {"name": "Title", "language": "deu", "handler_name": "h", "own": "x", "encoder": "e"}
    assert stream_tags(tags, "mkv", is_reencoded=False) == (
        {"title": "Title", "language": "deu", "handler_name": "h", "own": "x"},
        [],
    )
    kept = {"title": "Title", "language": "deu", "handler_name": "h"}
    assert stream_tags(tags, "mp4", is_reencoded=False) == (kept, ["own"])
    assert stream_tags(tags, "mov", is_reencoded=False) == ({**kept, "language": "ger"}, ["own"])


@pytest.mark.parametrize(
    ("language", "spelled"), [("eng", "eng"), ("deu", "ger"), ("jpn", "jpn"), ("tlh", None)]
)
def test_languages_in_mov(language: str, spelled: str | None) -> None:
    assert mov_language(language) == spelled


@pytest.mark.parametrize(
    ("width", "height", "aspect", "shown"),
    [
        (720, 576, Fraction(16, 15), (768, 576)),
        (720, 480, Fraction(10, 11), (720, 528)),
        (1440, 1080, Fraction(4, 3), (1920, 1080)),
        (64, 48, Fraction(64, 45), (256, 135)),
    ],
)
def test_display_size_is_exact(
    width: int, height: int, aspect: Fraction, shown: tuple[int, int]
) -> None:
    assert display_size(width, height, aspect) == shown
    assert Fraction(*shown) == Fraction(width, height) * aspect


REAL = [
    "nasa_2audio_2subs.mp4",
    "vfr.mp4",
    "chapters.mp4",
    "chapters.mkv",
    "attachment.mkv",
    "cover_art.mp4",
    "cover_art.mkv",
    "subs_srt.mkv",
    "subs_ass.mkv",
    "subs_webvtt.mkv",
    "subs_mov_text.mp4",
    "subs_vobsub.mp4",
    "rotate_and_reflect.mp4",
    "edit_list_preroll.mp4",
    "mpeg2_mp2.ts",
    "mpeg4.avi",
    "sample.flv",
    "no_duration.webm",
]


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
@pytest.mark.parametrize("name", REAL)
def test_real_files(tmp_path: Path, media_dir: Path, name: str, container: str) -> None:
    source = tmp_path / name
    source.symlink_to(media_dir / name)
    film = remake(source, container, encoder_preset="ultrafast", limit=20)
    before, chapters, _ = read(source)
    after, new_chapters, _ = read(film.path)
    base = probe(source).video.time_base
    (video,) = [t for t in after if t.kind == "video" and not t.disposition & 1024]
    tolerance = Fraction(1, 2000) if container == "mkv" else 0
    errors = [abs(a - p * base) for a, p in zip(sorted(video.times), film.pts, strict=True)]
    assert max(errors) <= tolerance
    kept = {a.index for a in film.plan.actions if a.action == "keep" and a.kind == "audio"}
    sounds = [t for k, t in enumerate(before) if k in kept]
    new_sounds = [t for t in after if t.kind == "audio"]
    if len(sounds) == len(new_sounds):
        for old, new in zip(sounds, new_sounds, strict=True):
            assert len(new.data) == len(old.data)
            if not name.endswith(".ts"):
                assert new.data == old.data
            half = max(old.time_base, new.time_base) / 2
            assert all(abs(a - b) <= half for a, b in zip(old.times, new.times, strict=True))
    assert len(new_chapters) == len(chapters)
    assert film.summary.notes == ()
