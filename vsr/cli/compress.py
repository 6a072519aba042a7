"""`vsr compress MODEL`: a smaller network of a trained one, with what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import print_json, say

if TYPE_CHECKING:
    from vsr.training.compress import Compressed


@click.command("compress", short_help="Make a network smaller.")
@click.argument("model", metavar="ID|FILE")
@click.option(
    "--gt",
    required=True,
    type=click.Path(path_type=Path),
    help="Ground truth to score on, before and after: stills or clips.",
)
@click.option(
    "--data",
    envvar="VSR_DATA",
    type=click.Path(path_type=Path),
    help="Folder of videos and pictures to train on.  [env: VSR_DATA]",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where decoded data is kept between runs.  [default: in VSR_HOME or ~/.cache/vsr]",
)
@click.option(
    "--less-macs",
    type=click.FloatRange(0, 0.95),
    default=0.4,
    show_default=True,
    help="Share of the multiply-adds to save by leaving out channels; 0 leaves out none.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="Of training afterwards.",
)
@click.option("--int8", is_flag=True, help="Store the weights with eight bits.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder of the result.  [default: runs/ID-slim]"
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to compute with.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def command(
    model: str,
    gt: Path,
    data: Path | None,
    store: Path | None,
    less_macs: float,
    minutes: float,
    int8: bool,
    out: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Make the network MODEL smaller: fewer channels, trained on; or weights of eight bits.

    Scores it on --gt before and after, in float32, bfloat16 and int8, on the CPU, and writes
    OUT/ID-slim.safetensors, which --model takes, with a card that says size, speed and decibels.
    """
    import torch

    from vsr.cli.train import open_store
    from vsr.training.compress import compress

    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    frames = open_store(data, store) if less_macs else None
    folder = Path("runs") / f"{Path(model).stem}-slim" if out is None else out
    result = compress(
        model,
        gt,
        folder,
        store=frames,
        less_macs=less_macs,
        minutes=minutes,
        int8=int8,
        tell=say,
    )
    if as_json:
        print_json(result.describe())
    else:
        click.echo(_table(result))
        click.echo(f"\n{result.weights}, {result.card}")


def _table(result: Compressed) -> str:
    """All variants as a Markdown table, each beside the first."""
    first = result.variants[0]
    lines = [
        "| network | PSNR dB | change | SSIM | ms/frame | kB | GMAC | parameters |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for variant in result.variants:
        size = "" if variant.size_bytes is None else f"{variant.size_bytes / 1000:.0f}"
        cells = (
            variant.name,
            f"{variant.psnr_db:.2f}",
            f"{variant.psnr_db - first.psnr_db:+.2f}",
            f"{variant.ssim:.4f}",
            f"{variant.ms_per_frame:.1f}",
            size,
            f"{variant.gmac_180p:.2f}",
            f"{variant.params}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
