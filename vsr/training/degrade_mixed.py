"""What ordinary footage went through: soft lenses, other resamplers, some noise, a lossy codec."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from vsr.media.recompress import Compression, Compressor, recompress
from vsr.models.image.interpolation import Kernel, imresize
from vsr.training.motion import uniform
from vsr.training.shrink import Blur, Phase, gaussian_decimate, shrink

Kind = Literal["bi", "bd", "bd-corner", "soft", "light"]
SHARES: Mapping[Kind, float] = {"bi": 0.45, "bd": 0.15, "soft": 0.15, "light": 0.25}
"""Kinds of clips: the field's two, a random blur and kernel, and that with noise and a codec."""
KERNELS: tuple[Kernel, ...] = ("bicubic", "bilinear", "box", "lanczos3")
CODECS: tuple[tuple[Compressor, float, float, float], ...] = (
    ("h264", 0.45, 18, 32),
    ("hevc", 0.15, 20, 34),
    ("mpeg2", 0.15, 2, 9),
    ("mpeg4", 0.1, 2, 9),
    ("jpeg", 0.15, 2, 8),
)
"""Name, share, and range of `Compression.quality`."""
_PRESETS = ("ultrafast", "veryfast", "medium")
LUMA = (0.299, 0.587, 0.114)
_Name = TypeVar("_Name", bound=str)


@dataclass(frozen=True, slots=True)
class Footage:
    """What happens to one clip. Nothing moves, so the ground truth stands."""

    kind: Kind
    seed: int = 0
    """Of the noise."""
    blur: Blur = field(default_factory=Blur)
    kernel: Kernel = "bicubic"
    luma_sigma: float = 0.0
    """Noise, 8-bit codes."""
    chroma_sigma: float = 0.0
    shot_gain: float = 0.0
    """Variance per code of brightness: photons come one by one."""
    compression: Compression | None = None

    @property
    def is_per_frame(self) -> bool:
        """Whether frames could as well be of different clips."""
        return self.kind != "light"

    def shrink(self, frames_TCHW: Tensor, scale: int) -> Tensor:
        """See `degrade.Recipe`."""
        if self.kind == "bi":
            return imresize(frames_TCHW, scale=1 / scale)
        if self.kind in ("bd", "bd-corner"):
            phase: Phase = "centre" if self.kind == "bd" else "corner"
            return gaussian_decimate(frames_TCHW, scale, phase)
        return shrink(frames_TCHW, scale, self.blur, self.kernel)

    def spoil(self, frames_TCHW: Tensor) -> Tensor:
        """See `degrade.Recipe`."""
        frames = frames_TCHW
        if self.luma_sigma or self.chroma_sigma or self.shot_gain:
            frames = self._noisy(frames)
        frames = frames.round().clamp_(0, 255)
        return frames if self.compression is None else compressed(frames, self.compression)

    def _noisy(self, frames_TCHW: Tensor) -> Tensor:
        generator = torch.Generator(frames_TCHW.device).manual_seed(self.seed)

        def draw(channels: int) -> Tensor:
            length, _, height, width = frames_TCHW.shape
            return torch.randn(
                (length, channels, height, width), generator=generator, device=frames_TCHW.device
            )

        weights = frames_TCHW.new_tensor(LUMA)[:, None, None]
        brightness = (frames_TCHW * weights).sum(dim=1, keepdim=True).clamp(min=0)
        sigma = (self.luma_sigma**2 + self.shot_gain * brightness).sqrt()
        color = draw(3) * self.chroma_sigma
        color = color - (color * weights).sum(dim=1, keepdim=True)
        return frames_TCHW + draw(1) * sigma + color


def draw_mixed(generator: torch.Generator) -> Footage:
    """A recipe, from a generator on the CPU.

    The decimation is the one that keeps the field of view (`shrink.gaussian_decimate`, centre): the
    other phase cannot be told from it by looking, so that learning both would blur every result.
    """
    kind = _choose(generator, SHARES)
    if kind in ("bi", "bd"):
        return Footage(kind)
    blur = draw_blur(generator, 0.4, 2.0) if kind == "soft" else draw_blur(generator, 0.2, 1.2)
    kernel = KERNELS[int(torch.randint(len(KERNELS), (), generator=generator))]
    if kind == "soft":
        return Footage(kind, 0, blur, kernel)
    luma_sigma = max(0.0, uniform(generator, -3.0, 6.0))
    return Footage(
        kind,
        int(torch.randint(2**31, (), generator=generator)),
        blur,
        kernel,
        luma_sigma=luma_sigma,
        chroma_sigma=luma_sigma * uniform(generator, 0.0, 1.0),
        shot_gain=max(0.0, uniform(generator, -0.1, 0.1)),
        compression=draw_compression(generator),
    )


def draw_blur(generator: torch.Generator, low: float, high: float) -> Blur:
    """A round Gaussian in one half of all draws, else one up to twice as long as wide."""
    sigma = uniform(generator, low, high)
    if uniform(generator, 0, 1) < 0.5:
        return Blur(sigma, sigma)
    return Blur(
        sigma, sigma * uniform(generator, 0.5, 1.0), uniform(generator, -math.pi / 2, math.pi / 2)
    )


def draw_compression(generator: torch.Generator, worse: float = 0.0) -> Compression:
    """A codec and its quality.

    Args:
        generator: on the CPU.
        worse: 0 to 1 moves the range of qualities up by so much of its own width.
    """
    ranges = {codec: (low, high) for codec, _, low, high in CODECS}
    codec = _choose(generator, {name: share for name, share, _, _ in CODECS})
    low, high = ranges[codec]
    quality = round(uniform(generator, low, high) + worse * (high - low))
    preset = _PRESETS[int(torch.randint(len(_PRESETS), (), generator=generator))]
    return Compression(codec=codec, quality=quality, preset=preset)


def compressed(frames_TCHW: Tensor, how: Compression) -> Tensor:
    """Whole codes through a codec and back; computed on the CPU, returned to the device."""
    codes = frames_TCHW.to("cpu", torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    pictures = torch.from_numpy(np.ascontiguousarray(recompress(codes, how)))
    return pictures.to(frames_TCHW.device).permute(0, 3, 1, 2).float()


def _choose(generator: torch.Generator, shares: Mapping[_Name, float]) -> _Name:
    names = list(shares)
    weights = torch.tensor([shares[name] for name in names])
    return names[int(torch.multinomial(weights, 1, generator=generator))]
