"""Segments into a film, and what is said in it and beside it of how it was made."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vsr.media.probe import MediaInfo
from vsr.media.segments import join_segments
from vsr.pipeline.declared import TAG as DECLARED_TAG
from vsr.pipeline.declared import Declared, sidecar_path, write_sidecar
from vsr.pipeline.output import writing
from vsr.pipeline.plan import Plan
from vsr.pipeline.provenance import provenance_tags

logger = logging.getLogger(__name__)


def join(plan: Plan, info: MediaInfo, segments: Sequence[Path], folder: Path) -> Path:
    """Put the segments and everything else of the source into one file."""
    joined = folder / f"joined.{plan.container}.part"
    join_segments(
        segments,
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


def declare_beside(plan: Plan, output: Path) -> None:
    """Write what was changed into a file beside a result whose container cannot hold the tag."""
    declared = _declared(plan)
    has_place = plan.container == "mkv" or plan.streams.use_metadata_keys
    if has_place or declared == Declared():
        return
    with writing(sidecar_path(output)):
        path = write_sidecar(output, declared)
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
