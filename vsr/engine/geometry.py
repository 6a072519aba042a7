"""Where the pixels of a result lie: orientation, size, cropping, pixel shape. Pure numbers.

A frame goes through four steps: it is turned (`Orientation`), enlarged by the model, resampled once
to the size of the picture, and laid into the frame that is encoded. Any of them may do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_ONE = 1 << 16
"""1 in the 16.16 fixed point of a display matrix."""
_AXIS_TOLERANCE = 0.01
"""How far from 0 an entry of a scaled display matrix may be and still count as 0."""
_SHAPE_TOLERANCE = 0.01
"""Relative difference of display shape below which a picture is stretched rather than barred."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orientation:
    """One of the eight ways to lay a picture: rows may become columns, then be mirrored."""

    transpose: bool = False
    """Swap rows and columns first."""
    flip_h: bool = False
    """Then mirror left and right."""
    flip_v: bool = False
    """And top and bottom."""

    @property
    def is_identity(self) -> bool:
        return not (self.transpose or self.flip_h or self.flip_v)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a picture so laid."""
        return (height, width) if self.transpose else (width, height)

    def aspect(self, sample_aspect_ratio: Fraction) -> Fraction:
        """Shape of a pixel so laid."""
        return 1 / sample_aspect_ratio if self.transpose else sample_aspect_ratio


def orientation_of(display_matrix: Sequence[int]) -> Orientation | None:
    """How a player lays a picture with this matrix; None when it turns by other than 90 degrees.

    A stored point (x, y) is shown at (a x + c y, b x + d y), where the matrix is
    (a, b, u, c, d, v, ...) in 16.16 fixed point, after ISO/IEC 14496-12, 6.2.2. How much it
    enlarges and where it moves the picture to makes no difference.

    Args:
        display_matrix: nine numbers, row by row.
    """
    a, b, c, d = (display_matrix[index] / _ONE for index in (0, 1, 3, 4))
    largest = max(abs(value) for value in (a, b, c, d))
    if largest == 0.0:
        return None
    along, across = (abs(a), abs(d)), (abs(b), abs(c))
    small = _AXIS_TOLERANCE * largest
    if max(across) <= small and min(along) > small:
        return Orientation(flip_h=a < 0, flip_v=d < 0)
    if max(along) <= small and min(across) > small:
        return Orientation(transpose=True, flip_h=c < 0, flip_v=b < 0)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What becomes of the pixels of a film."""

    orientation: Orientation = Orientation()
    """How source pictures are turned before the model sees them."""
    picture_width: int
    """To this size the model's pictures are resampled, pixels."""
    picture_height: int
    width: int
    """Of the frames that are encoded, pixels."""
    height: int
    crop_left: int = 0
    """Columns of the resampled picture left of the frame. Where the frame goes beyond the picture,
    at the right and below, the last column and row are repeated."""
    crop_top: int = 0
    sample_aspect_ratio: Fraction = Fraction(1)
    """Of the result."""
    display_matrix: tuple[int, ...] | None = None
    """Of the result."""

    @property
    def needs_fill(self) -> bool:
        """Whether the frame goes beyond the picture."""
        return (
            self.crop_left + self.width > self.picture_width
            or self.crop_top + self.height > self.picture_height
        )


def fit_shape(shape: Fraction, box: tuple[int, int], box_shape: Fraction) -> tuple[int, int]:
    """Size at which a picture of another shape is shown whole inside a box.

    Args:
        shape: width by height of the picture as displayed.
        box: (width, height) to fill, pixels.
        box_shape: width by height of the box as displayed.

    Returns:
        (width, height) in pixels of the box, one of them the box's own. The whole box when the
        shapes agree within 1 %, or when there is nothing to go by.
    """
    width, height = box
    if shape <= 0 or box_shape <= 0:
        return box
    ratio = shape / box_shape
    if abs(ratio - 1) <= _SHAPE_TOLERANCE:
        return box
    if ratio > 1:
        return width, max(1, round(height / ratio))
    return max(1, round(width * ratio)), height
