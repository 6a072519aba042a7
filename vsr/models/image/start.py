"""Weights to start from: a fresh network that already interpolates.

Papers start from noise and spend their first tens of thousands of steps on learning to copy the
picture. A network whose first channels pass the picture on, and whose last layer enlarges it, is
the same network and starts at the quality of interpolation. All other weights stay random.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsr.models.image.interpolation import phase_kernel


@torch.no_grad()
def pass_through(
    conv: nn.Conv2d, num_channels: int, gain: float = 1.0, *, keep: bool = False
) -> None:
    """Let output channel i be `gain` times input channel i, for the first `num_channels`.

    With `keep`, the weights of the other input channels stay: on top of the picture comes what
    they add.
    """
    _clear(conv, slice(0, num_channels), num_channels if keep else None)
    row, column = (size // 2 for size in conv.kernel_size)
    for channel in range(num_channels):
        conv.weight[channel, channel, row, column] = gain


@torch.no_grad()
def smooth(conv: nn.Conv2d, num_channels: int) -> None:
    """Let a 3x3 convolution after nearest-neighbour doubling make that doubling bilinear."""
    pass_through(conv, num_channels)
    taps = torch.tensor([0.25, 0.5, 0.25])
    for channel in range(num_channels):
        conv.weight[channel, channel] = taps[:, None] * taps[None, :]


@torch.no_grad()
def interpolate(
    conv: nn.Conv2d, num_channels: int, scale: int, gain: float = 1.0, *, keep: bool = False
) -> None:
    """Let the first `num_channels` after `pixel_shuffle(conv(x), scale)` be x enlarged bilinearly.

    The kernel of `conv` is 3x3 or larger. `keep` as in `pass_through`.
    """
    phases = gain * phase_kernel(scale, "bilinear")[:, 0]
    top, left = ((size - 3) // 2 for size in conv.kernel_size)
    _clear(conv, slice(0, num_channels * scale**2), num_channels if keep else None)
    for channel in range(num_channels):
        rows = slice(channel * scale**2, (channel + 1) * scale**2)
        conv.weight[rows, channel, top : top + 3, left : left + 3] = phases


@torch.no_grad()
def enlarge(deconv: nn.ConvTranspose2d, num_channels: int) -> None:
    """Let output channel i of a transposed convolution be input channel i enlarged bilinearly.

    Centred on the grid of `imresize`, as far as the kernel reaches.
    """
    size, scale, padding = deconv.kernel_size[0], deconv.stride[0], deconv.padding[0]
    assert isinstance(padding, int)
    # Tap k of source pixel i lands on output pixel scale * i + k - padding.
    distance = torch.arange(size) - padding - (scale - 1) / 2
    taps: Tensor = (1 - distance.abs() / scale).clamp(min=0)
    for channel in range(num_channels):
        deconv.weight[:num_channels, channel].zero_()
        deconv.weight[channel, channel] = taps[:, None] * taps[None, :]
    if deconv.bias is not None:
        deconv.bias[:num_channels].zero_()


@torch.no_grad()
def contrast(conv: nn.Conv2d, deviation: float) -> None:
    """Let every filter see contrast and not brightness, strongly enough for a curved activation.

    Pictures differ little from pixel to pixel: weights of the usual size would leave tanh in its
    linear part, and the network would learn no more than a linear one.
    """
    nn.init.normal_(conv.weight, std=deviation)
    conv.weight -= conv.weight.mean(dim=(2, 3), keepdim=True)


@torch.no_grad()
def quiet(conv: nn.Conv2d | nn.ConvTranspose2d, factor: float = 0.1) -> None:
    """Scale the weights that a layer has at random."""
    conv.weight.mul_(factor)
    if conv.bias is not None:
        conv.bias.zero_()


def _clear(conv: nn.Conv2d, rows: slice, num_inputs: int | None) -> None:
    conv.weight[rows, :num_inputs].zero_()
    if conv.bias is not None:
        conv.bias[rows].zero_()
