"""`vsr compare A B ...`: several films side by side at the same moments."""

from __future__ import annotations

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import print_line
from vsr.config import parse_time
from vsr.errors import ConfigError, OutputError, OutputExistsError

if TYPE_CHECKING:
    from vsr.media.probe import MediaInfo
    from vsr.quality.sheet import Pixels

_SUFFIXES = (".png", ".jpg", ".jpeg")


@click.command("compare", short_help="Show several films side by side.")
@click.argument(
    "films",
    metavar="A B ...",
    nargs=-1,
    required=True,
    type=click.Path(readable=False, path_type=Path),
)
@click.option(
    "--at",
    "moments",
    metavar="TIME",
    multiple=True,
    help="Seconds or [HH:]MM:SS from the start; may be given several times.  [default: the middle]",
)
@click.option(
    "-o",
    "--output",
    metavar="FILE.png",
    type=click.Path(readable=False, path_type=Path),
    help="Where the sheet goes, as PNG or JPEG.  [default: A.compare.png beside A]",
)
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def command(
    films: tuple[Path, ...], moments: tuple[str, ...], output: Path | None, overwrite: bool
) -> None:
    """Lay the same moments of films side by side: whole, and close up where they differ most.

    Films may differ in size, such as a source and its results by several models; all are shown at
    the size of the largest.
    """
    from vsr.media.probe import probe
    from vsr.quality.sheet import MAX_FILMS, Moment, contact_sheet

    if not 2 <= len(films) <= MAX_FILMS:
        raise ConfigError(f"2 to {MAX_FILMS} films can be compared, not {len(films)}")
    times = [_time(text) for text in moments]
    sheet = films[0].with_name(f"{films[0].name}.compare.png") if output is None else output
    _refuse(sheet, films, overwrite=overwrite)
    infos = [probe(film) for film in films]
    if not times:
        shortest = min((info.video.duration_s or 0.0) for info in infos)
        times = [Fraction(round(500 * shortest), 1000)]
    shown = [Moment(_clock(at), tuple(_picture(info, at) for info in infos)) for at in times]
    _write(sheet, contact_sheet(shown))
    print_line(f"{sheet}: {', '.join(_clock(at) for at in times)}")
    for letter, film in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", films, strict=False):
        print_line(f"{letter}: {film}")


def _time(text: str) -> Fraction:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(str(error), hint="for example --at 00:01:00") from error


def _clock(at: Fraction) -> str:
    seconds, rest = divmod(round(1000 * at), 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours:02d}:{minutes:02d}:{seconds % 60:02d}.{rest:03d}"


def _picture(info: MediaInfo, at: Fraction) -> Pixels:
    """The first frame at or after a time from the film's start, as RGB.

    Raises:
        ConfigError: the film is over by then.
    """
    from vsr.color import complete
    from vsr.media.reader import FrameReader
    from vsr.quality.views import Viewer

    video = info.video
    start = video.start_pts or 0
    # A tick is rounded to at most half of itself: a frame meant for this time is not missed.
    wanted = start + round(at / video.time_base)
    color, _ = complete(video.color, video.width, video.height, video.layout)
    start_pts = wanted if wanted > start else None
    with FrameReader(info.path, info=video, start_pts=start_pts) as reader:
        frame = next(iter(reader), None)
    if frame is None:
        raise ConfigError(f"{info.path} is over before {_clock(at)}", hint="take an earlier --at")
    return Viewer(color, turn=video.rotation).rgb(frame)


def _refuse(sheet: Path, films: tuple[Path, ...], *, overwrite: bool) -> None:
    if sheet.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"{sheet} is neither PNG nor JPEG by its name", hint="name it .png")
    if any(sheet.exists() and film.exists() and sheet.samefile(film) for film in films):
        raise ConfigError(f"the sheet would replace {sheet}", hint="choose another name")
    if os.path.lexists(sheet) and not overwrite:
        raise OutputExistsError(f"{sheet} exists already", hint="use --overwrite, or another name")
    folder = sheet.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write into the folder {str(folder)!r}", hint="choose another")


def _write(sheet: Path, rgb: Pixels) -> None:
    import cv2

    done, data = cv2.imencode(sheet.suffix.lower(), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert done, "a picture of 8 bits can be compressed"
    partial = sheet.with_name(f".{sheet.name}.part")
    try:
        partial.write_bytes(bytes(data))
        partial.replace(sheet)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OutputError(f"{sheet} cannot be written: {error.strerror}") from error
