"""`vsr eval`: score models by the published protocols."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from vsr.cli.console import print_json, say
from vsr.cli.eval_tables import blur_table, drift_table, flow_table, score_table, warping_table


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
    help="Score the optical flow inside the models instead, beside OpenCV's DIS: on synthetic "
    "motion and, where --gt holds clips, by how well warping predicts their frames.",
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
    from vsr.training.flow_error import flow_errors, warping_errors

    def tell(model: str, clip: str) -> None:
        say(f"{model}: {clip}")

    if sum((score_blur, score_flow, drift_frames is not None)) > 1:
        raise click.UsageError("--flow, --drift and --blur each score something else: give one")
    if score_blur:
        rows = blur_errors(gt, scale)
        _print({"scale": scale, "rows": rows}, blur_table(rows), as_json, json_file)
        return
    if score_flow:
        rows = flow_errors(models, gt)
        warped = warping_errors(models, gt, scale, progress=tell)
        tables = [flow_table(rows)] + ([warping_table(warped)] if warped else [])
        found = {"pairs": "synthetic", "rows": rows, "warping": warped}
        _print(found, "\n\n".join(tables), as_json, json_file)
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
        _print({"rows": rows}, drift_table(rows), as_json, json_file)
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
    _print(result.describe(), score_table(result), as_json, json_file)


def _print(found: dict[str, Any], table: str, as_json: bool, json_file: Path | None) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if as_json:
        print_json(found)
    else:
        click.echo(table)
