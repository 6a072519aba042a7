"""What proves later that nothing has changed: digests beside the results.

`manifest-sha256.txt` lists the results and `sources-sha256.txt` the files they were made of, in the
form of BagIt (RFC 8493): digest, two spaces, path, where a line's end or a per cent sign in a path
is written as %0A, %0D or %25. `sha256sum --check` reads it in the folder the paths belong to.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vsr.batch.manifest import Clip, Manifest, now
from vsr.batch.naming import sidecar_name
from vsr.errors import OutputExistsError
from vsr.pipeline.output import write_whole, writing
from vsr.pipeline.request import installed_versions
from vsr.pipeline.result import UpscaleResult

RESULTS_NAME = "manifest-sha256.txt"
SOURCES_NAME = "sources-sha256.txt"
_IS_OURS = "digests_written"
_MAX_SIDECAR_BYTES = 1 << 26


def refuse_lists(manifest: Manifest) -> None:
    """Raise when a file that is not ours stands where a list belongs.

    Raises:
        OutputExistsError: naming it.
    """
    if manifest.note(_IS_OURS) is not None:
        return
    for name in (RESULTS_NAME, SOURCES_NAME):
        if os.path.lexists(manifest.out / name):
            raise OutputExistsError(
                f"{manifest.out / name} exists already, and no run of this batch has written it",
                hint="move it elsewhere",
            )


def write_lists(manifest: Manifest) -> None:
    """Bring both lists up to date with all clips that are done.

    Raises:
        OutputError: one cannot be written.
    """
    done = [clip for clip in manifest.clips("done") if clip.result_sha256 is not None]
    if manifest.note(_IS_OURS) is None:
        if not done:
            return
        # Before they are there: a run that is killed in between must know them for its own.
        refuse_lists(manifest)
        manifest.set_note(_IS_OURS, now())
    results = _lines((clip.result_sha256, clip.output) for clip in done)
    sources = _lines((clip.source_sha256, clip.path) for clip in done)
    for name, data in ((RESULTS_NAME, results), (SOURCES_NAME, sources)):
        path = manifest.out / name
        with writing(path):
            if not path.is_file() or path.read_bytes() != data:
                write_whole(path, data)


def refuse_sidecar(manifest: Manifest, clip: Clip) -> None:
    """Raise when a file that is not ours stands where a clip's sidecar belongs.

    Raises:
        OutputExistsError: naming it.
    """
    path = _sidecar(manifest, clip)
    if not os.path.lexists(path):
        return
    try:
        is_plain = path.is_file() and not path.is_symlink()
        is_plain = is_plain and path.stat().st_size <= _MAX_SIDECAR_BYTES
        document = json.loads(path.read_bytes()) if is_plain else None
    except (OSError, ValueError):
        document = None
    if not isinstance(document, dict) or document.get("output") != clip.output:
        raise OutputExistsError(
            f"{path} exists already, and is not what a run has written there",
            hint="move it elsewhere",
        )


def write_sidecar(
    manifest: Manifest, clip: Clip, result: UpscaleResult, settings: Mapping[str, Any]
) -> None:
    """Say beside a result of what and how it was made.

    Args:
        manifest: of the batch.
        clip: whose result it is.
        result: what was made.
        settings: what was asked for, as plain data.

    Raises:
        OutputError: it cannot be written.
    """
    path = _sidecar(manifest, clip)
    document = {
        "clip": clip.path,
        "output": clip.output,
        "written_at": now(),
        "versions": installed_versions(),
        "settings": settings,
        **result.model_dump(mode="json", exclude={"already_complete"}),
    }
    with writing(path):
        write_whole(path, json.dumps(document, indent=2).encode() + b"\n")


def _sidecar(manifest: Manifest, clip: Clip) -> Path:
    assert clip.output is not None, "what has no name is not made"
    return manifest.out / sidecar_name(clip.output)


def _lines(pairs: Iterable[tuple[str | None, str | None]]) -> bytes:
    """Digest and path of each, in order of the paths; bytes, since names need not be UTF-8."""
    known = [(digest, path) for digest, path in pairs if digest is not None and path is not None]
    lines = [digest.encode() + b"  " + _written(path) for digest, path in known]
    return b"".join(line + b"\n" for line in lines)


def _written(path: str) -> bytes:
    data = os.fsencode(path)
    for raw, written in ((b"%", b"%25"), (b"\r", b"%0D"), (b"\n", b"%0A")):
        data = data.replace(raw, written)
    return data
