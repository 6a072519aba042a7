"""Narrowing a source, and the list of what becomes of everything in it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from vsr.errors import ConfigError
from vsr.media.dispositions import held_dispositions
from vsr.media.inventory import all_losses, inventory, side_data_fate
from vsr.media.probe import probe
from vsr.media.selection import Selection, film_index, parse_map, wanted_streams
from vsr.media.settings import resolve_settings
from vsr.media.streams import plan_streams

MakeClip = Callable[..., Path]
CONTAINERS = {"mkv": "matroska", "mp4": "mp4", "mov": "mov"}


@pytest.fixture(scope="module")
def rich(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(
        tmp_path_factory.mktemp("rich") / "rich.mkv",
        audio=["aac", "ac3"],
        subtitles="subrip",
        chapters=2,
        attachment="font.txt",
        metadata={"title": "A film", "PROJECT": "x"},
    )


@pytest.mark.parametrize(
    ("text", "only", "without"),
    [
        (None, None, ()),
        ("0,2", {0, 2}, ()),
        ("0:1", {1}, ()),
        ("-3", None, {3}),
        (-3, None, {3}),
        ("0, 1,-2", {0, 1}, {2}),
    ],
)
def test_map(text: str | int | None, only: set[int] | None, without: set[int]) -> None:
    assert parse_map(text) == (None if only is None else frozenset(only), frozenset(without))


@pytest.mark.parametrize("text", ["a", "", "0:a", "1:2", "0,,1", "1-2", "2,-2"])
def test_map_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="map"):
        parse_map(text)


def test_wanted_streams(rich: Path) -> None:
    info = probe(rich)
    kinds = [s.kind for s in info.streams]
    assert kinds == ["video", "audio", "audio", "subtitle", "attachment"]
    assert wanted_streams(info, Selection()) == {0, 1, 2, 3, 4}
    assert wanted_streams(info, Selection(audio="1", subs="none")) == {0, 2, 4}
    # The film stays, whether it is named or not.
    assert wanted_streams(info, Selection(only=frozenset({2}))) == {0, 2}
    assert wanted_streams(info, Selection(without=frozenset({4}))) == {0, 1, 2, 3}
    with pytest.raises(ConfigError, match="no stream 9; its streams are 0 to 4"):
        wanted_streams(info, Selection(only=frozenset({9})))
    with pytest.raises(ConfigError, match="stream 0 is the film"):
        wanted_streams(info, Selection(without=frozenset({0})))


def test_the_film_by_index(rich: Path) -> None:
    info = probe(rich)
    assert film_index(info, Selection(only=frozenset({1}))) is None
    assert film_index(info, Selection(only=frozenset({0, 1}))) == 0
    second = replace(info.streams[0], index=5)
    two = replace(info, streams=(*info.streams, second))
    with pytest.raises(ConfigError, match=r"video streams \[0, 5\]"):
        film_index(two, Selection(only=frozenset({0, 5})))


def test_what_nobody_asked_for_is_no_loss(rich: Path) -> None:
    plan = plan_streams(probe(rich), "mp4", only=frozenset({0, 1}))
    assert [a.action for a in plan.actions] == ["video", "keep", "drop", "drop", "drop"]
    assert {a.reason for a in plan.actions[2:]} == {"not asked for"}
    assert plan.losses == ()


def test_every_thing_has_a_line(rich: Path) -> None:
    info = probe(rich)
    lines = {str(item) for item in inventory(info, plan_streams(info, "mkv"))}
    assert {
        "chapters 2: keep",
        "tag title: keep",
        "tag PROJECT: keep",
        "tag ENCODER: drop (describes the source file itself)",
        "tag language of audio 1: keep",
        "tag title of audio 2: keep",
    } <= lines
    num_tags = len(info.metadata) + sum(
        len(s.metadata) for s in info.streams if s.kind != "attachment"
    )
    assert sum(line.startswith("tag ") for line in lines) == num_tags
    assert all_losses(info, plan_streams(info, "mkv")) == ()
    assert [line.partition(":")[0] for line in all_losses(info, plan_streams(info, "mov"))] == [
        "attachment 4 (font.txt)"
        if "font.txt" in str(plan_streams(info, "mov").of(4))
        else str(plan_streams(info, "mov").of(4)).partition(":")[0]
    ]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", ["audio", "subtitle"])
def test_dispositions_are_what_ffmpeg_really_keeps(container: str, kind: str) -> None:
    skipped = {"attached_pic", "timed_thumbnails", "still_image"}
    kept = set()
    for flag in Disposition:
        if flag.name is None or flag.name in skipped:
            continue
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=CONTAINERS[container]) as output:
            if kind == "audio":
                stream = output.add_stream("aac", rate=48000, layout="mono")
                stream.disposition = flag
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), "fltp", "mono"
                )
                silence.sample_rate, silence.pts = 48000, 0
                output.mux([*stream.encode(silence), *stream.encode(None)])
            else:
                codec = "subrip" if container == "mkv" else "mov_text"
                text = output.add_mux_stream(codec)
                text.disposition = flag
                cue = av.Packet(b"hi" if container == "mkv" else b"\0\2hi")
                cue.pts, cue.dts, cue.duration, cue.stream = 0, 0, 100, text
                output.mux(cue)
        buffer.seek(0)
        with av.open(buffer) as back:
            if flag in back.streams[0].disposition:
                kept.add(flag.name)
    assert kept == held_dispositions(kind, container)


def test_a_disposition_that_is_lost(rich: Path) -> None:
    info = probe(rich)
    marked = replace(info.streams[2], disposition=frozenset({"comment", "lyrics"}))
    marked_info = replace(info, streams=(*info.streams[:2], marked, *info.streams[3:]))
    plan = plan_streams(marked_info, "mkv")
    assert plan.dropped_dispositions == ("lyrics of audio 2",)
    assert plan.losses == ("disposition lyrics of audio 2: mkv cannot hold it",)
    assert all_losses(marked_info, plan) == (
        "disposition lyrics of audio 2: drop LOST (mkv cannot hold it)",
    )


def test_side_data(rich: Path) -> None:
    info = probe(rich)
    plan = plan_streams(info, "mkv")

    def settings(codec: str) -> object:
        from vsr.color import complete

        video = info.video
        color, _ = complete(video.color, video.width, video.height, video.layout)
        return resolve_settings(
            codec=codec,
            crf=None,
            encoder_preset=None,
            profile=None,
            info=video,
            color=color,
            width=128,
            height=96,
            threads=1,
            container="mkv",
        )

    def fate(kind: str, codec: str) -> tuple[str, bool]:
        action, _, is_loss = side_data_fate(kind, plan, settings(codec))  # type: ignore[arg-type]
        return action, is_loss

    assert fate("A53_CC", "h264") == ("keep", False)
    assert fate("A53_CC", "ffv1") == ("drop", True)
    assert fate("SEI_UNREGISTERED", "ffv1") == ("drop", False)
    assert fate("DYNAMIC_HDR_PLUS", "hevc") == ("drop", True)
    assert fate("GOP_TIMECODE", "h264") == ("drop", True)
    assert fate("NO_SUCH_KIND", "h264") == ("drop", True)
