"""What a worker process does with one clip: look at it, or make its result."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.batch.rules import Asked, Traits
from vsr.batch.storage import Remote, at_hand, refuse_taken, send
from vsr.config import UpscaleConfig
from vsr.errors import OtherDeviceError
from vsr.frame import Transfer
from vsr.pipeline.container import probe_film, settle
from vsr.pipeline.estimate import count_frames, estimate
from vsr.pipeline.output import sha256_of
from vsr.pipeline.planning import outline
from vsr.pipeline.record import own_record

if TYPE_CHECKING:
    from vsr.pipeline.result import Progress, UpscaleResult
    from vsr.pipeline.upscale import OnPlanned
    from vsr.pipeline.worker import Job


logger = logging.getLogger(__name__)

_HDR = (Transfer.PQ, Transfer.HLG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a clip is, before its frames were read."""

    width: int
    height: int
    frames: int | None
    """As its container says, or as its length and rate tell."""
    duration_s: float | None
    codec: str
    is_interlaced: bool
    is_hdr: bool
    container: str
    """Of the result."""


def look_at(job: Job, source: Path | Remote, output: Path, asked: Asked, path: str) -> Facts:
    """Probe a clip, and decide of its run what can be decided without reading it.

    Args:
        job: of the worker.
        source: the clip.
        output: name of the result.
        asked: of all clips.
        path: of the clip in its tree, for the rules.

    Raises:
        VsrError: as `upscale` before it starts.
    """
    with at_hand(source) as film:
        return _look_at(film, output, asked, path)


def _look_at(source: Path, output: Path, asked: Asked, path: str) -> Facts:
    info = probe_film(source, asked.config)
    video = info.video
    traits = Traits(
        path=path,
        height=video.height,
        is_interlaced=video.is_interlaced,
        is_hdr=video.color.transfer in _HDR,
    )
    config = asked.config_for(traits)
    settled = settle(output, config, info)
    outline(info, settled.output, config)
    return Facts(
        width=video.width,
        height=video.height,
        frames=count_frames(info),
        duration_s=info.duration_s,
        codec=video.codec,
        is_interlaced=traits.is_interlaced,
        is_hdr=traits.is_hdr,
        container=settled.container,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What making a result takes."""

    start_seconds: float
    """Once for each clip."""
    seconds_per_pixel: float
    """Of the source's pictures."""
    bytes_per_pixel: float


def sample(job: Job, source: Path | Remote, output: Path, config: UpscaleConfig) -> Cost | None:
    """Make a piece of a clip's result and throw it away; None when its length is unknown.

    Raises:
        VsrError: the piece could not be made.
    """
    with at_hand(source) as film:
        return _sample(film, output, config)


def _sample(source: Path, output: Path, config: UpscaleConfig) -> Cost | None:
    info = probe_film(source, config)
    settled = settle(output, config, info)
    guess = estimate(source, settled.output, info, outline(info, settled.output, config))
    pixels = (count_frames(info) or 0) * info.video.width * info.video.height
    if guess.seconds is None or guess.result_bytes is None or not pixels:
        return None
    return Cost(
        start_seconds=guess.start_seconds,
        seconds_per_pixel=(guess.seconds - guess.start_seconds) / pixels,
        bytes_per_pixel=guess.result_bytes / pixels,
    )


def digest(job: Job, source: Path | Remote) -> str:
    """SHA-256 of all of a file."""
    with at_hand(source) as film:
        return sha256_of(film)


def make(
    job: Job,
    source: Path | Remote,
    output: Path,
    target: Remote | None,
    config: UpscaleConfig,
    fresh: int,
    *,
    on_planned: OnPlanned | None = None,
) -> UpscaleResult:
    """Make a clip's result, or go on with it; anew where it was begun on another kind of device.

    Args:
        job: of the worker.
        source: the clip.
        output: name of the result.
        target: where the result is sent; None: it stays.
        config: what is asked for.
        fresh: as `Clip.fresh`; of that, only what an earlier run of ours has made is replaced.
        on_planned: as for `upscale`.

    Raises:
        VsrError: as `upscale`.
    """
    if target is not None and not fresh and not config.overwrite and own_record(output) is None:
        refuse_taken(target.url)
    with at_hand(source) as film:
        result = _make(job, film, output, config, fresh, on_planned)
    if target is not None:
        send(output, target.url)
    return result


def _make(
    job: Job,
    source: Path,
    output: Path,
    config: UpscaleConfig,
    fresh: int,
    on_planned: OnPlanned | None,
) -> UpscaleResult:
    # Here, because a worker that only looks at clips needs it not.
    from vsr.pipeline.upscale import upscale

    is_ours = fresh > 0 and own_record(output) is not None
    wishes = {"overwrite": is_ours or config.overwrite, "restart": fresh > 1}
    wanted = config.model_copy(update=wishes)
    try:
        return upscale(source, output, wanted, progress=_teller(job), on_planned=on_planned)
    except OtherDeviceError as error:
        logger.warning("%s is begun anew: %s", source, error.message)
        anew = wanted.model_copy(update={"restart": True})
        return upscale(source, output, anew, progress=_teller(job), on_planned=on_planned)


def _teller(job: Job) -> Callable[[Progress], None]:
    phase = ""

    def tell(progress: Progress) -> None:
        nonlocal phase
        # The first of a phase is never left out: it tells what is on disk by then.
        is_first, phase = progress.phase != phase, progress.phase
        job.say(progress.phase, progress.num_done, progress.num_frames, now=is_first)

    return tell
