"""Models that the user has added: weight files with cards in a folder of the user's.

Reading the list opens cards alone. A file is compared with its card whenever it is loaded.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from vsr.config import WEIGHT_SUFFIXES
from vsr.errors import CheckpointError, UnknownModelError
from vsr.models.card import Card, card_path, read_card

_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


def store_folder() -> Path:
    """Where added models lie: `models` in VSR_HOME or ~/.cache/vsr."""
    home = os.environ.get("VSR_HOME")
    return (Path(home) if home else Path.home() / ".cache" / "vsr") / "models"


def is_id(text: str) -> bool:
    """Whether an added model may be called so: it is then a plain file name too."""
    return _ID.fullmatch(text) is not None and not text.endswith((*WEIGHT_SUFFIXES, ".toml"))


def list_added() -> tuple[str, ...]:
    """Ids of all added models, sorted."""
    folder = store_folder()
    found = {path.stem for path in folder.glob("*.toml") if is_id(path.stem)}
    return tuple(sorted(found))


def added_card(model_id: str) -> Card:
    """What is known of an added model.

    Raises:
        UnknownModelError: there is none of that id.
        CheckpointError: its card is wrong.
    """
    path = store_folder() / f"{model_id}.toml"
    if not is_id(model_id) or not path.is_file():
        known = ", ".join(list_added()) or "none yet"
        raise UnknownModelError(
            f"No model '{model_id}' was added", hint=f"added are {known}; see `vsr models list`"
        )
    return read_card(path)


def added_file(model_id: str) -> Path | None:
    """The weight file of an added model, there or not; None when no model of that id was added."""
    if not is_id(model_id):
        return None
    card = store_folder() / f"{model_id}.toml"
    if not card.is_file():
        return None
    files = [card.with_name(model_id + suffix) for suffix in WEIGHT_SUFFIXES]
    return next((path for path in files if path.is_file()), files[0])


def verify_file(path: Path) -> None:
    """Compare a weight file with its card.

    Raises:
        CheckpointError: it is not there, or of another digest.
    """
    expected = read_card(card_path(path)).sha256
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"The weights {path} cannot be read: {error.strerror}",
            hint="get them again with `vsr models fetch`, or remove the model",
        ) from error
    if found != expected:
        raise CheckpointError(
            f"The weights {path} have the SHA-256 {found[:12]}..., their card says "
            f"{expected[:12]}...",
            hint="the file is damaged or was changed; get it again",
        )


def remove_added(model_id: str) -> None:
    """Forget an added model and delete its file.

    Raises:
        UnknownModelError: there is none of that id.
    """
    path = added_file(model_id)
    if path is None:
        added_card(model_id)
        raise AssertionError("a card without a name")
    # The card last: what is left of an interruption is still known, and can be removed.
    path.unlink(missing_ok=True)
    card_path(path).unlink()
