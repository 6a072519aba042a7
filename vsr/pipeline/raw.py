"""Raw pictures out: the film as y4m, on stdout for another program or in a file.

There is nothing to join, and what goes to stdout cannot be read again: then the run proves only
that as many frames went out as came in, at an even rate. A file is opened and decoded once more.
"""

from __future__ import annotations

import hashlib
import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from vsr.config import UpscaleConfig
from vsr.engine.waiting import wait_briefly
from vsr.errors import ConfigError, OutputError
from vsr.media.probe import MediaInfo, probe
from vsr.media.reader import FrameReader
from vsr.media.y4m import Y4mWriter, constant_rate
from vsr.pipeline.container import STDOUT, probe_film
from vsr.pipeline.estimate import free_bytes
from vsr.pipeline.output import WorkFolder, refuse_output, refuse_same_file, reject, take_name
from vsr.pipeline.plan import Plan, refuse_changed_source
from vsr.pipeline.planning import make_plan
from vsr.pipeline.result import OnProgress, PhaseClock, Progress, UpscaleResult, report
from vsr.pipeline.segment import SegmentResult, run_segment
from vsr.pipeline.space import raw_bytes
from vsr.pipeline.stages import StageClock, StageTimes
from vsr.pipeline.verdict import CheckResult, CheckRow

logger = logging.getLogger(__name__)

_FREE_SPACE_MARGIN = 1 << 20


def upscale_raw(
    source: Path,
    output: Path,
    config: UpscaleConfig,
    *,
    progress: OnProgress | None = None,
    stream: BinaryIO | None = None,
) -> UpscaleResult:
    """Enlarge a film into raw pictures.

    Args:
        source: a video file.
        output: `-` for stdout, or the name of a file.
        config: what is asked for.
        progress: as for `upscale`.
        stream: written to instead of stdout when `output` is `-`.

    Raises:
        UnsupportedVideoError: the film has a variable frame rate.
        BrokenPipeError: the program that reads the pictures has ended.
        VsrError: as `upscale` does.
    """
    started = time.perf_counter()
    wait_briefly()
    tell = progress or (lambda _: None)
    clock = PhaseClock()
    is_stdout = str(output) == STDOUT
    if is_stdout:
        stream = stream or _stdout()
    else:
        refuse_same_file(source, output)
    info = probe_film(source, config)
    if not is_stdout:
        refuse_output(output, overwrite=config.overwrite)
    num_declared = info.video.num_frames
    plan = make_plan(
        source,
        output,
        config,
        info=info,
        on_frame=lambda done: tell(Progress("scan", done, num_declared)),
    )
    plan = _with_rate(plan)
    for note in plan.notes:
        logger.info("%s", note)
    clock.end("scan")
    if is_stdout:
        assert stream is not None
        segment = _write(plan, stream, Path(), tell)
        clock.end("upscale")
        proof = _proof(_count_row(plan, segment.num_frames))
        return report(source, output, plan, info, [segment], clock, started, proof, {"result": ""})
    _refuse_small_disk(plan, output)
    with WorkFolder(output) as folder:
        partial = folder / "raw.y4m.part"
        try:
            with partial.open("wb") as file:
                segment = _write(plan, file, folder, tell)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{output} cannot be written: {error.strerror}") from error
        clock.end("upscale")
        tell(Progress("check", 0, plan.num_frames))
        proof = _check(partial, plan)
        clock.end("check")
        refuse_changed_source(source, plan.source)
        if not proof.ok:
            reject(partial, output, proof)
        with partial.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        take_name(partial, output, overwrite=config.overwrite)
    return report(source, output, plan, info, [segment], clock, started, proof, {"result": digest})


def frame_bytes(plan: Plan) -> int:
    """Bytes of one raw frame of the result."""
    return len(b"FRAME\n") + raw_bytes(plan.encoder)


def _stdout() -> BinaryIO:
    """The process's stdout, if somebody reads it who can use pictures."""
    if sys.stdout.isatty():
        raise ConfigError(
            "the pictures would go to the terminal",
            hint="pipe them into another program: vsr upscale IN - | ffplay -",
        )
    return sys.stdout.buffer


def _with_rate(plan: Plan) -> Plan:
    """The plan with the film's constant rate, or an error when it has none."""
    pts = [pts for part in plan.segments for pts in part.timeline.pts()]
    rate = constant_rate(pts, plan.encoder.time_base, plan.video.frame_rate)
    encoder = plan.encoder.model_copy(update={"frame_rate": rate})
    notes = plan.notes
    if pts[0] != 0:
        start = float(pts[0] * plan.encoder.time_base)
        notes = (*notes, f"The film starts at {start:.3f} s; y4m starts at 0.")
    return plan.model_copy(update={"encoder": encoder, "notes": notes})


def _write(plan: Plan, file: BinaryIO, folder: Path, tell: OnProgress) -> SegmentResult:
    """Run all segments into one stream, one after the other."""
    writer = Y4mWriter(file, plan.encoder)
    results: list[SegmentResult] = []
    for segment in plan.segments:
        num_before = segment.first_frame

        def on_frame(num_done: int, clock: StageClock, num_before: int = num_before) -> None:
            bottleneck = clock.times().bottleneck
            tell(Progress("upscale", num_before + num_done, plan.num_frames, bottleneck))

        results.append(
            run_segment(
                plan, segment.index, folder, on_frame=on_frame, open_encoder=writer.for_segment
            )
        )
    return _sum(results, writer)


def _sum(results: list[SegmentResult], writer: Y4mWriter) -> SegmentResult:
    """All segments as one."""
    busy: dict[str, float] = {}
    for result in results:
        for stage, seconds in result.times.busy_s.items():
            busy[stage] = busy.get(stage, 0.0) + seconds
    return SegmentResult(
        index=0,
        path=results[0].path,
        num_frames=writer.num_frames,
        num_bytes=writer.num_bytes,
        sha256="",
        times=StageTimes(sum(result.times.wall_s for result in results), busy),
        damage=tuple(event for result in results for event in result.damage),
    )


def _row(name: str, expected: object, found: object) -> CheckRow:
    return CheckRow(name=name, ok=expected == found, source=str(expected), result=str(found))


def _count_row(plan: Plan, num_frames: int) -> CheckRow:
    return _row("frames", plan.num_frames, num_frames)


def _proof(*rows: CheckRow) -> CheckResult:
    return CheckResult(ok=all(row.ok for row in rows), rows=rows)


def _check(path: Path, plan: Plan) -> CheckResult:
    """Read the file back."""
    info: MediaInfo = probe(path)
    with FrameReader(path, info=info.video) as reader:
        num_frames = _count(reader)
    video, encoder = info.video, plan.encoder
    return _proof(
        _count_row(plan, num_frames),
        _row("size", f"{encoder.width}x{encoder.height}", f"{video.width}x{video.height}"),
        _row("frame rate", encoder.frame_rate, video.frame_rate),
        _row("pixel shape", encoder.sample_aspect_ratio, video.sample_aspect_ratio),
        _row("range", encoder.color.full_range, video.color.full_range),
    )


def _count(items: Iterable[object]) -> int:
    return sum(1 for _ in items)


def _refuse_small_disk(plan: Plan, output: Path) -> None:
    """Raise when the file, whose size is known to the byte, cannot fit."""
    needed = plan.num_frames * frame_bytes(plan) + _FREE_SPACE_MARGIN
    free = free_bytes(output.absolute().parent)
    if free is not None and free < needed:
        raise OutputError(
            f"{output} needs {needed} bytes, but only {free} are free",
            hint="choose another disk, or a codec that compresses",
        )
