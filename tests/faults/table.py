"""The list of faults, and the page that says what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).with_name("README.md")

REFUSE = "refused: one clear sentence, the right exit code, nothing at the final name"
GO_ON = "goes on: damage counted and reported, the result passes `vsr check`"
RESUME = "resumable: the same bytes as an undisturbed run"


@dataclass(frozen=True, slots=True)
class Row:
    """One fault and what is promised when it happens."""

    group: str
    fault: str
    promise: str


@dataclass(frozen=True, slots=True)
class Case:
    """What one test did and what came of it."""

    row: int
    injected: str
    test: str
    """Its name, without parameters."""
    parameters: str
    outcomes: tuple[str, ...]
    result: str
    """`passed`, `failed` or `skipped`."""


ROWS: Mapping[int, Row] = {
    1: Row("Input", "empty file, 1 byte, random bytes", REFUSE),
    2: Row("Input", "missing, directory, FIFO, socket, device", f"{REFUSE}; no hang"),
    3: Row("Input", "no permission; vanishes after the scan; grows while read", REFUSE),
    4: Row("Input", "mp4 without moov", f"{REFUSE}, with advice"),
    5: Row("Input", "truncated mkv, ts, avi, fragmented mp4", f"{GO_ON}; what is missing is said"),
    6: Row("Input", "cut inside the first frame of a faststart mp4", REFUSE),
    7: Row("Input", "flipped bits in every codec", f"{GO_ON}; more than 0 for every codec"),
    8: Row("Input", "zeroes, a hole, doubled or swapped packets", GO_ON),
    9: Row("Input", "damaged sound, sound pictures", f"{GO_ON}; pictures untouched"),
    10: Row("Input", "no video, cover art only, several films, unknown codec", "refused, or said"),
    11: Row("Input", "size, format, shape or colour change in mid-stream", "followed and said"),
    12: Row("Input", "variable rate; doubled, backward, missing, jumping times", "kept, or said"),
    13: Row("Input", "start offset, edit list, B-frames, open GOP", "sound within 1 ms"),
    14: Row("Input", "interlaced, flagged or not, mixed, telecined", "found, choice reported"),
    15: Row("Input", "odd sizes, 1x1, 16,384 px, pixel shape, rotation", "the same shape as shown"),
    16: Row("Input", "bit depths, chroma grids, gray, alpha, palette", "within 1 code"),
    17: Row("Input", "HDR10 and HLG tags, mastering data", "kept, or reported lost"),
    18: Row("Input", "hostile names and tags", "a plain file with a plain name"),
    19: Row("Input", "bombs: huge sizes, counts, rates, durations", f"{REFUSE}, within limits"),
    20: Row("Input", "attachments, data, timecode, PGS into mp4", f"{GO_ON}; each in the report"),
    21: Row("Machine", "disk full at every stage", "refused, what is done is kept"),
    22: Row("Machine", "read-only folder, no inode, size limit, long path", REFUSE),
    23: Row("Machine", "read error; slow or stalled disk", "refused or waited for; no hang"),
    24: Row("Machine", "little memory", f"{REFUSE}; never killed in silence"),
    25: Row("Machine", "GPU out of memory", "smaller pieces, the same frames, reported"),
    26: Row("Machine", "GPU error, driver gone, no GPU", "a clear error"),
    27: Row("Machine", "model gives NaN, infinity, wrong shape", "made otherwise and reported"),
    28: Row("Machine", "worker crashes, hangs or is killed", f"that segment only; {RESUME}"),
    29: Row("Machine", "clock jumps; suspend", "unaffected"),
    30: Row("Control", "SIGINT, SIGTERM, SIGHUP, SIGPIPE", f"{RESUME}; exit 130 or 143"),
    31: Row("Control", "SIGKILL at every stage", RESUME),
    32: Row("Control", "resumed with another source, model or settings", "refused, says what"),
    33: Row("Control", "journal torn, missing or newer", "rebuilt, or refused"),
    34: Row("Control", "two runs on one output", "the second is refused"),
    35: Row("Control", "output exists, is the input, or links to it", REFUSE),
    36: Row("Control", "two inputs, one output name", "refused"),
    37: Row("Model", "weights cut, changed, pickled, of another network, NaN", f"{REFUSE}"),
    38: Row("Security", "playlists named mp4, URLs as names", f"{REFUSE}; no network"),
    39: Row("Security", "names that climb out of the folder", "stays inside"),
    40: Row("Security", "markup and control codes in names and tags", "shown as text"),
}

LATER: Mapping[int, str] = {
    36: "whole archives (`a.avi` and `a.mov` into one folder) come with `vsr batch`",
    39: "lists of files come with `vsr batch`",
    40: "the page and table of `vsr report` come with that command",
}
"""What of a row cannot happen yet."""

_HEAD = """\
# Faults

Every row is injected for real, and its test asserts what is promised: an exit code and one
sentence, or a result that decodes to its last frame, has every frame of the source at its time,
the sound within 1 ms, and passes `vsr check`; and in either case no temporary file is left.

This page is written by the run that it tells of:

```bash
python -m pytest -m faults --write-faults
```

Without `--write-faults` nothing is written. A plain `pytest` runs the quick ones, `-m faults` all.
"""


def missing(cases: Iterable[Case]) -> list[int]:
    """Rows of which no case passed, or any failed or was skipped."""
    passed: set[int] = set()
    other: set[int] = set()
    for case in cases:
        (passed if case.result == "passed" else other).add(case.row)
    return sorted((set(ROWS) - passed) | other)


def render(cases: Sequence[Case]) -> str:
    """The page, equal for equal runs."""
    lines = [_HEAD]
    for group in dict.fromkeys(row.group for row in ROWS.values()):
        lines += [
            f"## {group}",
            "",
            "| # | fault | promise | injected | outcome |",
            "|---|---|---|---|---|",
        ]
        for number, row in ROWS.items():
            if row.group == group:
                lines += _lines(number, row, [case for case in cases if case.row == number])
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _lines(number: int, row: Row, cases: Sequence[Case]) -> Iterable[str]:
    """One line for each test of a row; the first names the row."""
    head = (str(number), row.fault, row.promise)
    tests: dict[str, list[Case]] = {}
    for case in cases:
        tests.setdefault(case.test, []).append(case)
    for same in tests.values():
        said = [
            f"{_brief(case.parameters)}{_cell(outcome)}"
            for case in same
            for outcome in (case.outcomes or (case.result,))
        ]
        cells = (*head, _cell(same[0].injected), "<br>".join(dict.fromkeys(said)))
        yield f"| {' | '.join(cells)} |"
        head = ("", "", "")
    if number in LATER:
        yield f"| {' | '.join((*head, '', f'*{LATER[number]}*'))} |"


def _brief(parameters: str) -> str:
    text = parameters if len(parameters) <= 40 else f"{parameters[:37]}..."
    return f"{_cell(text)}: " if text else ""


def _cell(text: str) -> str:
    """Text that a table of Markdown can hold."""
    for character, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("`", "'")):
        text = text.replace(character, instead)
    return " ".join(text.split())
