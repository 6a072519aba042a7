"""Draw the README's picture: the same crop interpolated, upscaled by vsr, and true.

Run `vsr upscale samples/city_180p.mp4 out.mp4 --scale 4` first, then
`python samples/before_after.py out.mp4`.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vsr.models.image.interpolation import imresize
from vsr.training.clips import find_clips

HERE = Path(__file__).resolve().parent
CROPS = ((20, 320, 150), (100, 560, 380))
"""(frame, left, top) of each row of the picture."""
WIDTH, HEIGHT = 340, 220


def read_frame(path: Path, index: int) -> NDArray[np.uint8]:
    """Frame `index` of a video: (3, H, W) as 8-bit RGB."""
    picture = next(islice(find_clips(path)[0].pictures(), index, None))
    return np.asarray((picture * 255).round().byte().numpy())


def draw(result: Path, target: Path) -> None:
    """Write the picture."""
    rows = []
    for index, left, top in CROPS:
        picture = next(islice(find_clips(HERE / "city_180p.mp4")[0].pictures(), index, None))
        bicubic = (imresize(picture, scale=4).clamp(0, 1) * 255).round().byte().numpy()
        candidates = (bicubic, read_frame(result, index), read_frame(HERE / "city_gt.mp4", index))
        rows.append(
            np.concatenate(
                [
                    c[:, top : top + HEIGHT, left : left + WIDTH].transpose(1, 2, 0)
                    for c in candidates
                ],
                axis=1,
            )
        )
    sheet = np.ascontiguousarray(np.concatenate(rows)[..., ::-1])
    band = np.full((28, sheet.shape[1], 3), 255, np.uint8)
    for column, label in enumerate(("bicubic", "vsr", "ground truth")):
        place = (column * WIDTH + 8, 20)
        cv2.putText(band, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.imwrite(str(target), np.concatenate((band, sheet)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "before_after.png")
    arguments = parser.parse_args()
    draw(arguments.result, arguments.out)
