"""`vsr report SOURCE RESULT`: the quality page, and the same as JSON and CSV."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.check import EXIT_NOT_THE_SAME
from vsr.cli.console import print_json, print_line, progress_counter
from vsr.cli.films import Reel, find_pair, find_reel
from vsr.errors import ConfigError, ModelError, OutputError, OutputExistsError, VsrError

if TYPE_CHECKING:
    from vsr.config import UpscaleConfig
    from vsr.frame import Frame
    from vsr.pipeline.declared import Declared
    from vsr.quality.measure import Measured
    from vsr.quality.report import Report

_OURS = b"<title>Quality of "
_HEAD_BYTES = 4096


@click.command("report", short_help="Show on one page how good a result is, and where to look.")
@click.argument("source", metavar="SOURCE", type=click.Path(readable=False, path_type=Path))
@click.argument("result", metavar="RESULT", type=click.Path(readable=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE.html",
    type=click.Path(readable=False, path_type=Path),
    help="Where the page goes; JSON, CSV and EDL beside it.  [default: RESULT.report.html]",
)
@click.option(
    "--reference",
    metavar="GT",
    type=click.Path(readable=False, path_type=Path),
    help="The ground truth, of RESULT's size; of an excerpt or of the whole film.",
)
@click.option("--no-check", is_flag=True, help="Leave the conformance check out.")
@click.option("--overwrite", is_flag=True, help="Replace files that are no report of ours.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout too.")
def command(
    source: Path,
    result: Path,
    output: Path | None,
    reference: Path | None,
    no_check: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Measure RESULT against SOURCE: the same film, how much detail, where it may be wrong.

    Writes FILE.html and, beside it, FILE.json, FILE.csv and FILE.edl. Needs no ground truth.
    Folders and patterns of pictures are films too. Exits with 1, as `vsr check` does, where RESULT
    is not the same film as SOURCE, and with 0 whatever else is found.
    """
    page = page_path(result) if output is None else output
    refuse_page(page, (source, result, reference), overwrite=overwrite)
    check: dict[str, Any] | None = None
    if not no_check:
        from vsr.pipeline.check import check as prove

        with progress_counter("check") as on_frame:
            check = prove(source, result, on_frame=on_frame).model_dump(mode="json")
    report = make_report(source, result, reference=reference, check=check)
    write_report(report, page)
    if as_json:
        print_json(json.loads(report.to_json()))
    else:
        print_line(f"{page}: {report.verdict}")
        for finding in report.findings:
            print_line(f"{finding.kind}: {finding.sentence}")
    if check is not None and not check["ok"]:
        click.get_current_context().exit(EXIT_NOT_THE_SAME)


def refuse_report(source: Path, output: Path, page: Path | None, *, overwrite: bool) -> None:
    """Raise before a run what would only show after it.

    Raises:
        ConfigError: the result is no film.
        ConfigError, OutputError: as `refuse_page`.
    """
    if str(output) == "-" or output.suffix == ".y4m":
        raise ConfigError("a report is made of films that stay; leave --report away here")
    refuse_page(page or page_path(output), (source, output), overwrite=overwrite)


def report_run(run: dict[str, Any], config: UpscaleConfig, page: Path | None) -> list[str]:
    """Measure what a run made and leave the page; what to tell the user.

    Args:
        run: the document of `vsr upscale`.
        config: of the run.
        page: where to; beside the result if None.
    """
    result = Path(run["result"])
    told = {key: value for key, value in run.items() if key != "check"}
    told["settings"] = config.model_dump(mode="json")
    told["model_card"] = _card(run["model"])
    report = make_report(Path(run["source"]), result, check=run["check"], run=told)
    page = page or page_path(result)
    write_report(report, page)
    return [f"{page}: {report.verdict}", *(f"{f.kind}: {f.sentence}" for f in report.findings)]


def _card(model: str) -> dict[str, Any]:
    """What is known of the weights; empty for models without."""
    from vsr.models.checkpoint import card_of, resolve_spec

    card = card_of(resolve_spec(model))
    return {} if card is None else card.model_dump(mode="json", exclude_none=True)


def _told_by_file(source: Path, result: Path, tags: Mapping[str, str]) -> dict[str, Any]:
    """What can be known of the run where nobody remembers it: the result's tags, and digests."""
    from vsr.models.catalog import get_spec
    from vsr.models.checkpoint import card_of
    from vsr.pipeline.output import sha256_of

    known = {key.upper(): value for key, value in tags.items()}
    told: dict[str, Any] = {
        name: known[tag]
        for name, tag in (
            ("model", "VSR_MODEL"),
            ("version", "VSR_VERSION"),
            ("settings_sha256", "VSR_SETTINGS"),
            ("note", "VSR_NOTE"),
        )
        if tag in known
    }
    weights = known.get("VSR_WEIGHTS_SHA256")
    files = {"source": source, "result": result}
    told["digests"] = {name: sha256_of(path) for name, path in files.items() if path.is_file()}
    if weights := known.get("VSR_WEIGHTS_SHA256"):
        told["digests"]["weights"] = weights
        with suppress(ModelError):
            # By its id alone: a tag must not make us open a file.
            card = card_of(get_spec(known.get("VSR_MODEL", "")))
            # A card of other weights by the same name would tell lies.
            if card is not None and card.sha256 == weights:
                told["model_card"] = card.model_dump(mode="json", exclude_none=True)
    return told


def page_path(result: Path) -> Path:
    """Where the page of a result goes unless told otherwise: beside it, or beside its folder."""
    from vsr.media.stills import parse_pattern

    if parse_pattern(result) is not None:
        result = result.absolute().parent
    return result.with_name(f"{result.name}.report.html")


def make_report(
    source: Path,
    result: Path,
    *,
    reference: Path | None = None,
    check: dict[str, Any] | None = None,
    run: dict[str, Any] | None = None,
) -> Report:
    """Measure a pair of films; each may be a sequence of pictures.

    Raises:
        MediaError: a film cannot be read, or what it declares to have changed.
        ShapeError: the reference has another size.
    """
    from vsr.errors import OpenError
    from vsr.quality.findings import of_check, verdict
    from vsr.quality.report import Report

    try:
        before, after, declared = find_pair(source, result)
    except ValueError as error:
        if isinstance(error, VsrError):
            raise
        raise OpenError(f"{result} cannot be compared with its source: {error}.") from error
    found = _measure(before, after, declared, reference)
    old, new = before.info, after.info
    is_same = None if check is None else bool(check["ok"])
    findings = (*of_check(check or {}), *found.findings)
    return Report(
        source=str(source),
        result=str(result),
        reference=None if reference is None else str(reference),
        source_size=(old.width, old.height),
        result_size=(new.width, new.height),
        frame_rate=str(new.frame_rate or old.frame_rate or 25),
        num_frames=len(found.frames),
        ok=not findings and is_same is not False,
        verdict=verdict(findings, is_same),
        findings=findings,
        summary=found.summary,
        frames=found.frames,
        shots=found.shots,
        stills=found.stills,
        detail_map=found.detail_map,
        worst_map=found.worst_map,
        histogram=found.histogram,
        check=check or {},
        run=_told_by_file(source, result, after.tags) if run is None else run,
        tags=dict(after.tags),
        unavailable=found.unavailable,
        measured_s=found.seconds,
    )


def _measure(before: Reel, after: Reel, declared: Declared, reference: Path | None) -> Measured:
    """Read both films, and the ground truth where there is one, and measure them.

    Raises:
        MediaError: a film cannot be read.
        ShapeError: the reference has another size.
    """
    from vsr.pipeline.interlace import as_enlarged
    from vsr.pipeline.shots import CutDetector
    from vsr.quality.measure import Film, measure
    from vsr.quality.views import Viewer

    size, place = (before.info.width, before.info.height), declared.picture
    with ExitStack() as stack:
        stack.enter_context(_one_thread())

        def film(reel: Reel, frames: Iterable[Frame], viewer: Viewer) -> Film:
            info = reel.info
            about = round((info.duration_s or 0) * (info.frame_rate or 25)) or info.num_frames
            return Film(frames, viewer, info.time_base, about)

        truth = None
        if reference is not None:
            real = find_reel(reference)
            frames = real.frames(stack)
            if declared.timeline is not None and _lasts_like(real, before, not_like=after):
                frames = _of_ranks(frames, declared.timeline.sources())
            truth = film(real, frames, Viewer(real.color(*size)))
        frames, ranks = as_enlarged(before.frames(stack), declared, before.info)
        viewer = Viewer(before.color(*size), turn=place.turn, flip=place.flip, box=place.crop)
        shown = Viewer(after.color(*size), box=place.box)
        on_frame = stack.enter_context(progress_counter("measure"))
        return measure(
            film(before, frames, viewer),
            film(after, after.frames(stack), shown),
            CutDetector(),
            reference=truth,
            sources=ranks,
            on_frame=on_frame,
        )


def _lasts_like(reel: Reel, other: Reel, *, not_like: Reel) -> bool:
    """Whether a ground truth is of the whole film, and not of the excerpt that was made larger."""
    lasts, whole, part = (each.info.duration_s for each in (reel, other, not_like))
    if lasts is None or whole is None or part is None:
        return False
    frame_s = float(1 / (reel.info.frame_rate or 25))
    return abs(lasts - whole) < 2 * frame_s < abs(lasts - part)


def _of_ranks(frames: Iterable[Frame], ranks: Iterable[int]) -> Iterator[Frame]:
    """Of all frames those of ranks that never fall; ends with either."""
    numbered = enumerate(frames)
    at, held = -1, None
    for rank in ranks:
        while at < rank:
            at, held = next(numbered, (rank, None))
        if held is None:
            return
        yield held


@contextmanager
def _one_thread() -> Iterator[None]:
    """Measuring is many small steps: threads that wait for each other at every one cost more.

    Of the sample on two busy cores 42 to 54 s instead of 10 s; OpenCV has threads of its own.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def refuse_page(page: Path, inputs: tuple[Path | None, ...], *, overwrite: bool) -> None:
    """Raise now what would only show when the work is done.

    Raises:
        ConfigError: a file of the report would be an input.
        OutputExistsError: something that is no report of ours stands there.
        OutputError: the folder cannot be written to.
    """
    for path in _twins(page):
        for other in inputs:
            if other is not None and path.exists() and other.exists() and path.samefile(other):
                raise ConfigError(f"the report would replace {other}", hint="choose another name")
    if os.path.lexists(page) and not overwrite and not _is_ours(page):
        raise OutputExistsError(
            f"{page} exists already and is no report", hint="use --overwrite, or another name"
        )
    if not _is_ours(page) and not overwrite:
        for path in _twins(page)[1:]:
            if os.path.lexists(path):
                raise OutputExistsError(
                    f"{path} exists already", hint="use --overwrite, or another name"
                )
    folder = page.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {str(folder)!r}", hint="choose another")


def write_report(report: Report, page: Path) -> None:
    """Write the page and its twins, each whole or not at all.

    Raises:
        OutputError: one of them cannot be written.
    """
    from vsr.quality.page import to_html
    from vsr.quality.report import to_csv, to_edl

    texts = report.to_json() + "\n", to_csv(report), to_edl(report), to_html(report)
    html, *twins = _twins(page)
    # The page last: where it stands, the rest does too.
    for path, text in zip((*twins, html), texts, strict=True):
        partial = path.with_name(f".{path.name}.part")
        try:
            partial.write_bytes(text.encode("utf-8", "replace"))
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _twins(page: Path) -> tuple[Path, ...]:
    stem = page.name.removesuffix(".html")
    return (page, *(page.with_name(f"{stem}{suffix}") for suffix in (".json", ".csv", ".edl")))


def _is_ours(page: Path) -> bool:
    try:
        with page.open("rb") as file:
            return _OURS in file.read(_HEAD_BYTES)
    except OSError:
        return False
