"""`vsr bench`: how fast this machine is, and where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import is_interactive, print_json, print_line, say
from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.notation import parse_size

if TYPE_CHECKING:
    from vsr.engine.trace import Trace
    from vsr.pipeline.bench import BenchResult


@click.command("bench", short_help="Measure rates, efficiency and memory on this machine.")
@click.option("--model", metavar="ID|FILE", help="Network to measure; see `vsr models list`.")
@click.option("--scale", type=float, help="Enlarge so many times.  [default: 4]")
@click.option("--size", default="320x180", show_default=True, help="WxH of the rendered clip.")
@click.option("--frames", type=click.IntRange(min=2), default=120, show_default=True)
@click.option("--source", type=click.Path(path_type=Path), help="A film instead of that clip.")
@click.option("--device", envvar="VSR_DEVICE", help="auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True)
@click.option(
    "--naive",
    is_flag=True,
    help="Also run the loop that most tools use: packed RGB, float32, one frame per call.",
)
@click.option(
    "--trace", is_flag=True, help="Also show where the model's time goes, kernel by kernel."
)
@click.option("--preset", metavar="NAME|FILE.toml", help="A packaged set of choices, or your own.")
@click.option("--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of a preset.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def command(
    model: str | None,
    scale: float | None,
    size: str,
    frames: int,
    source: Path | None,
    device: str | None,
    repeats: int,
    naive: bool,
    trace: bool,
    preset: str | None,
    sets: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure decoder, model and encoder alone and a whole run; medians of several repeats.

    Efficiency is the rate of whole runs over that of the slowest stage alone.
    """
    width, height = _size(size)
    config = resolve_config(preset, {"model": model, "scale": scale, "device": device}, sets)
    # After the flags are known to be right: this import is the slow one.
    from vsr.pipeline.bench import bench

    result = bench(
        config,
        source=source,
        size=(width, height),
        num_frames=frames,
        repeats=repeats,
        naive=naive,
        trace=trace,
        on_step=say if is_interactive() else None,
    )
    if as_json:
        print_json(result.model_dump())
        return
    for line in _lines(result):
        print_line(line)


def _size(text: str) -> tuple[int, int]:
    """Width and height of a clip that 4:2:0 can hold.

    Raises:
        ConfigError: it is not that.
    """
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ConfigError(f"--size {text!r} is no size", hint="write e.g. 320x180")
    width, height = parse_size(text)
    if width < 32 or height < 32 or width % 2 or height % 2:
        raise ConfigError(f"--size {text}: expected even numbers from 32 on", hint="e.g. 320x180")
    return width, height


def _lines(result: BenchResult) -> list[str]:
    """The result for people."""
    stages = result.stages
    machine = result.machine
    lines = [
        f"{result.model}, {result.size} to {result.result_size}, {result.frames} frames, "
        f"{result.dtype} on {machine['device']}; {machine['cpu']}, {machine['cores']} cores, "
        f"torch {machine['torch']}",
        f"decode      {stages.decode_fps:10.1f} frames/s alone",
        f"model       {stages.infer_fps:10.1f} frames/s alone",
        f"encode      {stages.encode_fps:10.1f} frames/s alone ({result.encoder})",
        f"side by side{result.upscale_fps:10.1f} frames/s",
        f"whole run   {result.end_to_end_fps:10.1f} frames/s, "
        f"{100 * result.efficiency:.0f} % of the slowest stage alone",
    ]
    if result.naive_fps is not None:
        lines.append(
            f"naive loop  {result.naive_fps:10.1f} frames/s; "
            f"vsr is {result.speedup:.2f} times as fast"
        )
    how = [f"decoded by {'software' if result.decoder == 'software' else 'the GPU'}"]
    how += ["CUDA graphs"] * result.graphs
    moved = {way: size / 1e6 for way, size in result.bytes_per_frame.items()}
    lines += [
        f"moved       {moved['in']:10.2f} MB in and {moved['out']:.2f} MB out a frame; "
        f"{', '.join(how)}",
        f"memory      {result.peak_rss_mb:10.0f} MB at most",
    ]
    if result.peak_vram_mb is not None:
        lines.append(f"GPU memory  {result.peak_vram_mb:10.0f} MB at most")
    if result.gpu_busy is not None:
        line = f"GPU busy    {100 * result.gpu_busy:10.0f} % of the time"
        if result.gpu_busy_upscale is not None:
            line += f", {100 * result.gpu_busy_upscale:.0f} % while upscaling"
        lines.append(line)
    if result.trace is not None:
        lines += _trace_lines(result.trace)
    return lines


def _trace_lines(trace: Trace) -> list[str]:
    """What the device did while the model ran alone."""
    head = f"model alone {trace.wall_ms:10.1f} ms with the profiler looking on"
    if trace.busy is not None:
        head += f", GPU busy {100 * trace.busy:.0f} %, copies {trace.copy_ms:.1f} ms"
    return [
        head,
        *(
            f"  {100 * row.share:5.1f} %{row.total_ms:10.2f} ms{row.calls:8} x  {row.name}"
            for row in trace.rows
        ),
    ]
