"""Fit what `vsr.quality.naturalness` takes for natural, on photographs.

    python samples/fit_naturalness.py FOLDER

FOLDER holds `index.json`, a list of `{file, licence}` with files named from the folder above
FOLDER's own, as `train/photo/name.webp`. Only photographs are taken whose licence asks for nothing
that a file of numbers could not keep: CC0 and BSD. Equal photographs give equal bytes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

from vsr.quality.naturalness import FIT_FILE, Moments, features

LICENCES = ("CC0-1.0", "BSD-2-Clause")
SHARP = 0.75
"""Of the sharpest patch of a photograph; what is less sharp was out of focus."""
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def main(folder: Path) -> None:
    """Read the photographs, write the fit."""
    listed = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    chosen = sorted(
        (item for item in listed if item["licence"] in LICENCES), key=lambda item: item["file"]
    )
    found = Moments()
    for item in chosen:
        picture = cv2.imread(str(folder / Path(item["file"]).name), cv2.IMREAD_COLOR)
        if picture is None:
            raise SystemExit(f"{item['file']} cannot be read")
        luma = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.float32) @ LUMA
        table, sharpness = features(luma)
        if len(table):
            found.add(table[sharpness > SHARP * sharpness.max()])
    mean, covariance = found.gaussian()
    origins = sorted({f"{item['origin']} ({item['licence']})" for item in chosen})
    save_file(
        {"mean": mean, "covariance": covariance},
        FIT_FILE,
        metadata={
            "photographs": str(len(chosen)),
            "patches": str(found.count),
            "origins": "; ".join(origins),
            "made_by": "samples/fit_naturalness.py",
        },
    )
    print(f"{FIT_FILE}: {found.count} patches of {len(chosen)} photographs")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
