"""What FFmpeg writes to its log while it decodes: the only sign of some damage.

A checksum of FFV1 that fails gives a picture like any other, no error and no flag, but a line on
stderr. PyAV's own logging must stay out of it: with a level set, a damaged file can hang a process
that decodes with several threads for ever.
"""

from __future__ import annotations

import os
import re
import tempfile

import av

_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_MAX_BYTES_READ = 4096


class StderrLog:
    """Takes file descriptor 2 of this process for FFmpeg's errors, for good.

    For a process that does nothing but read media: whatever else is written to stderr is taken for
    a message of FFmpeg's.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        os.dup2(self._file.fileno(), 2)
        av.logging.restore_default_callback()
        av.logging.set_libav_level(av.logging.ERROR)

    def poll(self) -> list[str]:
        """The lines written since the last call, without what differs from run to run."""
        size = os.fstat(2).st_size
        if size == 0:
            return []
        data = os.pread(2, min(size, _MAX_BYTES_READ), 0)
        # Emptied each time, so that a file full of damage cannot fill the disk.
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
        lines = data.decode("utf-8", "replace").splitlines()
        return [_ADDRESS.sub("", line).strip() for line in lines if line.strip()]
