"""What `evaluate` finds, for people and scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vsr.models.image.classsr import Routing
from vsr.quality.metrics import Channel

Neighbours = Literal["real", "copies"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How a score is made; everything a reader needs to repeat it."""

    kind: Literal["video", "image"]
    scale: int
    degradation: str
    """See `training.degrade`; `given` when the small pictures came from a folder."""
    channel: Channel
    crop_px: int
    every: int
    """Every so many frames are scored, from the first; the models see all of them."""
    neighbours: Neighbours
    """`copies`: every frame stands among copies of itself, to show what true neighbours add."""
    dtype: str
    strength: float = 0.0
    """How far per-frame networks are steadied on clips; see `models.deflicker`."""

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class PerceptualScore:
    """What PSNR does not see; NaN where it is not known."""

    gradient_energy: float
    """Of luma, result over truth; see `quality.texture`."""
    consistency_db: float
    """PSNR of the result, made small again by bicubic, against what the model was given."""
    texture_distance: float
    """Of luma, in our own bank of filters; see `quality.texture`."""
    lpips: float
    """Of RGB; see `quality.perceptual`."""

    def describe(self) -> dict[str, float | None]:
        """As JSON."""
        return {name: _or_none(getattr(self, name)) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipScore:
    """Mean over the scored frames of one clip, or one still."""

    psnr: float
    ssim: float
    flicker: float
    """See `quality.temporal`; NaN where no frame has a predecessor."""
    frames: int
    perceptual: PerceptualScore | None = None
    """Only where it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One model's scores and what they cost."""

    model: str
    clips: dict[str, ClipScore]
    ms_per_frame: float
    """Of the model's own calls, the first one left out when there are more."""
    gmac: float
    """10^9 multiply-adds per frame of 320x180; see `vsr.models.cost`."""
    params: int
    routing: Routing | None = None
    """Where the patches of all pictures went, for a model that parts them between networks."""

    @property
    def psnr(self) -> float:
        """Mean over clips, dB."""
        return sum(clip.psnr for clip in self.clips.values()) / len(self.clips)

    @property
    def ssim(self) -> float:
        """Mean over clips."""
        return sum(clip.ssim for clip in self.clips.values()) / len(self.clips)

    @property
    def flicker(self) -> float:
        """Mean over the clips that have it, 8-bit codes; NaN for stills."""
        return _mean_of_known([clip.flicker for clip in self.clips.values()])

    @property
    def perceptual(self) -> PerceptualScore | None:
        """Mean over clips: of gradient energy over those that are not flat, of the rest over all.

        NaN where a clip is not known, so that no mean stands for fewer clips than PSNR's.
        """
        scores = [clip.perceptual for clip in self.clips.values() if clip.perceptual is not None]
        if not scores:
            return None
        return PerceptualScore(
            gradient_energy=_mean_of_known([score.gradient_energy for score in scores]),
            consistency_db=sum(score.consistency_db for score in scores) / len(scores),
            texture_distance=sum(score.texture_distance for score in scores) / len(scores),
            lpips=sum(score.lpips for score in scores) / len(scores),
        )

    def describe(self) -> dict[str, Any]:
        """As JSON; LPIPS is null unless perceptual scores were asked for and it is known."""
        perceptual = self.perceptual
        clips = {
            name: {
                "psnr": clip.psnr,
                "ssim": clip.ssim,
                "flicker": _or_none(clip.flicker),
                "frames": clip.frames,
                **(clip.perceptual.describe() if clip.perceptual else {}),
            }
            for name, clip in self.clips.items()
        }
        return {
            "model": self.model,
            "psnr": self.psnr,
            "ssim": self.ssim,
            "flicker": _or_none(self.flicker),
            "lpips": None,
            "ms_per_frame": self.ms_per_frame,
            "gmac": self.gmac,
            "params": self.params,
            "clips": clips,
            **({"routing": asdict(self.routing)} if self.routing else {}),
            **(perceptual.describe() if perceptual else {}),
        }


def _mean_of_known(values: Sequence[float]) -> float:
    """NaN when none is known."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _or_none(value: float) -> float | None:
    """What JSON can say of a number that may be missing."""
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of several models under one protocol."""

    protocol: Protocol
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] | None = None
    """Which perceptual scores are not available and why; None where none were asked for."""

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "protocol": self.protocol.describe(),
            "machine": self.machine,
            "rows": [row.describe() for row in self.rows],
            **({} if self.notes is None else {"notes": list(self.notes)}),
        }
