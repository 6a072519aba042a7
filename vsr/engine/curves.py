"""Reversible curves between the codes of film scans or linear light and what models expect.

Models are trained on pictures coded for display: nominally [0, 1], evenly spread to the eye. Linear
light crowds the dark half of a scene into a few hundredths, film densities leave contrast flat.
Both pass one of these curves before the model, and its inverse after. Nothing is clamped: each
curve is strictly rising over the whole number line, so values above 1, negative values and what a
model overshoots come back.

`linear` (OpenEXR and every source tagged as linear light): the sRGB curve of IEC 61966-2-1 between
0 and 1; mirrored below 0; above 1 continued by 1 + a ln(x) with the sRGB curve's slope there,
a = 1.055 / 2.4, so that a lamp of 100 becomes 3.0 and not 7.1 as by the power.

`density` (DPX of printing density or logarithmic): Cineon's convention: a code of 10 bits is 0.002
of density, the negative's gamma 0.6, black at code 95, white at code 685, so that linear light is
(10^((c - 685) / 300) - o) / (1 - o) with o = 10^((95 - 685) / 300); then the curve above. Below
code 0 it goes on along its tangent.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vsr.frame import Curve

_LOG_SLOPE = 1.055 / 2.4
_LINEAR_SLOPE = 12.92
_KNEE = 0.0031308
_TOP_CODE = 1023.0
_WHITE, _BLACK, _CODES_PER_DECADE = 685.0, 95.0, 300.0
_OFFSET = 10 ** ((_BLACK - _WHITE) / _CODES_PER_DECADE)
_RATE = math.log(10) / _CODES_PER_DECADE
_FLOOR = (10 ** (-_WHITE / _CODES_PER_DECADE) - _OFFSET) / (1 - _OFFSET)
"""Linear light of code 0."""
_FLOOR_SLOPE = _RATE * 10 ** (-_WHITE / _CODES_PER_DECADE) / (1 - _OFFSET)


def to_display(values: Tensor, curve: Curve) -> Tensor:
    """Codes of a source, nominally [0, 1], as a model is to see them.

    Args:
        values: any shape, any floating type; reckoned in float32.
        curve: of the source.

    Returns:
        A tensor of the same type; `values` itself for `none`.
    """
    if curve == "none":
        return values
    x = values.to(torch.float32)
    if curve == "density":
        x = _density_to_linear(x)
    return _linear_to_display(x).to(values.dtype)


def from_display(values: Tensor, curve: Curve) -> Tensor:
    """The inverse of `to_display`."""
    if curve == "none":
        return values
    x = _display_to_linear(values.to(torch.float32))
    if curve == "density":
        x = _linear_to_density(x)
    return x.to(values.dtype)


def _linear_to_display(x: Tensor) -> Tensor:
    size = x.abs()
    # Arguments are kept where each branch is defined: `where` computes all of them.
    low = size * _LINEAR_SLOPE
    middle = 1.055 * size.clamp(_KNEE, 1.0).pow(1 / 2.4) - 0.055
    high = 1 + _LOG_SLOPE * size.clamp_min(1.0).log()
    return torch.where(size <= _KNEE, low, torch.where(size <= 1, middle, high)).copysign(x)


def _display_to_linear(y: Tensor) -> Tensor:
    size = y.abs()
    low = size / _LINEAR_SLOPE
    middle = ((size.clamp(_KNEE * _LINEAR_SLOPE, 1.0) + 0.055) / 1.055).pow(2.4)
    # e^80 is more than any float sample holds and less than what overflows.
    high = ((size.clamp_min(1.0) - 1) / _LOG_SLOPE).clamp_max(80.0).exp()
    knee = _KNEE * _LINEAR_SLOPE
    return torch.where(size <= knee, low, torch.where(size <= 1, middle, high)).copysign(y)


def _density_to_linear(x: Tensor) -> Tensor:
    codes = x * _TOP_CODE
    curved = (((codes.clamp_min(0.0) - _WHITE) * _RATE).exp() - _OFFSET) / (1 - _OFFSET)
    return torch.where(codes >= 0, curved, _FLOOR + _FLOOR_SLOPE * codes)


def _linear_to_density(x: Tensor) -> Tensor:
    light = x.clamp_min(_FLOOR) * (1 - _OFFSET) + _OFFSET
    curved = light.log() / _RATE + _WHITE
    codes = torch.where(x >= _FLOOR, curved, (x - _FLOOR) / _FLOOR_SLOPE)
    return codes / _TOP_CODE
