"""Container and name of the result, losses that are refused, tags that say how it was made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from vsr.config import UpscaleConfig, resolve_config
from vsr.errors import ConfigError, LossRefusedError
from vsr.media.probe import probe
from vsr.pipeline.container import choose_container, probe_film, settle
from vsr.pipeline.planning import make_plan
from vsr.pipeline.preview import preview
from vsr.pipeline.provenance import AI_NOTE, FILTER_NOTE, provenance_tags
from vsr.pipeline.upscale import upscale

MakeClip = Callable[..., Path]


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


@pytest.fixture(scope="module")
def plain(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("plain") / "plain.mp4", frames=4, audio=["aac"])


@pytest.fixture(scope="module")
def rich(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rich") / "rich.mkv"
    return make_clip(path, frames=4, audio=["aac", "ac3"], attachment="font.txt", chapters=2)


@pytest.mark.parametrize(
    ("container", "name", "result"),
    [
        (None, "a.mp4", "a.mp4"),
        ("mkv", "a.mp4", "a.mp4"),
        ("auto", "a.mkv", "a.mkv"),
        ("auto", "a.mp4", "a.mkv"),
        ("auto", "a.MOV", "a.mkv"),
        ("auto", "a", "a.mkv"),
        ("auto", "a.v2", "a.v2.mkv"),
    ],
)
def test_names_when_mp4_would_lose(
    rich: Path, container: str | None, name: str, result: str
) -> None:
    settled = settle(Path(name), config(container=container), probe(rich))
    assert settled.output == Path(result)
    assert (settled.note is None) == (name == result)
    if name == "a.mp4" and result == "a.mkv":
        assert settled.note is not None
        assert "font.txt" in settled.note
        assert "mp4 would lose" in settled.note


def test_auto_keeps_what_loses_nothing(plain: Path) -> None:
    settled = settle(Path("a.mp4"), config(container="auto"), probe(plain))
    assert (settled.output, settled.container, settled.note) == (Path("a.mp4"), "mp4", None)


def test_auto_follows_codec_and_purpose(plain: Path) -> None:
    for wishes in ({"codec": "prores"}, {"profile": "preservation"}):
        settled = settle(Path("a.mp4"), config(container="auto", **wishes), probe(plain))
        assert (settled.output, settled.container) == (Path("a.mkv"), "mkv")


def test_what_is_not_narrowed_away_decides(rich: Path) -> None:
    narrowed = config(container="auto", map="0,1")
    assert settle(Path("a.mp4"), narrowed, probe(rich)).output == Path("a.mp4")


@pytest.mark.parametrize(
    ("name", "words"), [("a.mxf", "MXF is not written"), ("a.webm", "WebM"), ("a.ts", "MPEG-TS")]
)
def test_containers_that_are_not_offered(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        choose_container(Path(name), UpscaleConfig())


def test_raw_pictures() -> None:
    assert choose_container(Path("-"), UpscaleConfig()) == "y4m"
    assert choose_container(Path("a.Y4M"), UpscaleConfig()) == "y4m"
    with pytest.raises(ConfigError, match="only raw pictures"):
        choose_container(Path("-"), UpscaleConfig(container="mkv"))


def test_strict_names_every_loss(rich: Path, tmp_path: Path) -> None:
    with pytest.raises(LossRefusedError) as caught:
        upscale(rich, tmp_path / "a.mp4", config(strict=True))
    assert caught.value.exit_code == 6
    assert "font.txt" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_strict_counts_the_encoder_too(make_clip: MakeClip, tmp_path: Path) -> None:
    deep = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p12le", frames=2)
    with pytest.raises(LossRefusedError, match="sample depth"):
        upscale(deep, tmp_path / "b.mov", config(strict=True, codec="prores"))


def test_strict_passes_when_nothing_is_lost(rich: Path, tmp_path: Path) -> None:
    result = upscale(rich, tmp_path / "a.mkv", config(strict=True))
    assert result.check.ok


def test_auto_renames_the_result(rich: Path, tmp_path: Path) -> None:
    result = upscale(rich, tmp_path / "a.mp4", config(container="auto"))
    assert result.result == str(tmp_path / "a.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.mkv.vsr.json", "a.mkv"]
    assert any("named a.mkv" in entry.get("note", "") for entry in result.plan)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert container.format.name == "matroska,webm"
        assert [held.name for held in container.streams.attachments] == ["font.txt"]


def test_the_result_lists_every_item(rich: Path, tmp_path: Path) -> None:
    result = upscale(rich, tmp_path / "a.mp4", config(audio="0"))
    whats = [entry["what"] for entry in result.plan if "what" in entry]
    assert set(whats) == {"chapters", "tag", "side data"}
    dropped = [entry for entry in result.plan if entry.get("action") == "drop" and "index" in entry]
    assert [(entry["index"], entry["reason"]) for entry in dropped] == [
        (2, "not asked for"),
        (3, "mp4 cannot hold attachments"),
    ]


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {k.upper(): v for k, v in container.metadata.items() if k.upper().startswith("VSR")}


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_provenance_is_written_and_can_be_left_out(
    plain: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"a.{suffix}"
    result = upscale(plain, output, config())
    tags = tags_of(output)
    assert tags["VSR_MODEL"] == "bicubic-x2"
    assert tags["VSR_SETTINGS"] == result.digests["plan"]
    assert tags["VSR_NOTE"] == FILTER_NOTE
    assert tags["VSR_VERSION"]
    upscale(plain, output, config(provenance=False, overwrite=True))
    assert tags_of(output) == {}


def test_a_network_is_called_one(plain: Path, tmp_path: Path) -> None:
    plan = make_plan(plain, tmp_path / "a.mkv", config())
    model = plan.model.model_copy(update={"id": "net-x2", "weights_sha256": "ab" * 32})
    tags = provenance_tags(plan.model_copy(update={"model": model}))
    assert tags["VSR_NOTE"] == AI_NOTE
    assert tags["VSR_WEIGHTS_SHA256"] == "ab" * 32


def test_mp4_with_a_cover_keeps_provenance_in_one_line(make_clip: MakeClip, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "a.mp4", frames=3, cover_art=True)
    upscale(source, tmp_path / "b.mp4", config())
    with av.open(str(tmp_path / "b.mp4")) as container:
        line = container.metadata["encoder"]
    assert line.startswith("vsr ")
    assert "bicubic-x2" in line
    assert FILTER_NOTE in line


def two_films(path: Path) -> Path:
    """An mkv with two video streams of different sizes."""
    with av.open(str(path), "w") as output:
        streams = []
        for size in (64, 48):
            stream = output.add_stream("libx264", rate=25)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            streams.append(stream)
        packets = []
        for stream in streams:
            for index in range(4):
                frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
                for plane in frame.planes:
                    plane.update(bytes([40 * index + 60]) * plane.buffer_size)
                frame.pts = index
                packets += stream.encode(frame)
            packets += stream.encode(None)
        packets.sort(key=lambda packet: packet.dts or 0)
        output.mux(packets)
    return path


def test_map_chooses_among_several_films(tmp_path: Path) -> None:
    source = two_films(tmp_path / "two.mkv")
    assert probe_film(source, config()).video.stream_index == 0
    assert probe_film(source, config(map="1")).video.stream_index == 1
    result = upscale(source, tmp_path / "out.mkv", config(map="1"))
    assert (result.width, result.height) == (96, 96)
    assert result.plan[0]["reason"] == "not asked for"
    said = preview(source, tmp_path / "b.mkv", config(), read_source=False)
    assert any("There are 2 video streams; stream 0 (64x64)" in note for note in said.notes)
    assert len(said.losses) == 1
    with pytest.raises(ConfigError, match="two"):
        probe_film(source, config(map="7,two"))


def test_a_preview_writes_nothing_and_guesses(plain: Path, tmp_path: Path) -> None:
    read = preview(plain, tmp_path / "a.mkv", config(), read_source=True)
    assert (read.frames, read.is_counted, read.width, read.height) == (4, True, 128, 96)
    assert (read.codec, read.losses, read.estimate) == ("libx264", (), None)
    glance = preview(plain, tmp_path / "a.mkv", config(), read_source=False)
    assert not glance.is_counted
    assert glance.estimate is not None
    assert glance.estimate.seconds is not None
    assert 0 < glance.estimate.seconds < 60
    assert glance.estimate.result_bytes is not None
    assert 100 < glance.estimate.result_bytes < 200_000
    assert "4 frames, 64x48 of each" in glance.estimate.how
    assert list(tmp_path.iterdir()) == []
