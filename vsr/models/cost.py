"""What a model costs: parameters and multiply-adds."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vsr.models.upscaler import ModelSpec, Upscaler


def count_params(module: nn.Module) -> int:
    """Number of trainable numbers in a network."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_gmac(model: Upscaler, spec: ModelSpec, *, height: int = 180, width: int = 320) -> float:
    """10^9 multiply-adds per written frame.

    Counted are convolutions and matrix products, in one full call of the size the spec states, so
    that what a look-ahead costs twice is counted twice. Warping, activations, additions and pixel
    shuffles are not counted, as in published tables. For interpolation this is the banded matrix
    product as it is run, zeros of the bands included.

    Args:
        model: on the CPU, where it is run once, on black frames; or on `meta`, where it costs
            nothing.
        spec: its spec: chunk and context.
        height: of the source frame, pixels.
        width: of the source frame, pixels.
    """
    device = next(cast(nn.Module, model).parameters(), torch.empty(0)).device
    frames_BTCHW = torch.zeros(1, spec.chunk + spec.context, 3, height, width, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        state = model.init_state(1, height, width)
        model.upscale(frames_BTCHW, state, spec.context)
    # The counter knows two floating-point operations in each multiply-add.
    return float(counter.get_total_flops()) / 2 / spec.chunk / 1e9
