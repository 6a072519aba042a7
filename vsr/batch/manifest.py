"""The manifest of a batch: which clips there are, how far each is, and what became of it.

One SQLite file in `.vsr-batch` of the output folder. One process writes it, which a lock proves;
any number may read. What is done is known to the journals and records beside the results: the
manifest only remembers it, and a lost manifest costs no finished work.

States: `waiting` -> `running` -> `done`; `failed` will be tried again; `quarantined` will not,
before somebody says so; `vanished` is not there any more and was not done.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from vsr.errors import OutputError

State = Literal["waiting", "running", "done", "failed", "quarantined", "vanished"]
FOLDER_NAME = ".vsr-batch"
STATES: tuple[State, ...] = ("done", "running", "waiting", "failed", "quarantined", "vanished")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One row: a file of the source tree."""

    id: int
    path: str
    """Relative to the source tree; bytes that are not UTF-8 stand as lone surrogates."""
    output: str | None
    """Relative to the output folder; None as long as nobody could tell."""
    state: State
    error: str | None
    """Why it failed, one sentence."""
    exit_code: int | None
    """What `vsr upscale` would have ended with."""
    attempts: int
    """How often it has failed."""
    fresh: int
    """What of an earlier result or run is in the way of this file: 0 nothing, 1 the result may be
    replaced, 2 unfinished work also has to be forgotten."""
    is_gone: bool
    """Whether the last scan did not find it."""
    size_bytes: int
    mtime_ns: int
    width: int | None
    height: int | None
    frames: int | None
    """As declared, later as made."""
    duration_s: float | None
    codec: str | None
    is_interlaced: bool
    is_hdr: bool
    frames_done: int
    seconds: float | None
    """That making it took."""
    result_bytes: int | None
    source_sha256: str | None
    result_sha256: str | None
    weights_sha256: str | None
    """None for a model without."""


_COLUMNS = ", ".join(field.name for field in fields(Clip))
_CHANGEABLE = {field.name for field in fields(Clip)} - {"id", "path", "state"}
_BLOBS = ("path", "output")
_FLAGS = ("is_gone", "is_interlaced", "is_hdr")


class Manifest:
    """The rows of one batch; close it, or use it as a context.

    Made by `opening`.
    """

    def __init__(self, connection: sqlite3.Connection, out: Path, lock: int | None = None) -> None:
        self.out = out
        self._connection = connection
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file, and of the lock."""
        self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # What is said of the batch as a whole

    def note(self, key: str) -> str | None:
        """A note by its key; None when there is none."""
        with speaking(self.out):
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,))
            found = row.fetchone()
        return None if found is None else str(found[0])

    def set_note(self, key: str, value: str) -> None:
        """Write a note."""
        with self._writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    # Clips

    def clips(self, *states: State) -> list[Clip]:
        """Rows in order of their paths; of these states, or all."""
        marks = ", ".join("?" * len(states))
        where = f"WHERE state IN ({marks})" if states else ""
        with speaking(self.out):
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM clips {where} ORDER BY path", states
            )
            return [_clip(row) for row in rows]

    def clip(self, clip_id: int) -> Clip:
        """One row; it has to exist."""
        with speaking(self.out):
            row = self._connection.execute(
                f"SELECT {_COLUMNS} FROM clips WHERE id = ?", (clip_id,)
            ).fetchone()
        return _clip(row)

    def counts(self) -> dict[State, int]:
        """How many rows each state has; all states are named."""
        with speaking(self.out):
            rows = self._connection.execute("SELECT state, count(*) FROM clips GROUP BY state")
            found = dict(rows.fetchall())
        return {state: found.get(state, 0) for state in STATES}

    def history(self, clip_id: int) -> list[tuple[str, State, str | None]]:
        """(time in UTC, state, note) of a clip, oldest first."""
        with speaking(self.out):
            return self._connection.execute(
                "SELECT at, state, note FROM history WHERE clip = ? ORDER BY id", (clip_id,)
            ).fetchall()

    def add(self, path: str, state: State, **values: Any) -> int:
        """A new row; `values` as the fields of `Clip`. Its id."""
        data = {"path": path, "state": state, **values}
        names, marks = ", ".join(data), ", ".join("?" * len(data))
        with self._writing() as connection:
            found = connection.execute(
                f"INSERT INTO clips ({names}) VALUES ({marks})", _stored(data)
            ).lastrowid
            assert found is not None
            _remember(connection, found, state, values.get("error"))
        return found

    def move(self, clip_id: int, state: State, note: str | None = None, **values: Any) -> None:
        """Change a clip's state, and other fields with it; the history tells of it."""
        with self._writing() as connection:
            _change(connection, clip_id, {"state": state, **values})
            _remember(connection, clip_id, state, note or values.get("error"))

    def change(self, clip_id: int, **values: Any) -> None:
        """Change fields that are no part of a clip's history."""
        with self._writing() as connection:
            _change(connection, clip_id, values)

    def set_progress(self, frames_done: Mapping[int, int]) -> None:
        """Enter how many frames of clips are done, by id."""
        pairs = [(count, clip_id) for clip_id, count in frames_done.items()]
        with self._writing() as connection:
            connection.executemany("UPDATE clips SET frames_done = ? WHERE id = ?", pairs)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all that happens inside in one go, or nothing of it."""
        with self._writing():
            yield

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        if self._connection.in_transaction:
            # Whoever began it ends it.
            yield self._connection
            return
        with speaking(self.out), self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection


def now() -> str:
    """The time in UTC, as the manifest tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def speaking(out: Path) -> Iterator[None]:
    """Turn what SQLite raises into one sentence.

    Raises:
        OutputError: in place of any error of SQLite.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OutputError(
            f"the manifest of the batch in {out} cannot be used: {error}",
            hint=f"if it is damaged, remove {FOLDER_NAME} there and plan again; "
            "finished clips are known by what lies beside them",
        ) from error


def _clip(row: Iterable[Any]) -> Clip:
    data = dict(zip(Clip.__slots__, row, strict=True))
    for name in _BLOBS:
        if data[name] is not None:
            data[name] = os.fsdecode(data[name])
    for name in _FLAGS:
        data[name] = bool(data[name])
    return Clip(**data)


def _stored(values: Mapping[str, Any]) -> list[Any]:
    """Values as SQLite takes them: names as bytes, and text without what is no UTF-8."""
    return [_cell(name, value) for name, value in values.items()]


def _cell(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return os.fsencode(value) if name in _BLOBS else _text(value)


def _text(value: str) -> str:
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _change(connection: sqlite3.Connection, clip_id: int, values: Mapping[str, Any]) -> None:
    assert set(values) <= _CHANGEABLE | {"state"}, values
    wishes = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE clips SET {wishes} WHERE id = ?", [*_stored(values), clip_id])


def _remember(connection: sqlite3.Connection, clip_id: int, state: State, note: str | None) -> None:
    connection.execute(
        "INSERT INTO history (clip, at, state, note) VALUES (?, ?, ?, ?)",
        (clip_id, now(), state, None if note is None else _text(note)),
    )
