"""What a run reports: how far it is while it works, and what it made."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from vsr.engine.guards import GuardEvent
from vsr.media.damage import DamageEvent
from vsr.media.inventory import inventory
from vsr.media.probe import MediaInfo
from vsr.pipeline.plan import Plan
from vsr.pipeline.segment import SegmentResult
from vsr.pipeline.stages import StageTimes
from vsr.pipeline.verdict import CheckResult

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
    """What was wrong with the source or with what the model made of it, and what was done about
    it."""
    damaged_frames: int = 0
    """Pictures that were lost, called damaged, or that the decoder complained of."""
    interlace: dict[str, Any] = {}
    """What was done to fields, and why."""
    check: CheckResult
    digests: dict[str, str]
    segments: int = 1
    """Pieces that the result was made in."""
    resumed_segments: int = 0
    """Those of them that an earlier run had made."""
    exact: bool = True
    """Whether the same command makes the same bytes on any machine of this kind."""
    already_complete: bool = False
    """Whether an earlier run had made all of it, and this one nothing."""


def report(
    source: Path,
    output: Path,
    plan: Plan,
    info: MediaInfo,
    segments: Sequence[SegmentResult],
    clock: PhaseClock,
    started: float,
    proof: CheckResult,
    digests: dict[str, str],
    num_resumed: int = 0,
) -> UpscaleResult:
    """What a run made, from its plan and what was measured.

    Args:
        source: of the run, as its `output`.
        output: as above.
        plan: of the run.
        info: of the source.
        segments: all of them, in order.
        clock: of the phases.
        started: when, by `time.perf_counter`.
        proof: of the result.
        digests: besides those of the plan, by name.
        num_resumed: how many of the segments an earlier run has made.
    """
    times = _sum([segment.times for segment in segments])
    # Several at a time take less than their sum, which is all that is known of earlier runs.
    is_sum = num_resumed > 0 or len(segments) == 1
    wall_s = times.wall_s if is_sum else clock.seconds["upscale"]
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
        fps=round(plan.num_frames / max(wall_s, 1e-9), 3),
        bottleneck=times.bottleneck,
        stages=_stage_seconds(times, clock),
        plan=[
            *(action.model_dump() for action in plan.streams.actions),
            *(item.model_dump() for item in inventory(info, plan.streams, plan.encoder)),
            *({"note": note} for note in plan.notes),
            *({"note": note} for note in dict.fromkeys(n for s in segments for n in s.notes)),
        ],
        events=[
            *(_event(event, plan) for event in plan.damage),
            *(_guarded(event, s.index, plan) for s in segments for event in s.events),
        ],
        damaged_frames=plan.num_damaged,
        interlace=plan.interlace.model_dump(mode="json", exclude={"frames"}),
        check=proof,
        digests={**_digests(plan), **digests},
        segments=len(segments),
        resumed_segments=num_resumed,
        exact=all(segment.exact for segment in segments),
    )


def _sum(times: Sequence[StageTimes]) -> StageTimes:
    busy: dict[str, float] = {}
    for one in times:
        for stage, seconds in one.busy_s.items():
            busy[stage] = busy.get(stage, 0.0) + seconds
    return StageTimes(sum(one.wall_s for one in times), busy)


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


def _digests(plan: Plan) -> dict[str, str]:
    digests = {
        "plan": plan.digest(),
        "source_head": plan.source.head_sha256,
        "source_tail": plan.source.tail_sha256,
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


def _guarded(event: GuardEvent, index: int, plan: Plan) -> dict[str, Any]:
    """What a guard did, with its place in seconds on the result's clock."""
    segment = plan.segments[index]
    pts = plan.result_pts()[segment.first_frame :][: segment.num_frames]
    last = min(event.first_frame + event.num_frames, len(pts)) - 1
    base = plan.encoder.time_base
    return {
        "kind": event.kind,
        "start_s": round(float(pts[event.first_frame] * base), 3),
        "end_s": round(float(pts[last] * base), 3),
        "count": event.num_frames,
        "detail": event.detail,
        "action": event.action,
    }
