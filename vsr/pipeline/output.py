"""The name of a result: refused early, worked beside, and taken only by what is complete.

Nothing that stands there is touched before that, nor without being told to.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import (
    CheckFailedError,
    ConfigError,
    OpenError,
    OutputError,
    OutputExistsError,
    OutputHeldError,
    VsrError,
)

if TYPE_CHECKING:
    from vsr.pipeline.verdict import CheckResult

logger = logging.getLogger(__name__)

JOURNAL_NAME = "run.json"
"""In a work folder: what an unfinished run was asked to do."""
_LOCK_NAME = "lock"
_LOCK_PATIENCE_S = 0.5
"""For a run that was killed a moment ago."""
_LOCK_PAUSE_S = 0.05
_MAX_NAME_BYTES = 240
_HINTS = {
    errno.ENOSPC: "make room on that disk, or choose another",
    errno.EDQUOT: "your quota on that disk is used up",
    errno.EFBIG: "files may not become so large here",
    errno.EROFS: "that disk is read-only",
}


def refuse_same_file(source: Path, output: Path) -> None:
    """Raise unless `output` is another file than `source`, whatever links lead to either."""
    try:
        is_same = output.samefile(source)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{output} cannot be looked at: {error.strerror}.") from error
    if is_same:
        raise ConfigError(
            f"the output {str(output)!r} is the source itself", hint="choose another name"
        )


def refuse_output(output: Path, *, overwrite: bool) -> None:
    """Raise unless the result may take its name."""
    if not os.path.lexists(output):
        return
    if output.is_dir():
        raise OutputExistsError(
            f"{output} is a directory, expected the name of a video file",
            hint="name a file in it",
        )
    if not output.is_file() and not output.is_symlink():
        raise OutputExistsError(f"{output} is not a regular file", hint="choose another name")
    if not overwrite:
        raise OutputExistsError(
            f"{output} exists already", hint="use --overwrite, or choose another name"
        )


class WorkFolder:
    """A folder beside the output for everything unfinished; held by one run at a time.

    As a context it is empty at the start and gone at the end. `Journal` keeps it between runs.
    The lock is the system's and ends with the process, however that ends. On file systems that
    know no locks it is left out, with a warning.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self.path = beside(output, ".vsr-work")
        self._lock: int | None = None

    def __enter__(self) -> Path:
        self.hold()
        if (self.path / JOURNAL_NAME).exists():
            self.release()
            raise ConfigError(
                f"an unfinished run of another kind lies beside {self._output}",
                hint=f"finish it, or remove {self.path.name}",
            )
        with writing(self._output):
            self.clear()
        return self.path

    def __exit__(self, *_: object) -> None:
        self.remove()

    def hold(self) -> None:
        """Make the folder, unless it is there, and lock it.

        Raises:
            OutputError: it cannot be made, is not ours, or another run holds it.
        """
        parent = self.path.parent
        if not parent.is_dir():
            raise OutputError(f"the folder {str(parent)!r} does not exist", hint="create it first")
        try:
            deadline = time.monotonic() + _LOCK_PATIENCE_S
            while not self._try_hold():
                if time.monotonic() > deadline:
                    raise OutputHeldError(
                        f"another run is working on {self._output}{self._holder()}",
                        hint="wait until it ends, or stop it",
                    )
                time.sleep(_LOCK_PAUSE_S)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"cannot write beside {str(self._output)!r}: {error.strerror}",
                hint="choose a folder you may write to, with space in it",
            ) from error

    def _try_hold(self) -> bool:
        """Lock the folder; False while somebody else does, or when it vanished meanwhile."""
        if self.path.is_symlink() or (os.path.lexists(self.path) and not self.path.is_dir()):
            raise OutputError(
                f"{self.path} is no folder of ours, and nothing is written through it",
                hint="remove it if you know what it is",
            )
        self.path.mkdir(mode=0o700, exist_ok=True)
        name = self.path / _LOCK_NAME
        try:
            lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            return False
        try:
            if try_flock(lock) and _is_at(lock, name):
                self._refuse_strangers()
                # For the message of whoever comes second; a full disk must not stop us here.
                with suppress(OSError):
                    os.truncate(lock, 0)
                    os.pwrite(lock, str(os.getpid()).encode(), 0)
                self._lock = lock
        finally:
            if self._lock is None:
                os.close(lock)
        return self._lock is not None

    def _refuse_strangers(self) -> None:
        """Raise for a folder that another user made, on file systems that know users."""
        owner = self.path.stat().st_uid
        if owner == os.geteuid():
            return
        with tempfile.TemporaryFile(dir=self.path) as file:
            if os.fstat(file.fileno()).st_uid != owner:
                raise OutputError(
                    f"{self.path} belongs to another user (id {owner})",
                    hint="run as that user, or remove it",
                )

    def _holder(self) -> str:
        try:
            text = (self.path / _LOCK_NAME).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return ""
        return f" (process {text})" if text.isdigit() else ""

    def clear(self) -> None:
        """Remove everything in it."""
        self.remove_but(frozenset())

    def remove_but(self, names: frozenset[str]) -> None:
        """Remove everything in it but what is named."""
        # What was asked comes last: as long as it is there, the rest is known for what it is.
        for entry in sorted(os.scandir(self.path), key=lambda entry: entry.name == JOURNAL_NAME):
            if entry.name == _LOCK_NAME or entry.name in names:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path)
            else:
                Path(entry.path).unlink()

    def remove(self) -> None:
        """Remove it with all that is in it, and let go of it."""
        try:
            self.clear()
            # While it is locked: who waits for the lock finds it gone and starts over.
            (self.path / _LOCK_NAME).unlink(missing_ok=True)
            self.path.rmdir()
        except OSError as error:
            logger.debug("%s is left: %s", self.path, error)
        self.release()

    def release(self) -> None:
        """Let go of it; it stays as it is."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def try_flock(lock: int, *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; False while another process has it locked.

    Any number may have it `shared`, while nobody has it alone. On file systems that know no locks
    it is not locked, with a warning.
    """
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        logger.warning("this file system knows no locks: start no second run on the same output")
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def beside(output: Path, suffix: str) -> Path:
    """A hidden name beside a result, for what belongs to it."""
    return output.absolute().parent / f".{_short(output.name)}{suffix}"


def _short(name: str) -> str:
    """A name that leaves room for what is put around it, within the 255 bytes a name may have."""
    data = os.fsencode(name)
    return name if len(data) <= _MAX_NAME_BYTES else hashlib.sha256(data).hexdigest()[:32]


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Turn what the system refuses into one sentence about the result.

    Raises:
        OutputError: in place of any OSError.
    """
    try:
        yield
    except VsrError:
        raise
    except OSError as error:
        raise OutputError(
            f"{output} cannot be written: {error.strerror or error}",
            hint=_HINTS.get(error.errno or 0),
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place at once and safely on disk: readers see the old one or the new one.

    Raises:
        OSError: it cannot be written; what stood there stands.
    """
    partial = path.with_name(f"{path.name}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(partial, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync(path.parent)


def take_name(joined: Path, output: Path, *, overwrite: bool) -> None:
    """Give the finished file its final name, safely on disk."""
    with writing(output):
        sync(joined)
        if not overwrite and os.path.lexists(output):
            raise OutputExistsError(f"{output} was made by somebody else in the meantime")
        joined.replace(output)
        sync(output.absolute().parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reject(joined: Path, output: Path, proof: CheckResult) -> None:
    """Keep a result that failed its check under a name that says so, and raise."""
    rejected = output.with_name(f"{_short(output.stem)}.rejected{output.suffix}")
    with writing(rejected):
        joined.replace(rejected)
    row = proof.failures[0]
    raise CheckFailedError(
        f"the result is not the same film: {row.name} is {row.result}, expected {row.source}"
        f"{f', {row.note}' if row.note else ''}",
        hint=f"it is kept as {rejected.name}; please report this",
    )


def sha256_of(path: Path) -> str:
    """Of all of a file.

    Raises:
        OpenError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OpenError(f"{path} cannot be read: {error.strerror}.") from error
