"""Which decoder reads the film of a run: tried before the plan is written, and stands in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from vsr.errors import VsrError
from vsr.frame import VideoInfo
from vsr.media.hardware import (
    DecoderChoice,
    DecoderName,
    choose_decoder,
    hardware_of,
    is_worth_a_try,
)
from vsr.media.reader import FrameReader
from vsr.pipeline.child import can_start
from vsr.pipeline.death import Death
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.scan import Scan
from vsr.pipeline.worker import Job

DecoderWish = Literal["auto", "software", "hardware"]

LIMIT_S = 60.0
"""For a try; a driver that hangs longer is not for us."""


def plan_decoder(
    source: Path,
    info: VideoInfo,
    found: Scan,
    *,
    device: str,
    wish: DecoderWish,
    pool: WorkerPool | None,
) -> tuple[DecoderName, tuple[str, ...]]:
    """Choose a decoder, and say why.

    A card's decoder is for sound films of large pictures, where it gives the same pictures as the
    software decoder in less time. Everything else, a driver that crashes or hangs too, is for the
    software decoder and no error.

    Args:
        source: the film.
        info: of its video stream.
        found: what the scan told of it.
        device: of the run.
        wish: `software` does not try; `hardware` tries whatever the size and takes it if it is
            slower.
        pool: whose child tries; None starts one.
    """
    if wish == "software" or (wish == "auto" and not device.startswith("cuda")):
        return "software", ()
    choice = _choice(source, info, found, device, wish, pool)
    how = "by software" if choice.name == "software" else "on the GPU"
    return choice.name, (f"Decoded {how}: {choice.reason}.",)


def _choice(
    source: Path,
    info: VideoInfo,
    found: Scan,
    device: str,
    wish: DecoderWish,
    pool: WorkerPool | None,
) -> DecoderChoice:
    if not device.startswith("cuda"):
        return DecoderChoice("software", f"there is no other decoder on {device}")
    if wish == "auto" and (why := is_worth_a_try(info)) is not None:
        return DecoderChoice("software", why)
    if found.num_damaged or found.concealed:
        return DecoderChoice("software", "the film is damaged")
    work = (source.absolute(), info, found.decode_threads, device, wish == "auto")
    if pool is None and not can_start():
        return try_decoders(*work)
    try:
        if pool is not None:
            outcome = pool.try_out(do_try_decoders, *work, limit_s=LIMIT_S)
        else:
            with WorkerPool() as own:
                outcome = own.try_out(do_try_decoders, *work, limit_s=LIMIT_S)
    except (VsrError, RuntimeError) as error:
        why = error.message if isinstance(error, VsrError) else str(error).splitlines()[-1]
        return DecoderChoice("software", f"trying the GPU failed ({why.rstrip('.')})")
    if isinstance(outcome, Death):
        return DecoderChoice("software", f"the process that tried the GPU {outcome.how}")
    return outcome


def try_decoders(
    source: Path, info: VideoInfo, threads: int, device: str, must_be_faster: bool
) -> DecoderChoice:
    """See `media.hardware.choose_decoder`."""
    read = partial(FrameReader, source, info=info, threads=threads, follow_changes=True)
    return choose_decoder(
        read, lambda: read(hardware=hardware_of("cuda", device)), must_be_faster=must_be_faster
    )


def do_try_decoders(
    job: Job, source: Path, info: VideoInfo, threads: int, device: str, must_be_faster: bool
) -> DecoderChoice:
    """`try_decoders` in a child; what FFmpeg says meanwhile is of no interest."""
    choice = try_decoders(source, info, threads, device, must_be_faster)
    job.log.clear()
    return choice
