"""What FFmpeg writes to its log while it decodes: the only sign of some damage.

A checksum of FFV1 that fails gives a picture like any other, no error and no flag, but a line on
stderr. PyAV's own logging must stay out of it: with a level set, a damaged file can hang a process
that decodes with several threads for ever.
"""

from __future__ import annotations

import os
import re
import tempfile
from typing import IO, Any

import av

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_MAX_BYTES_TOLD = 4096
_MAX_BYTES_KEPT = 1 << 20
_BLOCK_BYTES = 1 << 16


def message_file() -> IO[Any]:
    """A file to be descriptor 2 of a child; in memory where the system can, as a disk may be full.

    Unbuffered, and gone when the last process has closed it.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("vsr-messages"), "w+b", buffering=0)
    return tempfile.TemporaryFile(buffering=0)


class StderrLog:
    """Reads FFmpeg's errors from descriptor 2 of this process, which must be a `message_file`.

    For a process that does nothing but our work: whatever else is written to stderr is taken for a
    message of FFmpeg's.
    """

    def __init__(self) -> None:
        self.num_lines = 0
        """Written so far, as of the last `poll`."""
        self._num_read = 0
        av.logging.restore_default_callback()
        av.logging.set_libav_level(av.logging.ERROR)

    def poll(self) -> list[str]:
        """The first lines written since the last call, without what differs from run to run."""
        size = os.fstat(2).st_size
        if size <= self._num_read:
            return []
        told = b""
        while self._num_read < size:
            block = os.pread(2, min(_BLOCK_BYTES, size - self._num_read), self._num_read)
            if not block:
                break
            told = told or block[:_MAX_BYTES_TOLD]
            self._num_read += len(block)
            self.num_lines += block.count(b"\n")
        if size > _MAX_BYTES_KEPT:
            # Now and then, so that a file full of damage cannot fill the memory.
            self._empty()
        lines = told.decode("utf-8", "replace").splitlines()
        return [_ADDRESS.sub("", line).strip() for line in lines if line.strip()]

    def clear(self) -> None:
        """Forget what was written so far."""
        self.poll()
        self._empty()

    def _empty(self) -> None:
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        self._num_read = 0
