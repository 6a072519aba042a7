"""A film whose picture changes on its way: of what size, format, colour and shape it is where.

Broadcasts, recordings that were glued together and streams of varying quality do this. What is
only a matter of form can be followed openly; what changes the meaning of light cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from vsr.errors import UnsupportedVideoError
from vsr.frame import ColorSpec, Primaries, Transfer, VideoInfo
from vsr.media.damage import KIND_PICTURE_CHANGE, DamageLog
from vsr.media.formats import PixelFormat, pixel_format, read_color
from vsr.media.probe import to_fraction

if TYPE_CHECKING:
    from av import VideoFrame


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


class PictureWatch:
    """What the pictures of one stream are, decoded one by one; changes are refused or recorded.

    Args:
        path: of the file, for messages.
        info: of the stream.
        damage: where a change that is followed is recorded.
        follow: record a change of what the film is at its start, instead of refusing it. Those
            that no conversion undoes are refused still.
        is_stored_otherwise: samples come in other places than `info` says, chroma interleaved for
            instance, which is no change as long as they are the same samples.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        damage: DamageLog,
        *,
        follow: bool,
        is_stored_otherwise: bool = False,
    ) -> None:
        self._path = path
        self._info = info
        self._damage = damage
        self._told = pixel_format(info.pixel_format) if is_stored_otherwise else None
        self._first = picture_of(info) if follow else None
        self._picture = self._first
        self._coded_aspect: Fraction | None = None
        self._aspects: dict[int, Fraction] = {}

    def note_aspect(self, frames: list[VideoFrame], coded: Fraction | None) -> None:
        """Keep the shape of pixels that the decoder has come to, where it is no longer the first.

        av tells it of the decoder alone, so it is taken down before frames wait for timestamps.

        Args:
            frames: just decoded.
            coded: shape of a pixel as the decoder has it now.
        """
        if self._first is None:
            return
        now = to_fraction(coded) or Fraction(1)
        if self._coded_aspect is None:
            self._coded_aspect = now
        if now != self._coded_aspect:
            # A container's own word on the shape goes on as a factor.
            aspect = self._info.sample_aspect_ratio * now / self._coded_aspect
            self._aspects.update((id(frame), aspect) for frame in frames)

    def check(self, decoded: VideoFrame, pts: int) -> Picture:
        """What the picture is.

        Raises:
            UnsupportedVideoError: it is not what the film was before, and that is not followed.
        """
        plan = pixel_format(decoded.format.name)
        if self._told is not None and plan.layout == self._told.layout:
            plan = self._told
        color = read_color(decoded, plan, self._info.codec)
        aspect = self._aspects.pop(id(decoded), None)
        now = Picture(decoded.width, decoded.height, plan, color, aspect)
        was, self._picture = self._picture or now, now
        if now == was:
            return now
        seconds = float(pts * self._info.time_base)
        where = f"{self._path} changes its {describe(was, now)} at pts {pts} ({seconds:.3f} s)"
        if self._first is None:
            raise UnsupportedVideoError(
                f"{where}.", hint="split the file there and upscale the parts one by one"
            )
        trouble = cannot_follow(self._first, now)
        if trouble is not None:
            raise UnsupportedVideoError(
                f"{where}: {trouble}.", hint="split the file there and upscale the parts alone"
            )
        self._damage.add(KIND_PICTURE_CHANGE, pts, f"the film changes its {describe(was, now)}")
        return now


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
