"""How a source was made small and damaged, as far as its pictures tell; and which weights fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from vsr.color import complete, planes_to_rgb
from vsr.frame import Frame
from vsr.media.grain import Grain, measure_grain
from vsr.media.images import image_kind, read_image
from vsr.media.probe import probe
from vsr.media.reader import FrameReader
from vsr.models.blur import GaussianBlur, estimate_blur
from vsr.models.flow import luma

NUM_FRAMES = 8
STEP = 12
"""Of so many frames one is looked at, so that they are not all one picture."""

_BI_SIGMA = (0.28, 0.56)
"""Deviations of the blur, in source pixels, that bicubic shrinking is measured to have."""
_BI_NOISE, _ARCHIVE_NOISE = 2.5, 6.0
"""In 8-bit codes."""
_BI_BLOCKS, _ARCHIVE_BLOCKS = 1.06, 1.25
_ARCHIVE_SIGMA = 1.1
_FLAT = 0.25 / 255

WeightSet = Literal["-bi", "default", "-archive"]


class Degradation(BaseModel):
    """What was estimated."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int
    """Looked at."""
    blur_major_px: float | None
    """Deviation of a Gaussian, in source pixels; None where nothing tells."""
    blur_minor_px: float | None
    blur_angle_degrees: float | None
    noise_codes: float | None
    """Deviation of grain and noise, in 8-bit codes."""
    blockiness: float
    """Steps across a grid of 8 pixels over steps elsewhere; 1 is none."""
    weights: WeightSet
    """The set whose training inputs were made in the most similar way."""
    reason: str

    def describe(self) -> list[str]:
        """For people, line by line."""
        blur = "unknown"
        if self.blur_major_px is not None and self.blur_minor_px is not None:
            angle = np.radians(self.blur_angle_degrees or 0.0)
            blur = GaussianBlur(self.blur_major_px, self.blur_minor_px, float(angle)).describe()
        noise = "unknown" if self.noise_codes is None else f"{self.noise_codes:.1f} codes of 255"
        return [
            f"  blur: Gaussian of {blur}; bicubic shrinking leaves 0.3 to 0.5 px",
            f"  grain and noise: {noise}; blocks of a codec: {self.blockiness:.2f} (1 is none)",
            f"  weights that fit: {self.weights}, because {self.reason}",
        ]


def estimate_degradation(source: Path, *, scale: int = 4) -> Degradation:
    """Look at a still, or at a few frames from the beginning of a film.

    Args:
        source: either.
        scale: of the enlargement in mind.

    Raises:
        MediaError: it cannot be read.
    """
    lumas = list(_lumas(source))
    blur = estimate_blur(lumas, scale)
    arrays = [picture[0].numpy() for picture in lumas]
    grain = measure_grain(arrays)
    noise = None if grain is None else grain.least_codes
    blockiness = float(np.mean([_blockiness(array) for array in arrays]))
    weights, reason = _fitting(blur, noise, blockiness)
    return Degradation(
        frames=len(lumas),
        blur_major_px=None if blur is None else round(blur.major, 3),
        blur_minor_px=None if blur is None else round(blur.minor, 3),
        blur_angle_degrees=None if blur is None else round(float(np.degrees(blur.angle)), 1),
        noise_codes=None if noise is None else round(noise, 2),
        blockiness=round(blockiness, 3),
        weights=weights,
        reason=reason,
    )


def film_blur(source: Path, scale: int) -> GaussianBlur | None:
    """The blur of a film alone; None where nothing tells.

    Raises:
        MediaError: it cannot be read.
    """
    return estimate_blur(_lumas(source), scale)


def film_grain(source: Path) -> Grain | None:
    """The grain of a film; None where nothing tells.

    Raises:
        MediaError: it cannot be read.
    """
    return measure_grain([picture[0].numpy() for picture in _lumas(source)])


def _lumas(source: Path) -> Iterator[torch.Tensor]:
    """(1, H, W) float32 in [0, 1] of the frames that are looked at."""
    if image_kind(source) is not None and source.is_file():
        yield _luma(read_image(source).frame)
        return
    with (
        FrameReader(source, info=probe(source).video, threads=1) as reader,
        closing(iter(reader)) as frames,
    ):
        for frame in islice(frames, 0, NUM_FRAMES * STEP, STEP):
            yield _luma(frame)


def _luma(frame: Frame) -> torch.Tensor:
    color, _ = complete(frame.color, frame.width, frame.height, frame.layout)
    planes = tuple(torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in frame.planes)
    return luma(planes_to_rgb(planes, frame.layout, color))[0].clamp(0, 1)


def _blockiness(luma_HW: NDArray[np.float32]) -> float:
    """Mean step across the edges of 8x8 blocks over the mean step elsewhere."""
    ratios = []
    for picture in (luma_HW, luma_HW.T):
        steps = np.abs(np.diff(picture, axis=1)).mean(axis=0)
        is_edge = np.arange(1, len(steps) + 1) % 8 == 0
        if not is_edge.any():
            continue
        # Of a picture that is next to flat, the least trace would be everything.
        on_edge, elsewhere = steps[is_edge].mean() + _FLAT, steps[~is_edge].mean() + _FLAT
        ratios.append(float(on_edge / elsewhere))
    return float(np.mean(ratios)) if ratios else 1.0


def _fitting(
    blur: GaussianBlur | None, noise: float | None, blockiness: float
) -> tuple[WeightSet, str]:
    """The weights to take, and why."""
    major = 0.0 if blur is None else blur.major
    minor = 0.0 if blur is None else blur.minor
    if noise is not None and noise > _ARCHIVE_NOISE:
        return "-archive", f"grain or noise of {noise:.1f} codes is that of old film or tape"
    if blockiness > _ARCHIVE_BLOCKS:
        return "-archive", "a codec has left its blocks"
    if major > _ARCHIVE_SIGMA:
        return "-archive", f"a blur of {major:.2f} px is that of a worn or resampled copy"
    if blur is None:
        return "default", "nothing tells how it was made small"
    if noise is not None and noise > _BI_NOISE:
        return "default", f"noise of {noise:.1f} codes is more than clean pictures have"
    if blockiness > _BI_BLOCKS:
        return "default", "there are traces of a codec's blocks"
    if not (_BI_SIGMA[0] <= minor and major <= _BI_SIGMA[1]):
        return "default", f"a blur of {blur.describe()} is not that of bicubic shrinking"
    return "-bi", "it is as sharp and clean as what bicubic shrinking makes"
