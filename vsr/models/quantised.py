"""Weights of eight bits: stored so, or computed with, on a CPU.

Stored, a tensor is whole numbers of -127 to 127 and a scale for each output channel, and becomes
floating point again when it is read: half the size of float16, no other speed. Computed with,
samples are of eight bits as well where they enter a convolution, by ranges measured on pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

SCALE = "::scale"
"""Ends the name of a stored tensor's scales."""
_MOST = 127


def pack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices and kernels as int8 with a float16 scale per row; all else as it is.

    Raises:
        ValueError: a tensor already has the name of another one's scales.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            raise ValueError(f"no tensor may be called {name}")
        if tensor.ndim < 2 or not tensor.is_floating_point():
            packed[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(dim=1) / _MOST).clamp(min=1e-6).to(torch.float16)
        whole = (rows / scale.float()[:, None]).round().clamp(-_MOST, _MOST).to(torch.int8)
        packed[name] = whole.view(tensor.shape).contiguous()
        packed[name + SCALE] = scale
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `pack` was given, as near as eight bits are; float32. Other tensors as they are."""
    scales = {name for name in tensors if name.endswith(SCALE)}
    unpacked = {}
    for name, tensor in tensors.items():
        if name in scales:
            continue
        scale = tensors.get(name + SCALE)
        if scale is not None:
            tensor = tensor.float() * scale.float().view(-1, *[1] * (tensor.ndim - 1))
        unpacked[name] = tensor
    return unpacked


def is_supported() -> bool:
    """Whether this machine's torch has convolutions of eight bits."""
    return hasattr(torch.ops.onednn, "qconv2d_pointwise")


class Int8Conv(nn.Module):
    """A convolution of eight-bit samples by eight-bit weights, by oneDNN; gives float32.

    Args:
        conv: what it stands for; its padding is zeros.
        given: least and greatest sample that it is given.
    """

    def __init__(self, conv: nn.Conv2d, given: tuple[float, float]) -> None:
        super().__init__()
        low, high = min(given[0], 0.0), max(given[1], 0.0)
        self._scale = max((high - low) / 255, 1e-8)
        # Zero is hit exactly, because the padding is of it.
        self._zero = max(0, min(255, round(-low / self._scale)))
        weight = conv.weight.detach().float()
        self._scales = (weight.flatten(1).abs().amax(1) / _MOST).clamp(min=1e-8)
        whole = (weight / self._scales.view(-1, 1, 1, 1)).round().clamp(-_MOST, _MOST)
        self._zeros = torch.zeros(len(weight), dtype=torch.int8)
        # A parameter, by which others tell the number format of what goes in.
        bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach().float()
        self.bias = nn.Parameter(bias.clone(), requires_grad=False)
        self._shape = list(conv.stride), list(cast(Any, conv.padding)), list(conv.dilation)
        self._groups = conv.groups
        self._packed = torch.ops.onednn.qconv_prepack(
            whole.to(torch.int8), self._scales, self._scale, self._zero, *self._shape, self._groups
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        codes = x_BCHW.float() * (1 / self._scale)
        codes = codes.add_(self._zero).round_().clamp_(0, 255).to(torch.uint8)
        y: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes, self._scale, self._zero, self._packed, self._scales, self._zeros, self.bias,
            *self._shape, self._groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return y.to(x_BCHW.dtype)


def to_int8(
    model: nn.Module, run: Callable[[nn.Module, Tensor], object], pictures: Iterable[Tensor]
) -> nn.Module:
    """A copy of a network whose convolutions compute with eight bits.

    Args:
        model: in float32 on the CPU; left as it is.
        run: calls it with a picture.
        pictures: on which the ranges are measured.

    Raises:
        RuntimeError: torch has no such convolutions here.
    """
    ranges: dict[str, list[float]] = {}
    hooks = []
    for name, conv in _convolutions(model):
        kept: list[float] = []
        ranges[name] = kept

        def note(_: nn.Module, given: Any, kept: list[float] = kept) -> None:
            kept.extend((float(given[0].min()), float(given[0].max())))

        hooks.append(conv.register_forward_pre_hook(note))
    try:
        with torch.no_grad():
            for picture in pictures:
                run(model, picture)
    finally:
        for hook in hooks:
            hook.remove()
    copy = deepcopy(model)
    for name, conv in _convolutions(copy):
        given = ranges[name]
        if not given:
            continue  # was never called
        parent, _, last = name.rpartition(".")
        new = Int8Conv(conv, (min(given), max(given)))
        copy.get_submodule(parent).add_module(last, new)
    return copy


def _convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, m) for name, m in model.named_modules() if type(m) is nn.Conv2d]
