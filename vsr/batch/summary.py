"""All clips of a batch, worst first, with what lies beside each: a sidecar, and maybe a report."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vsr.batch.manifest import Clip, Manifest
from vsr.batch.naming import page_name, sidecar_name
from vsr.batch.status import status
from vsr.batch.storage import Source

_BAD = ("quarantined", "failed", "vanished")
_UNDONE = ("running", "waiting")
_MAX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One clip."""

    path: str
    state: str
    remark: str
    """Why it is not done, or what stands out in it; empty when nothing does."""
    width: int | None
    height: int | None
    result_width: int | None
    result_height: int | None
    frames: int | None
    seconds: float | None
    result_bytes: int | None
    damaged: int | None
    """Pictures of the source that were lost or called damaged."""
    num_findings: int | None
    """Of its report; None where there is none."""
    psnr_db: float | None
    """Of the reduced result against the source, luma, by its report."""
    links: tuple[tuple[str, str], ...]
    """(words, address relative to the page) of what lies beside the result."""

    @property
    def rate(self) -> float | None:
        """Frames a second, from start to final name."""
        if self.state != "done" or not self.seconds or not self.frames:
            return None
        return self.frames / self.seconds

    @property
    def is_fine(self) -> bool:
        """Whether it is done and nothing stands out."""
        return self.state == "done" and not self.remark


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The whole batch."""

    source: str
    out: str
    status: dict[str, Any]
    """As `status` has it, its clips left out."""
    lines: tuple[Line, ...]
    """Worst first."""


def summarize(manifest: Manifest, source: Source, folder: Path) -> Summary:
    """Gather what is known of all clips.

    Args:
        manifest: of the batch.
        source: where the tree is.
        folder: where the page will lie, for its links.
    """
    document = status(manifest)
    # A state that a killed run left behind is put right there.
    states = {row["clip"]: row["state"] for row in document.pop("clips")}
    lines = [_line(clip, states[clip.path], manifest.out, folder) for clip in manifest.clips()]
    return Summary(
        source=str(source),
        out=os.fspath(manifest.out.absolute()),
        status=document,
        lines=tuple(sorted(lines, key=_badness)),
    )


def _line(clip: Clip, state: str, out: Path, folder: Path) -> Line:
    sidecar: dict[str, Any] = {}
    report: dict[str, Any] = {}
    links: list[tuple[str, str]] = []
    if state == "done" and clip.output is not None:
        page = out / page_name(clip.output)
        beside = out / sidecar_name(clip.output)
        sidecar, report = _document(beside), report_of(clip, out)
        present = [("report", page), ("details", beside), ("film", out / clip.output)]
        links = [(words, _address(path, folder)) for words, path in present if path.is_file()]
    found = report.get("findings")
    summary = report.get("summary")
    psnr_db = summary.get("psnr_db") if isinstance(summary, dict) else None
    num_findings = len(found) if isinstance(found, list) else None
    damaged = sidecar.get("damaged_frames")
    return Line(
        path=clip.path,
        state=state,
        remark=_remark(clip, state, sidecar, report),
        width=clip.width,
        height=clip.height,
        result_width=_whole(sidecar.get("width")),
        result_height=_whole(sidecar.get("height")),
        frames=clip.frames,
        seconds=clip.seconds,
        result_bytes=clip.result_bytes,
        damaged=_whole(damaged),
        num_findings=num_findings,
        psnr_db=float(psnr_db) if isinstance(psnr_db, int | float) else None,
        links=tuple(links),
    )


def report_of(clip: Clip, out: Path) -> dict[str, Any]:
    """What `vsr report` left beside a result; empty where it did not, or told of an earlier one."""
    if clip.output is None:
        return {}
    report = _document((out / page_name(clip.output)).with_suffix(".json"))
    run = report.get("run")
    digests = run.get("digests") if isinstance(run, dict) else None
    digest = digests.get("result") if isinstance(digests, dict) else None
    return {} if digest not in (None, clip.result_sha256) else report


def _remark(clip: Clip, state: str, sidecar: dict[str, Any], report: dict[str, Any]) -> str:
    if state in _BAD:
        return clip.error or ("its file is gone" if state == "vanished" else "")
    if state in _UNDONE:
        return "its file is gone" if clip.is_gone else ""
    said: list[str] = []
    if report and not report.get("ok", True):
        said.append(str(report.get("verdict", "")))
    if sidecar.get("damaged_frames"):
        said.append(f"{sidecar['damaged_frames']} damaged pictures")
    if sidecar.get("exact") is False:
        said.append("not exact: something had to be done again with less memory or on a fallback")
    if not sidecar:
        said.append("the file that says how it was made is gone")
    if clip.is_gone:
        said.append("its source is gone")
    return "; ".join(said)


def _badness(line: Line) -> tuple[Any, ...]:
    """Sorts the worst first."""
    if line.state in _BAD:
        return (_BAD.index(line.state), line.path)
    if line.state in _UNDONE:
        return (len(_BAD) + 2, _UNDONE.index(line.state), line.path)
    damaged = (line.damaged or 0) / max(1, line.frames or 1)
    psnr_db = math.inf if line.psnr_db is None else line.psnr_db
    rank = len(_BAD) + (3 if line.is_fine else 1)
    return (rank, -(line.num_findings or 0), -damaged, psnr_db, line.path)


def _document(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one when the file is none, or is not there."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_BYTES:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _address(path: Path, folder: Path) -> str:
    """Relative, so that it holds wherever the folders are moved together."""
    relative = os.path.relpath(path.absolute(), folder.absolute())
    # In front, so that no name is ever taken for a scheme.
    return f"./{quote(os.fsencode(relative))}"
