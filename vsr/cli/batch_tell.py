"""What `vsr batch` says of a plan, and of how far a batch is."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vsr.batch.manifest import STATES
from vsr.batch.status import status
from vsr.cli.choices import size, span
from vsr.cli.console import print_json, print_line

if TYPE_CHECKING:
    from vsr.batch.forecast import Forecast
    from vsr.batch.manifest import Manifest
    from vsr.batch.scan import ScanReport

EXIT_SOME_FAILED = 7
_MAX_LINES = 20
"""Of clips that are listed for people; `--json` and `export` tell of all."""


def tell_plan(
    manifest: Manifest, report: ScanReport, guess: Forecast | None, *, as_json: bool
) -> None:
    """Say what a scan found, and what is to be made."""
    document = status(manifest)
    if as_json:
        estimate = None if guess is None else asdict(guess)
        print_json({"scan": asdict(report), "estimate": estimate, **document})
        return
    print_line(
        f"{report.new} new, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.vanished} vanished; {report.left_out} files and folders left out, "
        f"{report.linked_folders} links to folders not followed"
    )
    waiting = [row for row in document["clips"] if row["state"] in ("waiting", "failed")]
    frames = sum(row["frames"] or 0 for row in waiting)
    num_bytes = sum(row["size_bytes"] for row in waiting)
    print_line(f"to be made: {len(waiting)} clips, {frames} frames, {size(num_bytes)}")
    if guess is not None and waiting:
        _tell_guess(guess)
    _list_bad(document)


def _tell_guess(guess: Forecast) -> None:
    is_short = guess.free_bytes is not None and guess.free_bytes < guess.result_bytes
    free = "" if guess.free_bytes is None else f"; {size(guess.free_bytes)} free on that disk"
    print_line(
        f"estimate: {span(guess.seconds)} with one worker, {size(guess.result_bytes)} of results"
        f"{free}{': NOT ENOUGH' if is_short else ''}"
    )
    if guess.num_unknown:
        print_line(f"  without {guess.num_unknown} clips of unknown length or cost")


def tell_status(manifest: Manifest, *, as_json: bool, is_quiet: bool = False) -> int:
    """Say how far a batch is; the exit code of a run that ends like that."""
    document = status(manifest)
    if as_json:
        print_json(document)
    elif not is_quiet:
        counts = ", ".join(
            f"{document[name]} {name}" for name in STATES if document[name] or name == "done"
        )
        left_s = document["eta_seconds"]
        left = f"; about {span(left_s)} left" if left_s else ""
        print_line(f"{document['total']} clips: {counts}; {document['frames_done']} frames{left}")
        _list_bad(document)
    return EXIT_SOME_FAILED if document["failed"] or document["quarantined"] else 0


def _list_bad(document: dict[str, Any]) -> None:
    """The clips that cannot be made, as far as they fit on a screen."""
    bad = [row for row in document["clips"] if row["state"] in ("failed", "quarantined")]
    for row in bad[:_MAX_LINES]:
        print_line(f"  {row['state']}: {row['clip']}: {row['error']}")
    if len(bad) > _MAX_LINES:
        print_line(f"  and {len(bad) - _MAX_LINES} more: see vsr batch quarantine")
