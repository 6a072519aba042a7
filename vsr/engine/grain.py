"""Grain put into results: of the source's strength at each brightness, and of its coarseness.

A network takes grain for noise and leaves a picture like plastic. One sheet of grain is made from a
seed and laid over every frame at another place and turned another way, by the frame's number alone:
so the same frame has the same grain whatever it is made with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vsr.models.flow import luma

_SHEET_PX = 512
_LEAST_CORRELATION = 0.05
_LARGE_PRIME, _OTHER_PRIME = 2_654_435_761, 2_246_822_519


class GrainSheet:
    """Grain of one film.

    Args:
        sigmas: deviation of luma at even steps from black to white, of samples in [0, 1].
        correlation: of neighbouring pixels, 0 to 1.
        seed: of the sheet.
        device: where it is laid over pictures.
    """

    def __init__(
        self, sigmas: Sequence[float], correlation: float, *, seed: int, device: torch.device
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        sheet = torch.randn(_SHEET_PX, _SHEET_PX, generator=generator)
        if correlation > _LEAST_CORRELATION:
            sheet = _coarse(sheet, min(correlation, 0.95))
        self._sheet = ((sheet - sheet.mean()) / sheet.std()).to(device)
        self._sigmas = torch.tensor(sigmas, dtype=torch.float32, device=device)

    def lay_over(self, picture_BCHW: Tensor, index: int) -> Tensor:
        """A picture with grain, the same in all channels.

        Args:
            picture_BCHW: RGB, nominally [0, 1].
            index: of the frame in its film.
        """
        height, width = picture_BCHW.shape[-2:]
        grain_HW = self._cut(height, width, index)
        # Levels stand for the middles of even steps.
        steps = len(self._sigmas)
        place = (luma(picture_BCHW.float()) * steps - 0.5).clamp(0, steps - 1)
        below = place.floor().long()
        above = (below + 1).clamp(max=steps - 1)
        sigma = torch.lerp(self._sigmas[below], self._sigmas[above], place - below)
        return picture_BCHW + (sigma * grain_HW).to(picture_BCHW.dtype)

    def _cut(self, height: int, width: int, index: int) -> Tensor:
        """The piece of the sheet, repeated as far as needed, that belongs to a frame."""
        mixed = (index + 1) * _LARGE_PRIME % 2**32
        other = (mixed ^ (mixed >> 15)) * _OTHER_PRIME % 2**32
        top, left = mixed >> 8, other >> 8
        sheet = torch.rot90(self._sheet, other & 3)
        if mixed & 1:
            sheet = sheet.flip(-1)
        rows = (torch.arange(height, device=sheet.device) + top) % _SHEET_PX
        columns = (torch.arange(width, device=sheet.device) + left) % _SHEET_PX
        return sheet[rows[:, None], columns]


def _coarse(sheet: Tensor, correlation: float) -> Tensor:
    """A sheet smoothed until neighbours correlate so; its edges still meet."""
    # A Gaussian of that deviation makes white noise correlate so at a distance of 1.
    deviation = math.sqrt(-1 / (4 * math.log(correlation)))
    line = torch.fft.fftfreq(_SHEET_PX)
    fall = torch.exp(-2 * math.pi**2 * deviation**2 * line.square())
    smooth: Tensor = torch.fft.ifft2(torch.fft.fft2(sheet) * fall[:, None] * fall).real
    return smooth
