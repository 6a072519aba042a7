"""The digest of all of a source, made beside the run."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from vsr.errors import OpenError

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20
_NICE = 19


class SourceHash:
    """Reads a file in a thread of the lowest priority; a context that ends with the thread.

    Hashing leaves the interpreter's lock alone, so that it runs beside everything else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = threading.Event()
        self._sha256: str | None = None
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._read, name="vsr-source-hash", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def found(self) -> str | None:
        """The digest, in hex; None until it is complete."""
        return self._sha256

    def wait(self) -> str:
        """The digest, as soon as it is complete.

        Raises:
            OpenError: the file cannot be read.
        """
        self._thread.join()
        if self._sha256 is None:
            error = self._error
            text = "reading was stopped" if error is None else error.strerror
            raise OpenError(f"{self._path} cannot be read: {text}.") from error
        return self._sha256

    def _read(self) -> None:
        _step_back()
        digest = hashlib.sha256()
        try:
            with self._path.open("rb", buffering=0) as file:
                while block := file.read(_BLOCK_BYTES):
                    if self._stopped.is_set():
                        return
                    digest.update(block)
        except OSError as error:
            self._error = error
            return
        self._sha256 = digest.hexdigest()


def _step_back() -> None:
    """Let every other thread go first. On Linux, threads have priorities of their own."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    except OSError as error:
        logger.debug("the source is read at the usual priority: %s", error)
