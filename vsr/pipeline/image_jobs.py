"""Which stills to enlarge, and what each result is called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vsr.errors import ConfigError, OpenError, OutputError, OutputExistsError
from vsr.media.image_tags import ImageKind
from vsr.media.images import IMAGE_SUFFIXES, image_kind

_SUFFIX_OF: dict[ImageKind, str] = {
    "png": ".png",
    "jpeg": ".jpg",
    "tiff": ".tif",
    "webp": ".webp",
}


@dataclass(frozen=True, slots=True)
class ImageJob:
    """One still and its result."""

    source: Path
    result: Path
    kind: ImageKind
    """Of the result."""
    sample: int = 0
    """Which of several results of one source."""


def plan_images(
    source: Path,
    output: Path,
    *,
    kind: ImageKind | None = None,
    overwrite: bool = False,
    samples: int = 1,
) -> tuple[ImageJob, ...]:
    """Find the stills and name the results.

    A folder is searched with its subfolders, in the order of names; links to folders are not
    followed, so that no loop is walked. Results lie as their sources do and are called alike.

    Args:
        source: a still or a folder.
        output: a file, or a folder that is there, for a still; a folder, made when needed, for a
            folder.
        kind: of all results; None keeps each one's own, or goes by the output's name.
        overwrite: whether files that stand at the names of results are given up.
        samples: results of each source; from the second on their names end in -2, -3 ...

    Raises:
        OpenError: there is no still.
        ConfigError: two stills would become one file, a result would be its source, or the
            output's name does not say what to write.
        OutputError: a result would lie outside the output, or its name is taken.
    """
    if source.is_dir():
        jobs = tuple(_in_folder(source, output, kind))
    else:
        jobs = (_alone(source, output, kind),)
    jobs = tuple(_sampled(job, index) for job in jobs for index in range(samples))
    _refuse_twins(jobs)
    for job in jobs:
        _refuse_name(job, output if source.is_dir() else job.result.parent, overwrite=overwrite)
    return jobs


def _sampled(job: ImageJob, index: int) -> ImageJob:
    if not index:
        return job
    name = f"{job.result.stem}-{index + 1}{job.result.suffix}"
    return replace(job, result=job.result.with_name(name), sample=index)


def _alone(source: Path, output: Path, kind: ImageKind | None) -> ImageJob:
    if output.is_dir():
        own = kind or image_kind(source)
        if own is None:
            raise ConfigError(
                f"{source} is not called like a still, so its result's kind is not known",
                hint="name a file, such as OUT.png",
            )
        return ImageJob(source, output / _name(Path(source.name), kind), own)
    named = image_kind(output)
    if named is None:
        known = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise ConfigError(
            f"{output} does not say what kind of still to write", hint=f"end it in one of {known}"
        )
    if kind is not None and kind != named:
        raise ConfigError(f"{output} is called like {named}, and {kind} was asked for")
    return ImageJob(source, output, named)


def _in_folder(source: Path, output: Path, kind: ImageKind | None) -> Iterator[ImageJob]:
    if os.path.lexists(output) and not output.is_dir():
        raise OutputExistsError(f"{output} is not a folder", hint="choose another name")
    if output.is_dir() and output.samefile(source):
        raise ConfigError(
            f"the output {str(output)!r} is the source itself", hint="choose another folder"
        )
    found = False
    for folder, folders, names in os.walk(source, followlinks=False):
        here = Path(folder)
        # What an earlier run has made is no source.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_same(here / name, output)
        )
        for name in sorted(names):
            path = here / name
            own = image_kind(path)
            if name.startswith(".") or own is None:
                continue
            found = True
            place = output / path.relative_to(source).parent / _name(Path(name), kind)
            yield ImageJob(path, place, kind or own)
    if not found:
        known = ", ".join(suffix.removeprefix(".") for suffix in IMAGE_SUFFIXES)
        raise OpenError(f"There is no still in the folder {source}.", hint=f"stills are {known}")


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other) if one.exists() else False


def _name(name: Path, kind: ImageKind | None) -> Path:
    if kind is None or image_kind(name) == kind:
        return name
    return name.with_name(f"{name.stem}{_SUFFIX_OF[kind]}")


def _refuse_twins(jobs: tuple[ImageJob, ...]) -> None:
    """Raise where two results have one name, on any file system."""
    seen: dict[str, ImageJob] = {}
    for job in jobs:
        twin = seen.setdefault(str(job.result).casefold(), job)
        if twin is not job:
            raise ConfigError(
                f"{twin.source} and {job.source} would both become {job.result.name}",
                hint="rename one, or keep their kinds",
            )


def _refuse_name(job: ImageJob, root: Path, *, overwrite: bool) -> None:
    folder = job.result.parent
    if not folder.resolve().is_relative_to(root.resolve()):
        raise OutputError(
            f"{job.result} would lie outside {root}, where a link leads", hint="remove the link"
        )
    if not os.path.lexists(job.result):
        return
    if job.result.exists() and job.source.exists() and job.result.samefile(job.source):
        raise ConfigError(
            f"the output {str(job.result)!r} is the source itself", hint="choose another name"
        )
    if not overwrite or not (job.result.is_file() or job.result.is_symlink()):
        raise OutputExistsError(
            f"{job.result} exists already", hint="use --overwrite, or choose another name"
        )
