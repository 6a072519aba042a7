"""What `vsr eval` found, as Markdown tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vsr.training.scores import Evaluation, PerceptualScore


def drift_table(rows: list[dict[str, Any]]) -> str:
    """Losses of the last pass on the second as a Markdown table."""
    lines = [
        _line(["model", "clip", "frames", "mean loss dB", "worst loss dB"]),
        _line(["---", "---", *["---:"] * 3]),
    ]
    for row in rows:
        losses = (f"{row[key]:.3f}" for key in ("mean_loss", "worst_loss"))
        lines.append(_line([row["model"], row["clip"], str(row["frames"]), *losses]))
    return "\n".join(lines)


def flow_table(rows: list[dict[str, Any]]) -> str:
    """Endpoint errors as a Markdown table."""
    lines = [
        _line(["model", "motion up to px", "no flow px", "DIS medium px", "model px"]),
        _line(["---", *["---:"] * 4]),
    ]
    for row in rows:
        errors = (f"{row[key]:.3f}" for key in ("zero", "dis", "network"))
        lines.append(_line([row["model"], f"{row['max_speed_px']:g}", *errors]))
    return "\n".join(lines)


def warping_table(rows: list[dict[str, Any]]) -> str:
    """What warping leaves, as a Markdown table."""
    lines = [
        _line(["model", "clip", "not warped", "DIS medium", "model"]),
        _line(["---", "---", *["---:"] * 3]),
    ]
    for row in rows:
        errors = (f"{row[key]:.3f}" for key in ("zero", "dis", "network"))
        lines.append(_line([row["model"], row["clip"], *errors]))
    return "\n".join(lines)


def blur_table(rows: list[dict[str, Any]]) -> str:
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


def score_table(result: Evaluation) -> str:
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
