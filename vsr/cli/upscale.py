"""`vsr upscale IN OUT`: one film."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.choices import film_options, is_stdout, preview_lines, resolve, result_options
from vsr.cli.console import is_interactive, print_json, print_line, verbosity
from vsr.cli.report import refuse_report, report_run
from vsr.cli.stopping import STOPPER
from vsr.errors import ConfigError, OutputError, OutputExistsError

if TYPE_CHECKING:
    from vsr.pipeline.preview import Preview
    from vsr.pipeline.upscale import OnProgress, Progress, UpscaleResult

PERCENT_PER_LINE = 10
"""Where stderr is no terminal, one line is said each time so much more is done."""


@click.command("upscale", short_help="Make a video larger.")
@click.argument("source", metavar="IN", type=click.Path(readable=False, path_type=Path))
@click.argument("output", metavar="OUT", type=click.Path(readable=False, path_type=Path))
@film_options
@click.option("--frame-rate", metavar="RATE", help="Of an image sequence.  [default: 24]")
@result_options
@click.option("--dry-run", is_flag=True, help="Read IN, say what would be done, and do nothing.")
@click.option("--workers", type=int, help="Pieces made at a time; 0: by cores.  [default: 1]")
@click.option("--restart", is_flag=True, help="Begin anew where an earlier run left something.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
@click.option(
    "--json-file",
    type=click.Path(readable=False, path_type=Path),
    help="Write that document to a file.",
)
@click.option("--report", "with_report", is_flag=True, help="Leave a quality page beside OUT.")
@click.option(
    "--report-file",
    metavar="FILE.html",
    type=click.Path(readable=False, path_type=Path),
    help="Leave it there.",
)
def command(
    source: Path,
    output: Path,
    preset: str | None,
    sets: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    json_file: Path | None,
    with_report: bool,
    report_file: Path | None,
    **flags: Any,
) -> None:
    """Make the video IN larger and write it to OUT (.mkv, .mp4 or .mov; .y4m or - for raw).

    Every frame, timestamp, sound track, subtitle, chapter and tag is kept, and checked at the end.
    Nothing stands at OUT before that. OUT is 4 times as large unless told otherwise.

    IN may be a folder of numbered pictures (png, tiff, dpx, exr) or a pattern such as a.%05d.dpx;
    then OUT may be a folder too, where names and depth are kept. A pattern as OUT writes pictures.

    Stopped or killed, a film is gone on with by the same command; Ctrl-C twice stops at once.
    """
    config = resolve(preset, sets, flags)
    if as_json and is_stdout(output) and not dry_run:
        raise ConfigError(
            "pictures and JSON cannot both go to stdout", hint="use --json-file for the document"
        )
    if json_file is not None:
        _refuse_json_file(json_file, output, overwrite=config.overwrite)
    wants_report = (with_report or report_file is not None) and not dry_run
    if wants_report:
        refuse_report(source, output, report_file, overwrite=config.overwrite)
    result: Preview | UpscaleResult
    with _progress() as progress:
        # After the flags are known to be right: these imports are the slow ones.
        if dry_run:
            from vsr.pipeline.preview import preview

            result = preview(source, output, config, read_source=True, progress=progress)
            lines = preview_lines(result)
        else:
            from vsr.pipeline.upscale import upscale

            result = upscale(
                source, output, config, progress=progress, should_stop=STOPPER.is_asked
            )
            lines = _summary(result)
    document = result.model_dump(mode="json")
    if wants_report:
        lines += report_run(document, config, report_file)
    if json_file is not None:
        _write_json(json_file, document)
    if as_json:
        print_json(document)
    else:
        for line in lines:
            print_line(line, err=is_stdout(output) and not dry_run)


def _summary(result: UpscaleResult) -> list[str]:
    """What a person wants to know afterwards."""
    num_checks = len(result.check.rows)
    done = " (already complete)" if result.already_complete else ""
    lines = [
        f"{result.result}: {result.width}x{result.height}, {result.frames} frames{done}",
        f"{result.model} on {result.device}: {result.seconds:.1f} s, {result.fps:.1f} frames/s "
        f"(slowest: {result.bottleneck}); the same film by {num_checks} checks",
    ]
    lines += [f"note: {entry['note']}" for entry in result.plan if "note" in entry]
    if result.resumed_segments and not result.already_complete:
        lines.append(f"{result.resumed_segments} of {result.segments} segments were done before")
    if not result.exact:
        lines.append("another run may write other bytes, though not another film: see the events")
    for event in result.events:
        who = "model" if "action" in event else "source"
        what = f", {event['action']}" if "action" in event else ""
        lines.append(f"{who}: {event['kind']} x{event['count']} at {event['start_s']} s{what}")
    return lines


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on a terminal, a line now and then elsewhere, nothing with -q."""
    # Decided here: progress arrives in other threads, where click does not know the command.
    if verbosity() < 0:
        yield lambda _: None
        return
    if not is_interactive():
        yield _Quietable(_Lines())
        return
    bar = _Bar()
    try:
        yield _Quietable(bar)
    finally:
        with suppress(OSError):
            bar.close()


class _Quietable:
    """Falls silent when nobody can be told any more: that is no reason to lose a run."""

    def __init__(self, show: OnProgress) -> None:
        self._show: OnProgress | None = show

    def __call__(self, progress: Progress) -> None:
        if self._show is None:
            return
        try:
            self._show(progress)
        except OSError:
            self._show = None


class _Lines:
    """Say how far the upscale is, every `PERCENT_PER_LINE` percent."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._next_percent = PERCENT_PER_LINE

    def __call__(self, progress: Progress) -> None:
        if progress.phase != "upscale" or not progress.num_frames:
            return
        now = time.perf_counter()
        if self._started is None:
            self._started = now
        percent = 100 * progress.num_done // progress.num_frames
        if percent < self._next_percent:
            return
        self._next_percent = percent - percent % PERCENT_PER_LINE + PERCENT_PER_LINE
        elapsed = now - self._started
        # The clock starts with the first frame, which therefore does not count.
        rate = (progress.num_done - 1) / elapsed if elapsed > 0 else 0.0
        left_s = (progress.num_frames - progress.num_done) / rate if rate else 0.0
        click.echo(
            f"{percent:3d} %  {progress.num_done}/{progress.num_frames} frames  "
            f"{rate:.1f} frames/s  {left_s:.0f} s left  slowest: {progress.bottleneck}",
            err=True,
        )


class _Bar:
    """A bar for each phase, with rate, time left and the slowest stage."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._make = tqdm
        self._bar: Any = None
        self._phase: str | None = None

    def __call__(self, progress: Progress) -> None:
        if progress.phase != self._phase:
            self.close()
            self._phase = progress.phase
            self._bar = self._make(
                total=progress.num_frames, desc=progress.phase, unit=" frames", leave=False
            )
        if progress.bottleneck is not None:
            self._bar.set_postfix_str(f"slowest: {progress.bottleneck}", refresh=False)
        self._bar.update(progress.num_done - self._bar.n)

    def close(self) -> None:
        """Remove what is on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _refuse_json_file(path: Path, output: Path, *, overwrite: bool) -> None:
    """Raise now what would only show when the work is done."""
    is_ours = overwrite or _is_document_of(path, output)
    if os.path.lexists(path) and (path.is_dir() or not is_ours):
        raise OutputExistsError(
            f"{path} exists already", hint="use --overwrite, or choose another name"
        )
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {str(folder)!r}", hint="choose another")


def _is_document_of(path: Path, output: Path) -> bool:
    """Whether a file is the document of an earlier run of the same command."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    if not isinstance(document, dict) or not {"check", "digests"} <= set(document):
        return False
    return document.get("result") == str(output)


def _write_json(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error
