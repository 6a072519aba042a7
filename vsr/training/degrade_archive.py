"""What old film and tape look like: damage of the carrier, of the machine and of the transfer.

The ranges follow published chains for old footage (RealBasicVSR, arXiv 2111.12704, table 5; the
artefacts of analogue tape in TAPE, WACV 2024; those of film in FilmDamageSimulator, 2023); none of
their code or scanned damage is used. Strengths walk slowly in time, as a worn machine does, instead
of being drawn anew for each frame.

Whatever moves the picture (weave, judder, line jitter, fields) moves the source alone: the ground
truth stays where it was, so that a network learns to put the picture back. Weave and judder are
bounded and centred on the true place, which the neighbours therefore tell. Faded dyes are left out:
a pale crop cannot be told from a pale scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vsr.media.recompress import Compression
from vsr.models.image.interpolation import Kernel
from vsr.training.degrade_mixed import KERNELS, compressed, draw_blur, draw_compression
from vsr.training.motion import uniform
from vsr.training.shrink import Blur, shrink
from vsr.training.tape import Tape
from vsr.training.wander import count, moved, rand, walk

_GRAIN_PX = 0.6
"""Sigma of grains, small pixels."""
MAX_WEAVE_PX = 1.0
"""Furthest that the frame moves from its place, small pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """Damage of film; strengths are those around which they walk, 0 is none."""

    grain: float
    """Standard deviation in mid grey, 8-bit codes."""
    weave_px: float
    flicker: float
    """Share by which brightness pumps."""
    scratches: float
    """Mean number at a time."""
    dirt: float
    """Mean number of specks per frame."""

    def apply(self, frames_TCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Spoil a clip: float32 in [0, 255] to the same; the generator is on its device."""
        frames = frames_TCHW
        if self.flicker:
            gain_T = 1 + self.flicker * walk(len(frames), generator, pull=0.4)
            frames = frames * gain_T[:, None, None, None]
        if self.grain:
            frames = frames + self._grain(frames, generator)
        if self.scratches or self.dirt:
            frames = self._scratched(frames, generator)
        if self.weave_px:
            limit = MAX_WEAVE_PX
            path_T2 = torch.stack(
                [self.weave_px * walk(len(frames), generator, pull=0.3) for _ in range(2)], dim=1
            ).clamp(-limit, limit)
            frames = moved(frames, path_T2)
        return frames

    def _grain(self, frames_TCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Correlated noise, strongest in mid grey; silver first, dyes differ a little."""
        length, _, height, width = frames_TCHW.shape
        shape = (length, 4, height + 4, width + 4)
        noise = torch.randn(shape, generator=generator, device=frames_TCHW.device)
        line = torch.arange(-2.0, 3.0, device=frames_TCHW.device)
        taps = torch.exp(-0.5 * (line / _GRAIN_PX) ** 2)
        taps = taps / taps.square().sum().sqrt()
        parts = [taps[k] * noise[..., k : k + width] for k in range(5)]
        noise = torch.stack(parts).sum(dim=0)
        parts = [taps[k] * noise[..., k : k + height, :] for k in range(5)]
        noise = torch.stack(parts).sum(dim=0)
        grey = (frames_TCHW.mean(dim=1, keepdim=True) / 255).clamp(0, 1)
        strength = self.grain * (0.3 + 2.8 * grey * (1 - grey))
        return strength * (0.9 * noise[:, :1] + 0.45 * noise[:, 1:])

    def _scratched(self, frames_TCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Vertical lines that stay for some frames and wander, and specks of a single frame."""
        length, _, height, width = frames_TCHW.shape
        device = frames_TCHW.device
        xs = torch.arange(width, device=device)
        ys = torch.arange(height, device=device)[:, None]
        frames = frames_TCHW
        for _ in range(count(self.scratches, generator)):
            start = rand(generator, 1) * width
            at_T = start + 0.7 * walk(length, generator, pull=0.02)
            seen_T = (walk(length, generator, pull=0.2) > -0.3).float()
            depth = torch.where(rand(generator, 1) < 0.6, 255.0, 0.0)
            sharp = 0.4 + 0.5 * rand(generator, 1)
            line_TW = torch.exp(-0.5 * ((xs - at_T[:, None]) / sharp) ** 2)
            alpha = (0.7 * seen_T[:, None] * line_TW)[:, None, None, :]
            frames = frames + alpha * (depth - frames)
        specks = count(self.dirt * length, generator)
        if specks:
            drawn = rand(generator, specks, 6)
            when, dark = (drawn[:, 0] * length).long(), drawn[:, 5] < 0.5
            radius = 0.6 + 2.5 * drawn[:, 3:4, None] ** 2
            dx = (xs - drawn[:, 1:2, None] * width) / radius
            dy = (ys - drawn[:, 2:3, None] * height) / (radius * (0.6 + drawn[:, 4:5, None]))
            alpha = (1.2 - (dx.square() + dy.square()).sqrt()).clamp(0, 0.4) / 0.4
            cover = torch.zeros(2, length, height, width, device=device)
            cover[0].index_add_(0, when[dark], alpha[dark])
            cover[1].index_add_(0, when[~dark], alpha[~dark])
            cover = cover.clamp(max=0.95)[:, :, None]
            frames = frames * (1 - cover[0])
            frames = frames + cover[1] * (235.0 - frames)
        return frames


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What happens to one clip on its way from the camera to a file."""

    seed: int
    blur: Blur
    kernel: Kernel
    film: Film | None
    tape: Tape | None
    judder: bool
    """Every fifth frame came twice, and the clip was cut to length: steps of the telecine."""
    compression: Compression | None

    @property
    def is_per_frame(self) -> bool:
        """See `degrade.Recipe`."""
        return False

    def shrink(self, frames_TCHW: Tensor, scale: int) -> Tensor:
        """See `degrade.Recipe`."""
        return shrink(frames_TCHW, scale, self.blur, self.kernel)

    def spoil(self, frames_TCHW: Tensor) -> Tensor:
        """See `degrade.Recipe`; the order is that of a film that was transferred to tape."""
        generator = torch.Generator(frames_TCHW.device).manual_seed(self.seed)
        frames = frames_TCHW
        if self.film is not None:
            frames = self.film.apply(frames, generator)
        if self.judder:
            frames = juddered(frames)
        if self.tape is not None:
            frames = self.tape.apply(frames.clamp(0, 255), generator)
        frames = frames.round().clamp_(0, 255)
        return frames if self.compression is None else compressed(frames, self.compression)


def draw_archive(generator: torch.Generator) -> Archive:
    """A recipe, from a generator on the CPU: film, tape, or film on tape."""
    carrier = uniform(generator, 0, 1)
    film = None if carrier > 0.7 else _draw_film(generator)
    tape = None if carrier < 0.4 else Tape.draw(generator)
    return Archive(
        seed=int(torch.randint(2**31, (), generator=generator)),
        blur=draw_blur(generator, 0.6, 2.4),
        kernel=KERNELS[int(torch.randint(len(KERNELS), (), generator=generator))],
        film=film,
        tape=tape,
        judder=film is not None and uniform(generator, 0, 1) < 0.1,
        compression=draw_compression(generator) if uniform(generator, 0, 1) < 0.7 else None,
    )


def _draw_film(generator: torch.Generator) -> Film:
    def sometimes(share: float, low: float, high: float) -> float:
        value = uniform(generator, low, high)
        return value if uniform(generator, 0, 1) < share else 0.0

    return Film(
        grain=sometimes(0.9, 2.0, 14.0),
        weave_px=sometimes(0.6, 0.05, 0.4),
        flicker=sometimes(0.6, 0.01, 0.06),
        scratches=sometimes(0.4, 0.3, 2.0),
        dirt=sometimes(0.5, 0.1, 1.5),
    )


def juddered(frames_TCHW: Tensor) -> Tensor:
    """Frames of a film on which every fifth slot shows the frame before it once more.

    At its slot, the ground truth is the frame that ought to be there: between two neighbours that
    both are another one.
    """
    shown = [t - 1 if t % 5 == 4 else t for t in range(len(frames_TCHW))]
    return frames_TCHW[shown]
