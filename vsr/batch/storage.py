"""Sources and results in object storage: listed, fetched, sent and read back through fsspec.

A clip is made of a whole local copy, which is removed when it is done with; a result counts as sent
when what the store gives back has its digest. Who may read and write what is up to the store's own
settings (environment, profiles, fsspec's configuration): nothing of that is kept here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from vsr.batch.manifest import FOLDER_NAME
from vsr.batch.walk import Filters, Found
from vsr.errors import ConfigError, OpenError, OutputExistsError, StorageError, VsrError
from vsr.pipeline.output import sha256_of, writing

_CHUNK_BYTES = 1 << 22
_READ_ONLY = ("http", "https")
_LOCAL = ("file", "local")
_MARKS = (
    "ETag",
    "etag",
    "LastModified",
    "Last-Modified",
    "last_modified",
    "mtime",
    "updated",
    "created",
)
"""By which stores tell that a file is another, the best first."""


def is_url(text: str) -> bool:
    """Whether a place is none of this machine's folders."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and scheme.isalnum() and scheme.lower() not in _LOCAL


@dataclass(frozen=True, slots=True)
class Remote:
    """One file of a store."""

    url: str
    """As fsspec takes it."""
    stage: Path
    """Folder for local copies."""

    @property
    def name(self) -> str:
        """Without the folders."""
        text = self.url.rsplit("/", 1)[-1]
        return unquote(text) if self.url.startswith(_READ_ONLY) else text

    def exists(self) -> bool:
        """Whether it is there.

        Raises:
            StorageError: nobody can tell.
        """
        with _talking(self.url):
            return bool(_system(self.url).exists(self.url))


@dataclass(frozen=True, slots=True)
class Bucket:
    """A folder of a store."""

    url: str
    stage: Path

    @classmethod
    def at(cls, url: str, home: Path, *, is_written: bool = False) -> Bucket:
        """The folder at an address.

        Args:
            url: such as `s3://bucket/folder`.
            home: where the manifest lies, and local copies for a while.
            is_written: whether results are to go there.

        Raises:
            ConfigError: the address cannot be used like that, or a package is missing.
        """
        parts = urlsplit(url)
        if parts.password is not None:
            raise ConfigError(
                "the address of a store holds a password, which would be kept in the manifest",
                hint="leave it out, and set the store's own variables or profile",
            )
        if is_written and parts.scheme in _READ_ONLY:
            raise ConfigError(f"{url} can only be read", hint="write to s3://, gs:// or a folder")
        _system(url)
        return cls(url.rstrip("/"), _stage(home.absolute()))

    def __truediv__(self, path: str) -> Remote:
        """A file by its path in the folder."""
        is_web = self.url.startswith(_READ_ONLY)
        return Remote(f"{self.url}/{quote(path) if is_web else path}", self.stage)

    def __str__(self) -> str:
        return self.url

    def resolve(self) -> Bucket:
        """As of a `Path`."""
        return self

    def absolute(self) -> Bucket:
        """As of a `Path`."""
        return self


Source = Path | Bucket
"""Where a tree is."""


def place(text: str, home: Path) -> Source:
    """A folder or a store, as a manifest tells it."""
    return Bucket.at(text, home) if is_url(text) else Path(text)


class BucketTree:
    """As `walk.Listing`, of a store; what lies under a name that begins with a dot is hidden."""

    def __init__(self, bucket: Bucket, filters: Filters) -> None:
        self._bucket = bucket
        self._filters = filters
        self.unread: list[str] = []
        self.num_left_out = 0
        self.num_linked_folders = 0

    def walk(self) -> Iterator[Found]:
        """All that is wanted, in order of the paths.

        Raises:
            OpenError: there is nothing at that address.
            StorageError: the store cannot be listed.
        """
        url = self._bucket.url
        with _talking(url):
            system = _system(url)
            entries: dict[str, dict[str, Any]] = system.find(url, detail=True)
            if not entries and not system.exists(url):
                raise FileNotFoundError(url)
        paths = {self._path(key): entry for key, entry in entries.items()}
        self.num_left_out += len(entries) - len(paths) + (None in paths)
        for path in sorted(path for path in paths if path is not None):
            entry = paths[path]
            if not self._is_wanted(path):
                self.num_left_out += 1
                continue
            if entry.get("size") is None:
                # Web servers tell it only of each file.
                with _talking(url):
                    entry = system.info((self._bucket / path).url)
            size_bytes = int(entry.get("size") or 0)
            if not self._filters.has_size(size_bytes):
                self.num_left_out += 1
                continue
            yield Found(path=path, size_bytes=size_bytes, mtime_ns=_mark(entry))

    def _path(self, key: str) -> str | None:
        """From the root; None for what lies elsewhere, which pages of the web may link to."""
        url = self._bucket.url
        root = url if url.startswith(_READ_ONLY) else _system(url)._strip_protocol(url)
        relative = key.removeprefix(f"{root.rstrip('/')}/")
        if relative == key:
            return None
        path = relative
        if url.startswith(_READ_ONLY):
            if "?" in relative:
                # A question to the server, such as for another order of its list.
                return None
            path = unquote(relative)
        is_odd = any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path
        return None if is_odd else path

    def _is_wanted(self, path: str) -> bool:
        parents = [str(parent) for parent in PurePosixPath(path).parents if str(parent) != "."]
        is_hidden = any(part.startswith(".") for part in path.split("/"))
        is_excluded = any(map(self._filters.is_excluded, (path, *parents)))
        return not is_hidden and not is_excluded and self._filters.is_included(path)


def at_hand(source: Path | Remote) -> AbstractContextManager[Path]:
    """A file that can be opened: itself, or a copy for as long as the context lasts."""
    return nullcontext(source) if isinstance(source, Path) else _fetched(source)


@contextmanager
def _fetched(remote: Remote) -> Iterator[Path]:
    with writing(remote.stage):
        remote.stage.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=remote.stage))
    try:
        copy = folder / remote.name
        fetch(remote.url, copy)
        try:
            yield copy
        except VsrError as error:
            # The copy is gone when anybody reads of it.
            error.message = error.message.replace(os.fspath(copy), remote.url)
            raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fetch(url: str, copy: Path) -> str:
    """Copy a file of a store to this machine, whole or not at all; its SHA-256.

    The copy's date says which version it is of, so that two copies of one file are alike.

    Raises:
        OpenError: it is not there.
        StorageError: it came short, or the store failed.
        OutputError: it cannot be written here.
    """
    with _talking(url):
        system = _system(url)
        entry = system.info(url)
        digest = hashlib.sha256()
        num_bytes = 0
        with system.open(url, "rb") as remote, writing(copy), copy.open("xb") as file:
            while chunk := _chunk(remote, url):
                digest.update(chunk)
                num_bytes += file.write(chunk)
    expected = entry.get("size")
    if expected is not None and num_bytes != expected:
        raise StorageError(f"{url} came with {num_bytes} bytes, expected {expected}")
    mark = _mark(entry)
    os.utime(copy, ns=(mark, mark))
    return digest.hexdigest()


def refuse_taken(url: str) -> None:
    """Raise when something stands where a result belongs.

    Raises:
        OutputExistsError: it does.
        StorageError: nobody can tell.
    """
    with _talking(url):
        is_there = _system(url).exists(url)
    if is_there:
        raise OutputExistsError(f"{url} exists already", hint="use --overwrite, or another place")


def send(file: Path, url: str) -> None:
    """Copy a file to a store, and read it back.

    Raises:
        StorageError: the store failed, or holds something else afterwards.
    """
    expected = sha256_of(file)
    with _talking(url):
        system = _system(url)
        system.makedirs(url.rsplit("/", 1)[0], exist_ok=True)
        system.put_file(os.fspath(file), url)
        system.invalidate_cache()
        found = hashlib.sha256()
        with system.open(url, "rb") as remote:
            while chunk := remote.read(_CHUNK_BYTES):
                found.update(chunk)
    if found.hexdigest() != expected:
        raise StorageError(f"{url} holds other bytes than were sent: its digest is not the same")


def clear_stage(home: Path) -> None:
    """Remove copies that a killed run has left."""
    shutil.rmtree(_stage(home), ignore_errors=True)


def _stage(home: Path) -> Path:
    return home / FOLDER_NAME / "stage"


def _chunk(remote: Any, url: str) -> bytes:
    with _talking(url):
        data: bytes = remote.read(_CHUNK_BYTES)
        return data


def _mark(entry: dict[str, Any]) -> int:
    """A number that another version of a file has not: its date, or one drawn from its tag."""
    for name in _MARKS:
        value = entry.get(name)
        if value is None:
            continue
        if isinstance(value, datetime):
            return int(value.timestamp()) * 10**9 + value.microsecond * 1000
        digest = hashlib.sha256(str(value).encode()).digest()
        # Read as a date it lies within the years 1970 to 2001, which every file system knows.
        return int.from_bytes(digest[:8]) % 10**18
    return 0


def _system(url: str) -> Any:
    """What speaks to a store.

    Raises:
        ConfigError: nothing does, or a package is missing.
    """
    try:
        import fsspec
    except ImportError as error:
        raise ConfigError(
            f"{url} needs fsspec, which is not installed",
            hint="pip install 'vsr[object-storage]'",
        ) from error
    scheme = url.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ValueError as error:
        raise ConfigError(f"{scheme}:// is no store that is known", hint="e.g. s3://") from error
    except ImportError as error:
        raise ConfigError(
            f"{url} needs a package that is not installed: {error}",
            hint="pip install 'vsr[object-storage]'",
        ) from error
    with _talking(url):
        return fsspec.filesystem(scheme)


@contextmanager
def _talking(url: str) -> Iterator[None]:
    """Turn what a store's library raises into one sentence.

    Raises:
        OpenError: it is not there.
        StorageError: in place of anything else.
    """
    try:
        yield
    except VsrError:
        raise
    except FileNotFoundError as error:
        raise OpenError(f"{url} does not exist") from error
    except Exception as error:
        # Each store's library has errors of its own, with no base in common.
        what = str(error).strip().splitlines() or [type(error).__name__]
        raise StorageError(
            f"{url} cannot be used: {what[0]}", hint="see whether the store can be reached"
        ) from error
