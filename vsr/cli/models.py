"""`vsr models`: the catalogue, with what the cards say of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vsr.cli.console import print_json

if TYPE_CHECKING:
    from vsr.models.upscaler import ModelSpec


@click.group("models")
def command() -> None:
    """List the networks and say what is known of them."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def list_command(as_json: bool) -> None:
    """One line per model."""
    from vsr.models.catalog import list_models

    rows = [describe(spec) for spec in list_models()]
    if as_json:
        print_json(rows)
        return
    table: list[tuple[str, ...]] = [("id", "kind", "params", "GMAC", "licence", "Y-PSNR (dB)", "")]
    table += [_cells(row) for row in rows]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(table[0]))]
    for cells in table:
        line = "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        click.echo(line.rstrip())


@command.command("show")
@click.argument("model_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def show_command(model_id: str, as_json: bool) -> None:
    """Everything known of one model."""
    from vsr.models.catalog import get_spec
    from vsr.models.checkpoint import card_of

    spec = get_spec(model_id)
    card = card_of(spec)
    facts = {
        **describe(spec),
        "paper": spec.paper,
        "causal": spec.causal,
        "chunk": spec.chunk,
        "context": spec.context,
        "invents_detail": spec.invents_detail,
        "degradation": card.degradation if card else None,
        "data": [source.model_dump() for source in card.data] if card else [],
        "trained_with": dict(card.trained_with) if card else {},
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        for line in _lines(value):
            click.echo(f"{name + ':':<16}{line}")
            name = ""


def describe(spec: ModelSpec) -> dict[str, Any]:
    """What `vsr models list --json` says of a model.

    `params`, `gmac_180p` (10^9 multiply-adds per frame of 320x180) and `psnr` (dB by test set) come
    from the card of the shipped weights; they are null and empty where there is none. A model
    without weights has 0 parameters and the project's own licence.
    """
    from vsr.models.catalog import is_shipped
    from vsr.models.checkpoint import card_of

    card = card_of(spec)
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
        ", ".join(f"{value:.2f} {name}" for name, value in row["psnr"].items()) or "-",
        "" if row["shipped"] else "weights not installed",
    )


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
