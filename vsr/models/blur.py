"""The blur that came before a picture was made small: as taps, as an operator, and estimated.

A small picture y of a scene x is y = (x * k) at every s-th pixel. The kernel k is taken as a
Gaussian of any width and direction, which is stated in pixels of the small picture: so one
statement serves every scale.

The estimate is blind. Spectra of natural scenes fall as about 1/f^2 in power (Burton and Moorhead,
1987; Field, 1987); what falls faster was blurred. Sum over the aliases n of decimation,

    log P(f) = log [ sum_n A(theta_n) |f + n|^-a exp(-4 pi^2 (f + n)^T S (f + n)) + N ],

is fitted to the mean power spectrum of windowed blocks, by the strength A of each direction (five
Fourier terms), the exponent a near 2, the covariance S of the blur, and noise N.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.errors import ShapeError

BLOCK_PX = 32
"""Side of the blocks whose spectra are averaged; smaller pictures cannot be estimated."""
_LOWEST = 1.5 / BLOCK_PX
"""Cycles per pixel below which the window hides the spectrum."""
_FLATTEST = 0.25
"""Share of the blocks, the flattest, that are left out."""
_EXPONENT, _EXPONENT_SPREAD = 2.2, 0.25
_DIRECTIONS_WEIGHT = 0.2
_MISFIT_WEIGHT = 50.0
_SHARPEST = 0.08
"""Variance, in pixels of the large picture, that sharp pictures are measured to have already."""
_NARROWEST = 0.05
"""Least variance of an estimate, likewise."""


@dataclass(frozen=True, slots=True)
class GaussianBlur:
    """Deviations along two axes, in pixels of the small picture."""

    major: float
    minor: float
    angle: float = 0.0
    """Radians from the x axis to the major one, towards y, which points down."""

    def describe(self) -> str:
        """For people."""
        if self.major < 1.15 * self.minor:
            return f"{math.sqrt(self.major * self.minor):.2f} px"
        degrees = math.degrees(self.angle) % 180
        return f"{self.major:.2f} x {self.minor:.2f} px at {degrees:.0f} degrees"


BICUBIC = GaussianBlur(0.4, 0.4)
"""The Gaussian that is nearest to antialiased bicubic shrinking, and to the field's "BD"."""


def taps(blur: GaussianBlur, scale: int, size: int | None = None) -> Tensor:
    """The kernel in pixels of the large picture, where it sums to 1.

    Args:
        blur: which.
        scale: from the small picture to the large one.
        size: of a side; None: what reaches over the usual widths, even or odd as the scale is, so
            that its middle is that of a small pixel.

    Returns:
        (size, size) float32 on the CPU.
    """
    side = 5 * scale + 2 if size is None else size
    line = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    x, y = line[None, :], line[:, None]
    along = x * math.cos(blur.angle) + y * math.sin(blur.angle)
    across = y * math.cos(blur.angle) - x * math.sin(blur.angle)
    major, minor = scale * blur.major, scale * blur.minor
    kernel = torch.exp(-0.5 * ((along / major).square() + (across / minor).square()))
    return (kernel / kernel.sum()).float()


def shrink(picture_BCHW: Tensor, taps_KK: Tensor, scale: int) -> Tensor:
    """Blur and keep one pixel of each block, at its middle; edges are repeated.

    Args:
        picture_BCHW: float32, H and W multiples of the scale.
        taps_KK: from `taps`, on the same device.
        scale: divides.

    Returns:
        (B, C, H/s, W/s), neither rounded nor clamped.

    Raises:
        ShapeError: the sizes do not divide.
    """
    batch, channels, height, width = picture_BCHW.shape
    if height % scale or width % scale or (len(taps_KK) - scale) % 2:
        raise ShapeError(f"{height}x{width} and {len(taps_KK)} taps do not divide by {scale}")
    margin = (len(taps_KK) - scale) // 2
    single = picture_BCHW.reshape(batch * channels, 1, height, width)
    padded = F.pad(single, (margin,) * 4, mode="replicate")
    small = F.conv2d(padded, taps_KK[None, None], stride=scale)
    return small.view(batch, channels, height // scale, width // scale)


def separated(taps_KK: Tensor, smallest: float = 1e-3) -> list[tuple[Tensor, Tensor]]:
    """A kernel as a sum of vertical by horizontal ones, the weightiest first.

    Args:
        taps_KK: square.
        smallest: parts that weigh less than this beside the first are left out.
    """
    u, weight, v = torch.linalg.svd(taps_KK.double())
    count = int((weight > smallest * weight[0]).sum())
    parts = [(u[:, k] * weight[k], v[k]) for k in range(count)]
    total = sum(float(vertical.sum() * horizontal.sum()) for vertical, horizontal in parts)
    return [((vertical / total).float(), horizontal.float()) for vertical, horizontal in parts]


def estimate_blur(lumas_1HW: Iterable[Tensor], scale: int) -> GaussianBlur | None:
    """Estimate the blur of small pictures that were made in one way.

    Args:
        lumas_1HW: one or more, float32, nominally [0, 1]; frames of a film, or one picture.
        scale: from them to the large picture, as far as it is known; only details above the small
            picture's finest depend on it.

    Returns:
        None where pictures are smaller than `BLOCK_PX` or flat, so that nothing can be told.
    """
    # Called within inference mode, too, where nothing can be fitted.
    with torch.inference_mode(False):
        spectra = [_spectrum(luma.detach().clone().cpu().float()) for luma in lumas_1HW]
        found = [spectrum for spectrum in spectra if spectrum is not None]
        if not found:
            return None
        with torch.enable_grad():
            covariance = _fit(torch.stack(found).mean(dim=0), scale)
    # Of the large picture's pixels, where what sharp pictures have anyway is not ours to undo.
    own = covariance * scale**2 - _SHARPEST * torch.eye(2)
    values, axes = torch.linalg.eigh(own)
    minor, major = (values.clamp(min=_NARROWEST).sqrt() / scale).tolist()
    return GaussianBlur(major, minor, math.atan2(float(axes[1, 1]), float(axes[0, 1])) % math.pi)


def _spectrum(luma_1HW: Tensor) -> Tensor | None:
    """Mean power of Hann-windowed blocks, each by its own energy, (BLOCK_PX, BLOCK_PX)."""
    if min(luma_1HW.shape[-2:]) < BLOCK_PX:
        return None
    hann = torch.hann_window(BLOCK_PX, periodic=False)
    window = hann[:, None] * hann[None, :]
    columns = F.unfold(luma_1HW[None], BLOCK_PX, stride=BLOCK_PX // 2)[0]
    blocks = columns.T.reshape(-1, BLOCK_PX, BLOCK_PX)
    means = (blocks * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2((blocks - means) * window).abs().square()
    energy = power.sum((1, 2))
    kept = (energy >= torch.quantile(energy, _FLATTEST)) & (energy > 1e-4)
    if not bool(kept.any()):
        return None
    shares: Tensor = power[kept] / energy[kept, None, None]
    return shares.mean(dim=0)


def _fit(power: Tensor, scale: int) -> Tensor:
    """Covariance of the blur, (2, 2), in pixels of the small picture."""
    line = torch.fft.fftfreq(BLOCK_PX)
    fy, fx = torch.meshgrid(line, line, indexing="ij")
    # A real picture's spectrum is even: one half of the plane says all.
    half = (fy > 0) | ((fy == 0) & (fx > 0))
    chosen = half & ((fx.square() + fy.square()).sqrt() > _LOWEST)
    seen = power[chosen].clamp(min=1e-12).log()
    steps = [(i, j) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    u = torch.stack([fx[chosen] + i for i, _ in steps])
    v = torch.stack([fy[chosen] + j for _, j in steps])
    # The large picture has nothing beyond its own finest detail.
    exists = ((u.abs() <= scale / 2) & (v.abs() <= scale / 2)).float()
    radius = (u.square() + v.square()).sqrt().clamp(min=1e-3).log()
    theta = torch.atan2(v, u)
    terms = torch.stack(
        [
            torch.ones_like(theta),
            *(f(n * theta) for n in (2, 4) for f in (torch.cos, torch.sin)),
        ]
    )
    strength = torch.zeros(5, 1, 1)
    strength[0] = seen.mean()
    exponent, noise = torch.tensor(_EXPONENT), seen.min() - 2
    root = torch.tensor([-1.0, -1.0, 0.0])
    unknowns = [t.requires_grad_() for t in (strength, exponent, noise, root)]
    fit = torch.optim.LBFGS(
        unknowns, max_iter=300, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def covariance() -> tuple[Tensor, Tensor, Tensor]:
        # By its Cholesky factor: positive whatever the numbers are.
        first, second, across = root[0].exp(), root[1].exp(), root[2]
        return first.square(), first * across, across.square() + second.square()

    def loss() -> Tensor:
        fit.zero_grad()
        xx, xy, yy = covariance()
        blurred = xx * u.square() + 2 * xy * u * v + yy * v.square()
        log_power = (strength * terms).sum(0) - exponent * radius - 4 * math.pi**2 * blurred
        modelled = (log_power.exp() * exists).sum(0) + noise.exp()
        misfit = _MISFIT_WEIGHT * (seen - modelled.log()).square().mean()
        prior = 0.5 * ((exponent - _EXPONENT) / _EXPONENT_SPREAD).square()
        total = misfit + prior + _DIRECTIONS_WEIGHT * strength[1:].square().sum()
        torch.autograd.backward(total)
        return total.detach()

    fit.step(loss)  # type: ignore[no-untyped-call]
    xx, xy, yy = (float(value.detach()) for value in covariance())
    return torch.tensor([[xx, xy], [xy, yy]])
