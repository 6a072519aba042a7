"""An alpha channel beside the picture: no model sees it, so it is enlarged by interpolation.

Transparency is linear and needs no colour: it is read, resampled (bicubic, clamped to what it can
be) and written like grey of full range.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from vsr.color import planes_to_rgb, rgb_to_planes
from vsr.frame import ColorSpec, Matrix, PlaneLayout
from vsr.models.image.interpolation import imresize

_COLOR = ColorSpec(matrix=Matrix.BT709, full_range=True)


def _layout(layout: PlaneLayout) -> PlaneLayout:
    """Of the alpha plane alone."""
    return PlaneLayout(bits=layout.bits, is_gray=True, is_float=layout.is_float)


def read_alpha(planes: Sequence[Tensor], layout: PlaneLayout) -> Tensor:
    """The alpha plane of a picture.

    Args:
        planes: of the picture, each (B, h, w); alpha is the last.
        layout: of those, with alpha.

    Returns:
        (B, 1, H, W) float32, 0 transparent, 1 opaque.
    """
    assert layout.has_alpha
    return planes_to_rgb(planes[-1:], _layout(layout), _COLOR)[:, :1]


def enlarge_alpha(alpha_B1HW: Tensor, scale: int) -> Tensor:
    """(B, 1, H, W) -> (B, 3, scale H, scale W), three times the same, as pictures are placed."""
    larger = imresize(alpha_B1HW, scale=scale) if scale > 1 else alpha_B1HW
    return larger.clamp(0, 1).expand(-1, 3, -1, -1)


def write_alpha(alpha_B3HW: Tensor, layout: PlaneLayout) -> tuple[Tensor, ...]:
    """The alpha plane (B, H, W) of a picture of that layout, in a tuple."""
    return rgb_to_planes(alpha_B3HW.clamp(0, 1), _layout(layout), _COLOR)
