"""The name of a result: refused early, worked beside, and taken only by what is complete.

Nothing that stands there is touched before that, nor without being told to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from vsr.errors import CheckFailedError, ConfigError, OpenError, OutputError, OutputExistsError
from vsr.pipeline.verdict import CheckResult

_MAX_NAME_BYTES = 240


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
    """A folder beside the output for everything unfinished; removed when the run ends."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._path = output.absolute().parent / f".{_short(output.name)}.vsr-work"

    def __enter__(self) -> Path:
        parent = self._path.parent
        if not parent.is_dir():
            raise OutputError(f"the folder {str(parent)!r} does not exist", hint="create it first")
        try:
            # Left by a run that was killed: nothing in it can be used yet.
            if self._path.is_dir() and not self._path.is_symlink():
                shutil.rmtree(self._path)
            self._path.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(
                f"cannot write beside {str(self._output)!r}: {error.strerror}",
                hint="choose a folder you may write to, with space in it",
            ) from error
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def _short(name: str) -> str:
    """A name that leaves room for what is put around it, within the 255 bytes a name may have."""
    data = os.fsencode(name)
    return name if len(data) <= _MAX_NAME_BYTES else hashlib.sha256(data).hexdigest()[:32]


def take_name(joined: Path, output: Path, *, overwrite: bool) -> None:
    """Give the finished file its final name, safely on disk."""
    try:
        sync(joined)
        if not overwrite and os.path.lexists(output):
            raise OutputExistsError(f"{output} was made by somebody else in the meantime")
        joined.replace(output)
        sync(output.absolute().parent)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}") from error


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
