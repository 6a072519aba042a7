"""A contact sheet of PULSE: small crops, and three pictures that each of them could be of.

    python samples/pulse_sheet.py samples/city_gt.mp4 samples/pulse.png
    python samples/pulse_sheet.py STILLS sheet.png --model pulse-x4

Of each of the first ten stills the middle, made 16x16, is searched for with three seeds; of a film,
ten places of ten frames. Every row
shows the crop, the three pictures found, and the truth; how near each shrinks to its crop, and how
far the three are apart, is printed. Nothing on the sheet but the last column was ever there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import cv2
import torch
from torch import Tensor

from vsr.models.checkpoint import load_upscaler
from vsr.models.image.interpolation import imresize
from vsr.models.image.pulse import EPSILON, PULSE
from vsr.training.clips import find_clips

NUM_CROPS, SEEDS, ZOOM = 10, (0, 1, 2), 2


def stills_of(source: Path) -> Iterator[tuple[str, Tensor, float]]:
    """Name, picture (3, H, W) in [0, 1], and how far across it to look, 0 to 1."""
    clips = find_clips(source)
    if len(clips) > 1:
        for clip in clips[:NUM_CROPS]:
            yield clip.name, next(clip.pictures()), 0.5
        return
    pictures = list(clips[0].pictures())
    for index in range(NUM_CROPS):
        number = index * (len(pictures) - 1) // (NUM_CROPS - 1)
        yield f"{clips[0].name} {number}", pictures[number], (0.1 + 0.37 * index) % 1


def truth_of(still_3HW: Tensor, side: int, across: float) -> Tensor:
    """A part of a still, half as large, (3, side, side)."""
    height, width = still_3HW.shape[-2:]
    top, left = (height - 2 * side) // 2, int(across * (width - 2 * side))
    middle = still_3HW[:, top : top + 2 * side, left : left + 2 * side]
    return imresize(middle, scale=0.5).clamp(0, 1)


def main() -> None:
    """Search, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--model", default="pulse-x4")
    options = parser.parse_args()
    model = load_upscaler(options.model)
    assert isinstance(model, PULSE), options.model
    side = model.source_px * model.scale
    rows, num_fit = [], 0
    for name, still, across in stills_of(options.source):
        truth = truth_of(still, side, across)
        crop = (imresize(truth, scale=1 / model.scale) * 255).round().clamp(0, 255) / 255
        found = [model.search(crop, seed) for seed in SEEDS]
        apart = [
            float((one.picture_3HW - two.picture_3HW).abs().mean())
            for one, two in combinations(found, 2)
        ]
        num_fit += all(each.fits for each in found)
        told = ", ".join(f"{each.difference:.1e}" for each in found)
        print(f"{name}: shrunk again, off by {told}; apart by {255 * min(apart):.1f} codes")
        shown = crop.repeat_interleave(model.scale, -1).repeat_interleave(model.scale, -2)
        rows.append(torch.cat([shown, *(each.picture_3HW for each in found), truth], dim=-1))
    print(f"{num_fit} of {len(rows)} within {EPSILON:.0e} with every seed")
    sheet = torch.cat(rows, dim=-2).repeat_interleave(ZOOM, -1).repeat_interleave(ZOOM, -2)
    codes = (sheet * 255).round().byte().permute(1, 2, 0).numpy()
    cv2.imwrite(str(options.sheet), cv2.cvtColor(codes, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
