"""`vsr probe IN`: what a file holds, and what would become of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.choices import preview_lines, resolve, result_options
from vsr.cli.console import print_json, print_line

if TYPE_CHECKING:
    from vsr.frame import ColorSpec
    from vsr.media.probe import MediaInfo, StreamInfo
    from vsr.pipeline.degradation import Degradation


@click.command("probe", short_help="Say what a file holds.")
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path))
@click.option(
    "--for",
    "output",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Say also what of IN would be kept, converted or dropped in OUT.",
)
@click.option("--scale", type=float, help="With --for: enlarge so many times.")
@click.option("--model", metavar="ID|FILE", help="With --for: the network.")
@click.option("--device", envvar="VSR_DEVICE", help="With --for: auto, cpu, cuda or cuda:N.")
@click.option("--codec", help="With --for: as of `vsr upscale`.")
@click.option("--preset", metavar="NAME|FILE.toml", help="With --for: a set of choices.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="With --for: any key.")
@click.option(
    "--degradation",
    is_flag=True,
    help="Estimate blur, noise and blocks from the pictures, and say which weights fit.",
)
@result_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(
    source: Path,
    output: Path | None,
    degradation: bool,
    as_json: bool,
    preset: str | None,
    sets: tuple[str, ...],
    **flags: Any,
) -> None:
    """Say what the file IN holds: container, pictures, colour, sound, subtitles, chapters.

    With --for OUT also what an upscale into OUT would keep, convert or drop, and about how long it
    would take. Only the first frames are read; `vsr upscale --dry-run` reads them all.
    """
    from vsr.media.images import image_kind
    from vsr.media.stills_read import probe_any

    estimated = None
    if degradation:
        from vsr.pipeline.degradation import estimate_degradation

        estimated = estimate_degradation(source, scale=round(flags.get("scale") or 4))
        if image_kind(source) is not None and source.is_file():
            # A still is no film, and of it this is all that is said.
            _print_estimate(source, estimated, as_json=as_json)
            return
    info = probe_any(source)
    planned = None
    if output is not None:
        from vsr.pipeline.preview import preview

        config = resolve(preset, sets, {**flags, "overwrite": True})
        planned = preview(source, output, config, read_source=False)
    if as_json:
        document = _document(info)
        if estimated is not None:
            document["degradation"] = estimated.model_dump(mode="json")
        if planned is not None:
            document["for"] = planned.model_dump(mode="json")
        print_json(document)
        return
    lines = _lines(info) + (estimated.describe() if estimated else [])
    lines += preview_lines(planned) if planned else []
    for line in lines:
        print_line(line)


def _print_estimate(source: Path, estimated: Degradation, *, as_json: bool) -> None:
    if as_json:
        print_json({"path": str(source), "degradation": estimated.model_dump(mode="json")})
        return
    print_line(f"{source}: a still")
    for line in estimated.describe():
        print_line(line)


def _document(info: MediaInfo) -> dict[str, Any]:
    video = info.video
    return {
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


def _lines(info: MediaInfo) -> list[str]:
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
    return lines
