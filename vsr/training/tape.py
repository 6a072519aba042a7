"""Analogue tape: narrow bands, a late chroma, a head that switches, fields woven and torn apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.training.motion import uniform
from vsr.training.wander import count, lines_moved, rand, walk

Fields = Literal["none", "woven", "blended", "doubled"]
"""Progressive; combed; combed and then averaged over lines; one field with its lines doubled."""
MAX_JITTER_PX = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tape:
    """Damage of tape; lengths in small pixels, strengths in 8-bit codes, 0 is none."""

    luma_px: float
    """Sigma of what the band leaves of luma, along lines."""
    ringing: float
    chroma_px: float
    chroma_shift_px: float
    noise: float
    jitter_px: float
    """Of lines, beside each other nearly alike."""
    head_lines: int
    """Lines at the bottom where the head switches."""
    dropouts: float
    """Mean number per frame."""
    fields: Fields

    @staticmethod
    def draw(generator: torch.Generator) -> Tape:
        """A tape, from a generator on the CPU."""
        kinds: tuple[Fields, ...] = ("none", "none", "woven", "blended", "doubled")
        return Tape(
            luma_px=uniform(generator, 0.2, 1.0),
            ringing=max(0.0, uniform(generator, -0.3, 0.6)),
            chroma_px=uniform(generator, 0.8, 3.0),
            chroma_shift_px=uniform(generator, -0.5, 2.0),
            noise=uniform(generator, 0.5, 6.0),
            jitter_px=max(0.0, uniform(generator, -0.3, 0.4)),
            head_lines=max(0, round(uniform(generator, -3, 3))),
            dropouts=max(0.0, uniform(generator, -0.5, 1.0)),
            fields=kinds[int(torch.randint(len(kinds), (), generator=generator))],
        )

    def apply(self, frames_TCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Spoil a clip: float32 in [0, 255] to the same; the generator is on its device."""
        length, _, height, _ = frames_TCHW.shape
        yuv = to_yuv(in_fields(frames_TCHW, self.fields))
        luma, chroma = _along_lines(yuv[:, :1], self.luma_px), yuv[:, 1:]
        if self.ringing:
            # The peaking that players add, which comes late.
            edge = luma - _along_lines(luma, 1.2)
            luma = luma + self.ringing * (edge + 0.5 * edge.roll(1, dims=-1))
        late_T = self.chroma_shift_px + 0.3 * walk(length, generator, pull=0.1)
        chroma = lines_moved(
            _along_lines(chroma, self.chroma_px), late_T[:, None].expand(-1, height)
        )
        luma = luma + self._noise(luma, generator)
        chroma = chroma + 1.5 * _along_lines(self._noise(chroma, generator), self.chroma_px)
        yuv = torch.cat((luma, chroma), dim=1)
        shift_TH = self._shifts(length, height, generator)
        if shift_TH is not None:
            yuv = lines_moved(yuv, shift_TH)
        return self._with_dropouts(to_rgb(yuv), generator)

    def _noise(self, like: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(like.shape, generator=generator, device=like.device)
        pumping_T = 1 + 0.3 * walk(len(like), generator, pull=0.2)
        return self.noise * pumping_T[:, None, None, None] * noise

    def _shifts(self, length: int, height: int, generator: torch.Generator) -> Tensor | None:
        """How far each line slips: (T, H), or None where none does."""
        if not self.jitter_px and not self.head_lines:
            return None
        shift_TH = torch.zeros(length, height, device=generator.device)
        if self.jitter_px:
            rows = [self.jitter_px * walk(height, generator, pull=0.2) for _ in range(length)]
            shift_TH += torch.stack(rows).clamp(-MAX_JITTER_PX, MAX_JITTER_PX)
        if self.head_lines:
            ramp = torch.arange(1.0, self.head_lines + 1, device=generator.device)
            shift_TH[:, -self.head_lines :] += ramp * (2 + 3 * rand(generator, length, 1))
        return shift_TH

    def _with_dropouts(self, frames_TCHW: Tensor, generator: torch.Generator) -> Tensor:
        """Dashes of one line where the tape has lost its coating."""
        length, _, height, width = frames_TCHW.shape
        number = count(self.dropouts * length, generator)
        if not number:
            return frames_TCHW
        drawn = rand(generator, number, 5)
        where = (drawn[:, 0] * length).long() * height + (drawn[:, 1] * height).long()
        xs = torch.arange(width, device=frames_TCHW.device)
        start, size = drawn[:, 2:3] * width, 3 + drawn[:, 3:4] * width / 4
        inside = ((xs >= start) & (xs < start + size)).float()
        cover = torch.zeros(length * height, width, device=frames_TCHW.device)
        cover.index_add_(0, where, inside)
        level = torch.zeros_like(cover).index_add_(0, where, inside * 255 * drawn[:, 4:5].round())
        cover, level = (x.view(length, 1, height, width) for x in (cover, level))
        lost = cover.clamp(max=1)
        return frames_TCHW * (1 - 0.85 * lost) + 0.85 * lost * level / cover.clamp(min=1)


def in_fields(frames_TCHW: Tensor, fields: Fields) -> Tensor:
    """Fields of a frame and of the next one, put together badly; the first field is in place."""
    if fields == "none":
        return frames_TCHW
    if fields == "doubled":
        height = frames_TCHW.shape[-2]
        return frames_TCHW[..., ::2, :].repeat_interleave(2, dim=-2)[..., :height, :]
    following = torch.cat((frames_TCHW[1:], frames_TCHW[-1:]))
    woven = frames_TCHW.clone()
    # Half a frame later: between this frame and the next.
    woven[..., 1::2, :] = 0.5 * (frames_TCHW + following)[..., 1::2, :]
    if fields == "woven":
        return woven
    padded = F.pad(woven, (0, 0, 1, 1), mode="replicate")
    return 0.5 * woven + 0.25 * (padded[..., :-2, :] + padded[..., 2:, :])


def to_yuv(rgb_TCHW: Tensor) -> Tensor:
    """BT.601 luma and colour differences, full range about 0, of the same scale."""
    red, green, blue = rgb_TCHW.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack((luma, 0.564 * (blue - luma), 0.713 * (red - luma)), dim=1)


def to_rgb(yuv_TCHW: Tensor) -> Tensor:
    """Undo `to_yuv`."""
    luma, cb, cr = yuv_TCHW.unbind(1)
    red, blue = luma + cr / 0.713, luma + cb / 0.564
    return torch.stack((red, (luma - 0.299 * red - 0.114 * blue) / 0.587, blue), dim=1)


def _along_lines(x_TCHW: Tensor, sigma: float) -> Tensor:
    """Gaussian along lines, edges repeated."""
    radius = math.ceil(2.5 * sigma)
    if not radius:
        return x_TCHW
    line = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    padded = F.pad(x_TCHW, (radius, radius, 0, 0), mode="replicate")
    width = x_TCHW.shape[-1]
    result = torch.zeros_like(x_TCHW)
    for shift, tap in enumerate(line):
        result.add_(padded[..., shift : shift + width], alpha=tap / sum(line))
    return result
