"""Scan a film in a process of its own, where FFmpeg's messages can be heard.

Messages go to file descriptor 2, which belongs to the whole process: taking it away from a program
that also draws a progress bar is not possible, and av's own way of catching them can hang. A child
also means that a file which crashes FFmpeg ends in an error, not in a dead program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vsr.frame import VideoInfo
from vsr.pipeline.child import can_start
from vsr.pipeline.excerpt import Wish
from vsr.pipeline.interlace import DeinterlaceMode
from vsr.pipeline.isolate import WorkerPool
from vsr.pipeline.scan import Scan, scan
from vsr.pipeline.split import Division


def scan_and_listen(
    source: Path,
    info: VideoInfo,
    *,
    decode_threads: int,
    deinterlace: DeinterlaceMode = "auto",
    on_frame: Callable[[int], None] | None = None,
    end_pts: int | None = None,
    asked: Sequence[Wish] = (),
    division: Division | None = None,
    pool: WorkerPool | None = None,
) -> Scan:
    """`scan` in a child, with the decoder's messages among the damage.

    Where there is no Python to start, the film is scanned here and nobody listens.

    Args:
        source: the film.
        info: of its video stream.
        decode_threads: as for `scan`, like the rest.
        deinterlace: what is wanted of interlaced material.
        on_frame: called now and then, and at the end, with the number of frames read so far.
        end_pts: first time not wanted any more.
        asked: the stretches taken.
        division: into segments.
        pool: whose child does it; None starts one for this.

    Raises:
        MediaError: as `scan`; DecodeError also when the child died.
        DeviceError: no child could be started.
    """
    wanted: dict[str, Any] = {
        "decode_threads": decode_threads,
        "deinterlace": deinterlace,
        "end_pts": end_pts,
        "asked": asked,
        "division": division,
    }
    if pool is not None:
        return pool.scan(source, info, wanted, on_frame)
    if not can_start():
        return scan(source, info, on_frame=on_frame, **wanted)
    with WorkerPool() as own:
        return own.scan(source, info, wanted, on_frame)
