"""`vsr compare A B ...`: several films side by side at the same moments."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vsr.cli.console import print_line, progress_counter, say
from vsr.cli.films import Reel, find_reel
from vsr.errors import ConfigError, OutputError, OutputExistsError
from vsr.notation import parse_time

if TYPE_CHECKING:
    from vsr.frame import Frame
    from vsr.media.settings import EncoderSettings
    from vsr.quality.montage import Montage
    from vsr.quality.sheet import Pixels
    from vsr.quality.views import Viewer

_PICTURES = (".png", ".jpg", ".jpeg")
_FILMS = {".mkv": "mkv", ".mp4": "mp4", ".mov": "mov"}
_DURATION = "10"
_MAX_PX = 16384
"""Either way; the most that H.264 and HEVC hold."""


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
    "--out",
    "--output",
    "output",
    metavar="FILE",
    type=click.Path(readable=False, path_type=Path),
    help="A contact sheet by .png or .jpg, a film by .mkv, .mp4 or .mov.  "
    "[default: A.compare.png beside A]",
)
@click.option(
    "--duration",
    metavar="TIME",
    help=f"How much of each moment a film shows.  [default: {_DURATION} seconds]",
)
@click.option("--wipe", is_flag=True, help="In a film: a border wipes between A and B.")
@click.option("--overwrite", is_flag=True, help="Replace a file that exists.")
def command(
    films: tuple[Path, ...],
    moments: tuple[str, ...],
    output: Path | None,
    duration: str | None,
    wipe: bool,
    overwrite: bool,
) -> None:
    """Lay the same moments of films side by side.

    A contact sheet shows them whole, and close up where they differ most; a film shows them moving.
    Films may differ in size, such as a source and its results by several models; all are shown at
    the size of the largest, enlarged by bicubic interpolation. Folders and patterns of pictures are
    films too. Times are of A; a result of --start shows the same moment as its source.
    """
    from vsr.quality.comparison import clock
    from vsr.quality.sheet import MAX_FILMS

    if not 2 <= len(films) <= MAX_FILMS:
        raise ConfigError(f"2 to {MAX_FILMS} films can be compared, not {len(films)}")
    times = [_time(text) for text in moments]
    path = films[0].with_name(f"{films[0].name}.compare.png") if output is None else output
    length = _length(path, duration, wipe=wipe, num_films=len(films))
    _refuse(path, films, overwrite=overwrite)
    reels = _aligned([find_reel(film) for film in films])
    if not times:
        shortest = min(reels, key=lambda each: each.reel.info.duration_s or 0.0)
        middle = Fraction(round(500 * (shortest.reel.info.duration_s or 0.0)), 1000)
        times = [max(Fraction(0), middle - (length or Fraction(0)) / 2) - shortest.shift_s]
    if length is None:
        _write_sheet(path, reels, times)
    else:
        num_frames, lasts = _write_film(path, reels, times, length, wipe=wipe)
        print_line(f"{path}: {num_frames} frames, {float(lasts):.3f} s")
    where = ", ".join(clock(at) for at in times)
    print_line(f"{path}: {where}" if length is None else f"from {where}")
    for letter, film in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", films, strict=False):
        print_line(f"{letter}: {film}")


@dataclass(frozen=True, slots=True)
class _Aligned:
    """A film, and by how much its times from its start are later than the first film's."""

    reel: Reel
    shift_s: Fraction

    @property
    def origin_pts(self) -> int:
        """What the first film calls its start."""
        info = self.reel.info
        return (info.start_pts or 0) + round(self.shift_s / info.time_base)

    def wanted(self, at: Fraction) -> int:
        """The timestamp of a time from the first film's start.

        Raises:
            ConfigError: the film begins later.
        """
        from vsr.quality.comparison import clock

        info = self.reel.info
        # A tick is rounded to at most half of itself: a frame meant for this time is not missed.
        pts = (info.start_pts or 0) + round((at + self.shift_s) / info.time_base)
        if pts < (info.start_pts or 0):
            begins = clock(-self.shift_s)
            raise ConfigError(f"{self.reel.path} begins at {begins} only", hint="take a later --at")
        return pts


def _aligned(reels: Sequence[Reel]) -> list[_Aligned]:
    """Films by their own times, but for excerpts, which know where in their source they begin."""
    began = [reel.began_s for reel in reels]
    starts = [
        (reel.info.start_pts or 0) * reel.info.time_base if at is None else at
        for reel, at in zip(reels, began, strict=True)
    ]
    return [
        _Aligned(reel, Fraction(0) if at is None and began[0] is None else starts[0] - start)
        for reel, at, start in zip(reels, began, starts, strict=True)
    ]


def _time(text: str) -> Fraction:
    try:
        return parse_time(text)
    except ValueError as error:
        raise ConfigError(str(error), hint="for example --at 00:01:00") from error


def _length(path: Path, duration: str | None, *, wipe: bool, num_films: int) -> Fraction | None:
    """Seconds of each moment; None for a sheet of pictures."""
    suffix = path.suffix.lower()
    if suffix in _PICTURES:
        if wipe or duration is not None:
            raise ConfigError(
                f"{path} is a picture by its name: --wipe and --duration are for films",
                hint="name it .mp4",
            )
        return None
    if suffix not in _FILMS:
        raise ConfigError(
            f"{path} is neither a picture nor a film by its name",
            hint=f"name it {', '.join((*_PICTURES, *_FILMS))}",
        )
    if wipe and num_films != 2:
        raise ConfigError(f"a wipe goes between two films, not {num_films}")
    length = _time(_DURATION if duration is None else duration)
    if not length:
        raise ConfigError("a film of no duration cannot be made", hint="for example --duration 10")
    return length


def _viewer(reel: Reel) -> Viewer:
    from vsr.quality.views import Viewer

    info = reel.info
    return Viewer(reel.color(info.width, info.height), turn=info.rotation)


def _over(reel: Reel, at: Fraction) -> ConfigError:
    from vsr.quality.comparison import clock

    return ConfigError(f"{reel.path} is over before {clock(at)}", hint="take an earlier --at")


def _write_sheet(path: Path, reels: Sequence[_Aligned], times: Sequence[Fraction]) -> None:
    from vsr.quality.comparison import clock
    from vsr.quality.sheet import Moment, contact_sheet

    shown = [Moment(clock(at), tuple(_picture(reel, at) for reel in reels)) for at in times]
    _write(path, contact_sheet(shown))


def _picture(film: _Aligned, at: Fraction) -> Pixels:
    """The first frame at or after a time from the film's start, as RGB.

    Raises:
        ConfigError: the film is over by then.
    """
    with ExitStack() as stack:
        frame = next(film.reel.frames(stack, start_pts=film.wanted(at)), None)
    if frame is None:
        raise _over(film.reel, at)
    return _viewer(film.reel).rgb(frame)


def _write_film(
    path: Path,
    films: Sequence[_Aligned],
    times: Sequence[Fraction],
    length: Fraction,
    *,
    wipe: bool,
) -> tuple[int, Fraction]:
    """Encode the moments one after the other; number of frames and seconds."""
    from vsr.quality.comparison import comparison_settings, white_of, write_comparison
    from vsr.quality.montage import Montage

    reels = [film.reel for film in films]
    rates = [reel.info.frame_rate or Fraction(0) for reel in reels]
    # The fastest gives the times, so that no film loses a frame.
    leader = rates.index(max(rates))
    colors = [reel.color(reel.info.width, reel.info.height) for reel in reels]
    sizes = [_shown_size(reel) for reel in reels]
    montage = Montage(sizes, wipe=wipe, ink=white_of(colors[0].transfer))
    if max(montage.size) > _MAX_PX:
        raise ConfigError(
            f"the films side by side are {montage.size[0]}x{montage.size[1]}: no encoder takes it",
            hint="compare fewer, or two of them with --wipe",
        )
    for reel, color in zip(reels[1:], colors[1:], strict=True):
        if (color.transfer, color.primaries) != (colors[0].transfer, colors[0].primaries):
            say(
                f"{reel.path} is of {color.primaries.name} and {color.transfer.name}, the first of "
                f"{colors[0].primaries.name} and {colors[0].transfer.name}: shown as it is coded"
            )
    infos = [reel.info for reel in reels]
    container = _FILMS[path.suffix.lower()]
    largest = infos[sizes.index(max(sizes))]
    # Where a picture is turned, its pixels are.
    aspect = largest.sample_aspect_ratio
    aspect = 1 / aspect if largest.rotation % 180 else aspect
    settings = comparison_settings(infos, colors[0], leader, montage.size, container, aspect)
    frames = _moments(films, times, length, leader, montage, settings)
    with progress_counter("compare") as on_frame:
        return write_comparison(frames, settings, path, container, on_frame)


def _shown_size(reel: Reel) -> tuple[int, int]:
    info = reel.info
    return (info.height, info.width) if info.rotation % 180 else (info.width, info.height)


def _moments(
    films: Sequence[_Aligned],
    times: Sequence[Fraction],
    length: Fraction,
    leader: int,
    montage: Montage,
    settings: EncoderSettings,
) -> Iterator[Frame]:
    from vsr.quality.comparison import Showing, combine

    pts, usual = 0, max(1, round(1 / (settings.frame_rate * settings.time_base)))
    for at in times:
        with ExitStack() as stack:
            shown = []
            for index, film in enumerate(films):
                reel, start = film.reel, film.wanted(at)
                base, first = reel.info.time_base, reel.info.start_pts or 0
                # What another film shows by then may have begun a little before.
                early = 0 if index == leader else round(1 / (reel.info.frame_rate or 25) / base)
                end = start + max(1, round(length / base)) if index == leader else None
                frames = reel.frames(stack, start_pts=max(first, start - early), end_pts=end)
                showing = Showing(reel.path.name, frames, _viewer(reel), base, film.origin_pts)
                shown.append(showing)
            last = None
            for last in combine(shown, leader, montage, settings, first_pts=pts):
                yield last
            if last is None:
                raise _over(min(films, key=_end).reel, at)
            pts = last.pts + (last.duration or usual)


def _end(film: _Aligned) -> Fraction:
    """When a film is over, on the first film's clock."""
    return Fraction(film.reel.info.duration_s or 0) - film.shift_s


def _refuse(path: Path, films: tuple[Path, ...], *, overwrite: bool) -> None:
    if any(path.exists() and film.exists() and path.samefile(film) for film in films):
        raise ConfigError(f"the comparison would replace {path}", hint="choose another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputExistsError(f"{path} exists already", hint="use --overwrite, or another name")
    folder = path.absolute().parent
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
