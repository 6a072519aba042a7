"""Matrices beside the luma weights: converted by the arithmetic of the standard, or refused."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from vsr.color import check_convertible, complete, planes_to_rgb, rgb_to_planes
from vsr.errors import UnsupportedVideoError
from vsr.frame import ChromaLocation, ColorSpec, Matrix, PlaneLayout, Primaries, Transfer
from vsr.media.codecs import color_for


@pytest.mark.parametrize(("bits", "full"), [(8, False), (8, True), (10, False), (12, True)])
def test_ycgco_by_the_lifting_of_the_standard(bits: int, full: bool) -> None:
    """One pixel at a time, in exact arithmetic, from H.273's integer form."""
    step, top = 1 << (bits - 8), (1 << bits) - 1
    y_scale, y_zero, c_scale = (top, 0, top) if full else (219 * step, 16 * step, 224 * step)
    c_zero = 128 * step
    dtype = np.uint8 if bits == 8 else np.uint16
    rgb = np.random.default_rng(3).random((6, 5, 3)) * 0.9 + 0.05
    codes = np.empty((3, 6, 5))
    for row, column in product(range(6), range(5)):
        red, green, blue = rgb[row, column]
        co = red - blue
        t = blue + co / 2
        cg = green - t
        y = t + cg / 2
        # The lifting leaves twice the range in both differences.
        codes[:, row, column] = (
            y * y_scale + y_zero,
            cg / 2 * c_scale + c_zero,
            co / 2 * c_scale + c_zero,
        )
    layout = PlaneLayout(bits=bits)
    color = ColorSpec(matrix=Matrix.YCGCO, full_range=full)
    written = rgb_to_planes(torch.from_numpy(rgb).permute(2, 0, 1)[None].float(), layout, color)
    for plane, expected in zip(written, codes, strict=True):
        assert np.abs(plane[0].numpy().astype(float) - expected).max() <= 0.501
    planes = [torch.from_numpy(np.rint(c).astype(dtype))[None] for c in codes]
    back = planes_to_rgb(planes, layout, color)[0].permute(1, 2, 0).numpy()
    assert np.abs(back - rgb).max() <= 1.6 / (219 * step)


@pytest.mark.parametrize(
    "matrix",
    [Matrix.BT2020_CL, Matrix.ICTCP, Matrix.SMPTE2085, Matrix.CHROMA_NCL, Matrix.CHROMA_CL],
)
def test_what_needs_linear_light_is_refused(matrix: Matrix) -> None:
    layout = PlaneLayout(bits=10, log2_chroma_w=1, log2_chroma_h=1)
    color, _ = complete(ColorSpec(matrix=matrix), 1920, 1080, layout)
    with pytest.raises(UnsupportedVideoError, match=matrix.name) as caught:
        check_convertible(color, layout)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_grey_and_rgb_need_no_matrix() -> None:
    check_convertible(ColorSpec(matrix=Matrix.ICTCP), PlaneLayout(bits=8, is_gray=True))
    check_convertible(ColorSpec(matrix=Matrix.RGB), PlaneLayout(bits=8, is_rgb=True))
    check_convertible(ColorSpec(matrix=Matrix.YCGCO), PlaneLayout(bits=8))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [Matrix.BT709, Matrix.SMPTE170M, Matrix.BT2020_NCL])
@pytest.mark.parametrize("primaries", [Primaries.BT709, Primaries.BT2020])
@pytest.mark.parametrize("sampling", [(1, 1), (1, 0)])
def test_both_rooms_put_chroma_at_the_same_place(
    full: bool, matrix: Matrix, primaries: Primaries, sampling: tuple[int, int]
) -> None:
    layout = PlaneLayout(bits=10, log2_chroma_w=sampling[0], log2_chroma_h=sampling[1])
    color = ColorSpec(matrix=matrix, primaries=primaries, transfer=Transfer.BT709, full_range=full)
    by_reader, _ = complete(color, 1920, 1080, layout)
    assert color_for(layout, color).chroma_location is by_reader.chroma_location
    assert by_reader.chroma_location is not ChromaLocation.UNSPECIFIED
