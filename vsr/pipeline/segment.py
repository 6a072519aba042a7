"""Run one segment of a plan: decode, infer and encode it into a file of its own.

`run_segment` is a top-level function that takes the plan and nothing else, so that it can be sent
to another process or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vsr.engine.waiting import wait_passively
from vsr.errors import DecodeError
from vsr.frame import Frame
from vsr.media.damage import DamageEvent
from vsr.media.encoder import SegmentEncoder, SegmentSummary
from vsr.media.settings import EncoderSettings
from vsr.pipeline.film import Film
from vsr.pipeline.pictures import PictureSource
from vsr.pipeline.plan import Plan, Segment
from vsr.pipeline.stages import StageClock, StageTimes, run_stages

if TYPE_CHECKING:
    from vsr.engine.runner import Runner

OnFrame = Callable[[int, StageClock], None]
"""Called with the number of frames written so far and the clock of the stages."""


class Encoder(AbstractContextManager["Encoder"], Protocol):
    """What takes the frames of a segment, in order."""

    def encode(self, frame: Frame) -> None: ...

    def close(self) -> SegmentSummary: ...


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What became of one segment."""

    index: int
    path: Path
    num_frames: int
    num_bytes: int
    times: StageTimes
    damage: tuple[DamageEvent, ...]
    """What was wrong with the source; the same in every run of the same plan."""


def segment_name(index: int) -> str:
    """File name of a segment in the work folder."""
    return f"segment-{index:06d}.mkv"


def run_segment(
    plan: Plan,
    index: int,
    folder: Path,
    *,
    on_frame: OnFrame | None = None,
    open_encoder: Callable[[Path, EncoderSettings], Encoder] = SegmentEncoder,
) -> SegmentResult:
    """Make segment `index` of a plan; equal plans give equal bytes.

    Args:
        plan: of the whole run.
        index: which of its segments.
        folder: where to write; the file is complete when this returns and absent when it raises.
        on_frame: called in the encode thread after each frame.
        open_encoder: what takes the frames, for results that are not made of segment files.

    Raises:
        DecodeError: the source no longer gives the frames that the plan lists.
        VsrError: a stage failed; a note says which and at which frame.
    """
    wait_passively()
    segment = plan.segments[index]
    path = folder / segment_name(index)
    clock = StageClock()
    shots = _Shots(_make_runner(plan, segment), segment)
    reader = (_Source if plan.pictures.source is None else PictureSource)(plan, segment)
    with open_encoder(path, plan.encoder) as encoder:
        num_written = 0

        def write(frame: Frame) -> None:
            nonlocal num_written
            encoder.encode(frame)
            num_written += 1
            if on_frame is not None:
                on_frame(num_written, clock)

        times = run_stages(
            reader.frames(),
            shots.push,
            shots.finish,
            write,
            encoder.close,
            queue_size=plan.queue_frames,
            clock=clock,
        )
        summary = encoder.close()
    return SegmentResult(
        index=index,
        path=path,
        num_frames=summary.num_frames,
        num_bytes=summary.num_bytes,
        times=times,
        damage=reader.damage,
    )


def _make_runner(plan: Plan, segment: Segment) -> Runner:
    """Load the model as the plan says."""
    # Here, because a process that only plans and joins never needs torch.
    import torch

    from vsr.engine.device import prepare_device
    from vsr.engine.runner import Runner
    from vsr.models.checkpoint import load_upscaler, resolve_spec

    name = plan.model.file or plan.model.id
    device = torch.device(plan.compute.device)
    prepare_device(device)
    dtype: torch.dtype = getattr(torch, plan.compute.dtype)
    model = load_upscaler(name, device=device, dtype=dtype)
    return Runner(
        model,
        resolve_spec(name),
        device=device,
        layout_in=plan.layout_in,
        color_in=plan.color_in,
        layout_out=plan.encoder.layout,
        color_out=plan.encoder.color,
        seed=plan.model.seed,
        first_index=segment.first_frame,
        geometry=plan.geometry,
        source=plan.video,
        curve_in=plan.pictures.curve_in,
        curve_out=plan.pictures.curve_out,
    )


class _Source:
    """The frames of a segment, each compared with the plan."""

    def __init__(self, plan: Plan, segment: Segment) -> None:
        self._plan = plan
        self._segment = segment
        self.damage: tuple[DamageEvent, ...] = ()

    def frames(self) -> Iterator[Frame]:
        """Read in the thread that iterates."""
        plan = self._plan
        expected = self._segment.timeline.pts()
        num_read = 0
        film = Film(
            plan.source_path,
            plan.video,
            threads=plan.decode_threads,
            interlace=plan.interlace,
            concealed=plan.concealed,
        )
        for frame in film.frames():
            if plan.parts and num_read == len(expected):
                break
            if plan.parts and frame.pts < expected[num_read]:
                continue
            if num_read >= len(expected) or frame.pts != expected[num_read]:
                raise _changed(plan, num_read)
            num_read += 1
            yield frame
        self.damage = film.events
        if num_read != len(expected):
            raise _changed(plan, num_read)


def _changed(plan: Plan, num_read: int) -> DecodeError:
    return DecodeError(
        f"{plan.source_path} gave another frame {num_read} than when the run was planned.",
        hint="the file has changed since, or cannot be read reliably; start again",
    )


class _Shots:
    """Hands frames to the runner and tells it where a new shot begins."""

    def __init__(self, runner: Runner, segment: Segment) -> None:
        self._runner = runner
        self._cuts = frozenset(segment.cuts)
        self._num_pushed = 0
        runner.start_shot()

    def push(self, frame: Frame) -> list[Frame]:
        results: list[Frame] = []
        if self._num_pushed in self._cuts:
            results += self._runner.finish_shot()
            self._runner.start_shot()
        self._num_pushed += 1
        return results + self._runner.push(frame)

    def finish(self) -> list[Frame]:
        return self._runner.finish_shot()
