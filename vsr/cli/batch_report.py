"""`vsr batch report OUT`: one page over all clips, worst first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.batch_asked import OUT
from vsr.cli.console import print_line
from vsr.cli.stopping import STOPPER
from vsr.errors import ConfigError, JobCancelledError, OutputExistsError, VsrError

if TYPE_CHECKING:
    from vsr.batch.manifest import Clip, Manifest
    from vsr.batch.storage import Source

_PAGE_NAME = "batch.report.html"
_HEAD_BYTES = 4096


@click.command("report")
@OUT
@click.option(
    "-o",
    "--output",
    metavar="FILE.html",
    type=click.Path(readable=False, path_type=Path),
    help=f"Where the page goes.  [default: OUT/{_PAGE_NAME}]",
)
@click.option("--measure", is_flag=True, help="First make the reports of clips that have none.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is no page of ours.")
def report_command(out: Path, output: Path | None, measure: bool, overwrite: bool) -> None:
    """Show all clips on one page, worst first, with links to what lies beside each.

    Where `vsr report` has left a page beside a result, its figures are shown too.
    """
    from vsr.batch.opening import read_manifest
    from vsr.batch.page import to_html
    from vsr.batch.settings import stored_settings
    from vsr.batch.summary import summarize
    from vsr.pipeline.output import write_whole, writing

    page = out / _PAGE_NAME if output is None else output
    with read_manifest(out) as manifest:
        settings = stored_settings(manifest)
        if settings is None:
            raise ConfigError(
                f"the batch in {out} was not planned", hint="plan it with: vsr batch plan SRC OUT"
            )
        _refuse_other(page, overwrite=overwrite)
        if measure:
            if settings.target is not None:
                raise ConfigError(
                    f"results are in {settings.target}, and only what lies here is measured",
                    hint="fetch those in doubt, and use vsr report",
                )
            _measure(manifest, settings.source)
        summary = summarize(manifest, settings.source, page.absolute().parent)
    with writing(page):
        write_whole(page, to_html(summary).encode("utf-8", "replace"))
    num_fine = sum(line.is_fine for line in summary.lines)
    print_line(f"{page}: {num_fine} of {len(summary.lines)} clips are done and nothing stands out")


def _measure(manifest: Manifest, source: Source) -> None:
    """Leave a report beside each result that has none; one that cannot be made is told of."""
    from vsr.batch.naming import page_name
    from vsr.batch.summary import report_of

    for clip in manifest.clips("done"):
        if STOPPER.is_asked():
            raise JobCancelledError("stopped", hint="the same command goes on with the rest")
        assert clip.output is not None, "what is done has a name"
        page = manifest.out / page_name(clip.output)
        if report_of(clip, manifest.out):
            continue
        try:
            verdict = _report_clip(manifest, clip, source, page)
        except VsrError as error:
            print_line(f"{clip.path}: no report: {error}", err=True)
        else:
            print_line(f"{clip.path}: {verdict}")


def _report_clip(manifest: Manifest, clip: Clip, source: Source, page: Path) -> str:
    """The verdict on a clip."""
    from vsr.batch.naming import sidecar_name
    from vsr.batch.storage import at_hand
    from vsr.cli.report import make_report, refuse_page, write_report

    assert clip.output is not None, "what is done has a name"
    after = manifest.out / clip.output
    refuse_page(page, (after,), overwrite=False)
    try:
        run = json.loads((manifest.out / sidecar_name(clip.output)).read_bytes())
    except (OSError, ValueError):
        run = {}
    check = run.pop("check", None)
    with at_hand(source / clip.path) as before:
        report = make_report(before, after, check=check, run=run)
    write_report(report, page)
    return report.verdict


def _refuse_other(page: Path, *, overwrite: bool) -> None:
    """Raise where something stands that is no page of ours."""
    from vsr.batch.page import TITLE

    if overwrite or not os.path.lexists(page):
        return
    try:
        with page.open("rb") as file:
            is_ours = f"<title>{TITLE}".encode() in file.read(_HEAD_BYTES)
    except OSError:
        is_ours = False
    if not is_ours:
        raise OutputExistsError(
            f"{page} exists already and is no page of a batch",
            hint="use --overwrite, or another name",
        )
