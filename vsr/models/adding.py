"""Add models to the store: from a file or an address, checked before they are taken in."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from vsr.config import WEIGHT_SUFFIXES
from vsr.errors import CheckpointError, ConfigError, ModelError
from vsr.models.card import Card, card_path, write_card
from vsr.models.catalog import list_models
from vsr.models.checkpoint import (
    card_of_file,
    describe_checkpoint,
    load_upscaler,
    read_checkpoint,
    spec_of_checkpoint,
)
from vsr.models.store import added_card, added_file, is_id, store_folder, verify_file

_TIMEOUT_S = 30


def is_address(source: str) -> bool:
    """Whether a model is to come from the network."""
    return "://" in source


def add_model(
    source: str,
    *,
    sha256: str | None = None,
    model_id: str | None = None,
    licence: str | None = None,
    offline: bool = False,
    progress: Any = None,
) -> Card:
    """Take a weight file into the store.

    Args:
        source: a file, or an http or https address.
        sha256: what it must hash to, hexadecimal; compared before anything in it is read.
        model_id: what it shall be called; None makes an id of its name and scale.
        licence: of the weights, as an SPDX expression; None: unknown, unless a card says.
        offline: refuse addresses.
        progress: a bar with `total`, `update`, `reset` and `close` for a download; None for none.

    Returns:
        Its card, as it is now in the store.

    Raises:
        ConfigError: the id or digest is none, or the id is taken.
        CheckpointError: the file cannot be had, is of another digest, or no network that is known.
    """
    if sha256 is not None:
        sha256 = sha256.lower()
        if re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
            raise ConfigError(f"{sha256!r} is not a SHA-256", hint="it has 64 hexadecimal digits")
    name = _file_name(source)
    if Path(name).suffix not in WEIGHT_SUFFIXES:
        raise CheckpointError(
            f"{source} is not called like a weight file",
            hint=f"expected {', '.join(WEIGHT_SUFFIXES)}; programs (.pt2, TorchScript) are refused",
        )
    with _workplace() as folder:
        if is_address(source):
            file = download(source, folder / name, sha256=sha256, offline=offline, bar=progress)
        else:
            file = Path(source)
        card, scale = _describe(file, sha256)
        model_id = _choose_id(model_id, name, scale)
        card = card.model_copy(
            update={
                "id": model_id,
                "licence": licence or card.licence,
                "origin": source if is_address(source) else name,
            }
        )
        _take_in(file, card, folder)
    return card


def fetch_model(model_id: str, *, offline: bool = False, progress: Any = None) -> bool:
    """Get the file of an added model again if it is gone or damaged.

    Returns:
        Whether anything had to be got.

    Raises:
        UnknownModelError: no model of that id was added.
        CheckpointError: it cannot be had, or is another file now.
    """
    card = added_card(model_id)
    path = added_file(model_id)
    assert path is not None
    try:
        verify_file(path)
    except CheckpointError:
        if not is_address(card.origin):
            raise
    else:
        return False
    with _workplace() as folder:
        name = folder / _file_name(card.origin)
        file = download(card.origin, name, sha256=card.sha256, offline=offline, bar=progress)
        _take_in(file, card, folder)
    return True


def download(
    address: str, path: Path, *, sha256: str | None, offline: bool, bar: Any = None
) -> Path:
    """Get a file over http or https.

    Raises:
        CheckpointError: offline, not to be had, or of another digest.
    """
    if offline:
        raise CheckpointError(
            f"{address} is not here, and --offline forbids to get it", hint="leave it out once"
        )
    if urlsplit(address).scheme not in ("http", "https"):
        raise CheckpointError(f"{address} is neither an http nor an https address")
    # Here, because few commands download, and it takes a while to import.
    import pooch
    import requests

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        downloader = pooch.HTTPDownloader(progressbar=bar or False, timeout=_TIMEOUT_S)
        known = None if sha256 is None else f"sha256:{sha256}"
        pooch.retrieve(
            address, known_hash=known, fname=path.name, path=path.parent, downloader=downloader
        )
    except (requests.RequestException, OSError) as error:
        said = str(error).splitlines()[0]
        raise CheckpointError(f"{address} could not be got: {said}") from error
    except ValueError as error:
        # How pooch says it.
        raise CheckpointError(
            f"{address} holds another file: its SHA-256 is not {(sha256 or '')[:12]}...",
            hint="the address or the digest is wrong, or the file was changed",
        ) from error
    finally:
        logger.setLevel(level)
    return path


def _file_name(source: str) -> str:
    if not is_address(source):
        return Path(source).name
    return PurePosixPath(unquote(urlsplit(source).path)).name


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder in the store for what is not checked yet."""
    folder = store_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".adding-", dir=folder))
    except OSError as error:
        raise ModelError(
            f"{folder} cannot be written: {error.strerror}", hint="set VSR_HOME to another folder"
        ) from error
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _describe(file: Path, sha256: str | None) -> tuple[Card, int]:
    """The card to be of a file, and its scale; its network must build and take its weights."""
    checkpoint = read_checkpoint(file, sha256=sha256)
    load_upscaler(file)
    card = card_of_file(file) or describe_checkpoint(checkpoint)
    return card, spec_of_checkpoint(checkpoint).scale


def _choose_id(wanted: str | None, name: str, scale: int) -> str:
    """A free id that says its scale, as all do."""
    ending = f"x{scale}"
    if wanted is None:
        stem = re.sub(r"[^a-z0-9._-]+", "-", Path(name).stem.lower()).strip("-._") or "added"
        wanted = stem if ending in stem.split("-") else f"{stem[:90]}-{ending}"
    if not is_id(wanted):
        raise ConfigError(
            f"{wanted!r} cannot be an id", hint="use small letters, digits, points and dashes"
        )
    if ending not in wanted.split("-"):
        raise ConfigError(
            f"the id {wanted!r} does not say that the model enlarges by {scale}",
            hint=f"as {wanted}-{ending} does",
        )
    if any(spec.id == wanted for spec in list_models()) or added_file(wanted) is not None:
        raise ConfigError(f"a model is called {wanted!r} already", hint="give another --id")
    return wanted


def _take_in(file: Path, card: Card, folder: Path) -> None:
    """Copy a file into the store under its id; it is whole there, or absent."""
    final = store_folder() / f"{card.id}{file.suffix}"
    copied = folder / "weights"
    try:
        shutil.copyfile(file, copied)
        write_card(folder / "card.toml", card)
        copied.replace(final)
        (folder / "card.toml").replace(card_path(final))
    except OSError as error:
        raise ModelError(f"{final} cannot be written: {error.strerror}") from error
    # What lies there now, and not what was read before it was copied.
    verify_file(final)
