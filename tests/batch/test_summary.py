"""What the summary of a batch says, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vsr.batch.manifest import Manifest
from vsr.batch.opening import open_manifest
from vsr.batch.page import to_html
from vsr.batch.settings import Settings, store
from vsr.batch.summary import summarize
from vsr.batch.walk import Filters
from vsr.cli.main import run
from vsr.config import UpscaleConfig

HOSTILE = '"><img src=x onerror=alert(1)>/javascript:alert(2) \u202e\udce9\n#?%.mp4'


def fill(out: Path) -> None:
    """A batch in which every kind of clip occurs."""
    with open_manifest(out) as manifest:
        filters = Filters()
        store(manifest, Settings(source=Path("/src"), config=UpscaleConfig(), filters=filters))
        add(manifest, "a fine.mp4", psnr_db=41.5)
        add(manifest, "b/damaged.mp4", damaged_frames=3)
        add(manifest, "c plain.mp4", psnr_db=33.25, frames=2000)
        add(manifest, "d blurred.mp4", psnr_db=44.0, findings=2)
        add(manifest, HOSTILE, frames=9)
        manifest.add("e cut.mp4", "quarantined", error="no picture could be decoded", exit_code=3)
        manifest.add("f gone.mp4", "vanished", is_gone=True)
        manifest.add("g next.mp4", "waiting", output="g next.mp4", width=10, height=10, frames=5)
        manifest.add("h shaky.mp4", "failed", output="h.mp4", error="the worker was killed")


def add(
    manifest: Manifest,
    path: str,
    *,
    psnr_db: float | None = None,
    findings: int = 0,
    frames: int = 100,
    damaged_frames: int = 0,
) -> None:
    manifest.add(
        path,
        "done",
        output=path,
        width=320,
        height=180,
        frames=frames,
        frames_done=frames,
        seconds=20.0,
        result_bytes=frames * 1000,
    )
    result = manifest.out / path
    result.parent.mkdir(parents=True, exist_ok=True)
    result.touch()
    document: dict[str, Any] = {"width": 640, "height": 360, "damaged_frames": damaged_frames}
    result.with_name(f"{result.name}.json").write_text(json.dumps(document))
    if psnr_db is None:
        return
    result.with_name(f"{result.name}.report.html").touch()
    report = {
        "ok": not findings,
        "verdict": "Look at it.",
        "findings": [{}] * findings,
        "summary": {"psnr_db": psnr_db},
    }
    result.with_name(f"{result.name}.report.json").write_text(json.dumps(report))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    fill(tmp_path / "out")
    return tmp_path / "out"


def test_the_worst_come_first(out: Path) -> None:
    with open_manifest(out) as manifest:
        lines = summarize(manifest, Path("/src"), out).lines
    assert [line.path for line in lines] == [
        "e cut.mp4",
        "h shaky.mp4",
        "f gone.mp4",
        "d blurred.mp4",
        "b/damaged.mp4",
        "g next.mp4",
        "c plain.mp4",
        "a fine.mp4",
        HOSTILE,
    ]
    by_path = {line.path: line for line in lines}
    assert [line.path for line in lines if line.is_fine] == ["c plain.mp4", "a fine.mp4", HOSTILE]
    plain = by_path["c plain.mp4"]
    assert (plain.rate, plain.psnr_db, plain.result_width) == (100.0, 33.25, 640)
    assert dict(plain.links) == {
        "report": "./c%20plain.mp4.report.html",
        "details": "./c%20plain.mp4.json",
        "film": "./c%20plain.mp4",
    }
    assert by_path["b/damaged.mp4"].remark == "3 damaged pictures"
    assert by_path["d blurred.mp4"].remark == "Look at it."
    assert "report" not in dict(by_path[HOSTILE].links)


def test_torn_files_beside_a_result_are_told_of(out: Path) -> None:
    (out / "a fine.mp4.json").write_text("{")
    (out / "a fine.mp4.report.json").write_text("[1]")
    with open_manifest(out) as manifest:
        lines = {line.path: line for line in summarize(manifest, Path("/src"), out).lines}
    fine = lines["a fine.mp4"]
    assert (fine.psnr_db, fine.result_width, fine.is_fine) == (None, None, False)
    assert fine.remark == "the file that says how it was made is gone"


def test_a_report_on_an_earlier_result_counts_for_nothing(out: Path) -> None:
    path = out / "a fine.mp4.report.json"
    report = json.loads(path.read_text())
    for digest, psnr_db in (("now", 41.5), ("before", None)):
        path.write_text(json.dumps({**report, "run": {"digests": {"result": digest}}}))
        with open_manifest(out) as manifest:
            clip = next(clip for clip in manifest.clips() if clip.path == "a fine.mp4")
            manifest.change(clip.id, result_sha256="now")
            lines = {line.path: line for line in summarize(manifest, Path("/src"), out).lines}
        assert lines["a fine.mp4"].psnr_db == psnr_db


def test_the_command_writes_the_page_and_nothing_over_others(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(["batch", "report", str(out)]) == 0
    page = out / "batch.report.html"
    assert capsys.readouterr().out.endswith(
        f"{page}: 3 of 9 clips are done and nothing stands out\n"
    )
    text = page.read_text(encoding="utf-8")
    assert "onerror=alert(1)&gt;" in text
    assert "<img" not in text
    elsewhere = tmp_path / "page.html"
    assert run(["batch", "report", str(out), "-o", str(elsewhere)]) == 0
    assert 'href="./out/c%20plain.mp4.report.html"' in elsewhere.read_text(encoding="utf-8")
    elsewhere.write_text("mine")
    assert run(["batch", "report", str(out), "-o", str(elsewhere)]) == 6
    assert elsewhere.read_text() == "mine"
    assert run(["batch", "report", str(tmp_path / "none")]) == 2


def test_an_empty_batch_has_a_page(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        assert "0 of 0 clips" in to_html(summarize(manifest, Path("/src"), tmp_path))
