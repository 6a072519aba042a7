"""A film whose picture changes on its way: of what size, format, colour and shape it is where.

Broadcasts, recordings that were glued together and streams of varying quality do this. What is
only a matter of form can be followed openly; what changes the meaning of light cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vsr.frame import ColorSpec, Primaries, Transfer, VideoInfo
from vsr.media.formats import PixelFormat, pixel_format


@dataclass(frozen=True, slots=True)
class Picture:
    """What stays the same from frame to frame, until it changes."""

    width: int
    height: int
    format: PixelFormat
    color: ColorSpec
    aspect: Fraction | None = None
    """Shape of a pixel where it is not the stream's."""

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.format.name}"


def picture_of(info: VideoInfo) -> Picture:
    """What a film is at its start."""
    return Picture(info.width, info.height, pixel_format(info.pixel_format), info.color)


def describe(was: Picture, now: Picture) -> str:
    """A change in words, to follow "changes its"."""
    if str(was) != str(now):
        return f"picture from {was} to {now}"
    if was.color != now.color:
        return "colour" + _differences(was.color, now.color)
    return f"pixels' shape to {now.aspect or 'that of the start'}"


def cannot_follow(first: Picture, now: Picture) -> str | None:
    """Why a change cannot be undone by resampling and another matrix; None if it can.

    Curves and primaries are neither undone nor changed on the way through a model, so standard and
    high dynamic range, or ordinary and wide primaries, cannot be in one result. The primaries of
    standard and high definition television are near enough to each other to be left.
    """
    before, after = _light(first.color), _light(now.color)
    return None if before == after else f"{before} and {after} cannot be in one film"


def _light(color: ColorSpec) -> str:
    if color.transfer in (Transfer.PQ, Transfer.HLG):
        return color.transfer.name
    if color.transfer in (Transfer.LINEAR, Transfer.LOG100, Transfer.LOG316):
        return f"{color.transfer.name.lower()} light"
    if color.primaries in (Primaries.BT2020, Primaries.SMPTE431, Primaries.SMPTE432):
        return f"{color.primaries.name} colour"
    return "standard range"


def _differences(was: ColorSpec, now: ColorSpec) -> str:
    """The first field that differs, before and after."""
    for field in ("matrix", "full_range", "primaries", "transfer", "chroma_location"):
        before, after = getattr(was, field), getattr(now, field)
        if before != after:
            names = (getattr(value, "name", str(value)) for value in (before, after))
            return f" ({field.replace('_', ' ')} {' to '.join(names)})"
    return ""
