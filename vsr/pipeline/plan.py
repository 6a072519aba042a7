"""Everything that can change a byte of the result, as plain data.

The bytes of a segment are a function of the source's bytes, the weights and the plan. Probes and
measurements happen while the plan is made and never after; whoever reads it back, on another day or
in another process, writes the same bytes.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vsr.engine.geometry import Geometry
from vsr.errors import DecodeError, OpenError
from vsr.frame import ColorSpec, PlaneLayout, VideoInfo
from vsr.media.damage import DamageEvent
from vsr.media.hardware import DecoderName
from vsr.media.packets import PacketIndex
from vsr.media.settings import EncoderSettings
from vsr.media.streams import StreamPlan
from vsr.pipeline.as_json import to_json
from vsr.pipeline.declared import Declared
from vsr.pipeline.excerpt import Part, moved_pts
from vsr.pipeline.interlace import InterlacePlan
from vsr.pipeline.pictures import Pictures
from vsr.pipeline.split import Piece
from vsr.pipeline.timeline import Timeline

PLAN_FORMAT = 2
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
    packets: PacketIndex | None = None
    """Of the film's packets as far as it was read; None before that, and for pictures."""


class ModelPlan(_Frozen):
    """Which network, with which weights."""

    id: str
    """Of the catalogue."""
    file: Path | None = None
    """A weight file of the user's; None for shipped weights and models without."""
    scale: int
    chunk: int
    context: int
    warmup: int = 0
    weights_sha256: str | None
    """None for models without weights."""
    detail: float | None = None
    """Share of the model's own weights, the rest being its parent's; None: its own alone."""
    parent: str | None = None
    """Of the catalogue, where `detail` mixes weights."""
    parent_sha256: str | None = None
    """Of the parent's weights."""
    fidelity: bool = False
    """Models that invent detail were barred."""
    strength: float | None = None
    """How far what a per-frame network adds is steadied over time; None for all other models."""
    generator: tuple[Path, Path] | None = None
    """Files of the user's generator, for a model that explores one."""
    blur: tuple[float, float, float] | None = None
    """Estimated of the source, for a model that undoes it: see `models.blur.GaussianBlur`."""
    seed: int


class GrainPlan(_Frozen):
    """Grain that is laid over results; see `engine.grain`."""

    sigmas: tuple[float, ...]
    correlation: float


class ComputePlan(_Frozen):
    """Where and in which number format the network runs."""

    device: str
    device_class: str
    dtype: str
    """Of the convolutions: `float32` or `bfloat16`. Colour is float32 always."""
    mixed: bool = False
    """Whether devices of another class may make segments, which are then not exact."""
    graphs: bool = False
    """Chunks of the usual size are replayed as CUDA graphs, where that works; changes no byte."""


class Segment(_Frozen):
    """One piece of the result, encoded by itself: frames `first_frame` and following."""

    index: int
    first_frame: int
    timeline: Timeline
    cuts: tuple[int, ...]
    """Frames, counted from the segment's first own one, at which a new shot begins."""
    warmup: int = 0
    """Frames before the first, of the same shot, that are computed and thrown away."""
    lookahead: int = 0
    """Frames after the last, of the same shot, that the model sees and this segment does not
    write."""
    entry_pts: int | None = None
    """Of the packet where decoding starts with a fresh decoder, in the source's ticks; None for the
    start of the file."""
    entry_rank: int = 0
    """Pictures of the film before that packet's, lost ones that are filled among them."""

    @property
    def num_frames(self) -> int:
        return self.timeline.num_frames


def make_segments(
    timeline: Timeline, cuts: Sequence[int], pieces: Sequence[Piece]
) -> tuple[Segment, ...]:
    """The segments of a film.

    Args:
        timeline: of all frames.
        cuts: frames at which a new shot begins.
        pieces: how they are split; empty for one segment.
    """
    pts, durations = timeline.pts(), timeline.durations()
    pieces = pieces or (Piece(0, len(pts)),)
    return tuple(
        Segment(
            index=index,
            first_frame=piece.first,
            timeline=Timeline.from_frames(
                pts[piece.first : piece.stop], durations[piece.first : piece.stop]
            ),
            cuts=tuple(
                cut - piece.first
                for cut in cuts[bisect_right(cuts, piece.first) : bisect_left(cuts, piece.stop)]
            ),
            warmup=piece.warmup,
            lookahead=piece.lookahead,
            entry_pts=piece.entry_pts,
            entry_rank=piece.entry_rank,
        )
        for index, piece in enumerate(pieces)
    )


class Plan(_Frozen):
    """One run, from the source's packets to the result's bytes."""

    plan_format: int = PLAN_FORMAT
    versions: dict[str, str]
    """Of vsr, av and torch."""
    source_path: Path
    source: SourceDigest
    video: VideoInfo
    decode_threads: int
    decoder: DecoderName = "software"
    """What decodes the film; another than software was seen to give the same pictures."""
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
    fallbacks: tuple[str, ...] = ()
    """Models that make the frames at which this one fails, the first first."""
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
    grain: GrainPlan | None = None
    """As measured, times what was asked for."""
    pictures: Pictures = Pictures()
    """Image sequences that are source or result, and the curves around the model."""

    @property
    def num_frames(self) -> int:
        return sum(segment.num_frames for segment in self.segments)

    def read_pts(self, index: int) -> list[int]:
        """Of every frame that segment `index` has to be given, in order: warm-up, own, look-ahead.

        In the encoder's time base, on the source's clock. Cost and memory depend on the segment and
        its neighbours alone.
        """
        segment = self.segments[index]
        before: list[int] = []
        for other in reversed(self.segments[:index] if segment.warmup else ()):
            if len(before) >= segment.warmup:
                break
            before = other.timeline.pts() + before
        after: list[int] = []
        for other in self.segments[index + 1 :] if segment.lookahead else ():
            if len(after) >= segment.lookahead:
                break
            after += other.timeline.pts()
        first = len(before) - segment.warmup
        assert first >= 0, "more warm-up than there are frames"
        return before[first:] + segment.timeline.pts() + after[: segment.lookahead]

    def result_pts(self) -> list[int]:
        """Of every frame on the result's clock, in the encoder's time base."""
        pts = [time for segment in self.segments for time in segment.timeline.pts()]
        return moved_pts(self.parts, pts)

    def digest(self) -> str:
        """SHA-256 of all that can change a byte; where the source lies and its date cannot."""
        text = to_json(
            self,
            exclude={
                # The software decoder is what every plan means that names none.
                **({"decoder": True} if self.decoder == "software" else {}),
                "source_path": True,
                "source": {"mtime_ns"},
                "model": {"file"},
                "compute": {"device", "mixed", "graphs"},
                "queue_frames": True,
                "notes": True,
                "damage": True,
                "interlace": {"asked", "reason"},
                "pictures": {"source": {"folder"}, "target": {"folder"}},
            },
        )
        return hashlib.sha256(text.encode()).hexdigest()


def digest_source(path: Path, packets: PacketIndex | None = None) -> SourceDigest:
    """Read what identifies a file: its size, date, head and tail.

    Args:
        path: the file.
        packets: the index of its packets, from whoever read them.

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
        packets=packets,
    )


def refuse_changed_source(path: Path, digest: SourceDigest) -> None:
    """Raise unless a source still is what was planned for.

    Raises:
        OpenError: it cannot be read.
        DecodeError: it was written to since.
    """
    if digest_source(path) != digest.model_copy(update={"packets": None}):
        raise DecodeError(
            f"{path} changed while it was read, so the result would be of no one film.",
            hint="wait until the file is complete, then start again",
        )
