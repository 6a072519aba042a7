"""Image sequences by name: which files are the frames, in which order, and what to call new ones.

A sequence is a folder of pictures or a pattern such as `scan.%05d.dpx` or `scan.####.dpx`. Numbers
are the time line, so nothing may be missing; names are kept, because an archive finds its scans by
them. No file is opened here; `stills_read` does, one by one, and nothing in a picture's name or in
the picture itself can lead to another file.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from vsr.errors import ConfigError, OpenError, UnsupportedVideoError

Kind = Literal["png", "tiff", "dpx", "exr"]

SUFFIXES: dict[str, Kind] = {
    ".png": "png",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dpx": "dpx",
    ".exr": "exr",
}
"""Picture kinds by lower-case suffix."""
KINDS: dict[str, Kind] = {kind: kind for kind in SUFFIXES.values()}
CONTAINER = "pictures"
"""What `MediaInfo.container` says of a sequence; a plan's container is the kind of picture."""
DEFAULT_RATE = Fraction(24)
_MAX_RATE = Fraction(1000)
_MAX_PADDING = 12
_FILM_SUFFIXES = (".mkv", ".mp4", ".mov", ".y4m")

_PATTERN = re.compile(
    r"(?P<prefix>[^%#]*)(?:%(?:0(?P<width>\d{1,2}))?d|(?P<hashes>#+))(?P<tail>[^%#]*)"
)
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)(?P<tail>\D*)", re.DOTALL)


class Names(BaseModel):
    """How the pictures of a sequence are called: prefix, number, tail with suffix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str
    width: int
    """Digits to which a number is padded with zeros; 1 for none."""
    tail: str
    """What follows the number, the suffix included."""

    def of(self, number: int) -> str:
        """File name of the picture of that number."""
        return f"{self.prefix}{number:0{self.width}d}{self.tail}"

    @property
    def kind(self) -> Kind:
        return SUFFIXES["." + self.tail.rpartition(".")[2].lower()]

    def number_of(self, name: str) -> int | None:
        """Number in a file's name; None for a name of another form."""
        digits = name[len(self.prefix) : len(name) - len(self.tail)]
        if not digits.isascii() or not digits.isdigit() or self.of(int(digits)) != name:
            return None
        return int(digits)


class PictureSequence(BaseModel):
    """The pictures of one source, in order and without gaps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    names: Names
    first: int
    """Number of the first picture."""
    count: int
    frame_rate: Fraction
    is_rate_given: bool = False
    """False when nobody said how fast the pictures follow each other."""
    num_other_files: int = 0
    """Files beside the pictures that are not part of the sequence."""

    @property
    def kind(self) -> Kind:
        return self.names.kind

    def path(self, index: int) -> Path:
        """Of the picture of rank `index`, from 0."""
        return self.folder / self.names.of(self.first + index)

    def paths(self) -> Iterator[Path]:
        """Of all pictures in order."""
        return (self.path(index) for index in range(self.count))


def parse_pattern(path: Path) -> Names | None:
    """Read `scan.%05d.dpx` or `scan.####.dpx`; None for any other name.

    A name that is a regular file already is that file and no pattern.
    """
    match = _PATTERN.fullmatch(path.name)
    if match is None or Path(path.name).suffix.lower() not in SUFFIXES:
        return None
    if _is(stat.S_ISREG, path):
        return None
    width = int(match["width"] or 1) if match["hashes"] is None else len(match["hashes"])
    if not 1 <= width <= _MAX_PADDING:
        return None
    return Names(prefix=match["prefix"], width=width, tail=match["tail"])


def names_sequence(path: Path) -> bool:
    """Whether `path` is a folder or a pattern, whatever is there."""
    return _is(stat.S_ISDIR, path) or parse_pattern(path) is not None


def _is(kind: Callable[[int], bool], path: Path) -> bool:
    """Whether something of a kind is at `path`; a name that cannot be looked up is nothing."""
    try:
        return kind(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def parse_rate(text: str | None) -> Fraction | None:
    """Read a frame rate: `24`, `23.976` or `24000/1001`.

    Raises:
        ConfigError: it is none, or not above 0 and up to 1000 frames a second.
    """
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= _MAX_RATE:
        raise ConfigError(
            f"{text!r} is not a frame rate", hint="write 24, 25 or 24000/1001, for example"
        )
    # 23.976 and its kin are short for multiples of 1000/1001.
    exact = Fraction(round(rate * Fraction(1001, 1000)) * 1000, 1001)
    return exact if rate.denominator > 1 and abs(rate - exact) < Fraction(1, 1000) else rate


def find_sequence(source: Path, *, frame_rate: Fraction | None = None) -> PictureSequence | None:
    """The sequence that `source` names, or None when it names no folder and no pattern.

    Args:
        source: a folder of pictures, or a pattern.
        frame_rate: pictures a second; 24 if None.

    Raises:
        OpenError: no picture is there.
        UnsupportedVideoError: a number is missing, or the names or suffixes are of several forms;
            the first offender is named.
    """
    pattern = parse_pattern(source)
    if pattern is None and not _is(stat.S_ISDIR, source):
        return None
    folder = source if pattern is None else source.parent
    try:
        files = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise OpenError(f"{folder} cannot be listed: {error.strerror}.") from error
    if pattern is None:
        names, numbers = _read_folder(folder, files)
    else:
        names = pattern
        numbers = [n for n in map(names.number_of, files) if n is not None]
        if not numbers:
            raise OpenError(f"No file is called {source}.", hint="check folder, name and digits")
    numbers.sort()
    _refuse_gap(folder, names, numbers)
    return PictureSequence(
        folder=folder.absolute(),
        names=names,
        first=numbers[0],
        count=len(numbers),
        frame_rate=frame_rate or DEFAULT_RATE,
        is_rate_given=frame_rate is not None,
        num_other_files=len(files) - len(numbers),
    )


def _read_folder(folder: Path, files: list[str]) -> tuple[Names, list[int]]:
    """Names and numbers of the pictures in a folder; they must all be of one form."""
    pictures = [name for name in files if Path(name).suffix.lower() in SUFFIXES]
    if not pictures:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)
        raise OpenError(
            f"There is no picture in the folder {folder}.", hint=f"pictures are {kinds}"
        )
    # The number is the one that counts from the first name to the last; a version number behind it
    # stays the same and must not be taken for it.
    names = _names_like(pictures[0], pictures[-1])
    if names is None:
        raise UnsupportedVideoError(
            f"{folder / pictures[0]} has no number in its name, so its place is not known.",
            hint="number the pictures, as in name.00001.png",
        )
    # Without zeros in front, 9 comes before 10 though it is shorter.
    for width in (names.width, 1):
        candidate = names.model_copy(update={"width": width})
        numbers = [candidate.number_of(name) for name in pictures]
        if None not in numbers:
            return candidate, [number for number in numbers if number is not None]
    offender = next(name for name in pictures if names.number_of(name) is None)
    raise UnsupportedVideoError(
        f"{folder / offender} is not named like {pictures[0]}, so the folder holds more than one "
        "sequence.",
        hint=f"name one, as in {folder / names.prefix}%0{names.width}d{names.tail}",
    )


def _names_like(first: str, last: str) -> Names | None:
    """The form of two names that differ in one number; of the first one's last number if in more.

    The suffix's own digits do not count.
    """
    suffix = Path(first).suffix
    stem = first[: -len(suffix)]
    runs = list(re.finditer(r"\d+", stem, re.ASCII))
    for run in reversed(runs):
        names = Names(
            prefix=stem[: run.start()], width=len(run[0]), tail=stem[run.end() :] + suffix
        )
        loose = names.model_copy(update={"width": 1})
        found = (names.number_of(last), loose.number_of(last))
        if first != last and found != (None, None):
            return names
    if not runs:
        return None
    run = runs[-1]
    return Names(prefix=stem[: run.start()], width=len(run[0]), tail=stem[run.end() :] + suffix)


def _refuse_gap(folder: Path, names: Names, numbers: list[int]) -> None:
    expected = numbers[0]
    for number in numbers:
        if number != expected:
            raise UnsupportedVideoError(
                f"{folder / names.of(expected)} is missing: the pictures go from "
                f"{numbers[0]} to {numbers[-1]}.",
                hint="put it there, or give the parts before and after it one by one",
            )
        expected += 1


class PictureTarget(BaseModel):
    """Where the pictures of a result go and what they are called."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    names: Names
    first: int
    """Number of the picture at pts 0, or of the first one."""
    follows_pts: bool
    """True when a picture's number is `first` plus its pts, as it is from sequence to sequence;
    False when pictures are counted."""

    @property
    def kind(self) -> Kind:
        return self.names.kind

    def name(self, rank: int, pts: int) -> str:
        """File name of a frame by its rank in the result and its pts."""
        return self.names.of(self.first + (pts if self.follows_pts else rank))


def find_target(output: Path, source: PictureSequence | None) -> PictureTarget | None:
    """Where a result goes when `output` names a folder or a pattern; None when it names neither.

    From sequence to folder the names are kept; from sequence to pattern the numbers. From a video
    pictures are counted from 1, and only a pattern tells their kind.

    Raises:
        ConfigError: a folder was named for the frames of a video.
    """
    pattern = parse_pattern(output)
    if pattern is not None:
        return PictureTarget(
            folder=output.parent.absolute(),
            names=pattern,
            first=1 if source is None else source.first,
            follows_pts=source is not None,
        )
    is_folder = _is(stat.S_ISDIR, output) or (source is not None and output.suffix == "")
    # A folder that is called like a film is in the film's way, and refused as such.
    if not is_folder or output.suffix.lower() in _FILM_SUFFIXES:
        return None
    if source is None:
        raise ConfigError(
            f"{output} is a folder, which does not say what kind of pictures to write",
            hint=f"name a video file in it, or a pattern such as {output / 'frame.%06d.png'}",
        )
    return PictureTarget(
        folder=output.absolute(), names=source.names, first=source.first, follows_pts=True
    )
