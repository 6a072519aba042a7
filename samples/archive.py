"""Draw the README's picture of damaged footage: as it is, and by two models, beside the truth.

Run `python samples/archive.py`. Damage of film and of tape, as training draws it, is done to the
sample's ground truth.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vsr.models.checkpoint import load_upscaler, resolve_spec
from vsr.models.image.interpolation import imresize
from vsr.training.clips import find_clips
from vsr.training.degrade import degrade_clip
from vsr.training.degrade_archive import draw_archive
from vsr.training.evaluate import upscale_clip

HERE = Path(__file__).resolve().parent
START, COUNT, SHOWN = 92, 17, 8
"""Frames of the sample that are damaged, and which of them is shown."""
ROWS = (("film", 330, 150), ("tape", 560, 380))
"""Kind of damage, and the crop's left and top."""
WIDTH, HEIGHT = 300, 200
_LEAST_GRAIN = 8.0
MODELS = ("flowprop-s-x4-bi", "flowprop-s-x4-archive")


def damaged(kind: str, frames: list[Tensor]) -> list[Tensor]:
    """Small frames with the first damage that seeds give of one kind alone, and enough of it."""
    seed = 0
    while True:
        recipe = draw_archive(torch.Generator().manual_seed(seed))
        parts = {"film": recipe.film, "tape": recipe.tape}
        is_faint = recipe.film is not None and recipe.film.grain < _LEAST_GRAIN
        is_alone = parts.pop(kind) is not None and not any(parts.values())
        if is_alone and not is_faint and recipe.compression is None:
            small = degrade_clip(iter(frame * 255 for frame in frames), 4, recipe)
            return list((small / 255).unbind(0))
        seed += 1


def crop(picture: Tensor, left: int, top: int) -> NDArray[np.uint8]:
    """BGR codes."""
    part = picture[:, top : top + HEIGHT, left : left + WIDTH].clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(part.permute(1, 2, 0).numpy()[..., ::-1])


def draw(target: Path) -> None:
    """Write the picture."""
    clip = find_clips(HERE / "city_gt.mp4")[0]
    truth = list(islice(clip.pictures(), START, START + COUNT))
    rows = []
    for kind, left, top in ROWS:
        small = damaged(kind, truth)
        shown = [imresize(small[SHOWN], scale=4)]
        for name in MODELS:
            model = load_upscaler(name)
            cast(nn.Module, model).eval()
            shown.append(list(upscale_clip(model, resolve_spec(name), small))[SHOWN])
        shown.append(truth[SHOWN])
        rows.append(np.concatenate([crop(picture, left, top) for picture in shown], axis=1))
    sheet = np.concatenate(rows)
    band = np.full((28, sheet.shape[1], 3), 255, np.uint8)
    for column, label in enumerate(("bicubic", *MODELS, "ground truth")):
        place = (column * WIDTH + 8, 20)
        cv2.putText(band, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(target), np.concatenate((band, sheet)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "archive.png")
    with torch.inference_mode():
        draw(parser.parse_args().out)
