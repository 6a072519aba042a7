"""How much texture a result has, and whether it is of the right kind: what PSNR cannot see.

Networks trained against a discriminator make detail up. Of two results as far from the truth, PSNR
prefers the blurred one to the one with fine grass in other places; these two figures tell them
apart. Pictures are luma, in [0, 1].
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vsr.errors import ShapeError
from vsr.quality.metrics import MeanMetric, check_shapes

MIN_PX = 32
"""The smallest side for `texture_distance`: as large as the filters at the coarsest scale."""

_NUM_SCALES, _NUM_ORIENTATIONS = 3, 4
_RADIUS_PX = 4
_CELL_PX = 16
"""So many pixels tell the strength of fine texture to a few per cent; fewer would find two takes
of the same grain unlike."""
_UNSEEN = 2 / 255
"""Amplitudes of less than about two codes count as alike: the noise of any 8-bit picture."""


def gradient_energy(luma_B1HW: Tensor) -> Tensor:
    """Mean squared step between neighbouring pixels, across and down together.

    Args:
        luma_B1HW: (B, 1, H, W), at least 2x2.

    Returns:
        (B,) float64.

    Raises:
        ShapeError: the pictures are too small.
    """
    if min(luma_B1HW.shape[-2:]) < 2:
        raise ShapeError(f"gradients need 2x2 pixels, got {tuple(luma_B1HW.shape[-2:])}")
    picture = luma_B1HW.double()
    steps = (picture.diff(dim=axis).square().mean(dim=(1, 2, 3)) for axis in (-1, -2))
    return sum(steps, start=picture.new_zeros(len(picture)))


class GradientEnergy:
    """Gradient energy of the results over that of the truth: 1 is right, less is blurred.

    More than 1 is too much detail, noise or ringing. It does not say that detail is where it
    belongs: noise of the right strength over a blurred picture scores 1 too.
    """

    def __init__(self) -> None:
        self._result = self._reference = 0.0

    def update(self, result_B1HW: Tensor, reference_B1HW: Tensor) -> None:
        """Add a batch of pictures.

        Raises:
            ShapeError: shapes differ, or the pictures are too small.
        """
        check_shapes(result_B1HW, reference_B1HW)
        self._result += float(gradient_energy(result_B1HW).sum())
        self._reference += float(gradient_energy(reference_B1HW).sum())

    def compute(self) -> float:
        """Ratio of the sums over all pictures; NaN when all of the truth is flat."""
        return self._result / self._reference if self._reference else math.nan


def texture_distance(result_B1HW: Tensor, reference_B1HW: Tensor) -> Tensor:
    """Distance of local texture in a fixed bank of oriented filters; 0 is alike, 1 the most.

    First and second derivatives of a Gaussian of 1 pixel, along 4 orientations, in the picture at
    its full size, a half and a quarter. The squares of both derivatives together are the energy of
    edges and lines alike, wherever in the wave they stand (a quadrature pair, nearly; Freeman and
    Adelson, 1991). Its root mean square over cells of 16x16 pixels, each half over the next, is an
    amplitude; the distance of amplitudes a and b is |a - b| / (a + b), but for what nobody sees,
    and is averaged over cells, orientations and scales.

    What it is: a comparison of how strong detail is, how fine and which way it runs, around each
    place. It does not ask where in a cell detail lies, so texture that is made up but plausible
    costs little, and blur, noise and wrong stripes cost much. What it is not: LPIPS, or any other
    learned distance. Nothing in it was fitted to what people say, it sees no colour and no
    objects, plain areas that are plain in both draw it towards 0, and so its values compare with
    each other alone, on the same pictures.

    Args:
        result_B1HW: (B, 1, H, W), [0, 1], at least 32x32.
        reference_B1HW: the same shape.

    Returns:
        (B,) float64, [0, 1).

    Raises:
        ShapeError: shapes differ or the pictures are too small.
    """
    check_shapes(result_B1HW, reference_B1HW)
    height, width = reference_B1HW.shape[-2:]
    if min(height, width) < MIN_PX:
        raise ShapeError(f"texture needs {MIN_PX}x{MIN_PX} pixels, got {height}x{width}")
    pictures = torch.cat((result_B1HW, reference_B1HW)).float()
    total = torch.zeros(len(reference_B1HW), dtype=torch.float64, device=pictures.device)
    for scale in range(_NUM_SCALES):
        if scale:
            pictures = F.avg_pool2d(pictures, 2)
        one, two = _amplitudes(pictures).chunk(2)
        distance = (one - two).abs() / (one + two + _UNSEEN)
        total += distance.double().mean(dim=(1, 2, 3))
    return total / _NUM_SCALES


def _amplitudes(luma_B1HW: Tensor) -> Tensor:
    """(B, 1, H, W) -> (B, orientations, rows of cells, columns of cells)."""
    padded = F.pad(luma_B1HW, (_RADIUS_PX,) * 4, mode="replicate")
    waves = F.conv2d(padded, _bank().to(padded.device)).square()
    energy = waves[:, :_NUM_ORIENTATIONS] + waves[:, _NUM_ORIENTATIONS:]
    cell = [min(_CELL_PX, side) for side in luma_B1HW.shape[-2:]]
    return F.avg_pool2d(energy, cell, _CELL_PX // 2).sqrt()


@lru_cache(maxsize=1)
def _bank() -> Tensor:
    """(8, 1, 9, 9): slopes along each orientation, then bends; each of sum 0 and norm 1."""
    axis = torch.arange(-_RADIUS_PX, _RADIUS_PX + 1, dtype=torch.float64)
    window = torch.exp(-(axis[:, None].square() + axis.square()) / 2)
    slopes, bends = [], []
    for index in range(_NUM_ORIENTATIONS):
        angle = math.pi * index / _NUM_ORIENTATIONS
        along = math.cos(angle) * axis + math.sin(angle) * axis[:, None]
        slopes.append(along * window)
        bends.append((along.square() - 1) * window)
    filters = torch.stack(slopes + bends)
    # Cut off at 4 pixels and sampled, a second derivative no longer ignores plain grey quite.
    filters -= filters.sum(dim=(1, 2), keepdim=True) * window / window.sum()
    filters /= filters.square().sum(dim=(1, 2), keepdim=True).sqrt()
    return filters[:, None].float()


class TextureDistance(MeanMetric):
    """Mean over pictures of each picture's texture distance."""

    def score(self, result_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """See `texture_distance`; one channel."""
        return texture_distance(result_BCHW, reference_BCHW)
