"""Which result belongs to which file of the tree: the same place and name, and no name twice.

A result keeps its source's suffix where that is a container we write, and gets `.mkv` otherwise.
Where two sources would get one name, the later keeps its whole name in front of the suffix:
`a.avi` beside `a.mkv` becomes `a.avi.mkv`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import PurePosixPath
from typing import get_args

from vsr.config import ContainerName

_DEFAULT = "mkv"
_WRITTEN = frozenset(get_args(ContainerName)) - {"auto"}
_MAX_NAME_BYTES = 240
"""Of the 255 that file systems allow, some are left for what is put around a name."""


def wished_name(path: str, container: str | None) -> str:
    """What a result would be called if nothing were in its way.

    Args:
        path: of the source, relative to its tree.
        container: `mkv`, `mp4` or `mov` for all; None or `auto` goes by the source's suffix.
    """
    source = PurePosixPath(path)
    own = source.suffix.lower().removeprefix(".")
    if container in (None, "auto"):
        container = own if own in _WRITTEN else _DEFAULT
    return path if own == container else str(source.with_suffix(f".{container}"))


def sidecar_name(output: str) -> str:
    """Of the file that says beside a result how it was made."""
    return f"{output}.json"


def page_name(output: str) -> str:
    """Of the report of a result's quality."""
    return f"{output}.report.html"


class Names:
    """The names that are taken in an output folder.

    Names that differ in case or in the form of their accents only count as one, as they do on some
    file systems.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, output: str) -> None:
        """Note a name that an earlier scan gave away."""
        self._taken |= _keys(output)

    def give(self, path: str, wished: str) -> str:
        """A name for a source that nobody has; it is taken from then on."""
        for name in _candidates(path, wished):
            keys = _keys(name)
            if self._taken.isdisjoint(keys):
                self._taken |= keys
                return name
        raise AssertionError("candidates do not end")


def _candidates(path: str, wished: str) -> Iterator[str]:
    suffix = PurePosixPath(wished).suffix
    if _is_short(wished):
        yield wished
    stem = path if _is_short(path) else str(PurePosixPath(path).with_name(_shortened(path)))
    yield f"{stem}{suffix}"
    for number in count(2):
        yield f"{stem}.{number}{suffix}"


def _is_short(path: str) -> bool:
    return len(os.fsencode(PurePosixPath(path).name)) <= _MAX_NAME_BYTES


def _shortened(path: str) -> str:
    name = os.fsencode(PurePosixPath(path).name)
    return os.fsdecode(name[: _MAX_NAME_BYTES - 20])


def _keys(output: str) -> set[str]:
    """All names that a run of this output may write beside each other."""
    path = PurePosixPath(output)
    names = {output, sidecar_name(output), str(path.with_stem(f"{path.stem}.rejected"))}
    return {unicodedata.normalize("NFC", name).casefold() for name in names}
