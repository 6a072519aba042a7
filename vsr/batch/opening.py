"""Open the manifest of an output folder: to write it, to read it, or to try something out."""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from vsr.batch.manifest import FOLDER_NAME, Manifest, speaking
from vsr.errors import ConfigError, OutputError
from vsr.pipeline.output import try_flock, writing

_FILE_NAME = "manifest.sqlite"
_LOCK_NAME = "lock"
SCHEMA_VERSION = 2
_APPLICATION_ID = 0x76737262  # "vsrb"
_LOCK_PATIENCE_S = 0.5
"""For a run that was killed a moment ago, and for who looks whether there is one."""
_LOCK_PAUSE_S = 0.05
_PATIENCE_S = 30.0
"""For a reader that holds the file at the moment of a checkpoint."""

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE clips (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE,
    output BLOB,
    state TEXT NOT NULL,
    error TEXT,
    exit_code INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    fresh INTEGER NOT NULL DEFAULT 0,
    is_gone INTEGER NOT NULL DEFAULT 0,
    size_bytes INTEGER NOT NULL DEFAULT 0,
    mtime_ns INTEGER NOT NULL DEFAULT 0,
    width INTEGER,
    height INTEGER,
    frames INTEGER,
    duration_s REAL,
    codec TEXT,
    frames_done INTEGER NOT NULL DEFAULT 0,
    seconds REAL,
    result_bytes INTEGER,
    source_sha256 TEXT,
    result_sha256 TEXT,
    weights_sha256 TEXT,
    is_interlaced INTEGER NOT NULL DEFAULT 0,
    is_hdr INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    clip INTEGER NOT NULL REFERENCES clips (id),
    at TEXT NOT NULL,
    state TEXT NOT NULL,
    note TEXT
);
CREATE INDEX clips_by_state ON clips (state);
CREATE INDEX history_by_clip ON history (clip);
"""
_STEPS = {
    1: """
ALTER TABLE clips ADD COLUMN is_interlaced INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clips ADD COLUMN is_hdr INTEGER NOT NULL DEFAULT 0;
"""
}
"""What makes the next version of each older one."""


def folder_of(out: Path) -> Path:
    """Where the manifest of an output folder lies."""
    return out / FOLDER_NAME


def exists(out: Path) -> bool:
    """Whether there is a manifest."""
    return (folder_of(out) / _FILE_NAME).is_file()


def is_at_work(out: Path) -> bool:
    """Whether a process holds the manifest for writing, this one included."""
    try:
        lock = os.open(folder_of(out) / _LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_flock(lock, shared=True)
    finally:
        os.close(lock)


def open_manifest(out: Path) -> Manifest:
    """Open the manifest of an output folder for writing, or make it; one process at a time.

    Clips that a killed run has left running wait again.

    Raises:
        OutputError: another run holds it, or it cannot be made, read or written.
        ConfigError: a newer version wrote it.
    """
    folder = folder_of(out)
    with writing(out):
        folder.mkdir(parents=True, exist_ok=True)
        if folder.is_symlink():
            raise OutputError(
                f"{folder} is a link, and nothing is written through it",
                hint="remove it if you know what it is",
            )
        lock = _take_lock(out, folder / _LOCK_NAME)
    try:
        with speaking(out):
            connection = _connect(str(folder / _FILE_NAME))
            _prepare(connection, out)
        manifest = Manifest(connection, out, lock)
        for clip in manifest.clips("running"):
            manifest.move(clip.id, "waiting", "the run ended before it was done")
    except BaseException:
        os.close(lock)
        raise
    return manifest


def read_manifest(out: Path) -> Manifest:
    """Open a manifest for reading, beside whoever writes it.

    Raises:
        ConfigError: there is none, or a newer version wrote it.
        OutputError: it cannot be read.
    """
    if not exists(out):
        raise ConfigError(
            f"{out} holds no manifest of a batch", hint="make one with: vsr batch plan SRC OUT"
        )
    address = (folder_of(out) / _FILE_NAME).absolute().as_uri()
    with speaking(out):
        try:
            connection = _connect(f"{address}?mode=ro", uri=True)
            _refuse_newer(connection, out)
        except sqlite3.OperationalError:
            # Nobody writes it, and we may not: then SQLite cannot make the file it counts readers
            # in, and has to be told that it needs none.
            connection = _connect(f"{address}?immutable=1", uri=True)
            _refuse_newer(connection, out)
        version = _version(connection)
        if version < SCHEMA_VERSION:
            # Not ours to change: what is read is a copy.
            older, connection = connection, _connect(":memory:")
            older.backup(connection)
            older.close()
            _renew(connection, version)
    return Manifest(connection, out)


def copy_manifest(out: Path) -> Manifest:
    """What there is, in memory: whatever is done to it is forgotten.

    Raises:
        ConfigError, OutputError: as `read_manifest`, when there is one.
    """
    connection = _connect(":memory:")
    if exists(out):
        with read_manifest(out) as there, speaking(out):
            there._connection.backup(connection)
    _prepare(connection, out)
    return Manifest(connection, out)


def _connect(address: str, *, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(address, timeout=_PATIENCE_S, isolation_level=None, uri=uri)


def _prepare(connection: sqlite3.Connection, out: Path) -> None:
    """Make the tables, unless they are there."""
    _refuse_newer(connection, out)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    # A power cut may cost the last rows, which the journals of the clips know better.
    connection.execute("PRAGMA synchronous = NORMAL")
    version = _version(connection)
    if version == 0:
        connection.executescript(
            f"BEGIN; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    else:
        _renew(connection, version)


def _renew(connection: sqlite3.Connection, version: int) -> None:
    """Bring the tables of an older version up to date."""
    for step in range(version, SCHEMA_VERSION):
        connection.executescript(f"BEGIN; {_STEPS[step]} PRAGMA user_version = {step + 1}; COMMIT;")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _refuse_newer(connection: sqlite3.Connection, out: Path) -> None:
    found = _version(connection)
    if found > SCHEMA_VERSION:
        raise ConfigError(
            f"the manifest in {out} was written by a newer version of vsr "
            f"(schema {found}, known here is {SCHEMA_VERSION})",
            hint="use that version",
        )


def _take_lock(out: Path, path: Path) -> int:
    """Hold the manifest until the descriptor is closed, or the process ends in any way."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while not (is_ours := try_flock(lock)) and time.monotonic() < deadline:
            time.sleep(_LOCK_PAUSE_S)
        if not is_ours:
            holder = os.pread(lock, 32, 0).decode("ascii", "replace")
            who = f" (process {holder})" if holder.isdigit() else ""
            raise OutputError(
                f"another run is working on the batch in {out}{who}",
                hint="wait until it ends, or stop it",
            )
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock
