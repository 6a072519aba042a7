"""The files of a tree that are to be clips: found by name and size, none of them opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

from vsr.errors import ConfigError, OpenError

SUFFIXES = frozenset(
    f".{name}"
    for names in (
        ("3g2", "3gp", "asf", "avi", "divx", "dv", "f4v", "flv", "gxf", "ivf", "m2t", "m2ts"),
        ("m2v", "m4v", "mj2", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "nut", "obu"),
        ("ogm", "ogv", "qt", "rm", "rmvb", "ts", "vc1", "vob", "webm", "wmv", "y4m"),
    )
    for name in names
)
"""How names of films end, where no `include` says otherwise; in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which files are clips.

    A pattern without a slash is held against each name, one with a slash against the path from the
    tree's root; `*` stands for anything, slashes too.
    """

    include: tuple[str, ...] = ()
    """None: by the suffix."""
    exclude: tuple[str, ...] = ()
    """Of files and folders."""
    min_bytes: int | None = None
    max_bytes: int | None = None

    def is_included(self, path: str) -> bool:
        """Whether a file is looked for, by its name."""
        if self.include:
            return matches(path, self.include)
        return PurePosixPath(path).suffix.lower() in SUFFIXES

    def is_excluded(self, path: str) -> bool:
        """Whether a file or folder is left out by its name."""
        return matches(path, self.exclude)

    def has_size(self, size_bytes: int) -> bool:
        """Whether a file is neither too small nor too large."""
        return (self.min_bytes or 0) <= size_bytes and (
            self.max_bytes is None or size_bytes <= self.max_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file of the tree, or what stands where a file should."""

    path: str
    """Relative to the tree."""
    size_bytes: int = 0
    mtime_ns: int = 0
    problem: str | None = None
    """Why it can be no clip, one sentence."""


class Listing(Protocol):
    """Files that were found, wherever they are."""

    unread: list[str]
    """Folders, relative to the root, that could not be listed."""
    num_left_out: int
    """Files that are not wanted, by name or size."""
    num_linked_folders: int
    """Links to folders, none of which was followed."""

    def walk(self) -> Iterator[Found]:
        """All that is wanted."""


class Tree:
    """As `Listing`, of a folder; no link to a folder is followed, so that no loop can be entered.

    Args:
        root: the folder.
        filters: which files are wanted.
        out: folder of the results; left out where it lies in the tree.
    """

    def __init__(self, root: Path, filters: Filters, out: Path) -> None:
        self._root = root
        self._filters = filters
        self._out = out.resolve()
        self.unread: list[str] = []
        self.num_left_out = 0
        self.num_linked_folders = 0

    def walk(self) -> Iterator[Found]:
        """All that is wanted, folder by folder, each in order of its names.

        Raises:
            OpenError: the root cannot be listed.
        """
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self._root / folder) as listing:
                    entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                if not folder:
                    raise OpenError(
                        f"{self._root} cannot be listed: {error.strerror}",
                        hint="name a folder that you may read",
                    ) from error
                self.unread.append(folder)
                yield Found(path=folder, problem=f"the folder cannot be listed: {error.strerror}")
                continue
            inner: list[str] = []
            for entry in entries:
                path = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir(follow_symlinks=False):
                    if self._is_entered(path):
                        inner.append(path)
                elif (found := self._look(entry, path)) is not None:
                    yield found
            waiting += reversed(inner)

    def _is_entered(self, path: str) -> bool:
        """Whether a folder belongs to the tree."""
        if _is_hidden(path) or self._filters.is_excluded(path):
            self.num_left_out += 1
            return False
        return (self._root / path).resolve() != self._out

    def _look(self, entry: os.DirEntry[str], path: str) -> Found | None:
        """What stands at a name that is no folder; None when it is not wanted."""
        filters = self._filters
        if _is_hidden(path) or filters.is_excluded(path) or not filters.is_included(path):
            self.num_left_out += 1
            return None
        try:
            status = entry.stat()
        except OSError as error:
            what = "a link that leads nowhere" if entry.is_symlink() else "not to be looked at"
            return Found(path=path, problem=f"{path} is {what}: {error.strerror}")
        kind = status.st_mode
        if stat.S_ISDIR(kind):
            self.num_linked_folders += 1
            return None
        if not stat.S_ISREG(kind):
            name = "a named pipe" if stat.S_ISFIFO(kind) else "a device or socket"
            return Found(path=path, problem=f"{path} is {name}, expected a regular file")
        if not filters.has_size(status.st_size):
            self.num_left_out += 1
            return None
        return Found(path=path, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def refuse_folders(source: Path, out: Path) -> None:
    """Raise unless a tree can be read from one folder and its results written to the other.

    Raises:
        OpenError: the source is no folder.
        ConfigError: results would lie among the sources, or the other way round.
    """
    if not source.is_dir():
        what = "is no folder" if os.path.lexists(source) else "does not exist"
        raise OpenError(f"{source} {what}, expected the folder of an archive")
    from_, to = source.resolve(), out.resolve()
    if from_ == to or from_.is_relative_to(to):
        raise ConfigError(
            f"{source} lies in {out}, where results would stand among the sources",
            hint="choose another folder for the results",
        )


def _is_hidden(path: str) -> bool:
    return PurePosixPath(path).name.startswith(".")


def matches(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether a path from the tree's root fits one of the patterns, as `Filters` has them."""
    name = PurePosixPath(path).name
    return any(fnmatchcase(path if "/" in p else name, p) for p in patterns)
