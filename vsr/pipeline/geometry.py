"""Decide how large the result is, which way up, and of which shape its pixels are. Pure.

Sizes that a user names are sizes as displayed: for a film that its display matrix turns on its
side, width and height change places before they are compared with the stored picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from vsr.config import UpscaleConfig
from vsr.engine.geometry import Geometry, Orientation, orientation_of
from vsr.errors import ConfigError
from vsr.frame import VideoInfo
from vsr.media.damage import KIND_PICTURE_CHANGE, DamageEvent
from vsr.notation import parse_size
from vsr.pipeline.declared import DeclaredPicture

MAX_OUTPUT_PIXELS = 16384 * 8704
"""Largest frame that is made; the codecs end there as well."""
MAX_OUTPUT_SIDE = 32768
_MAX_ASPECT_TERM = 65535
"""Codecs write the shape of a pixel as two numbers of 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeometryPlan:
    """What was decided."""

    geometry: Geometry
    scale: Fraction
    """By how much the film is enlarged, across and down; the larger where they differ."""
    model_scale: int
    """Of the smallest model there is that reaches `scale`; of the largest if none does."""
    declared: DeclaredPicture
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Turned:
    """The source as the model will see it."""

    width: int
    height: int
    aspect: Fraction
    """Of a pixel."""
    stretch: Fraction
    """By how much more than down it is enlarged across: 1, or the pixels' shape for `square`."""
    is_sideways: bool
    """Whether what the player shows as its width is stored as height."""


def plan_geometry(
    config: UpscaleConfig,
    video: VideoInfo,
    *,
    scale: Fraction,
    model_scales: Sequence[int],
    multiple: tuple[int, int],
) -> GeometryPlan:
    """Work out the size, shape and place of the result's pictures.

    `--size` with `--fit contain` (the default) keeps the shape and stays inside the size, without
    bars, as FFmpeg's `force_original_aspect_ratio=decrease`; `cover` fills the size and crops what
    stands over on both sides alike, as `increase` followed by `crop`; `stretch` fills it, and the
    pixels change their shape so that the film keeps its own, as FFmpeg's `scale` does, unless they
    are to be square.

    Whole multiples of the source are exact: where the encoder cannot hold an odd size, the last row
    or column is repeated. All other sizes are rounded to the nearest that it can hold.

    Args:
        config: what is asked for.
        video: the source.
        scale: to enlarge by, when no size is asked for.
        model_scales: there are models of, rising.
        multiple: width and height must be multiples of these for the encoder.

    Raises:
        ConfigError: what is asked for is smaller than the source or too large, or cannot be done.
    """
    notes: list[str] = []
    orientation, matrix = _orientation(config, video, notes)
    source = _turned(config, video, orientation, matrix)
    box = _box(config, source, notes)
    across, down = _scales(config, source, box, scale)
    if box is not None and config.fit == "contain":
        # Within a size that can be held both sides come out alike.
        width, height = (max(m, side // m * m) for side, m in zip(box, multiple, strict=True))
        fitting = _scales(config, source, (width, height), scale)
        across, down = fitting if min(fitting) >= 1 else (across, down)
    if min(across, down) < 1:
        raise ConfigError(
            f"the size asked for is smaller than the source's {video.width}x{video.height}",
            hint="a scale below 1 is no upscale",
        )
    picture, frame = _sizes(config, source, (across, down), box, multiple)
    _check_limits(*frame)
    aspect = _aspect(config, source, box, frame)
    _say(notes, source, (across, down), box, frame, aspect)
    geometry = Geometry(
        orientation=orientation,
        picture_width=picture[0],
        picture_height=picture[1],
        width=frame[0],
        height=frame[1],
        crop_left=max(0, picture[0] - frame[0]) // 2,
        crop_top=max(0, picture[1] - frame[1]) // 2,
        sample_aspect_ratio=aspect,
        display_matrix=matrix,
    )
    return GeometryPlan(
        geometry=geometry,
        scale=max(across, down),
        model_scale=next((s for s in model_scales if s >= max(across, down)), model_scales[-1]),
        declared=declare(geometry, source.width, source.height, is_square=config.par == "square"),
        notes=tuple(notes),
    )


def change_notes(events: Iterable[DamageEvent]) -> tuple[str, ...]:
    """What becomes of pictures that are of another kind than the film's first, in words."""
    changes = [event for event in events if event.kind == KIND_PICTURE_CHANGE]
    if not changes:
        return ()
    num = sum(event.count for event in changes)
    return (
        f"The picture changes its kind {num} times on the way, first where "
        f"{changes[0].detail}: all are resampled and converted to what the first makes, those of "
        "another shape between bars.",
    )


def declare(geometry: Geometry, width: int, height: int, *, is_square: bool) -> DeclaredPicture:
    """What the result's check has to know of the picture's place.

    Args:
        geometry: of the film.
        width: of the source as turned, pixels.
        height: of the same.
        is_square: whether the shape of pixels was worked into the size.
    """
    orientation = geometry.orientation
    # A transpose is a quarter turn and a mirror; two mirrors are half a turn.
    if orientation.transpose:
        turn = 90 if orientation.flip_v else 270
        flip = orientation.flip_h == orientation.flip_v
    else:
        turn = 180 if orientation.flip_v else 0
        flip = orientation.flip_h != orientation.flip_v
    size = geometry.picture_width, geometry.picture_height
    crop = box = None
    if geometry.needs_fill:
        box = (0, 0, *size)
    elif size != (geometry.width, geometry.height):
        per_x, per_y = Fraction(width, size[0]), Fraction(height, size[1])
        left, top = geometry.crop_left * per_x, geometry.crop_top * per_y
        crop = (left, top, geometry.width * per_x, geometry.height * per_y)
    return DeclaredPicture(turn=turn, flip=flip, crop=crop, box=box, square_pixels=is_square)


def _orientation(
    config: UpscaleConfig, video: VideoInfo, notes: list[str]
) -> tuple[Orientation, tuple[int, ...] | None]:
    """How pictures are turned, and the display matrix that is left."""
    if config.rotate == "keep" or video.display_matrix is None:
        return Orientation(), video.display_matrix
    orientation = orientation_of(video.display_matrix)
    if orientation is None:
        raise ConfigError(
            f"the film is shown turned by {video.rotation} degrees, and only quarter turns "
            "and mirrors can be baked in",
            hint="leave --rotate at keep",
        )
    if not orientation.is_identity:
        notes.append("The pictures are turned as a player would show them.")
    return orientation, None


def _turned(
    config: UpscaleConfig,
    video: VideoInfo,
    orientation: Orientation,
    matrix: tuple[int, ...] | None,
) -> _Turned:
    width, height = orientation.size(video.width, video.height)
    aspect = orientation.aspect(video.sample_aspect_ratio)
    shown = orientation_of(matrix) if matrix is not None else None
    is_square = config.par == "square"
    return _Turned(
        width=width,
        height=height,
        aspect=aspect,
        stretch=aspect if is_square else Fraction(1),
        is_sideways=shown is not None and shown.transpose,
    )


def _box(config: UpscaleConfig, source: _Turned, notes: list[str]) -> tuple[int, int] | None:
    """The size asked for, as stored."""
    if config.size is None:
        return None
    width, height = parse_size(config.size)
    if source.is_sideways:
        notes.append(f"{width}x{height} is the size as displayed; the film is stored on its side.")
        return height, width
    return width, height


def _scales(
    config: UpscaleConfig, source: _Turned, box: tuple[int, int] | None, scale: Fraction
) -> tuple[Fraction, Fraction]:
    """Enlargement across, pixel shape left out, and down."""
    if box is not None and config.fit == "stretch":
        # Square pixels of a film with narrow ones need fewer columns than are stored.
        narrowed = source.width * (source.stretch if source.stretch < 1 else Fraction(1))
        return box[0] / narrowed, Fraction(box[1], source.height)
    if box is not None:
        sides = box[0] / (source.width * source.stretch), Fraction(box[1], source.height)
        both = min(sides) if config.fit == "contain" else max(sides)
        return both, both
    if config.height is not None:
        stored = source.width * source.stretch if source.is_sideways else source.height
        return (config.height / Fraction(stored),) * 2
    return scale, scale


def _sizes(
    config: UpscaleConfig,
    source: _Turned,
    scales: tuple[Fraction, Fraction],
    box: tuple[int, int] | None,
    multiple: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(width, height) of the resampled picture, and of the frame."""
    exact = (source.width * source.stretch * scales[0], source.height * scales[1])
    if box is None and scales[0].denominator == 1 and source.stretch == 1:
        whole = int(exact[0]), int(exact[1])
        return whole, (_round_up(whole[0], multiple[0]), _round_up(whole[1], multiple[1]))
    if box is None or config.fit == "contain":
        limits: tuple[int | None, int | None] = box or (None, None)
        near = [_nearest(e, m, top) for e, m, top in zip(exact, multiple, limits, strict=True)]
        return (near[0], near[1]), (near[0], near[1])
    frame = _nearest(Fraction(box[0]), multiple[0]), _nearest(Fraction(box[1]), multiple[1])
    if config.fit == "stretch":
        return frame, frame
    return (max(frame[0], round(exact[0])), max(frame[1], round(exact[1]))), frame


def _aspect(
    config: UpscaleConfig, source: _Turned, box: tuple[int, int] | None, frame: tuple[int, int]
) -> Fraction:
    """Shape of the result's pixels."""
    if config.par == "square":
        return Fraction(1)
    if box is None or config.fit != "stretch":
        return source.aspect
    aspect = source.aspect * Fraction(frame[1] * source.width, frame[0] * source.height)
    return aspect.limit_denominator(int(_MAX_ASPECT_TERM / max(Fraction(1), aspect)))


def _say(
    notes: list[str],
    source: _Turned,
    scales: tuple[Fraction, Fraction],
    box: tuple[int, int] | None,
    frame: tuple[int, int],
    aspect: Fraction,
) -> None:
    """Put into words what a user might not expect."""
    if source.stretch != 1:
        notes.append(
            f"Pixels of shape {_ratio(source.aspect)} become square: the width is resampled."
        )
    elif aspect != source.aspect:
        notes.append(f"The pixels' shape becomes {_ratio(aspect)}, so that the film keeps its own.")
    across, down = source.width * source.stretch * scales[0], source.height * scales[1]
    if box is None and (across != frame[0] or down != frame[1]):
        notes.append(
            f"{_number(across)}x{_number(down)} is made {frame[0]}x{frame[1]}, "
            "the nearest size that the encoder can hold."
        )
    elif box is not None and box != frame:
        notes.append(f"{frame[0]}x{frame[1]} is what fits into {box[0]}x{box[1]}.")


def _check_limits(width: int, height: int) -> None:
    if width * height > MAX_OUTPUT_PIXELS or max(width, height) > MAX_OUTPUT_SIDE:
        raise ConfigError(
            f"the result would be {width}x{height}, {width * height / 1e6:.0f} megapixels a "
            f"frame, more than the {MAX_OUTPUT_PIXELS / 1e6:.0f} that are allowed",
            hint="ask for a smaller scale or size",
        )


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _nearest(value: Fraction, multiple: int, limit: int | None = None) -> int:
    """The nearest multiple, the larger of two, at most `limit`; at least one multiple."""
    nearest = max(1, math.floor(value / multiple + Fraction(1, 2))) * multiple
    if limit is not None and nearest > limit:
        nearest -= multiple
    return max(multiple, nearest)


def _ratio(aspect: Fraction) -> str:
    return f"{aspect.numerator}:{aspect.denominator}"


def _number(value: Fraction) -> str:
    return f"{float(value):.2f}".rstrip("0").rstrip(".")
