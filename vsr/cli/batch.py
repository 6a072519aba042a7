"""`vsr batch`: an archive, clip by clip, over as many runs as it takes."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.batch_asked import (
    AS_JSON,
    OUT,
    Wishes,
    read_bytes,
    read_places,
    read_policy,
    read_wishes,
    tree_options,
)
from vsr.cli.batch_executor import (
    EXECUTOR_FLAGS,
    executor_options,
    make_executor,
    refuse_stray,
    several_gpus,
)
from vsr.cli.batch_report import report_command
from vsr.cli.console import print_json, print_line, progress_counter
from vsr.cli.stopping import STOPPER
from vsr.errors import ConfigError

if TYPE_CHECKING:
    from vsr.batch.forecast import Forecast
    from vsr.batch.manifest import Manifest
    from vsr.batch.policy import Policy
    from vsr.batch.scan import ScanReport
    from vsr.batch.settings import Settings
    from vsr.batch.storage import Bucket, Source


@click.group(
    "batch", commands=[report_command], short_help="Make all videos of a folder tree larger."
)
def command() -> None:
    """Make all videos of a folder tree larger, over as many runs as it takes.

    The same tree grows in OUT, with a manifest of what is done. Whatever ends a run, the same
    command goes on; what cannot be made is put aside with the reason, and the rest goes on.
    """


@command.command("plan")
@tree_options
@click.option("--no-estimate", is_flag=True, help="Do not measure how long it will take.")
def plan_command(
    source: Path | str, out: Path, dry_run: bool, as_json: bool, no_estimate: bool, **flags: Any
) -> None:
    """Find the videos in SRC, look at each, and note in OUT what is to be made of it.

    Planned again, new and changed files are taken up, and finished ones left alone.
    """
    from vsr.cli.batch_tell import tell_plan

    restart = flags.pop("restart")
    several_gpus(flags)
    wishes = read_wishes(flags)
    tree, target = read_places(source, out)
    with _opened(tree, out, dry_run=dry_run) as manifest:
        report = _plan(manifest, tree, wishes, target, restart=restart)
        guess = None if no_estimate else _guess(manifest)
        tell_plan(manifest, report, guess, as_json=as_json)


@command.command("run")
@tree_options
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    help="Clips made at a time; on Ray tasks.  [default: 1; on Ray what fits]",
)
@executor_options
@click.option("--retries", type=click.IntRange(0, 100), default=2, help="For crashes and the like.")
@click.option(
    "--min-free",
    type=read_bytes,
    metavar="SIZE",
    default="1G",
    help="Room to leave on the disk of OUT.",
)
@click.option(
    "--priority",
    "priorities",
    metavar="GLOB=N",
    multiple=True,
    help="Make these first; the greater N, the earlier.",
)
@click.option("--quiet-hours", metavar="HH:MM-HH:MM", help="Begin no clip at this time of day.")
@click.option("--overwrite", is_flag=True, help="Replace files of others at a result's name.")
@click.option(
    "--metrics",
    metavar="FILE",
    type=click.Path(readable=False, path_type=Path),
    help="Keep numbers for Prometheus there.",
)
@click.option("--events", is_flag=True, help="Print progress on stdout, one JSON object a line.")
def run_command(
    source: Path | str,
    out: Path,
    dry_run: bool,
    as_json: bool,
    metrics: Path | None,
    events: bool,
    **flags: Any,
) -> int:
    """Make what is planned; plan first if nothing was.

    The same command goes on after whatever stopped it. Ends with 7 when clips are quarantined.
    """
    if events and as_json:
        raise ConfigError("events and one document cannot both go to stdout", hint="choose one")
    from vsr.cli.batch_tell import tell_status

    policy = read_policy(flags)
    crew = {name: flags.pop(name) for name in ("workers", *EXECUTOR_FLAGS)}
    crew["gpu_numbers"] = several_gpus(flags)
    refuse_stray(crew)
    restart = flags.pop("restart")
    wishes = read_wishes(flags)
    tree, target = read_places(source, out)
    with _opened(tree, out, dry_run=dry_run) as manifest:
        settings = _settled(manifest, tree, wishes, target, restart=restart)
        if not dry_run:
            _run(manifest, settings, policy, crew, metrics, events=events)
        return tell_status(manifest, as_json=as_json, is_quiet=events)


@command.command("status")
@OUT
@AS_JSON
def status_command(out: Path, as_json: bool) -> None:
    """Say how far the batch in OUT is; also while it runs."""
    from vsr.batch.opening import read_manifest
    from vsr.cli.batch_tell import tell_status

    with read_manifest(out) as manifest:
        tell_status(manifest, as_json=as_json)


@command.command("retry")
@OUT
@click.argument("clips", metavar="[CLIP]...", nargs=-1)
def retry_command(out: Path, clips: tuple[str, ...]) -> None:
    """Have quarantined clips tried again by the next run; all if none is named."""
    from vsr.batch.marking import retry

    with _reopened(out) as manifest:
        num_retried, num_left = retry(manifest, clips)
    print_line(f"{num_retried} clips will be tried again")
    if num_left:
        print_line(f"{num_left} are no video files; mend them and plan again")


@command.command("quarantine")
@OUT
@click.argument("clips", metavar="[CLIP]...", nargs=-1)
@AS_JSON
def quarantine_command(out: Path, clips: tuple[str, ...], as_json: bool) -> None:
    """List the quarantined clips, each with the reason; or put the named ones there."""
    from vsr.batch.marking import quarantine
    from vsr.batch.opening import read_manifest
    from vsr.batch.status import entry

    if clips:
        with _reopened(out) as manifest:
            print_line(f"{quarantine(manifest, clips)} clips were put aside")
        return
    with read_manifest(out) as manifest:
        rows = [entry(clip) for clip in manifest.clips("quarantined")]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        print_line(f"{row['clip']}: {row['error']}")


@command.command("export")
@OUT
@click.option("--format", "kind", type=click.Choice(["csv", "json"]), default="csv")
def export_command(out: Path, kind: str) -> None:
    """Print the manifest: one row for each clip, and in JSON its history."""
    from vsr.batch.opening import read_manifest
    from vsr.batch.status import entry

    with read_manifest(out) as manifest:
        clips = manifest.clips()
        rows = [entry(clip) for clip in clips]
        if kind == "json":
            names = ("at", "state", "note")
            for row, clip in zip(rows, clips, strict=True):
                steps = manifest.history(clip.id)
                row["history"] = [dict(zip(names, step, strict=True)) for step in steps]
            print_json(rows)
            return
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    # Names that are no UTF-8 are escaped: a table is for people.
    click.echo(text.getvalue().encode("utf-8", "backslashreplace").decode(), nl=False)


def _opened(source: Source, out: Path, *, dry_run: bool) -> Manifest:
    """The manifest to write to; of a dry run a copy that is forgotten."""
    from vsr.batch.opening import copy_manifest, open_manifest
    from vsr.batch.storage import clear_stage
    from vsr.batch.walk import refuse_folders

    # Before anything is made in OUT.
    if isinstance(source, Path):
        refuse_folders(source, out)
    if dry_run:
        return copy_manifest(out)
    manifest = open_manifest(out)
    clear_stage(out)
    return manifest


def _reopened(out: Path) -> Manifest:
    """The manifest to write to, of a batch that was planned."""
    from vsr.batch.opening import open_manifest, read_manifest
    from vsr.batch.settings import is_planned

    with read_manifest(out) as manifest:
        if not is_planned(manifest):
            raise ConfigError(
                f"the batch in {out} was not planned to its end",
                hint="go on with: vsr batch plan SRC OUT",
            )
    return open_manifest(out)


def _settled(
    manifest: Manifest,
    source: Source,
    wishes: Wishes,
    target: Bucket | None,
    *,
    restart: bool,
) -> Settings:
    """What a run is to do: as planned, or by a plan that is made now."""
    from vsr.batch.settings import is_planned, refuse_other_wishes, stored_settings

    if is_planned(manifest) and not restart:
        return refuse_other_wishes(manifest, source, *wishes)
    _plan(manifest, source, wishes, target, restart=restart)
    settings = stored_settings(manifest)
    assert settings is not None, "a planned batch has settings"
    return settings


def _plan(
    manifest: Manifest,
    source: Source,
    wishes: Wishes,
    target: Bucket | None,
    *,
    restart: bool,
) -> ScanReport:
    from vsr.batch.settings import plan

    with progress_counter("looking at clips", unit=" clips") as draw:
        return plan(
            manifest,
            source,
            *wishes,
            target=target,
            restart=restart,
            on_looked=None if draw is None else lambda done, _total: draw(done),
            should_stop=STOPPER.is_asked,
        )


def _guess(manifest: Manifest) -> Forecast:
    from vsr.batch.forecast import forecast
    from vsr.batch.settings import stored_settings

    settings = stored_settings(manifest)
    assert settings is not None, "a planned batch has settings"
    return forecast(manifest, settings, STOPPER.is_asked)


def _run(
    manifest: Manifest,
    settings: Settings,
    policy: Policy,
    crew: dict[str, Any],
    metrics: Path | None,
    *,
    events: bool,
) -> None:
    from vsr.batch.running import run_batch
    from vsr.cli.batch_metrics import keep_metrics
    from vsr.cli.batch_progress import show_progress

    executor = make_executor(crew, settings, manifest.out)
    with (
        show_progress(manifest, crew["workers"] or 1, events=events) as show,
        keep_metrics(manifest, metrics, show) as on_event,
    ):
        run_batch(
            manifest,
            settings,
            policy,
            executor,
            on_event=on_event,
            should_stop=STOPPER.is_asked,
        )
