"""Open media safely: the only door through which this package reads media.

A file is data: it may not make us open another file, a device or a socket, nor take unbounded
memory.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import av.error

from vsr.errors import OpenError, UnsupportedVideoError, VsrError

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer

AV_ERRORS = (
    av.error.FFmpegError,
    OSError,
    UnicodeDecodeError,
    ValueError,
    AssertionError,
    MemoryError,
    LookupError,
)
"""All that av raises for bad media. Broad on purpose: fuzzed files ended in every one of them."""

# Demuxers that read one self-contained file. No playlists, no concatenation, no image patterns,
# no text, no devices: those open other files or sockets.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,asf,flv,mxf,dv,ogg,mpegvideo,h264,hevc,"
    "m4v,ivf,yuv4mpegpipe,nut,gif,obu,vc1,gxf,dirac,rm"
)
_AV_MAJOR = int(av.__version__.split(".")[0])
ANY_TAGS: Mapping[str, Any] = {"metadata_errors": "surrogateescape"} if _AV_MAJOR < 19 else {}
"""For `av.open`: tags that are not UTF-8 pass as they are. They raise in version 18; from 19 on
they never do, and the argument is gone."""
_HINT_NOT_MEDIA = "vsr reads mkv, mp4, mov, webm, avi, ts, mpg, mxf, flv, wmv, ogv and raw video"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLimits:
    """What a file may ask of us before it is refused."""

    max_pixels: int = 8192 * 4320
    """Coded pixels per picture."""
    max_streams: int = 100
    max_attachment_bytes: int = 256 * 1024 * 1024
    max_chapters: int = 10_000
    max_metadata_bytes: int = 16 * 1024 * 1024


DEFAULT_LIMITS = ProbeLimits()


def open_input(
    path: Path,
    *,
    limits: ProbeLimits = DEFAULT_LIMITS,
    options: Mapping[str, str] | None = None,
    accelerator: HWAccel | None = None,
) -> InputContainer:
    """Open a media file for reading, safely.

    Args:
        path: a regular file; anything in its name is taken literally.
        limits: what the file may ask of us.
        options: further demuxer options; they cannot widen the whitelists.
        accelerator: what decodes in place of the processor, where it can.

    Returns:
        An open container. Use it in one thread, and close it.

    Raises:
        OpenError: not a readable regular file, or not a known container.
        UnsupportedVideoError: beyond `limits`.
    """
    path = Path(path)
    _check_regular_file(path)
    merged = {
        **(options or {}),
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        # Reaches the decoders that look at the streams during opening, and only those.
        "max_pixels": str(limits.max_pixels),
    }
    name = f"file:{path.absolute()}"
    try:
        container: InputContainer = av.open(
            name, "r", options=merged, hwaccel=accelerator, **ANY_TAGS
        )
    except AV_ERRORS as error:
        raise _explain_open_failure(path, error) from error
    try:
        _check_limits(path, container, limits)
    except AV_ERRORS as error:
        container.close()
        if isinstance(error, VsrError):
            raise
        raise OpenError(f"{path} could not be read: {reason(error)}.") from error
    return container


def _check_regular_file(path: Path) -> None:
    """Raise OpenError unless `path` is a readable, non-empty regular file. Never blocks."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise OpenError(f"{path} does not exist.", hint="check the name") from error
    except (OSError, ValueError) as error:
        raise OpenError(f"{path} cannot be looked at: {reason(error)}.") from error
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise OpenError(
            f"{path} is a directory, expected a video file.", hint="name one file in it"
        )
    if not stat.S_ISREG(mode):
        kind = "a named pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise OpenError(
            f"{path} is {kind}, expected a regular file.", hint="save it as a file first"
        )
    if status.st_size == 0:
        raise OpenError(f"{path} is empty.", hint="copy or download it again")
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise OpenError(
            f"{path} cannot be read: {reason(error)}.", hint="check its permissions"
        ) from error


def reason(error: BaseException) -> str:
    """What went wrong, in the words of the system or of FFmpeg, without a full stop."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).rstrip(".")


def _explain_open_failure(path: Path, error: BaseException) -> OpenError:
    """One sentence on why `av.open` failed, from a look at the first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
            lacks_index = _mp4_lacks_index(file, path.stat().st_size)
    except OSError as second:
        return OpenError(f"{path} cannot be read: {reason(second)}.")
    if lacks_index:
        return OpenError(
            f"{path} was cut off before its index was written, so nothing in it can be found.",
            hint="copy or record it again; mkv and fragmented mp4 survive being cut off",
        )
    if _is_text(head):
        return OpenError(
            f"{path} holds text, not video, whatever its name says.", hint=_HINT_NOT_MEDIA
        )
    return OpenError(
        f"{path} is not a video container that can be read: {reason(error)}.", hint=_HINT_NOT_MEDIA
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n\f\ufeff" for character in text)


def _mp4_lacks_index(file: Any, size: int) -> bool:
    """True for MP4 and MOV files whose top-level boxes end without a `moov`."""
    position, seen_mp4 = 0, False
    for _ in range(10_000):
        file.seek(position)
        header = file.read(16)
        if len(header) < 8:
            return seen_mp4
        length, kind = struct.unpack(">I4s", header[:8])
        if kind in (b"moov", b"moof"):
            return False
        if position == 0 and kind not in (b"ftyp", b"mdat", b"wide", b"free", b"skip", b"pnot"):
            return False
        seen_mp4 = True
        if length == 1 and len(header) == 16:
            length = struct.unpack(">Q", header[8:])[0]
        if length < 8 or position + length > size:
            return True
        position += length
    return False


def _check_limits(path: Path, container: InputContainer, limits: ProbeLimits) -> None:
    """Raise UnsupportedVideoError when the file asks for more than `limits` allow."""
    streams = container.streams
    chapters = container.chapters()
    attachments = sum(len(s.data) for s in streams.attachments)
    tags = [container.metadata, *(s.metadata for s in streams), *(c["metadata"] for c in chapters)]
    metadata = sum(len(key) + len(value) for group in tags for key, value in group.items())
    for what, found, allowed in (
        ("streams", len(streams), limits.max_streams),
        ("chapters", len(chapters), limits.max_chapters),
        ("bytes of attachments", attachments, limits.max_attachment_bytes),
        ("bytes of metadata", metadata, limits.max_metadata_bytes),
    ):
        if found > allowed:
            raise UnsupportedVideoError(
                f"{path} has {found} {what}, more than the {allowed} allowed.",
                hint="such a file is either damaged or meant to do harm",
            )
