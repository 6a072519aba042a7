"""The summary of a batch as one HTML page that needs nothing else and asks nobody for anything.

Its look is that of the reports of single films, and so is its policy: every text from outside is
escaped, and one script runs and no other.
"""

from __future__ import annotations

from datetime import UTC, datetime

from markupsafe import Markup

from vsr.batch.manifest import STATES
from vsr.batch.summary import Line, Summary
from vsr.quality.page import packaged, page_environment, policy_hash

TITLE = "Batch in "
"""How the titles of these pages begin, by which they are known for ours."""
_COLUMNS = (
    # Name, whether its cells are numbers.
    ("Clip", False),
    ("Look", False),
    ("State", False),
    ("What stands out", False),
    ("Frames", True),
    ("From", True),
    ("To", True),
    ("Seconds", True),
    ("Frames/s", True),
    ("MB", True),
    ("Damaged", True),
    ("PSNR dB", True),
)


def to_html(summary: Summary) -> str:
    """The whole page."""
    environment = page_environment("vsr.batch", "vsr.quality")
    style = packaged(environment, "report.css") + packaged(environment, "summary.css")
    script = packaged(environment, "summary.js")
    return environment.get_template("summary.html").render(
        summary=summary,
        title=TITLE,
        counts=[(state, summary.status[state]) for state in STATES if summary.status[state]],
        num_fine=sum(line.is_fine for line in summary.lines),
        made_at=datetime.now(UTC).isoformat(sep=" ", timespec="minutes").removesuffix("+00:00"),
        columns=_COLUMNS,
        rows=[(line, _numbers(line)) for line in summary.lines],
        style=Markup(style),
        script=Markup(script),
        style_hash=policy_hash(style),
        script_hash=policy_hash(script),
    )


def _numbers(line: Line) -> list[tuple[float | None, str]]:
    """By what a cell is sorted, and what it shows."""
    pixels, result_pixels = (
        (width * height, f"{width}\N{MULTIPLICATION SIGN}{height}")
        if width is not None and height is not None
        else (None, "")
        for width, height in (
            (line.width, line.height),
            (line.result_width, line.result_height),
        )
    )
    megabytes = None if line.result_bytes is None else line.result_bytes / 1e6
    return [
        (line.frames, _plain(line.frames)),
        pixels,
        result_pixels,
        (line.seconds, _plain(line.seconds, 1)),
        (line.rate, _plain(line.rate, 1)),
        (megabytes, _plain(megabytes, 2)),
        (line.damaged, _plain(line.damaged)),
        (line.psnr_db, _plain(line.psnr_db, 2)),
    ]


def _plain(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:.{digits}f}"
