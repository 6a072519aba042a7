"""Resizing by interpolation: the reference every learned model is measured against.

`imresize` equals MATLAB's function of that name, which the super-resolution literature uses both
to make its test inputs and as its baseline: cubic kernel with a = -0.5, antialiased when it
shrinks, and borders that mirror with the edge pixel repeated. torch's own bicubic is another
function (a = -0.75 without antialiasing, weights cut off at the border with it).

Each axis is a banded matrix. It is multiplied in blocks of output samples, so that a block touches
only the source samples it needs: dense products of this size run several times faster on a CPU
than one convolution per phase followed by a pixel shuffle, and serve any ratio, not only integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ConfigError, ShapeError
from vsr.models.upscaler import State

Kernel = Literal["box", "bilinear", "bicubic", "lanczos2", "lanczos3"]

_Array = NDArray[np.float64]
_Bands = tuple[tuple[int, int, Tensor], ...]


def _box(x: _Array) -> _Array:
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


def _triangle(x: _Array) -> _Array:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: _Array) -> _Array:
    """Keys 1981, equation 4 with a = -0.5."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))


def _lanczos(x: _Array, num_lobes: int) -> _Array:
    return np.where(np.abs(x) < num_lobes, np.sinc(x) * np.sinc(x / num_lobes), 0.0)


_KERNELS: dict[str, tuple[Callable[[_Array], _Array], float]] = {
    "box": (_box, 1.0),
    "bilinear": (_triangle, 2.0),
    "bicubic": (_cubic, 4.0),
    "lanczos2": (lambda x: _lanczos(x, 2), 4.0),
    "lanczos3": (lambda x: _lanczos(x, 3), 6.0),
}
"""Name -> (function, width of its support at scale 1, in source samples)."""


def _kernel(name: str) -> tuple[Callable[[_Array], _Array], float]:
    try:
        return _KERNELS[name]
    except KeyError:
        known = ", ".join(_KERNELS)
        raise ConfigError(f"Unknown interpolation kernel '{name}'", hint=f"use {known}") from None


def phase_kernel(
    scale: int, kernel: Kernel = "bicubic", *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Interpolation by an integer factor, written as one small filter per output phase.

    `F.pixel_shuffle(F.conv2d(pad_symmetric(grey, k // 2), phase_kernel(scale)), scale)` equals
    `imresize(grey, scale=scale)`. A network that ends in a pixel shuffle can carry these weights
    in its last convolution and so gets its interpolated skip for nothing.

    Args:
        scale: enlargement, 1 or more.
        kernel: interpolation kernel.
        dtype: of the result; computed in float64.

    Returns:
        (scale*scale, 1, k, k) on the CPU, phase `dy * scale + dx` first as `pixel_shuffle` orders
        channels; k is odd: 5 for bicubic, 7 for lanczos3. Each filter sums to 1.

    Raises:
        ConfigError: `scale` is below 1 or the kernel is unknown.
    """
    if scale < 1:
        raise ConfigError(f"A phase kernel needs an integer scale of 1 or more, got {scale}")
    function, width = _kernel(kernel)
    radius = math.ceil(width / 2)
    position = (np.arange(scale) + 0.5) / scale - 0.5
    taps = function(position[:, None] - np.arange(-radius, radius + 1)[None, :])
    taps /= taps.sum(axis=1, keepdims=True)
    filters = taps[:, None, :, None] * taps[None, :, None, :]
    size = 2 * radius + 1
    return torch.from_numpy(filters.reshape(scale * scale, 1, size, size)).to(dtype)


def pad_symmetric(image_BCHW: Tensor, num_px: int) -> Tensor:
    """Pad all four sides by mirroring with the edge pixel repeated, as MATLAB does.

    Args:
        image_BCHW: (..., H, W) of any dtype on any device; H and W may be smaller than `num_px`.
        num_px: rows and columns to add on each side.

    Returns:
        (..., H + 2*num_px, W + 2*num_px).
    """
    padded = image_BCHW
    for axis in (-1, -2):
        missing = num_px
        while missing > 0:
            length = padded.shape[axis]
            step = min(missing, length)
            head = padded.narrow(axis, 0, step).flip(axis)
            tail = padded.narrow(axis, length - step, step).flip(axis)
            padded = torch.cat((head, padded, tail), axis)
            missing -= step
    return padded


def _axis_weights(
    num_in: int, num_out: int, scale: float, kernel: str, antialias: bool
) -> tuple[NDArray[np.int64], _Array]:
    """Source indices and weights, (num_out, taps) each, mirrored at the borders."""
    function, width = _kernel(kernel)
    stretch = min(scale, 1.0) if antialias else 1.0
    width /= stretch
    centre = (np.arange(num_out) + 0.5) / scale - 0.5
    left = np.floor(centre - width / 2).astype(np.int64)
    index = left[:, None] + np.arange(math.ceil(width) + 2)[None, :]
    weight = function((centre[:, None] - index) * stretch)
    weight /= weight.sum(axis=1, keepdims=True)
    index = index % (2 * num_in)
    return np.where(index < num_in, index, 2 * num_in - 1 - index), weight


# Many, because a CUDA graph reads them where they lay when it was recorded.
@lru_cache(maxsize=512)
def _axis_bands(
    num_in: int,
    num_out: int,
    scale: float,
    kernel: str,
    antialias: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> _Bands:
    """The axis matrix in blocks: (first source sample, past the last, (samples out, samples in)).

    A block of about 16 source samples or 16 output samples, whichever is more output, measured
    fastest for 320x180 x4 and 854x480 x2.
    """
    index, weight = _axis_weights(num_in, num_out, scale, kernel, antialias)
    block = max(16, round(16 * scale))
    bands = []
    for start in range(0, num_out, block):
        rows = slice(start, min(start + block, num_out))
        used = index[rows][weight[rows] != 0.0]
        low, high = int(used.min()), int(used.max()) + 1
        matrix = np.zeros((rows.stop - rows.start, high - low))
        inside = (index[rows] >= low) & (index[rows] < high)
        row, tap = np.nonzero(inside)
        np.add.at(matrix, (row, index[rows][row, tap] - low), weight[rows][row, tap])
        bands.append((low, high, torch.from_numpy(matrix).to(device, dtype)))
    return tuple(bands)


def _output_size(
    height: int, width: int, scale: float | None, size: tuple[int, int] | None
) -> tuple[int, int, float, float]:
    if (scale is None) == (size is None):
        raise ConfigError("imresize takes either a scale or a size, not both and not none")
    if size is not None:
        new_height, new_width = size
        if new_height < 1 or new_width < 1:
            raise ConfigError(f"A picture cannot be resized to {new_width}x{new_height}")
        return new_height, new_width, new_height / height, new_width / width
    assert scale is not None
    if not scale > 0.0 or not math.isfinite(scale):
        raise ConfigError(f"A scale must be a positive number, got {scale}")
    # MATLAB rounds up; the small slack keeps 1/3 of 9 rows at 3 whatever the float error.
    new_height = max(1, math.ceil(height * scale - 1e-9))
    new_width = max(1, math.ceil(width * scale - 1e-9))
    return new_height, new_width, scale, scale


def imresize(
    image_BCHW: Tensor,
    *,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    kernel: Kernel = "bicubic",
    antialias: bool = True,
) -> Tensor:
    """Resize as MATLAB's `imresize` does, to 1e-6; nothing is clamped or rounded.

    Args:
        image_BCHW: (..., H, W), floating point, any range, any device. float16 and bfloat16 are
            computed in float32.
        scale: factor for both axes; the size is rounded up.
        size: (height, width) in pixels instead; each axis then has its own factor.
        kernel: `bicubic` is Keys' with a = -0.5; `lanczos3` is what MATLAB and FFmpeg mean by it.
        antialias: widen the kernel when shrinking.

    Returns:
        (..., H', W'), contiguous, dtype and device of the input; differentiable.

    Raises:
        ConfigError: scale, size or kernel make no sense.
        ShapeError: the image has fewer than two axes, no pixels, or is not floating point.
    """
    if image_BCHW.ndim < 2 or image_BCHW.numel() == 0 or not image_BCHW.is_floating_point():
        raise ShapeError(
            f"imresize takes a floating-point (..., H, W) tensor, got {image_BCHW.dtype} "
            f"{tuple(image_BCHW.shape)}"
        )
    height, width = image_BCHW.shape[-2:]
    new_height, new_width, scale_y, scale_x = _output_size(height, width, scale, size)
    dtype = torch.promote_types(image_BCHW.dtype, torch.float32)
    image = image_BCHW.to(dtype)
    if scale_y != 1.0 or new_height != height:
        bands = _axis_bands(height, new_height, scale_y, kernel, antialias, image.device, dtype)
        image = torch.cat([matrix @ image[..., lo:hi, :] for lo, hi, matrix in bands], -2)
    if scale_x != 1.0 or new_width != width:
        bands = _axis_bands(width, new_width, scale_x, kernel, antialias, image.device, dtype)
        image = torch.cat([image[..., lo:hi] @ matrix.t() for lo, hi, matrix in bands], -1)
    return image.to(image_BCHW.dtype)


class Interpolation(nn.Module):
    """Bicubic or Lanczos enlargement as an `Upscaler`: one frame at a time, no weights, no state.

    Args:
        scale: integer enlargement.
        kernel: see `imresize`.
    """

    def __init__(self, scale: int, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        _kernel(kernel)
        self.scale = scale
        self.kernel: Kernel = kernel

    def init_state(self, batch: int, height: int, width: int, seed: int = 0) -> State:
        """The empty state: every frame stands alone."""
        return ()

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        """See `Upscaler.upscale`; weights are applied in float32 at least, whatever the dtype."""
        batch, num_frames = frames_BTCHW.shape[:2]
        kept = num_frames - num_context
        if kept < 1:
            raise ShapeError(f"{num_frames} frames, {num_context} of them context: none to write")
        if batch * kept == 1:
            return imresize(frames_BTCHW[:, :1], scale=self.scale, kernel=self.kernel), state
        # Frame by frame, so that a picture's bits do not depend on what it was batched with.
        results = [
            imresize(frame, scale=self.scale, kernel=self.kernel)
            for frame in frames_BTCHW[:, :kept].flatten(0, 1)
        ]
        return torch.stack(results).view(batch, kept, *results[0].shape), state


def shuffled(phases_BCHW: Tensor, scale: int) -> Tensor:
    """`F.pixel_shuffle` into planes: (B, C*s*s, H, W) -> (B, C, s*H, s*W), contiguous.

    torch's own keeps the channels-last order of a network's result, in which every later look at
    one colour is three times as far to walk; on a CPU it takes twice as long as well.
    """
    batch, channels, height, width = phases_BCHW.shape
    planes = channels // scale**2
    phases_BHWC = phases_BCHW.permute(0, 2, 3, 1)
    if (word := _WORDS.get(scale * phases_BCHW.element_size())) and _are_moved(phases_BHWC):
        # The samples of a run of phases stay together: moved as one, three times as fast.
        runs = phases_BHWC.view(-1).view(word).view(batch, height, width, planes, scale)
        moved = runs.permute(0, 3, 1, 4, 2).clone(memory_format=torch.contiguous_format)
        return moved.view(phases_BCHW.dtype).view(batch, planes, scale * height, scale * width)
    parts = phases_BHWC.reshape(batch, height, width, planes, scale, scale)
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(batch, planes, scale * height, scale * width)


_WORDS = {8: torch.complex64, 16: torch.complex128}
"""Types of so many bytes that are copied as they are."""


def _are_moved(phases_BHWC: Tensor) -> bool:
    """Whether samples may be moved several at a time: lie so on a CPU, and take no gradient."""
    is_cpu = phases_BHWC.device.type == "cpu"
    return is_cpu and phases_BHWC.is_contiguous() and not torch.is_grad_enabled()


class PhaseInterpolation(nn.Module):
    """Enlargement by an integer factor as the s*s phases of a pixel shuffle: a network's skip.

    `pixel_shuffle(phases(x), s)` equals `imresize(x, scale=s)`. The taps stay float32 whatever the
    module is cast to: 8 bits of mantissa cannot hold the weights of 8-bit pictures.

    Args:
        scale: integer enlargement.
        kernel: see `imresize`.
    """

    def __init__(self, scale: int, kernel: Kernel = "bicubic") -> None:
        super().__init__()
        self._taps = phase_kernel(scale, kernel).repeat(4, 1, 1, 1)

    def phases(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) float32 -> (B, C*s*s, H, W) float32, in channels-last order; C is 1 to 4."""
        if self._taps.device != image_BCHW.device:
            self._taps = self._taps.to(image_BCHW.device)
        padded = pad_symmetric(image_BCHW, self._taps.shape[-1] // 2)
        # Grouped convolutions are 30 to 60 times faster on a CPU in channels-last order.
        padded = padded.contiguous(memory_format=torch.channels_last)
        # On `meta`, where only costs are asked for, there is nothing to switch off.
        exact = (
            nullcontext() if padded.is_meta else torch.autocast(padded.device.type, enabled=False)
        )
        with exact:
            channels = padded.shape[1]
            taps = self._taps[: channels * len(self._taps) // 4]
            return F.conv2d(padded, taps, groups=channels)
