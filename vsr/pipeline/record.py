"""The small file beside a finished result, by which the same command finds its work done."""

from __future__ import annotations

import errno
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from vsr.errors import OutputError, OutputExistsError
from vsr.media.probe import MediaInfo
from vsr.pipeline.journal import Promise, parse
from vsr.pipeline.output import beside, sha256_of
from vsr.pipeline.request import Request
from vsr.pipeline.result import UpscaleResult

_MAX_BYTES = 1 << 26


def record_path(output: Path) -> Path:
    """.NAME.vsr.json beside a result."""
    return beside(output, ".vsr.json")


def make_promise(joined: Path, request: Request, result: UpscaleResult, sha256: str) -> Promise:
    """What is known of a finished file before it takes its name."""
    status = joined.stat()
    return Promise(
        request=request,
        size_bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        result=result.model_dump(mode="json"),
    )


def own_record(output: Path) -> Promise | None:
    """The record of the file that stands at a name; None when there is none of that file.

    A file of another date is read, and counts when it holds the same bytes.

    Raises:
        OutputError: somebody put a link where the record belongs.
    """
    path = record_path(output)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputError(
                f"{path} is a link, and nothing is read or written through it",
                hint="remove it if you know what it is",
            ) from error
        return None
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        data = os.read(descriptor, _MAX_BYTES) if is_file else b""
    finally:
        os.close(descriptor)
    promise = parse(data, Promise, path.name) if data else None
    return promise if promise is not None and is_kept(promise, output) else None


def is_kept(promise: Promise, output: Path) -> bool:
    """Whether the file at a name is the one that was promised."""
    try:
        status = output.lstat()
    except OSError:
        return False
    if not output.is_file() or output.is_symlink() or status.st_size != promise.size_bytes:
        return False
    return status.st_mtime_ns == promise.mtime_ns or sha256_of(output) == promise.sha256


def already_complete(promise: Promise) -> UpscaleResult:
    """The result of an earlier run, as it was told then."""
    result = UpscaleResult.model_validate(promise.result)
    return result.model_copy(update={"already_complete": True})


def refuse_other_result(
    promise: Promise, now: Request, source: Path, info: MediaInfo, output: Path
) -> None:
    """Raise when what stands at a name was made otherwise than is asked for now.

    Raises:
        OutputExistsError: naming what differs, old -> new.
    """
    changes = promise.request.changes(now, source, info.video.stream_index)
    if changes:
        raise OutputExistsError(
            f"{output} exists already, and was made otherwise: {'; '.join(changes)}",
            hint="use --restart to make it anew, or choose another name",
        )
