"""`vsr check SOURCE RESULT`: the proof that a result is the same film, only larger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import print_json, print_line, progress_counter

if TYPE_CHECKING:
    from vsr.pipeline.verdict import CheckResult

EXIT_NOT_THE_SAME = 1


@click.command("check", short_help="Prove that a result is the same film, only larger.")
@click.argument("source", metavar="SOURCE", type=click.Path(readable=False, path_type=Path))
@click.argument("result", metavar="RESULT", type=click.Path(readable=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def command(source: Path, result: Path, as_json: bool) -> None:
    """Compare RESULT with SOURCE in everything but size: pictures, times, sound, tags and more.

    What was changed on purpose is known by the tag that the run left in RESULT. Exits with 0 only
    if every row holds, with 1 otherwise.
    """
    from vsr.pipeline.check import check

    with progress_counter("check") as on_frame:
        found = check(source, result, on_frame=on_frame)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        for line in _lines(found):
            print_line(line)
    if not found.ok:
        click.get_current_context().exit(EXIT_NOT_THE_SAME)


def _lines(found: CheckResult) -> list[str]:
    """A table for people: failed rows are marked, long notes follow on a line of their own."""
    cells = [("", "", "source", "result")]
    cells += [("ok" if r.ok else "FAILED", r.name, r.source, r.result) for r in found.rows]
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    notes = ["", *(r.note for r in found.rows)]
    lines = []
    for line, note in zip(cells, notes, strict=True):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        lines.append("  ".join([*padded, line[3]]).rstrip())
        if note:
            lines.append(f"{' ' * (widths[0] + 4)}{note}")
    num_failed = len(found.failures)
    lines.append(
        f"the same film, only larger: all {len(found.rows)} rows hold"
        if found.ok
        else f"not the same film: {num_failed} of {len(found.rows)} rows failed"
    )
    return lines
