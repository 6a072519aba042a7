"""Everything that can change a byte of the result, as plain data.

The bytes of a segment are a function of the source's bytes, the weights and the plan. Probes and
measurements happen while the plan is made and never after; whoever reads it back, on another day or
in another process, writes the same bytes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vsr.engine.geometry import Geometry
from vsr.errors import OpenError
from vsr.frame import ColorSpec, PlaneLayout, VideoInfo
from vsr.media.damage import DamageEvent
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan
from vsr.pipeline.declared import Declared
from vsr.pipeline.excerpt import Part, moved_pts
from vsr.pipeline.interlace import InterlacePlan
from vsr.pipeline.pictures import Pictures
from vsr.pipeline.timeline import Timeline

PLAN_FORMAT = 1
_DIGEST_BYTES = 1 << 20


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceDigest(_Frozen):
    """By what a source is known again."""

    size_bytes: int
    mtime_ns: int
    head_sha256: str
    """Of the first MiB."""
    tail_sha256: str
    """Of the last MiB."""


class ModelPlan(_Frozen):
    """Which network, with which weights."""

    id: str
    """Of the catalogue."""
    file: Path | None = None
    """A weight file of the user's; None for shipped weights and models without."""
    scale: int
    chunk: int
    context: int
    weights_sha256: str | None
    """None for models without weights."""
    seed: int


class ComputePlan(_Frozen):
    """Where and in which number format the network runs."""

    device: str
    device_class: str
    dtype: str
    """Of the convolutions: `float32` or `bfloat16`. Colour is float32 always."""


class Segment(_Frozen):
    """One piece of the result, encoded by itself: frames `first_frame` and following."""

    index: int
    first_frame: int
    timeline: Timeline
    cuts: tuple[int, ...]
    """Frames, counted from the segment's first, at which a new shot begins."""

    @property
    def num_frames(self) -> int:
        return self.timeline.num_frames


class Plan(_Frozen):
    """One run, from the source's packets to the result's bytes."""

    plan_format: int = PLAN_FORMAT
    versions: dict[str, str]
    """Of vsr, av and torch."""
    source_path: Path
    source: SourceDigest
    video: VideoInfo
    decode_threads: int
    layout_in: PlaneLayout
    color_in: ColorSpec
    """How the source's codes are read: as tagged, gaps filled."""
    model: ModelPlan
    scale: int | float
    """By how much the film is enlarged, whatever the model reaches."""
    geometry: Geometry
    """What becomes of the pixels besides."""
    compute: ComputePlan
    encoder: EncoderSettings
    container: str
    streams: StreamPlan
    segments: tuple[Segment, ...]
    parts: tuple[Part, ...] = ()
    """What is taken of the source; empty for all of it."""
    declared: Declared = Declared()
    """What the result will lack or have changed on purpose; its check holds it to that."""
    provenance: bool = True
    """Whether tags in the result say how it was made."""
    queue_frames: int = 8
    """Frames that may wait between two stages; changes no byte."""
    notes: tuple[str, ...] = ()
    """What was guessed, chosen or lost, and why; one sentence each."""
    damage: tuple[DamageEvent, ...] = ()
    """What the scan found wrong with the source."""
    num_damaged: int = 0
    """Pictures that were lost, called damaged, or that the decoder complained of."""
    interlace: InterlacePlan = InterlacePlan()
    """What is done to fields."""
    concealed: tuple[int, ...] = ()
    """Times of lost pictures that repeat the one before, in the source's ticks."""
    pictures: Pictures = Pictures()
    """Image sequences that are source or result, and the curves around the model."""

    @property
    def num_frames(self) -> int:
        return sum(segment.num_frames for segment in self.segments)

    def result_pts(self) -> list[int]:
        """Of every frame on the result's clock, in the encoder's time base."""
        pts = [time for segment in self.segments for time in segment.timeline.pts()]
        return moved_pts(self.parts, pts)

    def digest(self) -> str:
        """SHA-256 of all that can change a byte; where the source lies and its date cannot."""
        text = self.model_dump_json(
            exclude={
                "source_path": True,
                "source": {"mtime_ns"},
                "model": {"file"},
                "compute": {"device"},
                "queue_frames": True,
                "notes": True,
                "damage": True,
                "num_damaged": True,
                "interlace": {"asked", "reason"},
                "pictures": {"source": {"folder"}, "target": {"folder"}},
            }
        )
        return hashlib.sha256(text.encode()).hexdigest()


def digest_source(path: Path) -> SourceDigest:
    """Read what identifies a file: its size, date, head and tail.

    Raises:
        OpenError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            status = path.stat()
            head = file.read(_DIGEST_BYTES)
            file.seek(max(0, status.st_size - _DIGEST_BYTES))
            tail = file.read(_DIGEST_BYTES)
    except OSError as error:
        raise OpenError(f"{path} cannot be read: {error.strerror}.") from error
    return SourceDigest(
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        head_sha256=hashlib.sha256(head).hexdigest(),
        tail_sha256=hashlib.sha256(tail).hexdigest(),
    )
