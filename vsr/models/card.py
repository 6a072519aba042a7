"""The card of a weight file: where the weights come from, what they may be used for, how good.

A TOML file beside the weights, with the same stem. Whatever reads weights by a model's name checks
the file against its card's digest first.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vsr.errors import CheckpointError

Fact = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSource(_Strict):
    """One origin of training data, with the licence that its attribution must name."""

    origin: str
    licence: str


class Score(_Strict):
    """Mean score on one test set, under the protocol named by the set's key."""

    psnr_db: float
    ssim: float | None = None


class Card(_Strict):
    """What is known of one weight file."""

    id: str
    """Id of the model as it was trained; default ids may share the file."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the weight file's bytes, hexadecimal."""
    licence: str
    """Of the weights, as an SPDX expression."""
    degradation: str
    """How the training inputs were made small: `bi`, `bd`, `mixed` ..."""
    num_params: Annotated[int, Field(ge=0)]
    gmac_180p: Annotated[float, Field(ge=0)]
    """10^9 multiply-adds per written frame at 320x180; see `vsr.models.cost`."""
    origin: str = ""
    """Of added weights: the address or the name of the file they came from."""
    trained_with: dict[str, Fact] = {}
    """Free facts about the training run: steps, hours, device, configuration."""
    data: tuple[DataSource, ...] = ()
    scores: dict[str, Score] = {}
    """By test set, e.g. `davis6-y-x4-bi`."""


def card_path(weights: Path) -> Path:
    """Where the card of a weight file lies."""
    return weights.with_suffix(".toml")


def read_card(path: Path) -> Card:
    """Read and validate a card.

    Raises:
        CheckpointError: it is missing, not TOML, or a field is missing, unknown or wrong.
    """
    try:
        with path.open("rb") as file:
            return Card.model_validate(tomllib.load(file))
    except OSError as error:
        raise CheckpointError(
            f"The card {path} cannot be read: {error.strerror}",
            hint="weights are only used by name together with their card",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"The card {path} is not valid TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"The card {path} is wrong at '{where}': {first['msg']}") from error


def write_card(path: Path, card: Card) -> None:
    """Write a card as TOML, in a fixed order."""
    lines = [
        f"{name} = {_toml(getattr(card, name))}"
        for name in ("id", "sha256", "licence", "degradation", "num_params", "gmac_180p")
    ]
    if card.origin:
        lines.append(f"origin = {_toml(card.origin)}")
    if card.trained_with:
        lines += ["", "[trained_with]"]
        lines += [f"{_toml(key)} = {_toml(value)}" for key, value in card.trained_with.items()]
    for source in card.data:
        lines += ["", "[[data]]"]
        lines += [f"origin = {_toml(source.origin)}", f"licence = {_toml(source.licence)}"]
    for name, score in card.scores.items():
        lines += ["", f"[scores.{_toml(name)}]"]
        lines += [f"{key} = {_toml(value)}" for key, value in score if value is not None]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _toml(value: Fact) -> str:
    # A JSON string, number or boolean is a TOML one, but for the DEL character.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")
