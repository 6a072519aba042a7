"""Whether the disk will do: asked before a run, and after each of its segments.

Nothing is refused on a guess that may be wrong: what is asked of the disk is a lower bound.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from vsr.config import UpscaleConfig
from vsr.errors import OutputError, VsrError
from vsr.media.probe import MediaInfo
from vsr.media.settings import EncoderSettings
from vsr.pipeline.estimate import count_frames, estimate, free_bytes, other_bytes
from vsr.pipeline.planning import outline

logger = logging.getLogger(__name__)

_ESTIMATE_ERRS = 2
"""By what factor an estimate may be too large."""
_HINT = "make room on that disk, or choose another; then the same command goes on"


def refuse_small_disk(source: Path, output: Path, config: UpscaleConfig, info: MediaInfo) -> None:
    """Raise when the run clearly cannot fit on the disk of its result.

    A piece of the film is measured for that, unless even raw pictures would fit.

    Raises:
        OutputError: with what is needed and what is free.
        VsrError: as `outline`.
    """
    free, num_frames = free_bytes(output.absolute().parent), count_frames(info)
    if free is None or num_frames is None:
        return
    known = outline(info, output, config)
    if 2 * num_frames * raw_bytes(known.encoder) + other_bytes(info) <= free:
        return
    try:
        guess = estimate(source, output, info, known)
    except VsrError as error:
        logger.debug("the space needed could not be estimated: %s", error)
        return
    if guess.disk_bytes is not None and guess.disk_bytes > _ESTIMATE_ERRS * free:
        raise OutputError(
            f"{output} will need about {_size(guess.disk_bytes)} of disk while it is made, "
            f"and {_size(free)} are free",
            hint="choose another disk, a higher crf or a smaller scale",
        )


def refuse_full_disk(output: Path, segment_bytes: Iterable[int], info: MediaInfo) -> None:
    """Raise when what is done could not be joined any more.

    Raises:
        OutputError: with what is needed and what is free.
    """
    free = free_bytes(output.absolute().parent)
    needed = sum(segment_bytes) + other_bytes(info)
    if free is not None and free < needed:
        raise OutputError(
            f"{_size(free)} are free on the disk of {output}, "
            f"less than the {_size(needed)} that joining what is done takes",
            hint=_HINT,
        )


def raw_bytes(encoder: EncoderSettings) -> int:
    """Bytes of one frame of the result before it is encoded."""
    layout = encoder.layout
    sizes = (layout.plane_size(k, encoder.width, encoder.height) for k in range(layout.num_planes))
    return sum(rows * columns for rows, columns in sizes) * layout.dtype.itemsize


def _size(num_bytes: int) -> str:
    for unit, name in ((10**9, "GB"), (10**6, "MB")):
        if num_bytes >= unit:
            return f"{num_bytes / unit:.1f} {name}"
    return f"{num_bytes} bytes"
