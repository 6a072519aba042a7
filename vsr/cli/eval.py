"""`vsr eval`: score models by the published protocols."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.console import print_json, say

if TYPE_CHECKING:
    from vsr.training.scores import Evaluation, PerceptualScore


@click.command("eval")
@click.option("--model", "models", multiple=True, help="Id or weight file; may be repeated.")
@click.option(
    "--gt",
    required=True,
    type=click.Path(path_type=Path),
    help="Ground truth: a folder of folders of frames, of video files, or of stills.",
)
@click.option(
    "--lr",
    type=click.Path(path_type=Path),
    help="Small pictures, named as the ground truth; made from it if not given.",
)
@click.option(
    "--degradation",
    type=click.Choice(["bi", "bd", "bd-corner", "mixed", "archive", "aniso"]),
    default="bi",
    show_default=True,
    help="How small pictures are made: bi is MATLAB's bicubic; bd blurs and takes the middle of "
    "each block, bd-corner its corner; mixed adds noise and codecs, archive the damage "
    "of old film and tape; aniso blurs each clip in a way of its own.",
)
@click.option("--scale", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--channel", type=click.Choice(["y", "rgb"]), default="y", show_default=True)
@click.option(
    "--crop",
    type=click.IntRange(min=0),
    help="Border pixels left out.  [default: 0 for clips, the scale for stills]",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Score every so many frames; the models see all of them.",
)
@click.option(
    "--neighbours",
    type=click.Choice(["real", "copies"]),
    default="real",
    show_default=True,
    help="copies: each frame among copies of itself, to show what true neighbours add.",
)
@click.option(
    "--chunk",
    type=click.IntRange(min=1),
    help="Frames per call of a model, to see what cutting a shot into chunks costs.",
)
@click.option("--device", default="auto", envvar="VSR_DEVICE", show_default=True)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Number format of the models.",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="On clips, steady what networks of single frames add, as `vsr upscale` does with 0.7.",
)
@click.option(
    "--perceptual",
    is_flag=True,
    help="Score too what PSNR does not see: how much detail there is for that of the truth, "
    "whether it is of the right kind, and whether the result still is the picture that went in. "
    "LPIPS where torchvision's AlexNet is at hand.",
)
@click.option(
    "--flow",
    "score_flow",
    is_flag=True,
    help="Score the optical flow inside the models on synthetic motion, beside OpenCV's DIS.",
)
@click.option(
    "--drift",
    "drift_frames",
    type=click.IntRange(min=5),
    metavar="FRAMES",
    help="Play each clip forth and back for so many frames: what the last pass loses on the "
    "second.",
)
@click.option(
    "--blur",
    "score_blur",
    is_flag=True,
    help="Score the blind estimate of blurs instead, each picture of --gt blurred in its own way.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option(
    "--json-file", type=click.Path(path_type=Path, dir_okay=False), help="Write it to a file."
)
def command(
    models: tuple[str, ...],
    gt: Path,
    lr: Path | None,
    degradation: str,
    scale: int,
    channel: str,
    crop: int | None,
    every: int,
    neighbours: str,
    chunk: int | None,
    device: str,
    dtype: str,
    strength: float,
    perceptual: bool,
    score_flow: bool,
    drift_frames: int | None,
    score_blur: bool,
    as_json: bool,
    json_file: Path | None,
) -> None:
    """Score networks by the published protocols.

    Clips: ground truth cropped to a multiple of 12, made small, enlarged whole, compared over all
    frames; the mean over clips of per-clip means. Stills: cropped to a multiple of the scale.
    """
    import torch

    from vsr.engine.device import resolve_device
    from vsr.training.blur_error import blur_errors
    from vsr.training.drift import drifts
    from vsr.training.evaluate import evaluate
    from vsr.training.flow_error import flow_errors

    def tell(model: str, clip: str) -> None:
        say(f"{model}: {clip}")

    if score_blur:
        rows = blur_errors(gt, scale)
        if as_json:
            print_json({"scale": scale, "rows": rows})
        else:
            click.echo(_blur_table(rows))
        return
    if score_flow:
        rows = flow_errors(models, gt)
        if as_json:
            print_json({"pairs": "synthetic", "rows": rows})
        else:
            click.echo(_flow_table(rows))
        return
    if drift_frames is not None:
        rows = drifts(
            models,
            gt,
            num_frames=drift_frames,
            scale=scale,
            device=resolve_device(device),
            dtype=getattr(torch, dtype),
            progress=tell,
        )
        if as_json:
            print_json({"rows": rows})
        else:
            click.echo(_drift_table(rows))
        return
    result = evaluate(
        models,
        gt,
        lr=lr,
        degradation=degradation,
        scale=scale,
        channel="rgb" if channel == "rgb" else "y",
        crop_px=crop,
        every=every,
        neighbours="copies" if neighbours == "copies" else "real",
        chunk=chunk,
        device=resolve_device(device),
        dtype=getattr(torch, dtype),
        strength=strength,
        perceptual=perceptual,
        progress=tell,
    )
    if json_file is not None:
        json_file.write_text(json.dumps(result.describe(), indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(result.describe())
    else:
        click.echo(_table(result))


def _drift_table(rows: list[dict[str, Any]]) -> str:
    """Losses of the last pass on the second as a Markdown table."""
    lines = [
        _line(["model", "clip", "frames", "mean loss dB", "worst loss dB"]),
        _line(["---", "---", *["---:"] * 3]),
    ]
    for row in rows:
        losses = (f"{row[key]:.3f}" for key in ("mean_loss", "worst_loss"))
        lines.append(_line([row["model"], row["clip"], str(row["frames"]), *losses]))
    return "\n".join(lines)


def _flow_table(rows: list[dict[str, Any]]) -> str:
    """Endpoint errors as a Markdown table."""
    lines = [
        _line(["model", "motion up to px", "no flow px", "DIS medium px", "model px"]),
        _line(["---", *["---:"] * 4]),
    ]
    for row in rows:
        errors = (f"{row[key]:.3f}" for key in ("zero", "dis", "network"))
        lines.append(_line([row["model"], f"{row['max_speed_px']:g}", *errors]))
    return "\n".join(lines)


def _blur_table(rows: list[dict[str, Any]]) -> str:
    """Blurs and errors as a Markdown table, and how many are near."""
    lines = [
        _line(["picture", "true", "estimated", "L2", "relative"]),
        _line(["---", "---", "---", "---:", "---:"]),
    ]
    known = [row for row in rows if row["found"] is not None]
    for row in rows:
        errors = [f"{row[key]:.3f}" for key in ("error", "relative") if key in row] or ["", ""]
        lines.append(_line([row["name"], row["true"], row["found"] or "unknown", *errors]))
    near = [sum(row[key] <= 0.1 for row in known) for key in ("error", "relative")]
    lines.append(f"\nwithin 0.1: {near[0]} of {len(rows)}; relative: {near[1]} of {len(rows)}")
    return "\n".join(lines)


def _table(result: Evaluation) -> str:
    """Scores as a Markdown table, one row for each model."""
    protocol = result.protocol
    names = list(result.rows[0].clips)
    shown = names if len(names) <= 8 else []
    extra = ["gradients", "consistency dB", "texture", "LPIPS"] if result.notes is not None else []
    headings = ["PSNR dB", "SSIM", "flicker", *extra, *shown, "ms/frame", "GMAC", "params"]
    lines = [
        f"x{protocol.scale}, {protocol.degradation}, PSNR and SSIM on "
        f"{protocol.channel.upper()}, crop {protocol.crop_px} px, {len(names)} "
        f"{'clips' if protocol.kind == 'video' else 'stills'}, every {protocol.every} frame(s), "
        f"{f'steadied by {protocol.strength:g}, ' if protocol.strength else ''}"
        f"{protocol.dtype} on {result.machine['device']} ({result.machine['threads']} threads)",
        "",
        _line(["model", *headings]),
        _line(["---", *["---:"] * len(headings)]),
    ]
    lines += [
        _line(
            [
                row.model,
                f"{row.psnr:.2f}",
                f"{row.ssim:.4f}",
                _known(row.flicker, 3),
                *_perceptual_cells(row.perceptual),
                *(f"{row.clips[name].psnr:.2f}" for name in shown),
                f"{row.ms_per_frame:.1f}",
                f"{row.gmac:.2f}",
                f"{row.params}",
            ]
        )
        for row in result.rows
    ]
    for row in result.rows:
        if row.routing is not None:
            shares = ", ".join(f"{share:.0%}" for share in row.routing.shares)
            saved = f"{row.routing.macs_saved:.0%} of the largest branch's multiply-adds saved"
            lines += ["", f"{row.model}: patches by class, easy first: {shares}; {saved}"]
    for note in result.notes or ():
        lines += ["", note]
    return "\n".join(lines)


def _perceptual_cells(score: PerceptualScore | None) -> list[str]:
    if score is None:
        return []
    return [
        _known(score.gradient_energy, 3),
        _known(score.consistency_db, 2),
        _known(score.texture_distance, 4),
        _known(score.lpips, 4),
    ]


def _known(value: float, num_decimals: int) -> str:
    """Empty where there is no figure."""
    return "" if math.isnan(value) else f"{value:.{num_decimals}f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
