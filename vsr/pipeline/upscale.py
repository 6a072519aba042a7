"""One film, end to end: refuse early, plan, run, join, check, and only then take the final name.

Everything unfinished lies in a work folder beside the output, and nothing at the output's name
before it is complete and proven. Whatever ends a run, the same command goes on from the segments
that are finished, to the bytes that an undisturbed run would have written.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.engine.waiting import wait_briefly
from vsr.errors import ConfigError, DecodeError, JobCancelledError, OpenError, VsrError
from vsr.media.probe import MediaInfo
from vsr.pipeline.container import RAW, choose_container, probe_film, settle
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.joining import declare_beside, join
from vsr.pipeline.journal import Journal
from vsr.pipeline.output import refuse_output, refuse_same_file, reject, sha256_of, take_name
from vsr.pipeline.pictures import find_pictures
from vsr.pipeline.plan import Plan, refuse_changed_source
from vsr.pipeline.planning import make_plan
from vsr.pipeline.reading import SourceHash
from vsr.pipeline.record import (
    already_complete,
    is_kept,
    make_promise,
    own_record,
    record_path,
    refuse_other_result,
)
from vsr.pipeline.request import Request, refuse_changes
from vsr.pipeline.result import OnProgress, PhaseClock, Progress, UpscaleResult, report
from vsr.pipeline.retime import judge_damage
from vsr.pipeline.segment import SegmentResult, run_segment
from vsr.pipeline.space import refuse_full_disk, refuse_small_disk
from vsr.pipeline.stages import StageTimes
from vsr.pipeline.verdict import CheckResult
from vsr.pipeline.workers import Workers, open_workers

__all__ = ["OnProgress", "Progress", "UpscaleResult", "run_segment", "upscale"]

logger = logging.getLogger(__name__)

OnPlanned = Callable[[Plan, Sequence[int], Path], None]
"""Called with a plan, the indices of its segments that are not made yet, and the result's name."""


def upscale(
    source: str | Path,
    output: str | Path,
    config: UpscaleConfig | None = None,
    *,
    progress: OnProgress | None = None,
    should_stop: Callable[[], bool] | None = None,
    on_planned: OnPlanned | None = None,
) -> UpscaleResult:
    """Enlarge a film, or go on with it where an earlier run was stopped.

    Args:
        source: a video file, a folder of numbered pictures, or a pattern such as `a.%05d.dpx`.
        output: name of the result, ending in .mkv, .mp4 or .mov unless the container is given; raw
            pictures go to a name that ends in .y4m, or to stdout for `-`; numbered pictures to a
            pattern, or from pictures to a folder, where they keep their names. Under
            `container="auto"` the result may get another suffix: see `UpscaleResult.result`.
        config: what is asked for; None takes the defaults.
        progress: called often, from several threads but never from two at once.
        should_stop: asked often; the run is stopped, and can be gone on with, once it says True.
        on_planned: called before the segments of a film are made, unless all are; a
            `JobCancelledError` that it raises leaves them to somebody else.

    Returns:
        What was made and how. Of a film that an earlier run has finished, what was told then.

    Raises:
        ConfigError: what is asked for makes no sense; `output` is `source`; an unfinished run was
            begun otherwise.
        MediaError: the source cannot be used.
        ModelError, DeviceError: the model or device cannot be used.
        OutputError: the result cannot be written, or something stands at its name.
        CheckFailedError: the result is not the same film; it is kept as NAME.rejected.EXT.
        JobCancelledError: `should_stop` said so.
    """
    started = time.perf_counter()
    wait_briefly()
    source, output = Path(source), Path(output)
    config = config or UpscaleConfig()
    pictures = find_pictures(source, output, config)
    if pictures.is_used:
        from vsr.pipeline.upscale_pictures import upscale_pictures

        return upscale_pictures(source, output, config, pictures, progress=progress)
    if choose_container(output, config) == RAW:
        # Here, because it is of no use to the others.
        from vsr.pipeline.raw import upscale_raw

        return upscale_raw(source, output, config, progress=progress)
    refuse_same_file(source, output)
    info = probe_film(source, config)
    settled = settle(output, config, info)
    refuse_same_file(source, settled.output)
    return _upscale_film(
        _Job(
            source=source,
            output=settled.output,
            config=config,
            info=info,
            note=settled.note,
            progress=progress or (lambda _: None),
            should_stop=should_stop or (lambda: False),
            on_planned=on_planned or (lambda *_: None),
            started=started,
        )
    )


@dataclass(frozen=True, kw_only=True)
class _Job:
    """One call of `upscale` for a film."""

    source: Path
    output: Path
    config: UpscaleConfig
    info: MediaInfo
    note: str | None
    """On the name of the result."""
    progress: OnProgress
    should_stop: Callable[[], bool]
    on_planned: OnPlanned
    started: float
    clock: PhaseClock = field(default_factory=PhaseClock)

    @cached_property
    def asked(self) -> Request:
        """By what the run is known again."""
        return Request.of(self.source, self.config)

    def tell(self, progress: Progress) -> None:
        """Report how far the run is, in a phase that can be broken off here."""
        if self.should_stop():
            raise JobCancelledError("stopped")
        self.progress(progress)


def _upscale_film(job: _Job) -> UpscaleResult:
    """Whatever is not done yet."""
    config, output = job.config, job.output
    own = own_record(output)
    journal = Journal(output)
    if own is not None and not config.restart:
        if not config.overwrite:
            refuse_other_result(own, job.asked, job.source, job.info, output)
        if not _changes(job, own.request):
            _tidy(job, journal)
            return already_complete(own)
    may_replace = config.overwrite or (config.restart and own is not None)
    if not journal.exists:
        refuse_output(output, overwrite=may_replace)
    with journal:
        if not config.restart and (named := _named_before(job, journal)) is not None:
            return named
        refuse_output(output, overwrite=may_replace)
        return _run(job, journal, may_replace=may_replace)


def _changes(job: _Job, before: Request) -> list[str]:
    now = _asked(job, before)
    return before.changes(now, job.source, job.info.video.stream_index)


def _asked(job: _Job, before: Request | None) -> Request:
    """What is asked for; on the device of the run before, where that does not matter."""
    if before is None or not job.config.mixed_devices:
        return job.asked
    return job.asked.begun_on(before)


def _tidy(job: _Job, journal: Journal) -> None:
    """Remove what a run left that was killed after everything was done."""
    if not journal.exists:
        return
    try:
        with journal:
            header = journal.header()
            if header is not None and not _changes(job, header.request):
                journal.discard()
    except VsrError as error:
        # Somebody else is at it, and the result is complete either way.
        logger.debug("the work folder is left: %s", error)


def _named_before(job: _Job, journal: Journal) -> UpscaleResult | None:
    """Finish for a run that was killed after its result had taken its name."""
    promise = journal.promise()
    if promise is None or not is_kept(promise, job.output):
        return None
    refuse_other_result(promise, job.asked, job.source, job.info, job.output)
    header = journal.header()
    if header is not None and (plan := journal.plan(header)) is not None:
        declare_beside(plan, job.output)
    journal.finish(record_path(job.output))
    return already_complete(promise)


def _run(job: _Job, journal: Journal, *, may_replace: bool) -> UpscaleResult:
    with SourceHash(job.source) as whole, open_workers(job.config) as workers:
        earlier_sha256 = None if job.config.restart else journal.source_sha256()
        plan = _plan(job, journal, workers)
        num_resumed = len(journal.done)
        job.clock.end("scan")
        _make_segments(job, journal, plan, workers, whole, is_noted=earlier_sha256 is not None)
        job.clock.end("upscale")
        if earlier_sha256 is not None:
            _refuse_other_content(job, earlier_sha256, whole.wait())
        segments = [journal.done[index] for index in range(len(plan.segments))]
        job.tell(Progress("join", 0, plan.num_frames))
        joined = join(plan, job.info, [segment.path for segment in segments], journal.folder)
        job.clock.end("join")
        try:
            proof = _check(job, plan, joined)
            refuse_changed_source(job.source, plan.source)
        except DecodeError:
            journal.discard()
            raise
        if not proof.ok:
            journal.discard()
            reject(joined, job.output, proof)
        digests = {"result": sha256_of(joined), **_whole_digest(whole)}
        result = report(
            job.source,
            job.output,
            plan,
            job.info,
            segments,
            job.clock,
            job.started,
            proof,
            digests,
            num_resumed,
        )
        request = _request(job, journal, plan)
        journal.give(make_promise(joined, request, result, digests["result"]))
        take_name(joined, job.output, overwrite=may_replace)
        declare_beside(plan, job.output)
        journal.finish(record_path(job.output))
        return result


def _plan(job: _Job, journal: Journal, workers: Workers) -> Plan:
    """The stored plan, or a new one; either is stored when this returns."""
    plan = None if job.config.restart else _stored_plan(job, journal)
    # At once: what a child imports takes as long as what is imported here.
    workers.start()
    if plan is None:
        refuse_small_disk(job.source, job.output, job.config, job.info)
        num_declared = job.info.video.num_frames
        plan = make_plan(
            job.source,
            job.output,
            job.config,
            info=job.info,
            on_frame=lambda done: job.tell(Progress("scan", done, num_declared)),
            pool=workers if isinstance(workers, WorkerPool) else None,
        )
        if job.note is not None:
            plan = plan.model_copy(update={"notes": (job.note, *plan.notes)})
    for note in plan.notes:
        logger.info("%s", note)
    journal.begin(_request(job, journal, plan), plan, anew=job.config.restart)
    return plan


def _request(job: _Job, journal: Journal, plan: Plan) -> Request:
    header = None if job.config.restart else journal.header()
    return _asked(job, None if header is None else header.request).planned(plan)


def _stored_plan(job: _Job, journal: Journal) -> Plan | None:
    """What an earlier run has planned for the same request; None when there is none."""
    header = journal.header()
    if header is None:
        return None
    refuse_changes(_changes(job, header.request), job.output)
    plan = journal.plan(header)
    if plan is None:
        return None
    if plan.source.mtime_ns != job.asked.source.mtime_ns:
        logger.info("%s has another date, and the same packets as before", job.source)
    source = job.asked.source.model_copy(update={"packets": plan.source.packets})
    graphs = plan.compute.graphs and job.config.engine.graphs
    compute = plan.compute.model_copy(update={"mixed": job.config.mixed_devices, "graphs": graphs})
    if compute.mixed and job.config.device != "auto":
        compute = compute.model_copy(update={"device": job.config.device})
    return plan.model_copy(
        update={
            "source_path": job.source.absolute(),
            "source": source,
            "compute": compute,
            "queue_frames": job.config.engine.queue_frames,
        }
    )


def _make_segments(
    job: _Job,
    journal: Journal,
    plan: Plan,
    workers: Workers,
    whole: SourceHash,
    *,
    is_noted: bool,
) -> None:
    """Run what is not done, and enter each segment as it is finished."""
    todo = [index for index in range(len(plan.segments)) if index not in journal.done]
    frames = {index: segment.num_frames for index, segment in journal.done.items()}
    if journal.done:
        logger.info("%d of %d segments are done already", len(journal.done), len(plan.segments))

    def refuse_full() -> None:
        sizes = [segment.num_bytes for segment in journal.done.values()]
        refuse_full_disk(job.output, sizes, job.info)

    def on_frame(index: int, num_done: int, times: StageTimes) -> None:
        frames[index] = num_done
        total = sum(frames.values())
        job.progress(Progress("upscale", total, plan.num_frames, times.bottleneck))

    said: set[str] = set()

    def on_done(result: SegmentResult) -> None:
        for note in set(result.notes) - said:
            said.add(note)
            logger.info("%s", note)
        journal.add(result)
        note_source()
        refuse_full()

    def note_source() -> None:
        nonlocal is_noted
        found = whole.found()
        if found is not None and not is_noted:
            journal.note_source(found)
            is_noted = True

    refuse_full()
    if todo:
        job.on_planned(plan, todo, job.output)
        workers.run(
            plan,
            todo,
            journal.desk(),
            on_frame=on_frame,
            on_done=on_done,
            should_stop=job.should_stop,
        )


def _check(job: _Job, plan: Plan, joined: Path) -> CheckResult:
    job.tell(Progress("check", 0, plan.num_frames))
    # Here, because comparing pictures takes torch, and a bad source is refused without it.
    from vsr.pipeline.check import check

    proof = check(
        job.source,
        joined,
        plan=plan,
        on_frame=lambda done: job.tell(Progress("check", done, plan.num_frames)),
    )
    proof = judge_damage(proof, plan.num_damaged, job.config.max_damage, plan.num_frames)
    job.clock.end("check")
    return proof


def _refuse_other_content(job: _Job, before: str, now: str) -> None:
    """Raise when two runs of one job read different files."""
    if before != now:
        raise ConfigError(
            f"{job.source} is another file than when the run was begun, though its size, head and "
            f"tail are the same: sha256 {before[:12]} -> {now[:12]}",
            hint="use --restart to begin anew",
        )


def _whole_digest(whole: SourceHash) -> dict[str, str]:
    try:
        return {"source": whole.wait()}
    except OpenError as error:
        logger.warning("the digest of all of the source is not known: %s", error)
        return {}
