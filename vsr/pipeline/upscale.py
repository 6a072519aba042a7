"""One film, end to end: refuse early, plan, run, join, check, and only then take the final name.

Everything unfinished lies in a work folder beside the output, and nothing at the output's name
before it is complete and proven.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vsr.config import UpscaleConfig
from vsr.engine.waiting import wait_passively
from vsr.errors import OutputError
from vsr.media.damage import DamageEvent
from vsr.media.inventory import inventory
from vsr.media.probe import MediaInfo
from vsr.media.segments import join_segments
from vsr.pipeline.container import RAW, choose_container, probe_film, settle
from vsr.pipeline.declared import TAG as DECLARED_TAG
from vsr.pipeline.declared import Declared, write_sidecar
from vsr.pipeline.output import (
    WorkFolder,
    refuse_output,
    refuse_same_file,
    reject,
    sha256_of,
    take_name,
)
from vsr.pipeline.pictures import find_pictures
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.provenance import provenance_tags
from vsr.pipeline.retime import judge_damage
from vsr.pipeline.segment import SegmentResult, run_segment
from vsr.pipeline.stages import StageClock, StageTimes
from vsr.pipeline.verdict import CheckResult

__all__ = ["Progress", "UpscaleResult", "run_segment", "upscale"]

logger = logging.getLogger(__name__)

Phase = Literal["scan", "upscale", "join", "check"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    phase: Phase
    num_done: int = 0
    """Frames done in this phase."""
    num_frames: int | None = None
    """Frames there are; None while nobody knows."""
    bottleneck: str | None = None
    """The stage that works longest, while upscaling."""


OnProgress = Callable[[Progress], None]


class UpscaleResult(BaseModel):
    """What a run made, for people and scripts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    result: str
    frames: int
    width: int
    height: int
    model: str
    scale: int | float
    device: str
    seconds: float
    """From start to final name."""
    fps: float
    """Frames a second of the upscale proper: scan, join and check left out."""
    bottleneck: str
    """`decode`, `infer` or `encode`."""
    stages: dict[str, float]
    """Seconds: each stage's busy time, and the phases."""
    plan: list[dict[str, Any]]
    """What became of each stream; of chapters, tags, dispositions and side data; then what was
    guessed, chosen or lost."""
    events: list[dict[str, Any]]
    """What was wrong with the source and what was done about it."""
    damaged_frames: int = 0
    """Pictures that were lost, called damaged, or that the decoder complained of."""
    interlace: dict[str, Any] = {}
    """What was done to fields, and why."""
    check: CheckResult
    digests: dict[str, str]


def upscale(
    source: str | Path,
    output: str | Path,
    config: UpscaleConfig | None = None,
    *,
    progress: OnProgress | None = None,
) -> UpscaleResult:
    """Enlarge a film.

    Args:
        source: a video file, a folder of numbered pictures, or a pattern such as `a.%05d.dpx`.
        output: name of the result, ending in .mkv, .mp4 or .mov unless the container is given; raw
            pictures go to a name that ends in .y4m, or to stdout for `-`; numbered pictures to a
            pattern, or from pictures to a folder, where they keep their names. Under
            `container="auto"` the result may get another suffix: see `UpscaleResult.result`.
        config: what is asked for; None takes the defaults.
        progress: called often, from several threads but never from two at once.

    Returns:
        What was made and how.

    Raises:
        ConfigError: what is asked for makes no sense; `output` is `source`.
        MediaError: the source cannot be used.
        ModelError, DeviceError: the model or device cannot be used.
        OutputError: the result cannot be written, or something stands at its name.
        CheckFailedError: the result is not the same film; it is kept as NAME.rejected.EXT.
    """
    started = time.perf_counter()
    wait_passively()
    source, output = Path(source), Path(output)
    config = config or UpscaleConfig()
    tell = progress or (lambda _: None)
    pictures = find_pictures(source, output, config)
    if pictures.is_used:
        from vsr.pipeline.upscale_pictures import upscale_pictures

        return upscale_pictures(source, output, config, pictures, progress=progress)
    if choose_container(output, config) == RAW:
        # Here, because it builds on this module.
        from vsr.pipeline.raw import upscale_raw

        return upscale_raw(source, output, config, progress=progress)
    refuse_same_file(source, output)
    info = probe_film(source, config)
    settled = settle(output, config, info)
    output = settled.output
    refuse_same_file(source, output)
    refuse_output(output, overwrite=config.overwrite)
    with WorkFolder(output) as folder:
        clock = PhaseClock()
        num_declared = info.video.num_frames
        plan = make_plan(
            source,
            output,
            config,
            info=info,
            on_frame=lambda done: tell(Progress("scan", done, num_declared)),
        )
        if settled.note is not None:
            plan = plan.model_copy(update={"notes": (settled.note, *plan.notes)})
        for note in plan.notes:
            logger.info("%s", note)
        clock.end("scan")
        segment = _run(plan, folder, tell)
        clock.end("upscale")
        tell(Progress("join", 0, plan.num_frames))
        joined = _join(plan, info, [segment], folder)
        clock.end("join")
        tell(Progress("check", 0, plan.num_frames))
        # Here, because comparing pictures takes torch, and a bad source is refused without it.
        from vsr.pipeline.check import check

        proof = check(
            source,
            joined,
            plan=plan,
            on_frame=lambda done: tell(Progress("check", done, plan.num_frames)),
        )
        proof = judge_damage(proof, plan.num_damaged, config.max_damage, plan.num_frames)
        clock.end("check")
        if not proof.ok:
            reject(joined, output, proof)
        result_sha256 = sha256_of(joined)
        take_name(joined, output, overwrite=config.overwrite)
        _declare_beside(plan, output)
    return report(source, output, plan, info, segment, clock, started, proof, result_sha256)


def report(
    source: Path,
    output: Path,
    plan: Plan,
    info: MediaInfo,
    segment: SegmentResult,
    clock: PhaseClock,
    started: float,
    proof: CheckResult,
    result_sha256: str,
) -> UpscaleResult:
    """What a run made, from its plan and what was measured."""
    return UpscaleResult(
        source=str(source),
        result=str(output),
        frames=plan.num_frames,
        width=plan.encoder.width,
        height=plan.encoder.height,
        model=plan.model.id,
        scale=plan.scale,
        device=plan.compute.device,
        seconds=round(time.perf_counter() - started, 3),
        fps=round(plan.num_frames / max(segment.times.wall_s, 1e-9), 3),
        bottleneck=segment.times.bottleneck,
        stages=_stage_seconds(segment.times, clock),
        plan=[
            *(action.model_dump() for action in plan.streams.actions),
            *(item.model_dump() for item in inventory(info, plan.streams, plan.encoder)),
            *({"note": note} for note in plan.notes),
        ],
        events=[_event(event, plan) for event in plan.damage],
        damaged_frames=plan.num_damaged,
        interlace=plan.interlace.model_dump(mode="json", exclude={"frames"}),
        check=proof,
        digests=_digests(plan, result_sha256),
    )


class PhaseClock:
    """Seconds of each phase, one after the other."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def end(self, phase: Phase) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


def _stage_seconds(times: StageTimes, clock: PhaseClock) -> dict[str, float]:
    return {name: round(value, 3) for name, value in {**times.busy_s, **clock.seconds}.items()}


def _run(plan: Plan, folder: Path, tell: OnProgress) -> SegmentResult:
    """Run the plan's segment and report what it does."""

    def on_frame(num_done: int, clock: StageClock) -> None:
        tell(Progress("upscale", num_done, plan.num_frames, clock.times().bottleneck))

    return run_segment(plan, 0, folder, on_frame=on_frame)


def _join(plan: Plan, info: MediaInfo, segments: list[SegmentResult], folder: Path) -> Path:
    """Put the segments and everything else of the source into one file."""
    joined = folder / f"joined.{plan.container}.part"
    join_segments(
        [segment.path for segment in segments],
        plan.result_pts(),
        [ticks for part in plan.segments for ticks in part.timeline.durations()],
        source=plan.source_path,
        info=_as_shown(info, plan),
        plan=plan.streams,
        settings=plan.encoder,
        output=joined,
        container=plan.container,
        stretches=[part.stretch for part in plan.parts],
        metadata=_provenance(plan),
    )
    return joined


def _provenance(plan: Plan) -> dict[str, str]:
    """Tags that say how the result was made, if they are wanted, and what it changed."""
    tags = provenance_tags(plan) if plan.provenance else {}
    declared = _declared(plan)
    if declared != Declared():
        tags[DECLARED_TAG] = declared.to_tag()
    return tags


def _declare_beside(plan: Plan, output: Path) -> None:
    """Write what was changed into a file beside a result whose container cannot hold the tag."""
    declared = _declared(plan)
    has_place = plan.container == "mkv" or plan.streams.use_metadata_keys
    if has_place or declared == Declared():
        return
    try:
        path = write_sidecar(output, declared)
    except OSError as error:
        raise OutputError(f"cannot write beside {output}: {error.strerror}") from error
    logger.info("%s says what was changed on purpose", path.name)


def _declared(plan: Plan) -> Declared:
    """What the plan declares, with the streams that nobody asked for and the film among several."""
    left_out = tuple(
        action.index
        for action in plan.streams.actions
        if action.action == "drop" and action.reason == "not asked for"
    )
    has_other = any(a.kind == "video" and a.action == "drop" for a in plan.streams.actions)
    film = plan.video.stream_index if has_other else None
    return plan.declared.model_copy(update={"left_out": left_out, "video_stream": film})


def _as_shown(info: MediaInfo, plan: Plan) -> MediaInfo:
    """The source as it would be described if its pictures lay as the result's do."""
    matrix = plan.geometry.display_matrix
    if info.video.display_matrix == matrix:
        return info
    return replace(info, video=replace(info.video, display_matrix=matrix, rotation=0))


def _digests(plan: Plan, result_sha256: str) -> dict[str, str]:
    digests = {
        "plan": plan.digest(),
        "source_head": plan.source.head_sha256,
        "source_tail": plan.source.tail_sha256,
        "result": result_sha256,
    }
    if plan.model.weights_sha256 is not None:
        digests["weights"] = plan.model.weights_sha256
    return digests


def _event(event: DamageEvent, plan: Plan) -> dict[str, Any]:
    """A damage event with its place in seconds."""
    base = plan.video.time_base

    def seconds(pts: int | None) -> float | None:
        return None if pts is None else round(float(pts * base), 3)

    return {
        "kind": event.kind,
        "start_s": seconds(event.start_pts),
        "end_s": seconds(event.end_pts),
        "count": event.count,
        "detail": event.detail,
    }
