"""Numbers of a running batch for Prometheus, in a file that its node exporter picks up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.batch.manifest import STATES
from vsr.batch.status import status
from vsr.errors import OutputError, OutputExistsError
from vsr.pipeline.output import write_whole, writing

if TYPE_CHECKING:
    from vsr.batch.events import Event
    from vsr.batch.manifest import Manifest

_EVERY_S = 10.0
_FIRST_LINE = "# HELP vsr_batch_clips Clips by state."


@contextmanager
def keep_metrics(
    manifest: Manifest, path: Path | None, on_event: Callable[[Event], None]
) -> Iterator[Callable[[Event], None]]:
    """What to call with each event of a run, so that the file is kept up to date.

    Args:
        manifest: of the batch.
        path: of the file; None for none.
        on_event: called first.

    Raises:
        OutputExistsError: a file that is not ours stands there.
        OutputError: it cannot be written.
    """
    if path is None:
        yield on_event
        return
    _refuse_other(path)
    _write(manifest, path)
    next_s = time.monotonic() + _EVERY_S

    def hear(event: Event) -> None:
        nonlocal next_s
        on_event(event)
        if time.monotonic() >= next_s:
            next_s = time.monotonic() + _EVERY_S
            _write(manifest, path)

    try:
        yield hear
    finally:
        _write(manifest, path)


def metrics(manifest: Manifest) -> str:
    """The text, in the format of Prometheus."""
    document = status(manifest)
    lines = [_FIRST_LINE, "# TYPE vsr_batch_clips gauge"]
    lines += [f'vsr_batch_clips{{state="{state}"}} {document[state]}' for state in STATES]
    lines += _gauge("frames_done", "Frames made.", document["frames_done"])
    if document["eta_seconds"] is not None:
        lines += _gauge("eta_seconds", "Time left.", document["eta_seconds"])
    return "\n".join(lines) + "\n"


def _gauge(name: str, what: str, value: float) -> list[str]:
    full = f"vsr_batch_{name}"
    return [f"# HELP {full} {what}", f"# TYPE {full} gauge", f"{full} {value}"]


def _write(manifest: Manifest, path: Path) -> None:
    with writing(path):
        write_whole(path, metrics(manifest).encode())


def _refuse_other(path: Path) -> None:
    if not os.path.lexists(path):
        return
    first = b""
    if path.is_file():
        try:
            with path.open("rb") as file:
                first = file.readline()
        except OSError as error:
            raise OutputError(f"{path} cannot be read: {error.strerror}") from error
    if first.rstrip(b"\n") != _FIRST_LINE.encode():
        raise OutputExistsError(f"{path} exists already", hint="choose another name")
