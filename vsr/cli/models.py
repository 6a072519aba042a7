"""`vsr models`: the catalogue, with what the cards say of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.console import is_interactive, print_json, print_line, say

if TYPE_CHECKING:
    from vsr.models.card import Card
    from vsr.models.upscaler import ModelSpec


@click.group("models")
def command() -> None:
    """List the networks, say what is known of them, and add others."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def list_command(as_json: bool) -> None:
    """One line per model; `show` names the sources of its data."""
    from vsr.models.catalog import list_models
    from vsr.models.checkpoint import card_of
    from vsr.models.store import list_added

    rows = [describe(spec, card_of(spec)) for spec in list_models()]
    rows += [row for row in map(_describe_added, list_added()) if row is not None]
    if as_json:
        print_json(rows)
        return
    table: list[tuple[str, ...]] = [
        ("id", "kind", "params", "GMAC", "licence", "sha256", "data", "Y-PSNR (dB)", "")
    ]
    table += [_cells(row) for row in rows]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo(line.rstrip())


@command.command("show")
@click.argument("model_id", metavar="ID|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def show_command(model_id: str, as_json: bool) -> None:
    """Everything known of one model, or of a weight file."""
    from vsr.models.catalog import is_shipped
    from vsr.models.checkpoint import card_of, card_of_file, file_of, resolve_spec

    spec, file = resolve_spec(model_id), file_of(model_id)
    card = card_of(spec) if file is None else card_of_file(file)
    facts = {
        **describe(spec, card),
        "shipped": file is None and is_shipped(spec),
        "origin": card.origin if card else "",
        "paper": spec.paper,
        "causal": spec.causal,
        "chunk": spec.chunk,
        "context": spec.context,
        "invents_detail": spec.invents_detail,
        "degradation": card.degradation if card else None,
        "trained_with": dict(card.trained_with) if card else {},
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        for line in _lines(value):
            click.echo(f"{name + ':':<16}{line}")
            name = ""


@command.command("add")
@click.argument("source", metavar="FILE|URL")
@click.option("--sha256", metavar="HEX", help="What the file must hash to.")
@click.option("--id", "model_id", metavar="ID", help="What to call it.  [default: by its name]")
@click.option("--licence", metavar="SPDX", help="Of the weights.  [default: NOASSERTION]")
@click.option("--offline", is_flag=True, envvar="VSR_OFFLINE", help="Never use the network.")
def add_command(
    source: str, sha256: str | None, model_id: str | None, licence: str | None, offline: bool
) -> None:
    """Take weights of your own, or somebody else's, among the models."""
    from vsr.models.adding import add_model, is_address

    if is_address(source) and sha256 is None and not offline:
        say("vsr: without --sha256 nothing proves that the right file arrives")
    with _bar() as bar:
        card = add_model(
            source,
            sha256=sha256,
            model_id=model_id,
            licence=licence,
            offline=offline,
            progress=bar,
        )
    print_line(f"{card.id}: {_count(card.num_params)} parameters, {card.licence}, {card.sha256}")


@command.command("fetch")
@click.argument("model_ids", metavar="[ID]...", nargs=-1)
@click.option("--offline", is_flag=True, envvar="VSR_OFFLINE", help="Never use the network.")
def fetch_command(model_ids: tuple[str, ...], offline: bool) -> None:
    """Get the files of added models again that are gone or damaged; of all if none is named."""
    from vsr.models.adding import fetch_model
    from vsr.models.store import list_added

    for model_id in model_ids or list_added():
        with _bar() as bar:
            was_got = fetch_model(model_id, offline=offline, progress=bar)
        print_line(f"{model_id}: {'fetched' if was_got else 'is here'}")


@command.command("verify")
@click.argument("model_ids", metavar="[ID]...", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def verify_command(model_ids: tuple[str, ...], as_json: bool) -> int:
    """Compare weight files with their cards; all that are here if none is named."""
    from vsr.errors import ModelError
    from vsr.models.catalog import list_models, weights_path
    from vsr.models.store import list_added

    shipped = [spec.id for spec in list_models() if (p := weights_path(spec)) and p.is_file()]
    rows = []
    for model_id in model_ids or (*shipped, *list_added()):
        try:
            _verify(model_id)
            rows.append({"id": model_id, "ok": True, "error": None})
        except ModelError as error:
            rows.append({"id": model_id, "ok": False, "error": str(error)})
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            print_line(f"{row['id']}: {'ok' if row['ok'] else row['error']}")
    return 0 if all(row["ok"] for row in rows) else ModelError.exit_code


@command.command("remove")
@click.argument("model_ids", metavar="ID...", nargs=-1, required=True)
def remove_command(model_ids: tuple[str, ...]) -> None:
    """Forget added models and delete their files; what is shipped stays."""
    from vsr.models.store import remove_added

    for model_id in model_ids:
        remove_added(model_id)
        print_line(f"{model_id}: removed")


def _verify(model_id: str) -> None:
    """Raise unless a model's file is the one its card describes, or it needs none."""
    from vsr.models.catalog import get_spec, weights_path
    from vsr.models.store import added_file, verify_file

    path = added_file(model_id) or weights_path(get_spec(model_id))
    if path is not None:
        verify_file(path)


def _describe_added(model_id: str) -> dict[str, Any] | None:
    """A row of the list; None, with a warning, for a model that cannot be used."""
    from vsr.errors import ModelError
    from vsr.models.checkpoint import resolve_spec
    from vsr.models.store import added_card

    try:
        row = describe(resolve_spec(model_id), added_card(model_id))
    except ModelError as error:
        say(f"vsr: warning: {error}")
        return None
    return {**row, "shipped": False}


@contextmanager
def _bar() -> Iterator[Any]:
    """A bar for a download, on a terminal."""
    if not is_interactive():
        yield None
        return
    from tqdm import tqdm

    bar = tqdm(unit="B", unit_scale=True, leave=False)
    try:
        yield bar
    finally:
        bar.close()


def describe(spec: ModelSpec, card: Card | None) -> dict[str, Any]:
    """What `vsr models list --json` says of a model.

    `params`, `gmac_180p` (10^9 multiply-adds per frame of 320x180) and `psnr` (dB by test set) come
    from the card of the weights, as do `data` (origin and licence of what they were trained on) and
    `sha256`; they are null and empty where there is none. A model without weights has 0 parameters
    and the project's own licence.
    """
    from vsr.models.catalog import is_shipped

    needs_weights = spec.weights is not None
    return {
        "id": spec.id,
        "family": spec.family,
        "scale": spec.scale,
        "kind": spec.kind,
        "params": card.num_params if card else (None if needs_weights else 0),
        "gmac_180p": card.gmac_180p if card else None,
        "licence": card.licence if card else (None if needs_weights else "Apache-2.0"),
        "sha256": card.sha256 if card else None,
        "data": [source.model_dump() for source in card.data] if card else [],
        "psnr": {name: score.psnr_db for name, score in card.scores.items()} if card else {},
        "shipped": is_shipped(spec),
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["id"],
        row["kind"],
        _count(row["params"]),
        "-" if row["gmac_180p"] is None else f"{row['gmac_180p']:.1f}",
        row["licence"] or "-",
        row["sha256"][:12] if row["sha256"] else "-",
        _sources(row["data"]),
        ", ".join(f"{value:.2f} {name}" for name, value in row["psnr"].items()) or "-",
        "" if row["shipped"] else "added" if row["sha256"] else "weights not installed",
    )


def _sources(data: list[Any]) -> str:
    if not data:
        return "-"
    return "1 source" if len(data) == 1 else f"{len(data)} sources"


def _count(number: int | None) -> str:
    if number is None:
        return "-"
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.0f} k"


def _lines(value: Any) -> list[str]:
    """A fact as one or more lines of text."""
    if value is None or value in ("", [], {}):
        return ["-"]
    if isinstance(value, bool):
        return ["yes" if value else "no"]
    if isinstance(value, dict):
        return [f"{key}: {item}" for key, item in value.items()]
    if isinstance(value, list):
        return ["; ".join(str(item) for item in entry.values()) for entry in value]
    return [str(value)]
