"""Image sequences, end to end: pictures into pictures, pictures into a film, a film into pictures.

As in `upscale`, everything unfinished lies in a work folder, and no picture gets its name before
all of them are complete and proven.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.engine.waiting import wait_briefly
from vsr.errors import CheckFailedError, ConfigError
from vsr.media.probe import MediaInfo
from vsr.media.segments import join_segments
from vsr.media.settings import EncoderSettings
from vsr.media.stills import PictureTarget
from vsr.media.stills_write import PictureWriter
from vsr.media.y4m import CONTAINER as RAW
from vsr.pipeline.check_pictures import check_pictures
from vsr.pipeline.container import choose_container, probe_film
from vsr.pipeline.output import (
    WorkFolder,
    refuse_output,
    refuse_same_file,
    reject,
    sha256_of,
    take_name,
)
from vsr.pipeline.picture_names import (
    digest_files,
    place_pictures,
    refuse_existing,
    reject_pictures,
)
from vsr.pipeline.pictures import Pictures, probe_pictures
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.provenance import provenance_tags
from vsr.pipeline.result import OnProgress, PhaseClock, Progress, UpscaleResult, report
from vsr.pipeline.retime import judge_damage
from vsr.pipeline.segment import SegmentResult, run_segment
from vsr.pipeline.stages import StageClock
from vsr.pipeline.verdict import CheckResult

logger = logging.getLogger(__name__)


def upscale_pictures(
    source: Path,
    output: Path,
    config: UpscaleConfig,
    pictures: Pictures,
    *,
    progress: OnProgress | None = None,
) -> UpscaleResult:
    """Enlarge a sequence, or a film into one.

    Args:
        source: a folder, a pattern or a film.
        output: a folder, a pattern or a film.
        config: what is asked for.
        pictures: from `find_pictures`; at least one of the two is a sequence.
        progress: as for `upscale`.

    Raises:
        VsrError: as `upscale` does.
    """
    started = time.perf_counter()
    wait_briefly()
    tell = progress or (lambda _: None)
    clock = PhaseClock()
    target = pictures.target
    if target is None and choose_container(output, config) == RAW:
        raise ConfigError(
            "pictures are not written as y4m", hint="write a film, such as OUT.mkv, or pictures"
        )
    info = _probe(source, config, pictures)
    if target is None:
        refuse_same_file(source, output)
        refuse_output(output, overwrite=config.overwrite)
    else:
        count = None if pictures.source is None else pictures.source.count
        refuse_existing(target, overwrite=config.overwrite, count=count)
    with WorkFolder(output if target is None else _beside(target)) as folder:
        num_declared = info.video.num_frames
        plan = make_plan(
            source,
            output,
            config,
            info=info,
            pictures=pictures,
            on_frame=lambda done: tell(Progress("scan", done, num_declared)),
        )
        for note in plan.notes:
            logger.info("%s", note)
        clock.end("scan")
        made, segment = _run(plan, info, folder, tell)
        clock.end("upscale")
        tell(Progress("check", 0, plan.num_frames))
        proof = check_pictures(source, made, plan=plan)
        proof = judge_damage(proof, plan.num_damaged, config.max_damage, plan.num_frames)
        clock.end("check")
        if target is None:
            if not proof.ok:
                reject(made, output, proof)
            digest = sha256_of(made)
            take_name(made, output, overwrite=config.overwrite)
        else:
            if not proof.ok:
                _reject(made, target, proof)
            digest = digest_files(made)
            place_pictures(made, target, overwrite=config.overwrite)
    return report(source, output, plan, info, [segment], clock, started, proof, {"result": digest})


def _probe(source: Path, config: UpscaleConfig, pictures: Pictures) -> MediaInfo:
    if pictures.source is not None:
        return probe_pictures(source, pictures)
    return probe_film(source, config)


def _beside(target: PictureTarget) -> Path:
    """A name beside which to work: on the file system that the pictures go to."""
    return target.folder / "pictures" if target.folder.is_dir() else target.folder


def _run(plan: Plan, info: MediaInfo, folder: Path, tell: OnProgress) -> tuple[Path, SegmentResult]:
    """Make what is to be checked: a folder of pictures, or a film."""

    def on_frame(num_done: int, clock: StageClock) -> None:
        tell(Progress("upscale", num_done, plan.num_frames, clock.times().bottleneck))

    target = plan.pictures.target
    if target is None:
        segment = run_segment(plan, 0, folder, on_frame=on_frame)
        tell(Progress("join", 0, plan.num_frames))
        return _join(plan, info, segment, folder), segment
    made = plan.pictures.result_path(folder)

    def open_writer(_: Path, settings: EncoderSettings) -> PictureWriter:
        return PictureWriter(made, target, settings, first_frame=plan.segments[0].first_frame)

    return made, run_segment(plan, 0, folder, on_frame=on_frame, open_encoder=open_writer)


def _join(plan: Plan, info: MediaInfo, segment: SegmentResult, folder: Path) -> Path:
    """The film of a sequence: its pictures are all there is."""
    # With its own suffix, because the check probes it as anybody would.
    joined = folder / f"joined.{plan.container}"
    part = plan.segments[0]
    join_segments(
        [segment.path],
        part.timeline.pts(),
        part.timeline.durations(),
        # A file with one stream of video and nothing else, which is what a sequence is.
        source=segment.path,
        info=info,
        plan=plan.streams,
        settings=plan.encoder,
        output=joined,
        container=plan.container,
        metadata=provenance_tags(plan) if plan.provenance else {},
    )
    return joined


def _reject(made: Path, target: PictureTarget, proof: CheckResult) -> None:
    """Keep pictures that failed their check under another name, and raise."""
    rejected = reject_pictures(made, target)
    row = proof.failures[0]
    raise CheckFailedError(
        f"the result is not the same film: {row.name} is {row.result}, expected {row.source}"
        f"{f', {row.note}' if row.note else ''}",
        hint=f"it is kept as {rejected.name}; please report this",
    )
