"""Scan a film in a process of its own, where FFmpeg's messages can be heard.

Messages go to file descriptor 2, which belongs to the whole process: taking it away from a program
that also draws a progress bar is not possible, and av's own way of catching them can hang. A child
also means that a file which crashes FFmpeg ends in an error, not in a dead program.
"""

from __future__ import annotations

import logging
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from vsr import errors
from vsr.errors import DecodeError, VsrError
from vsr.frame import VideoInfo
from vsr.media.ffmpeg_log import StderrLog
from vsr.pipeline.interlace import DeinterlaceMode
from vsr.pipeline.scan import Scan, scan

logger = logging.getLogger(__name__)

_START = (
    "import sys, pickle; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from vsr.pipeline.listen import serve; serve(sys.stdin.buffer, sys.stdout.buffer)"
)


def scan_and_listen(
    source: Path,
    info: VideoInfo,
    *,
    decode_threads: int,
    deinterlace: DeinterlaceMode = "auto",
    on_frame: Callable[[int], None] | None = None,
    end_pts: int | None = None,
) -> Scan:
    """`scan` in a child, with the decoder's messages among the damage.

    Where no child can be started, the film is scanned here and nobody listens.

    Raises:
        MediaError: as `scan`; DecodeError also when the child died.
    """
    wanted: dict[str, Any] = {
        "decode_threads": decode_threads,
        "deinterlace": deinterlace,
        "end_pts": end_pts,
    }
    child = _start()
    if child is None:
        return scan(source, info, on_frame=on_frame, **wanted)
    assert child.stdin is not None and child.stdout is not None
    try:
        for item in (sys.path, (source.absolute(), info, wanted)):
            pickle.dump(item, child.stdin)
        child.stdin.close()
        return _follow(child.stdout, source, on_frame)
    except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
        code = child.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise DecodeError(
            f"The process that read {source} died ({how}).",
            hint="the file is damaged in a way that FFmpeg cannot bear",
        ) from error
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def _start() -> subprocess.Popen[bytes] | None:
    if not sys.executable or getattr(sys, "frozen", False):
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError as error:
        logger.warning("no process can be started to hear the decoder: %s", error)
        return None


def _follow(stream: BinaryIO | Any, source: Path, on_frame: Callable[[int], None] | None) -> Scan:
    """Read what the child sends until its result."""
    while True:
        # From our own child, over a pipe that nobody else holds.
        kind, *values = pickle.load(stream)
        if kind == "frame":
            if on_frame is not None:
                on_frame(values[0])
        elif kind == "result":
            result: Scan = values[0]
            return result
        elif kind == "refused":
            name, message, hint = values
            error: VsrError = getattr(errors, name)(message, hint=hint)
            raise error
        else:
            raise RuntimeError(f"scanning {source} failed:\n{values[0]}")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Do what one request asks, in the child."""
    # The parent decides what an interrupt means, and ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, info, wanted = pickle.load(requests)
    log = StderrLog()

    def send(*message: Any) -> None:
        pickle.dump(message, answers)
        answers.flush()

    try:
        send("result", scan(source, info, on_frame=lambda n: send("frame", n), log=log, **wanted))
    except VsrError as error:
        send("refused", type(error).__name__, error.message, error.hint)
    except BrokenPipeError:
        return
    except Exception:  # noqa: BLE001 - carried to the parent, never swallowed
        send("bug", traceback.format_exc())
