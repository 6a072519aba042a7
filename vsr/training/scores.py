"""What `evaluate` finds, for people and scripts."""

from __future__ import annotations

import math
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
class ClipScore:
    """Mean over the scored frames of one clip, or one still."""

    psnr: float
    ssim: float
    flicker: float
    """See `quality.temporal`; NaN where no frame has a predecessor."""
    frames: int


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
        known = [clip.flicker for clip in self.clips.values() if not math.isnan(clip.flicker)]
        return sum(known) / len(known) if known else math.nan

    def describe(self) -> dict[str, Any]:
        """As JSON. LPIPS is not measured yet."""
        clips = {
            name: {
                "psnr": clip.psnr,
                "ssim": clip.ssim,
                "flicker": _or_none(clip.flicker),
                "frames": clip.frames,
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
        }


def _or_none(value: float) -> float | None:
    """What JSON can say of a number that may be missing."""
    return None if math.isnan(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Scores of several models under one protocol."""

    protocol: Protocol
    machine: dict[str, Any]
    rows: tuple[Row, ...]

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "protocol": self.protocol.describe(),
            "machine": self.machine,
            "rows": [row.describe() for row in self.rows],
        }
