"""How near estimated blurs are to the true ones, on pictures whose blur is known."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import torch

from vsr.models.blur import estimate_blur, taps
from vsr.models.flow import luma
from vsr.training.clips import find_clips
from vsr.training.degrade_blur import draw_blur
from vsr.training.eval_pairs import degraded_pairs

_MAX_FRAMES = 8


def blur_errors(gt: Path, scale: int) -> list[dict[str, Any]]:
    """Blur every picture or clip of a folder in a way of its own, and estimate that.

    Args:
        gt: large pictures, or clips, of which the first frames are looked at.
        scale: by which they are made small.

    Returns:
        Of each: its name, both blurs in words, and the distance (L2) of the estimated kernel from
        the true one, both summing to 1: `error`, and `relative` to the true one's own length.

    Raises:
        OpenError: there is nothing to look at.
    """
    rows = []
    for clip in find_clips(gt):
        true = draw_blur(torch.Generator().manual_seed(zlib.crc32(clip.name.encode()))).blur
        pairs = zip(range(_MAX_FRAMES), degraded_pairs(clip, scale, scale, "aniso"), strict=False)
        found = estimate_blur([luma(small[None])[0] for _, (_, small) in pairs], scale)
        row: dict[str, Any] = {"name": clip.name, "true": true.describe(), "found": None}
        if found is not None:
            wanted, guessed = taps(true, scale), taps(found, scale)
            error = float((guessed - wanted).norm())
            row |= {
                "found": found.describe(),
                "error": error,
                "relative": error / float(wanted.norm()),
            }
        rows.append(row)
    return rows
