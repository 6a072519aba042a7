"""`vsr probe IN`: what a file holds, and what would become of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.console import print_json

if TYPE_CHECKING:
    from vsr.frame import ColorSpec
    from vsr.media.probe import MediaInfo, StreamInfo
    from vsr.media.streams import StreamPlan


@click.command("probe", short_help="Say what a file holds.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.option(
    "--for",
    "output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Say also what of IN would be kept, converted or dropped in OUT.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(source: Path, output: Path | None, as_json: bool) -> None:
    """Say what the file IN holds: container, pictures, colour, sound, subtitles, chapters."""
    from vsr.media.probe import probe

    plan = None
    if output is not None:
        from vsr.config import UpscaleConfig
        from vsr.pipeline.plan import choose_container

        container = choose_container(output, UpscaleConfig())
    info = probe(source)
    if output is not None:
        from vsr.media.streams import plan_streams

        plan = plan_streams(info, container)
    if as_json:
        print_json(_document(info, plan))
        return
    for line in _lines(info, plan):
        click.echo(line)


def _document(info: MediaInfo, plan: StreamPlan | None) -> dict[str, Any]:
    video = info.video
    document: dict[str, Any] = {
        "path": str(info.path),
        "container": info.container,
        "size_bytes": info.size_bytes,
        "duration_s": info.duration_s,
        "video": {
            "index": video.stream_index,
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
            "pixel_format": video.pixel_format,
            "bits": video.layout.bits,
            "color": _color(video.color),
            "frame_rate": None if video.frame_rate is None else str(video.frame_rate),
            "time_base": str(video.time_base),
            "num_frames": video.num_frames,
            "start_pts": video.start_pts,
            "sample_aspect_ratio": str(video.sample_aspect_ratio),
            "rotation": video.rotation,
            "field_order": video.field_order,
            "is_interlaced": video.is_interlaced,
        },
        "streams": [_stream(stream) for stream in info.streams],
        "chapters": [
            {
                "start_s": float(chapter.start * chapter.time_base),
                "end_s": float(chapter.end * chapter.time_base),
                "title": chapter.metadata.get("title"),
            }
            for chapter in info.chapters
        ],
        "attachments": [
            {"name": held.name, "mimetype": held.mimetype, "size_bytes": held.size_bytes}
            for held in info.attachments
        ],
        "metadata": dict(info.metadata),
        "warnings": list(info.warnings),
    }
    if plan is not None:
        document["plan"] = {
            "container": plan.container,
            "actions": [action.model_dump() for action in plan.actions],
            "losses": list(plan.losses),
        }
    return document


def _stream(stream: StreamInfo) -> dict[str, Any]:
    return {
        "index": stream.index,
        "kind": stream.kind,
        "codec": stream.codec,
        "language": stream.language,
        "title": stream.title,
        "channels": stream.channels,
        "sample_rate": stream.sample_rate,
        "disposition": sorted(stream.disposition),
        "is_cover_art": stream.is_cover_art,
    }


def _color(color: ColorSpec) -> dict[str, Any]:
    return {
        "primaries": color.primaries.name,
        "transfer": color.transfer.name,
        "matrix": color.matrix.name,
        "full_range": color.full_range,
        "chroma_location": color.chroma_location.name,
    }


def _lines(info: MediaInfo, plan: StreamPlan | None) -> list[str]:
    video, color = info.video, info.video.color
    length = "unknown length" if info.duration_s is None else f"{info.duration_s:.3f} s"
    rate = "" if video.frame_rate is None else f", {float(video.frame_rate):.3f} frames/s"
    sar = video.sample_aspect_ratio
    lines = [
        f"{info.path}: {info.container}, {length}, {info.size_bytes} bytes",
        f"  film: stream {video.stream_index}, {video.codec} {video.width}x{video.height}"
        f"{f', pixels {sar.numerator}:{sar.denominator}' if sar != 1 else ''}"
        f", {video.pixel_format}{rate}{', interlaced' if video.is_interlaced else ''}",
        f"  colour: matrix {color.matrix.name}, primaries {color.primaries.name}, "
        f"transfer {color.transfer.name}, {'full' if color.full_range else 'limited'} range",
    ]
    for stream in info.streams:
        if stream.index != video.stream_index:
            words = [stream.kind, stream.codec, stream.language or "", stream.title or ""]
            lines.append(f"  stream {stream.index}: {' '.join(word for word in words if word)}")
    if info.chapters:
        lines.append(f"  {len(info.chapters)} chapters")
    lines += [f"  note: {warning}" for warning in info.warnings]
    if plan is not None:
        lines.append(f"in {plan.container}:")
        lines += [f"  {action}" for action in plan.actions]
        lines += [f"  lost: {loss}" for loss in plan.losses]
    return lines
