"""The names of a result's pictures: refused early, and taken only by what is complete."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from vsr.errors import OutputError, OutputExistsError
from vsr.media.stills import PictureTarget
from vsr.pipeline.output import sync
from vsr.pipeline.plan import Plan


def refuse_existing(target: PictureTarget, *, overwrite: bool, count: int | None = None) -> None:
    """Raise unless the pictures may take their names.

    Args:
        target: where they go.
        overwrite: whether files of those names are given up.
        count: how many there will be; None takes every number for one of theirs.

    Raises:
        OutputError: the folder to make it in does not exist.
        OutputExistsError: a picture's name is taken.
    """
    folder = target.folder
    if not os.path.lexists(folder):
        if not folder.parent.is_dir():
            raise OutputError(
                f"the folder {str(folder.parent)!r} does not exist", hint="create it first"
            )
        return
    if not folder.is_dir():
        raise OutputExistsError(f"{folder} is not a folder", hint="choose another name")
    for entry in sorted(folder.iterdir()):
        number = target.names.number_of(entry.name)
        is_ours = number is not None and (
            count is None or target.first <= number < target.first + count
        )
        if is_ours and (not overwrite or not entry.is_file()):
            raise OutputExistsError(
                f"{entry} exists already", hint="use --overwrite, or choose another name"
            )


def place_pictures(made: Path, target: PictureTarget, *, overwrite: bool) -> None:
    """Give finished pictures their names: at once where the folder is new, else one by one.

    Every file is whole whenever this is interrupted.

    Raises:
        OutputError: the disk refused, or a name was taken in the meantime.
    """
    try:
        # mkdir and not lexists: nobody can come in between.
        try:
            target.folder.mkdir()
        except FileExistsError:
            taken = [p for p in made.iterdir() if os.path.lexists(target.folder / p.name)]
            if taken and not overwrite:
                raise OutputExistsError(
                    f"{target.folder / taken[0].name} was made by somebody else in the meantime"
                ) from None
        for path in sorted(made.iterdir()):
            path.replace(target.folder / path.name)
        sync(target.folder)
        sync(target.folder.parent)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"{target.folder} cannot be written: {error.strerror}") from error


def reject_pictures(made: Path, target: PictureTarget) -> Path:
    """Keep pictures that failed their check in a folder whose name says so."""
    rejected = target.folder.with_name(f"{target.folder.name}.rejected")
    number = 1
    while os.path.lexists(rejected):
        number += 1
        rejected = target.folder.with_name(f"{target.folder.name}.rejected-{number}")
    made.rename(rejected)
    return rejected


def digest_files(folder: Path) -> str:
    """SHA-256 over the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def expected_names(plan: Plan) -> list[str]:
    """File names of all pictures of a result, in order."""
    target = plan.pictures.target
    assert target is not None
    pts = (pts for part in plan.segments for pts in part.timeline.pts())
    return [target.name(rank, time) for rank, time in enumerate(pts)]
