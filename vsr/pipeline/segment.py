"""Run one segment of a plan: decode, infer and encode it into a file of its own.

`run_segment` is a top-level function that takes the plan and nothing else, so that it can be sent
to another process or machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vsr.engine.guards import GuardEvent
from vsr.engine.memory import is_device_failure, is_out_of_memory
from vsr.engine.shelf import Shelf
from vsr.engine.waiting import wait_briefly
from vsr.errors import DeviceError, HardwareDecodeError, OtherDeviceError
from vsr.frame import Frame
from vsr.media.damage import DamageEvent
from vsr.media.encoder import SegmentEncoder, SegmentSummary
from vsr.media.settings import EncoderSettings
from vsr.pipeline.output import sha256_of
from vsr.pipeline.pictures import PictureSource
from vsr.pipeline.plan import Plan, Segment
from vsr.pipeline.segment_source import SegmentSource
from vsr.pipeline.stages import StageClock, StageTimes, run_stages

if TYPE_CHECKING:
    import torch

    from vsr.engine.runner import Runner
    from vsr.models.upscaler import Upscaler

OnFrame = Callable[[int, StageClock], None]
"""Called with the number of frames written so far and the clock of the stages."""


class Encoder(AbstractContextManager["Encoder"], Protocol):
    """What takes the frames of a segment, in order."""

    def encode(self, frame: Frame) -> None: ...

    def close(self) -> SegmentSummary: ...


@dataclass(frozen=True, slots=True)
class Effort:
    """What may be asked of the machine for one segment."""

    tile_px: int | None = None
    """Side of the tiles that pictures are cut into, in source pixels; None: whole pictures. With
    tiles a segment is not exact."""
    threads: int | None = None
    """Of each of torch's operations, at most; None leaves that to torch. Changes no byte."""
    is_plain: bool = False
    """Do without what a driver might have died of: the GPU's decoder and recordings. Changes no
    byte."""


@dataclass(frozen=True, slots=True)
class SegmentResult:
    """What became of one segment."""

    index: int
    path: Path
    num_frames: int
    num_bytes: int
    sha256: str
    """Of the whole file; empty where no file of its own was written."""
    times: StageTimes
    damage: tuple[DamageEvent, ...]
    """What was wrong with the source as far as it was decoded here; the same in every run."""
    events: tuple[GuardEvent, ...] = ()
    """What the model did wrong, and what was done about it."""
    exact: bool = True
    """Whether the same plan always makes these bytes."""
    reason: str | None = None
    """Why it is not exact."""
    num_messages: int = 0
    """Lines that FFmpeg wrote to its log meanwhile, where somebody listened."""
    messages: tuple[str, ...] = ()
    """The first of them."""
    notes: tuple[str, ...] = ()
    """What the machine could not do as planned, without any effect on the bytes; one sentence
    each."""


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
    effort: Effort = Effort(),
) -> SegmentResult:
    """Make segment `index` of a plan; equal plans give equal bytes.

    Args:
        plan: of the whole run.
        index: which of its segments.
        folder: where to write; the file is complete when this returns and absent when it raises.
        on_frame: called in the encode thread after each frame.
        open_encoder: what takes the frames, for results that are not made of segment files.
        effort: what may be asked of the machine.

    Raises:
        DecodeError: the source no longer gives the frames that the plan lists.
        VsrError: a stage failed; a note says which and at which frame.
    """
    wait_briefly()
    if effort.is_plain:
        compute = plan.compute.model_copy(update={"graphs": False})
        plan = plan.model_copy(update={"decoder": "software", "compute": compute})
    if open_encoder is not SegmentEncoder:
        # What it has taken cannot be taken back, should the decoder fail.
        plan = plan.model_copy(update={"decoder": "software"})
    try:
        return _make_segment(plan, index, folder, on_frame, open_encoder, effort)
    except HardwareDecodeError as error:
        note = f"Segment {index} was decoded by software: {error.message.rstrip('.')}."
    plan = plan.model_copy(update={"decoder": "software"})
    result = _make_segment(plan, index, folder, on_frame, open_encoder, effort)
    return replace(result, notes=(note, *result.notes))


def _make_segment(
    plan: Plan,
    index: int,
    folder: Path,
    on_frame: OnFrame | None,
    open_encoder: Callable[[Path, EncoderSettings], Encoder],
    effort: Effort,
) -> SegmentResult:
    """See `run_segment`."""
    segment = plan.segments[index]
    path = folder / segment_name(index)
    clock = StageClock()
    other_device = _other_device(plan)
    runner = make_runner(plan, segment, effort)
    shots = _Shots(runner, segment)
    reader = (SegmentSource if plan.pictures.source is None else PictureSource)(plan, segment)
    with open_encoder(path, plan.encoder) as encoder:
        num_written = 0

        def write(frame: Frame) -> None:
            nonlocal num_written
            encoder.encode(frame)
            num_written += 1
            if on_frame is not None:
                on_frame(num_written, clock)

        with _device_failures(plan):
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
    inexact = _inexact(plan, effort, other_device, summary.num_frames)
    return SegmentResult(
        index=index,
        path=path,
        num_frames=summary.num_frames,
        num_bytes=summary.num_bytes,
        sha256=sha256_of(path) if path.is_file() else "",
        times=times,
        damage=reader.damage,
        events=(*inexact, *runner.events),
        exact=not inexact,
        reason="; ".join(f"{event.detail}: {event.action}" for event in inexact) or None,
        notes=_put_by(plan, runner),
    )


_shelf: Shelf[Upscaler] = Shelf()
"""The model of the segment before, where that took more than loading it."""


def forget_models() -> None:
    """Give back what is held for the next segment, when there is none."""
    _shelf.clear()


def _put_by(plan: Plan, runner: Runner) -> tuple[str, ...]:
    """Keep a model with its recordings for the next segment; what is to be said of it."""
    from vsr.engine.captured import CapturedRenderer

    model = runner.model
    if not isinstance(model, CapturedRenderer):
        return ()
    model.rest()
    _shelf.put((plan.model, plan.compute), model)
    return () if model.note is None else (model.note,)


@contextmanager
def _device_failures(plan: Plan) -> Iterator[None]:
    """Say of a device that fails that it does, unless memory ran out, which has its own remedy."""
    try:
        yield
    except RuntimeError as error:
        if is_device_failure(error) and not is_out_of_memory(error):
            raise DeviceError(
                f"the device {plan.compute.device} failed: {str(error).splitlines()[0]}",
                hint="start again, or use --device cpu with --restart",
            ) from error
        raise


def _inexact(
    plan: Plan, effort: Effort, other_device: str | None, num_frames: int
) -> tuple[GuardEvent, ...]:
    """What keeps equal plans from giving equal bytes."""
    events = []
    if effort.tile_px is not None:
        action = f"tiles of {effort.tile_px} px"
        seen = "the memory did not hold whole pictures"
        events.append(GuardEvent("memory", 0, num_frames, action, seen))
    if other_device is not None:
        action, seen = f"made on {other_device}", f"planned for {plan.compute.device_class}"
        events.append(GuardEvent("device", 0, num_frames, action, seen))
    return tuple(events)


def _other_device(plan: Plan) -> str | None:
    """The class of this device where it is not the plan's; raises unless these may be mixed."""
    from vsr.engine.device import device_class

    found = device_class(_device_here(plan))
    if found == plan.compute.device_class:
        return None
    if not plan.compute.mixed:
        raise OtherDeviceError(
            f"the run was planned for another device: {plan.compute.device_class} -> {found}",
            hint="go on with it on that one, mix them with --mixed-devices (equal frames, other "
            "bytes), or use --restart to begin anew",
        )
    return found


def _device_here(plan: Plan) -> torch.device:
    """The plan's device, or this machine's best where devices may be mixed and it has no such."""
    from vsr.engine.device import resolve_device

    try:
        return resolve_device(plan.compute.device)
    except DeviceError:
        if not plan.compute.mixed:
            raise
        return resolve_device()


def make_runner(plan: Plan, segment: Segment, effort: Effort = Effort()) -> Runner:
    """Load the model as the plan says, and have at hand what is tried where it fails."""
    # Here, because a process that only plans and joins never needs torch.
    import torch

    from vsr.engine.captured import CapturedRenderer, capture_upscaler
    from vsr.engine.cores import share_cores
    from vsr.engine.device import prepare_device
    from vsr.engine.grain import GrainSheet
    from vsr.engine.ladder import Rung
    from vsr.engine.runner import Runner
    from vsr.engine.tiles import tile_upscaler
    from vsr.models.checkpoint import load_upscaler, resolve_spec
    from vsr.models.deflicker import steady
    from vsr.models.upscaler import ModelSpec
    from vsr.pipeline.chosen import load_chosen

    name = plan.model.file or plan.model.id
    device = _device_here(plan)
    prepare_device(device)

    def tiled(model: Upscaler, spec: ModelSpec) -> Upscaler:
        return model if effort.tile_px is None else tile_upscaler(model, spec, effort.tile_px)

    def load(dtype: torch.dtype = torch.float32) -> Upscaler:
        model = load_chosen(plan.model, device=device, dtype=dtype)
        share_cores(model, device, effort.threads)
        model = tiled(model, spec)
        # Around the tiles, so that motion is found in the whole picture.
        return model if plan.model.strength is None else steady(model, plan.model.strength)

    def load_other(other: str) -> Upscaler:
        return tiled(load_upscaler(other, device=device), resolve_spec(other))

    grain = None
    if plan.grain is not None:
        sigmas, correlation = plan.grain.sigmas, plan.grain.correlation
        grain = GrainSheet(sigmas, correlation, seed=plan.model.seed, device=device)
    spec = resolve_spec(name)
    again = Rung(spec, load, "redone in float32")
    taken = _shelf.take((plan.model, plan.compute))
    captures = plan.compute.graphs and effort.tile_px is None
    if taken is None or not captures:
        taken = load(getattr(torch, plan.compute.dtype))
        taken = capture_upscaler(taken, spec, device) if captures else taken
    others = [
        Rung(resolve_spec(other), partial(load_other, other), f"made by {other}", is_other=True)
        for other in plan.fallbacks
    ]
    runner = Runner(
        taken,
        spec,
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
        grain=grain,
        rungs=(again, *others),
    )
    if isinstance(taken, CapturedRenderer):
        # Now, before the threads of the stages start.
        width, height = plan.geometry.orientation.size(plan.video.width, plan.video.height)
        taken.prepare(height, width)
    return runner


class _Shots:
    """Hands frames to the runner and tells it where a new shot begins."""

    def __init__(self, runner: Runner, segment: Segment) -> None:
        self._runner = runner
        self._cuts = frozenset(segment.cuts)
        self._lookahead = segment.lookahead
        self._place = -segment.warmup
        """Of the next frame, counted from the segment's first own one."""
        runner.start_shot()

    def push(self, frame: Frame) -> list[Frame]:
        results: list[Frame] = []
        if self._place in self._cuts:
            results += self._runner.finish_shot()
            self._runner.start_shot()
        is_warmup = self._place < 0
        self._place += 1
        return results + self._runner.push(frame, is_warmup=is_warmup)

    def finish(self) -> list[Frame]:
        return self._runner.finish_shot(self._lookahead)
