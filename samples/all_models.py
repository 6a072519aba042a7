"""Draw the README's sheet: one crop of the sample by every model at x4 whose weights are here.

Run `python samples/all_models.py`. The score on each is the Y-PSNR of the whole frame.
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

from vsr.models.catalog import list_models, weights_path
from vsr.models.checkpoint import load_upscaler
from vsr.models.upscaler import ModelSpec
from vsr.quality.metrics import Psnr, prepare, round_to_8_bit
from vsr.training.clips import find_clips
from vsr.training.evaluate import upscale_clip

HERE = Path(__file__).resolve().parent
FRAME, LEFT, TOP = 100, 560, 380
"""Which frame, and the crop's corner in the large picture."""
NEIGHBOURS = 8
"""Frames before and after it that models of several frames are given."""
WIDTH, HEIGHT, COLUMNS = 240, 160, 5
BAND = 40


def frames(path: Path, start: int, stop: int) -> list[Tensor]:
    """(3, H, W) float32 each, in [0, 1]."""
    return list(islice(find_clips(path)[0].pictures(), start, stop))


def enlarge(spec: ModelSpec, source: list[Tensor]) -> Tensor:
    """The middle frame, by a model."""
    model = load_upscaler(spec.id)
    cast(nn.Module, model).eval()
    if spec.kind == "image":
        return next(upscale_clip(model, spec, source[NEIGHBOURS : NEIGHBOURS + 1]))
    return list(upscale_clip(model, spec, source))[NEIGHBOURS]


def score(result: Tensor, truth: Tensor) -> float:
    """Y-PSNR, dB."""
    psnr = Psnr()
    psnr.update(*(prepare(round_to_8_bit(picture)[None], "y", 0) for picture in (result, truth)))
    return psnr.compute()


def tile(picture: Tensor, name: str, told: str) -> NDArray[np.uint8]:
    """A crop with two lines of text above it, BGR."""
    crop = picture[:, TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].clamp(0, 1).mul(255).round().byte()
    band = np.full((BAND, WIDTH, 3), 255, np.uint8)
    for line, text in enumerate((name, told)):
        place = (6, 16 + 18 * line)
        cv2.putText(band, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate((band, crop.permute(1, 2, 0).numpy()[..., ::-1]))


def draw(target: Path) -> None:
    """Write the sheet."""
    source = frames(HERE / "city_180p.mp4", FRAME - NEIGHBOURS, FRAME + NEIGHBOURS + 1)
    (truth,) = frames(HERE / "city_gt.mp4", FRAME, FRAME + 1)
    shown: dict[str, ModelSpec] = {}
    for spec in list_models():
        path = weights_path(spec)
        is_here = path is None or path.is_file()
        # Ids that share weights are shown once.
        # What explores takes pictures of one size alone.
        if spec.scale == 4 and is_here and not spec.draws:
            shown.setdefault(str(path or spec.id), spec)
    tiles = []
    for spec in shown.values():
        result = enlarge(spec, source)
        tiles.append(tile(result, spec.id, f"{score(result, truth):.2f} dB"))
    tiles.append(tile(truth, "ground truth", ""))
    while len(tiles) % COLUMNS:
        tiles.append(np.full_like(tiles[0], 255))
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    cv2.imwrite(str(target), np.concatenate(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "all_models.png")
    with torch.inference_mode():
        draw(parser.parse_args().out)
