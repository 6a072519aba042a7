"""Compare a tree with its manifest: what is new, changed, the same or gone.

A finished clip is left alone as long as its file is the same: by size and date, or, when only the
date differs, by the digest that was taken while it was made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vsr.batch.executor import Failure
from vsr.batch.manifest import Clip, Manifest, State, now
from vsr.batch.naming import Names, wished_name
from vsr.batch.processes import Processes
from vsr.batch.rules import Asked
from vsr.batch.storage import BucketTree, Source
from vsr.batch.walk import Filters, Found, Listing, Tree
from vsr.batch.work import Facts, digest, look_at
from vsr.errors import DeviceError, JobCancelledError, ModelError

_FORGOTTEN: dict[str, Any] = {
    "error": None,
    "exit_code": None,
    "attempts": 0,
    "is_gone": False,
    "frames_done": 0,
    "seconds": None,
    "result_bytes": None,
    "source_sha256": None,
    "result_sha256": None,
    "weights_sha256": None,
}
"""What is known of a file no longer holds when it has become another."""

OnLooked = Callable[[int, int], None]
"""Called with how many clips were looked at, and how many there are to look at."""


@dataclass(slots=True, kw_only=True)
class ScanReport:
    """What a scan found, in numbers."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    vanished: int = 0
    refused: int = 0
    """Of the new and changed: those that can be no clip."""
    left_out: int = 0
    """Files and folders that are not wanted, or hidden."""
    linked_folders: int = 0
    """Links to folders, which are not followed."""


@dataclass(slots=True)
class _Scan:
    manifest: Manifest
    source: Source
    asked: Asked
    rows: dict[str, Clip]
    report: ScanReport = field(default_factory=ScanReport)
    todo: list[Found] = field(default_factory=list)
    """New and changed files, not looked at yet."""
    doubtful: list[Found] = field(default_factory=list)
    """Files of finished clips of which only the date is another."""
    anew: bool = False
    """Whether what is asked for is no longer what it was."""


def scan(
    manifest: Manifest,
    source: Source,
    asked: Asked,
    filters: Filters,
    *,
    anew: bool = False,
    on_looked: OnLooked | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ScanReport:
    """Bring a manifest up to date with the tree.

    Args:
        manifest: written to as the scan goes on; a scan that is stopped goes on with the next.
        source: where the tree is.
        asked: what is asked for; clips that it cannot be done to are quarantined.
        filters: which files are clips.
        anew: look at all clips again and make all of them anew, since something else is asked for.
        on_looked: how far it is.
        should_stop: asked between two clips.

    Raises:
        OpenError: the tree cannot be listed.
        ModelError, DeviceError: no clip could be made like that.
        JobCancelledError: `should_stop` said so.
    """
    # Who plans need not have the device that is asked for.
    asked = replace(asked, config=asked.config.model_copy(update={"device": "cpu"}))
    run = _Scan(manifest, source, asked, {clip.path: clip for clip in manifest.clips()})
    run.anew = anew
    tree: Listing = (
        Tree(source, filters, manifest.out)
        if isinstance(source, Path)
        else BucketTree(source, filters)
    )
    seen: set[str] = set()
    with manifest.together():
        for found in tree.walk():
            seen.add(found.path)
            _sort(run, found)
        _note_vanished(run, seen, tree.unread)
    _look_at_all(run, on_looked or (lambda _done, _total: None), should_stop or (lambda: False))
    run.report.left_out = tree.num_left_out
    run.report.linked_folders = tree.num_linked_folders
    manifest.set_note("scanned_at", now())
    return run.report


def _sort(run: _Scan, found: Found) -> None:
    """Decide by what is known of a file without opening it."""
    row = run.rows.get(found.path)
    if found.problem is not None:
        _refuse(run, found, row, found.problem, 3)
        return
    if row is None:
        run.todo.append(found)
        return
    is_same = (row.size_bytes, row.mtime_ns) == (found.size_bytes, found.mtime_ns)
    is_doubtful = row.source_sha256 is not None and row.size_bytes == found.size_bytes
    if is_doubtful and not is_same and not run.anew:
        run.doubtful.append(found)
    elif run.anew or not is_same or row.state == "vanished":
        run.todo.append(found)
    else:
        run.report.unchanged += 1
        if row.is_gone:
            run.manifest.change(row.id, is_gone=False)


def _refuse(
    run: _Scan,
    found: Found,
    row: Clip | None,
    why: str,
    exit_code: int,
    output: str | None = None,
) -> None:
    """Enter what can be no clip; once, however often it is met."""
    values: dict[str, Any] = {"error": why, "exit_code": exit_code, "output": output}
    values |= {"size_bytes": found.size_bytes, "mtime_ns": found.mtime_ns}
    if row is None:
        run.report.new += 1
        run.manifest.add(found.path, "quarantined", **values)
    elif row.state == "quarantined" and row.error == why and not row.is_gone:
        run.report.unchanged += 1
        return
    else:
        run.report.changed += 1
        run.manifest.move(row.id, "quarantined", **{**_FORGOTTEN, **values})
    run.report.refused += 1


def _note_vanished(run: _Scan, seen: set[str], unread: list[str]) -> None:
    """Enter which clips are gone; of a folder that cannot be listed nobody knows."""
    for path, row in run.rows.items():
        if path in seen or row.is_gone or any(path.startswith(f"{folder}/") for folder in unread):
            continue
        run.report.vanished += 1
        note = "its file is gone, or no longer wanted"
        state: State = "done" if row.state == "done" else "vanished"
        run.manifest.move(row.id, state, note, is_gone=True)


def _look_at_all(run: _Scan, on_looked: OnLooked, should_stop: Callable[[], bool]) -> None:
    names = Names()
    for row in run.rows.values():
        if row.output is not None:
            names.take(row.output)
    container = run.asked.config.container
    # Who keeps its own name comes first, so that it is never the one that has to give way.
    todo = sorted(
        run.todo,
        key=lambda found: (wished_name(found.path, container) != found.path, found.path),
    )
    total = len(run.doubtful) + len(todo)
    # Nobody is started when there is nothing to look at.
    with Processes(1) as processes:
        for index, found in enumerate((*run.doubtful, *todo)):
            if should_stop():
                raise JobCancelledError("stopped")
            on_looked(index, total)
            if index < len(run.doubtful):
                if not _is_same_file(run, processes, found):
                    _look(run, processes, found, names)
            else:
                _look(run, processes, found, names)
    on_looked(total, total)


def _is_same_file(run: _Scan, processes: Processes, found: Found) -> bool:
    row = run.rows[found.path]
    outcome = processes.ask(digest, run.source / found.path)
    if outcome != row.source_sha256:
        return False
    run.report.unchanged += 1
    run.manifest.change(row.id, mtime_ns=found.mtime_ns, is_gone=False)
    return True


def _look(run: _Scan, processes: Processes, found: Found, names: Names) -> None:
    """Look at a new or changed file, and enter it."""
    row = run.rows.get(found.path)
    wished = wished_name(found.path, run.asked.config.container)
    output = row.output if row is not None and row.output is not None else None
    source, target = run.source / found.path, run.manifest.out / wished
    outcome = processes.ask(look_at, source, target, run.asked, found.path)
    if isinstance(outcome, Facts):
        wished = wished_name(found.path, outcome.container)
    output = output or names.give(found.path, wished)
    if isinstance(outcome, Failure):
        if isinstance(outcome.error, ModelError | DeviceError):
            # Not this clip's fault, and the next one would meet it too.
            raise outcome.error
        _refuse(run, found, row, outcome.message, outcome.exit_code, output)
        return
    assert isinstance(outcome, Facts), outcome
    values: dict[str, Any] = {
        "output": output,
        "size_bytes": found.size_bytes,
        "mtime_ns": found.mtime_ns,
        "width": outcome.width,
        "height": outcome.height,
        "frames": outcome.frames,
        "duration_s": outcome.duration_s,
        "codec": outcome.codec,
        "is_interlaced": outcome.is_interlaced,
        "is_hdr": outcome.is_hdr,
    }
    if row is None:
        run.report.new += 1
        run.manifest.add(found.path, "waiting", **values)
    else:
        run.report.changed += 1
        note = "its file is there again" if row.is_gone else "its file has changed"
        values = {**_FORGOTTEN, **values, "fresh": 2}
        run.manifest.move(
            row.id, "waiting", "something else is asked for" if run.anew else note, **values
        )
