"""Side data, subtitles, chapters, covers and attachments of real files survive an upscale."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.stream import Disposition

from vsr.config import UpscaleConfig, resolve_config
from vsr.pipeline.upscale import upscale


def config(**flags: Any) -> UpscaleConfig:
    return resolve_config(flags={"model": "bicubic-x2", "device": "cpu", **flags})


def captions(path: Path) -> list[tuple[int, bytes]]:
    """Rank of each picture with captions, and the captions."""
    found = []
    with av.open(str(path)) as container:
        for rank, frame in enumerate(container.decode(video=0)):
            held: Any = frame.side_data
            for datum in held:
                if datum.type.name == "A53_CC":
                    found.append((rank, bytes(datum)))
    return found


@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mp4"), ("hevc", "mkv")])
def test_closed_captions(media_dir: Path, tmp_path: Path, codec: str, suffix: str) -> None:
    source, output = media_dir / "captions_608.mp4", tmp_path / f"a.{suffix}"
    result = upscale(source, output, config(codec=codec))
    assert captions(source)
    assert captions(output) == captions(source)
    kept = [entry for entry in result.plan if entry.get("name") == "A53_CC"]
    assert [entry["action"] for entry in kept] == ["keep"]


def test_captions_without_a_place_are_a_loss(media_dir: Path, tmp_path: Path) -> None:
    result = upscale(media_dir / "captions_608.mp4", tmp_path / "a.mkv", config(codec="ffv1"))
    lost = [entry for entry in result.plan if entry.get("name") == "A53_CC"]
    assert [(entry["action"], entry["is_loss"]) for entry in lost] == [("drop", True)]


def inventory(path: Path) -> tuple[Any, ...]:
    with av.open(str(path)) as container:
        streams = [
            (stream.type, stream.metadata.get("language", "und"))
            for stream in container.streams
            if stream.type not in ("data", "attachment")
        ]
        covers = sum(Disposition.attached_pic in stream.disposition for stream in container.streams)
        held = [(a.name, a.mimetype, a.data) for a in container.streams.attachments]
        chapters = [
            (
                round(float(c["start"] * Fraction(c["time_base"] or 0)), 3),
                c["metadata"].get("title"),
            )
            for c in container.chapters()
        ]
    return sorted(streams), covers, held, chapters


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["attachment.mkv", "cover_art.mkv", "cover_art.mp4", "chapters.mp4", "subs_ass.mkv"]
)
def test_into_mkv_nothing_is_lost(media_dir: Path, tmp_path: Path, name: str) -> None:
    source, output = media_dir / name, tmp_path / "a.mkv"
    result = upscale(source, output, config(strict=True))
    assert inventory(output) == inventory(source)
    assert not [entry for entry in result.plan if entry.get("is_loss")]
