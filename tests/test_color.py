"""Colour conversion against arithmetic written out in numpy from the standards' formulas."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.color import complete, planes_to_rgb, rgb_to_planes
from vsr.errors import ShapeError, UnsupportedVideoError
from vsr.frame import ChromaLocation, ColorSpec, Matrix, PlaneLayout, Primaries, Transfer

Floats = NDArray[np.floating[Any]]

KR_KB = {
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.FCC: (0.30, 0.11),
    Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020_NCL: (0.2627, 0.0593),
}
BITS = (8, 9, 10, 12, 14, 16)
SUBSAMPLINGS = {"420": (1, 1), "422": (1, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
SITED = [location for location in ChromaLocation if location is not ChromaLocation.UNSPECIFIED]


def yuv(bits: int, subsampling: str = "444") -> PlaneLayout:
    log2_w, log2_h = SUBSAMPLINGS.get(subsampling, (0, 0))
    return PlaneLayout(bits=bits, log2_chroma_w=log2_w, log2_chroma_h=log2_h)


def encode(rgb: Floats, matrix: Matrix, bits: int, full_range: bool) -> Floats:
    """R, G, B of any shape (..., 3) to unrounded Y, Cb, Cr codes: BT.709, H.273 section 8."""
    kr, kb = KR_KB[matrix]
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb = (blue - luma) / (2 * (1 - kb))
    cr = (red - luma) / (2 * (1 - kr))
    if full_range:
        top, half = 2**bits - 1, 2 ** (bits - 1)
        return np.stack([luma * top, cb * top + half, cr * top + half], -1)
    step = 2 ** (bits - 8)
    return np.stack(
        [(219 * luma + 16) * step, (224 * cb + 128) * step, (224 * cr + 128) * step], -1
    )


def decode(codes: Floats, matrix: Matrix, bits: int, full_range: bool) -> Floats:
    kr, kb = KR_KB[matrix]
    if full_range:
        top, half = 2**bits - 1, 2 ** (bits - 1)
        luma, cb, cr = (
            codes[..., 0] / top,
            (codes[..., 1] - half) / top,
            (codes[..., 2] - half) / top,
        )
    else:
        step = 2 ** (bits - 8)
        luma = (codes[..., 0] / step - 16) / 219
        cb, cr = (codes[..., 1] / step - 128) / 224, (codes[..., 2] / step - 128) / 224
    red, blue = luma + 2 * (1 - kr) * cr, luma + 2 * (1 - kb) * cb
    return np.stack([red, (luma - kr * red - kb * blue) / (1 - kr - kb), blue], -1)


def to_tensor(array: NDArray[np.generic], bits: int) -> Tensor:
    """Integer codes (h, w) to a plane (1, h, w)."""
    return torch.from_numpy(array.astype(np.uint8 if bits <= 8 else np.uint16))[None]


def to_array(plane: Tensor) -> NDArray[np.int64]:
    return plane[0].numpy().astype(np.int64)


def pixel(red: float, green: float, blue: float) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.float32).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("matrix", "bits", "full_range", "rgb", "codes"),
    [
        (Matrix.BT709, 8, False, (200 / 255, 30 / 255, 60 / 255), (75, 124, 201)),
        (Matrix.BT470BG, 8, False, (200 / 255, 30 / 255, 60 / 255), (88, 116, 201)),
        (Matrix.SMPTE170M, 8, False, (0, 0, 1), (41, 240, 110)),
        (Matrix.SMPTE170M, 8, True, (1, 0, 0), (76, 85, 255)),
        (Matrix.BT709, 8, False, (1, 0, 0), (63, 102, 240)),
        (Matrix.BT709, 8, False, (1, 1, 0), (219, 16, 138)),
        (Matrix.BT709, 8, False, (1, 1, 1), (235, 128, 128)),
        (Matrix.BT709, 10, False, (1, 0, 0), (250, 409, 960)),
        (Matrix.BT709, 10, True, (1, 1, 1), (1023, 512, 512)),
        (Matrix.BT2020_NCL, 10, False, (1, 0, 0), (294, 387, 960)),
        (Matrix.BT2020_NCL, 12, False, (0, 0, 0), (256, 2048, 2048)),
        (Matrix.BT2020_NCL, 16, False, (1, 1, 1), (60160, 32768, 32768)),
    ],
)
def test_known_colours(
    matrix: Matrix,
    bits: int,
    full_range: bool,
    rgb: tuple[float, float, float],
    codes: tuple[int, int, int],
) -> None:
    color = ColorSpec(matrix=matrix, full_range=full_range)
    planes = rgb_to_planes(pixel(*rgb), yuv(bits), color)
    assert tuple(int(plane) for plane in planes) == codes
    back = planes_to_rgb(planes, yuv(bits), color).flatten().numpy()
    np.testing.assert_allclose(back, rgb, atol=1.2 / 2 ** (bits - 1))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", KR_KB)
def test_formulas_both_ways_and_round_trip(matrix: Matrix, bits: int, full_range: bool) -> None:
    generator = np.random.default_rng(bits)
    rgb = generator.random((24, 40, 3))
    color, layout = ColorSpec(matrix=matrix, full_range=full_range), yuv(bits)
    expected = encode(rgb, matrix, bits, full_range)
    tensor = torch.from_numpy(rgb.astype(np.float32)).permute(2, 0, 1)[None]
    planes = rgb_to_planes(tensor, layout, color)
    for index, plane in enumerate(planes):
        assert plane.dtype is (torch.uint8 if bits == 8 else torch.uint16)
        # A value that lies on x.5 may go either way in float32; nothing else may.
        limit = np.clip(expected[..., index], 0, 2**bits - 1)
        assert np.abs(to_array(plane) - limit).max() <= 0.5 + 2 ** (bits - 22)

    codes = np.stack([to_array(plane) for plane in planes], -1).astype(np.float64)
    decoded = planes_to_rgb(planes, layout, color)
    np.testing.assert_allclose(
        decoded[0].permute(1, 2, 0).numpy(), decode(codes, matrix, bits, full_range), atol=2e-6
    )
    again = rgb_to_planes(decoded, layout, color)
    assert all(torch.equal(a, b) for a, b in zip(planes, again, strict=True))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("subsampling", ["444", "420"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_luma_ramp_survives_outside_the_nominal_range(
    bits: int, subsampling: str, full_range: bool
) -> None:
    ramp = np.arange(1, 2**bits - 1, max(1, 2 ** (bits - 10))).reshape(2, -1)
    height, width = ramp.shape
    layout = yuv(bits, subsampling)
    gray = np.full(layout.plane_size(1, width, height), 2 ** (bits - 1))
    planes = [to_tensor(ramp, bits), to_tensor(gray, bits), to_tensor(gray, bits)]
    color = ColorSpec(matrix=Matrix.BT709, full_range=full_range)
    back = rgb_to_planes(planes_to_rgb(planes, layout, color), layout, color)
    assert np.array_equal(to_array(back[0]), ramp)
    assert np.array_equal(to_array(back[1]), gray)
    assert np.array_equal(to_array(back[2]), gray)


def test_rgb_is_not_clamped() -> None:
    luma = np.array([[1, 16, 235, 254]])
    gray = np.full((1, 4), 128)
    planes = [to_tensor(plane, 8) for plane in (luma, gray, gray)]
    rgb = planes_to_rgb(planes, yuv(8), ColorSpec(matrix=Matrix.BT709))
    expected = np.broadcast_to((luma - 16) / 219, (3, 1, 4))
    np.testing.assert_allclose(rgb[0].numpy(), expected, atol=1e-6)
    assert rgb.min() < -0.06
    assert rgb.max() > 1.08


@pytest.mark.parametrize("bits", BITS)
def test_codes_are_clamped_to_the_bits(bits: int) -> None:
    rgb = torch.tensor([-1.0, 2.0, 1e6]).view(1, 1, 1, 3).expand(1, 3, 1, 3)
    for layout in (yuv(bits), PlaneLayout(bits=bits, is_gray=True)):
        plane = rgb_to_planes(rgb, layout, ColorSpec(matrix=Matrix.BT709))[0]
        assert to_array(plane).tolist() == [[0, 2**bits - 1, 2**bits - 1]]


def test_rounds_to_nearest() -> None:
    layout, color = PlaneLayout(bits=8, is_gray=True), ColorSpec(full_range=True)
    values = torch.tensor([9.51, 10.0, 10.49, 10.51]) / 255
    plane = rgb_to_planes(values.view(1, 1, 1, 4).expand(1, 3, 1, 4), layout, color)[0]
    assert plane.flatten().tolist() == [10, 10, 10, 11]


def chroma_position(location: ChromaLocation, ratio_x: int, ratio_y: int) -> tuple[float, float]:
    """Where the first chroma sample sits, in luma samples: H.273 figure 1 written as a table."""
    middle_x, middle_y = (ratio_x - 1) / 2, (ratio_y - 1) / 2
    return {
        ChromaLocation.LEFT: (0.0, middle_y),
        ChromaLocation.CENTER: (middle_x, middle_y),
        ChromaLocation.TOPLEFT: (0.0, 0.0),
        ChromaLocation.TOP: (middle_x, 0.0),
        ChromaLocation.BOTTOMLEFT: (0.0, ratio_y - 1.0),
        ChromaLocation.BOTTOM: (middle_x, ratio_y - 1.0),
    }[location]


def cubic(x: Floats) -> Floats:
    """Keys' kernel with a = -1/2."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resample_matrix(num_out: int, num_in: int, centres: Floats, width: float) -> Floats:
    """Row i weighs the inputs for a kernel of that width at centres[i]; edges repeat."""
    matrix = np.zeros((num_out, num_in))
    for row, centre in enumerate(centres):
        taps = np.arange(np.floor(centre - 2 * width), np.ceil(centre + 2 * width) + 1)
        weights = cubic((taps - centre) / width)
        np.add.at(matrix[row], np.clip(taps, 0, num_in - 1).astype(int), weights / weights.sum())
    return matrix


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (12, 18), (17, 23)])
@pytest.mark.parametrize("location", SITED)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_chroma_resampling_has_the_right_phase_and_edges(
    subsampling: str, location: ChromaLocation, size: tuple[int, int]
) -> None:
    height, width = size
    layout = yuv(16, subsampling)
    color = ColorSpec(matrix=Matrix.BT709, full_range=True, chroma_location=location)
    ratio_x, ratio_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    x, y = chroma_position(location, ratio_x, ratio_y)
    rows, columns = layout.plane_size(1, width, height)
    assert (rows, columns) == (-(-height // ratio_y), -(-width // ratio_x))
    generator = np.random.default_rng(7)
    cb, cr = generator.integers(16384, 49152, (2, rows, columns))

    up_y = resample_matrix(height, rows, (np.arange(height) - y) / ratio_y, 1)
    up_x = resample_matrix(width, columns, (np.arange(width) - x) / ratio_x, 1)
    large = [up_y @ plane @ up_x.T for plane in (cb, cr)]
    codes = np.stack([np.full(size, 30000.0), *large], -1)
    planes = [to_tensor(plane, 16) for plane in (np.full(size, 30000), cb, cr)]
    rgb = planes_to_rgb(planes, layout, color)
    expected = decode(codes, Matrix.BT709, 16, True)
    np.testing.assert_allclose(rgb[0].permute(1, 2, 0).numpy(), expected, atol=3e-6)

    down_y = resample_matrix(rows, height, np.arange(rows) * ratio_y + y, ratio_y)
    down_x = resample_matrix(columns, width, np.arange(columns) * ratio_x + x, ratio_x)
    reduced = [down_y @ plane @ down_x.T for plane in large]
    back = rgb_to_planes(rgb, layout, color)
    assert np.array_equal(to_array(back[0]), np.full(size, 30000))
    for plane, wanted in zip(back[1:], reduced, strict=True):
        assert np.abs(to_array(plane) - wanted).max() <= 0.55


@pytest.mark.parametrize("location", SITED)
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_linear_chroma_ramp_is_exact_inside(subsampling: str, location: ChromaLocation) -> None:
    layout = yuv(16, subsampling)
    color = ColorSpec(matrix=Matrix.BT709, full_range=True, chroma_location=location)
    ratio_x, ratio_y = 1 << layout.log2_chroma_w, 1 << layout.log2_chroma_h
    x, y = chroma_position(location, ratio_x, ratio_y)
    height, width = 64, 96
    rows, columns = layout.plane_size(1, width, height)

    def ramp(at_y: NDArray[Any], at_x: NDArray[Any]) -> Floats:
        codes: Floats = 20000.0 + 64 * at_x[None, :] + 128 * at_y[:, None]
        return codes

    chroma = ramp(np.arange(rows) * ratio_y + y, np.arange(columns) * ratio_x + x)
    luma = to_tensor(np.full((height, width), 30000), 16)
    planes = [luma, to_tensor(chroma, 16), to_tensor(chroma, 16)]
    rgb = planes_to_rgb(planes, layout, color)
    large = ramp(np.arange(height), np.arange(width))
    expected = decode(
        np.stack([np.full_like(large, 30000), large, large], -1), color.matrix, 16, True
    )
    inside = np.s_[8:-8, 8:-8]
    np.testing.assert_allclose(rgb[0].permute(1, 2, 0).numpy()[inside], expected[inside], atol=2e-6)
    edge_y, edge_x = 16 // ratio_y, 16 // ratio_x
    inside = np.s_[edge_y:-edge_y, edge_x:-edge_x]
    back = rgb_to_planes(rgb, layout, color)
    assert np.array_equal(to_array(back[1])[inside], chroma[inside])
    assert np.array_equal(to_array(back[2])[inside], chroma[inside])


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("location", [ChromaLocation.UNSPECIFIED, *SITED])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_smooth_chroma_round_trips_within_one_code(
    subsampling: str, location: ChromaLocation, bits: int
) -> None:
    layout = yuv(bits, subsampling)
    for (height, width), full_range in itertools.product([(64, 96), (63, 95)], [False, True]):
        color = ColorSpec(matrix=Matrix.SMPTE170M, full_range=full_range, chroma_location=location)
        rows, columns = layout.plane_size(1, width, height)
        top = 2 ** (bits - 8)
        y = np.linspace(0, np.pi, rows)[:, None]
        x = np.linspace(0, np.pi, columns)[None, :]
        # Flat at the borders, where the repeated edge is the only wrong guess.
        cb, cr = (np.rint((128 + sign * 40 * np.cos(x) * np.cos(y)) * top) for sign in (1, -1))
        luma = np.rint(np.linspace(30, 220, height * width).reshape(height, width) * top)
        planes = [to_tensor(plane, bits) for plane in (luma, cb, cr)]
        back = rgb_to_planes(planes_to_rgb(planes, layout, color), layout, color)
        assert np.array_equal(to_array(back[0]), luma)
        for plane, wanted in zip(back[1:], (cb, cr), strict=True):
            assert np.abs(to_array(plane) - wanted).max() <= 1


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("location", SITED)
def test_flat_colour_is_exact(subsampling: str, location: ChromaLocation) -> None:
    layout, color = yuv(8, subsampling), ColorSpec(matrix=Matrix.BT709, chroma_location=location)
    planes = [
        to_tensor(np.full(layout.plane_size(index, 19, 13), code), 8)
        for index, code in enumerate((63, 102, 240))
    ]
    back = rgb_to_planes(planes_to_rgb(planes, layout, color), layout, color)
    assert all(torch.equal(a, b) for a, b in zip(planes, back, strict=True))


def test_unspecified_location_converts_as_complete_says() -> None:
    generator = np.random.default_rng(3)
    for full_range, location in ((False, ChromaLocation.LEFT), (True, ChromaLocation.CENTER)):
        color = ColorSpec(matrix=Matrix.BT709, full_range=full_range)
        layout = yuv(8, "420")
        planes = [
            to_tensor(generator.integers(16, 240, layout.plane_size(index, 16, 16)), 8)
            for index in range(3)
        ]
        explicit = replace(color, chroma_location=location)
        assert complete(color, 16, 16, layout)[0].chroma_location is location
        assert torch.equal(
            planes_to_rgb(planes, layout, color), planes_to_rgb(planes, layout, explicit)
        )


@pytest.mark.parametrize("bits", BITS)
def test_rgb_planes_are_ordered_green_blue_red(bits: int) -> None:
    layout = PlaneLayout(bits=bits, is_rgb=True, has_alpha=True)
    color = ColorSpec(matrix=Matrix.RGB, full_range=True)
    codes = np.random.default_rng(bits).integers(0, 2**bits, (4, 5, 7))
    planes = [to_tensor(plane, bits) for plane in codes]
    rgb = planes_to_rgb(planes, layout, color)
    np.testing.assert_allclose(rgb[0].numpy(), codes[[2, 0, 1]] / (2**bits - 1), atol=1e-7)
    back = rgb_to_planes(rgb, layout, color)
    assert len(back) == 3  # alpha is not made
    assert all(torch.equal(a, b) for a, b in zip(planes, back, strict=False))


def test_limited_range_rgb() -> None:
    layout, color = PlaneLayout(bits=10, is_rgb=True), ColorSpec(matrix=Matrix.RGB)
    planes = [to_tensor(np.array([[code]]), 10) for code in (64, 940, 1010)]
    rgb = planes_to_rgb(planes, layout, color)
    np.testing.assert_allclose(rgb.flatten().numpy(), [946 / 876, 0, 1], atol=1e-6)
    assert [int(plane) for plane in rgb_to_planes(rgb, layout, color)] == [64, 940, 1010]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("full_range", [False, True])
def test_gray(bits: int, full_range: bool) -> None:
    layout = PlaneLayout(bits=bits, is_gray=True, has_alpha=True)
    codes = np.arange(0, 2**bits, 2 ** (bits - 8))[None, :]
    color = ColorSpec(full_range=full_range)
    rgb = planes_to_rgb([to_tensor(codes, bits), to_tensor(codes * 0, bits)], layout, color)
    top = 2**bits - 1 if full_range else 219 * 2 ** (bits - 8)
    bottom = 0 if full_range else 16 * 2 ** (bits - 8)
    expected = np.broadcast_to((codes - bottom) / top, (3, *codes.shape))
    np.testing.assert_allclose(rgb[0].numpy(), expected, atol=1e-6)
    (back,) = rgb_to_planes(rgb, layout, color)
    assert np.array_equal(to_array(back), codes)


def test_gray_takes_its_weights_from_the_matrix() -> None:
    layout = PlaneLayout(bits=8, is_gray=True)
    for matrix, code in ((Matrix.BT709, 54), (Matrix.RGB, 54), (Matrix.BT470BG, 76)):
        color = ColorSpec(matrix=matrix, full_range=True)
        assert int(rgb_to_planes(pixel(1, 0, 0), layout, color)[0]) == code


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("full_range", [False, True])
def test_float_planes_pass_unchanged(bits: int, full_range: bool) -> None:
    dtype = torch.float16 if bits == 16 else torch.float32
    values = torch.tensor([-0.5, 0.0, 0.3, 1.0, 7.5], dtype=dtype).view(1, 1, 5)
    color = ColorSpec(matrix=Matrix.BT709, full_range=full_range)
    layout = PlaneLayout(bits=bits, is_float=True, is_rgb=True)
    planes = (values, values * 2, values * 4)
    rgb = planes_to_rgb(planes, layout, color)
    assert rgb.dtype is torch.float32
    assert torch.equal(rgb[:, 0], (values * 4).float())
    back = rgb_to_planes(rgb, layout, color)
    assert all(torch.equal(a, b) and b.dtype is dtype for a, b in zip(planes, back, strict=True))
    assert back[0].data_ptr() != rgb[:, 1].data_ptr()

    layout = PlaneLayout(bits=bits, is_float=True, is_gray=True)
    rgb = planes_to_rgb([values], layout, color)
    assert torch.equal(rgb, values.float()[:, None].expand(1, 3, 1, 5))
    tolerance = 1e-3 if bits == 16 else 1e-6
    torch.testing.assert_close(
        rgb_to_planes(rgb, layout, color)[0], values, rtol=tolerance, atol=tolerance
    )


def test_uint16_planes_equal_uint8_planes_of_the_same_meaning() -> None:
    """8-bit codes times 256 are the same limited-range picture in 16 bits, high codes included."""
    generator = np.random.default_rng(1)
    layout_8, layout_16 = yuv(8, "420"), yuv(16, "420")
    color = ColorSpec(matrix=Matrix.BT709, chroma_location=ChromaLocation.LEFT)
    codes = [generator.integers(0, 256, layout_8.plane_size(i, 21, 11)) for i in range(3)]
    rgb_8 = planes_to_rgb([to_tensor(plane, 8) for plane in codes], layout_8, color)
    rgb_16 = planes_to_rgb([to_tensor(plane * 256, 16) for plane in codes], layout_16, color)
    torch.testing.assert_close(rgb_8, rgb_16, rtol=0, atol=1e-6)
    planes_8 = rgb_to_planes(rgb_8, layout_8, color)
    planes_16 = rgb_to_planes(rgb_8, layout_16, color)
    for plane_8, plane_16 in zip(planes_8, planes_16, strict=True):
        expected = np.clip(np.floor(to_array(plane_16) / 256 + 0.5), 0, 255)
        assert np.abs(to_array(plane_8) - expected).max() <= 1
        assert to_array(plane_16).max() > 32767


def test_strided_and_batched_planes() -> None:
    generator = np.random.default_rng(2)
    layout, color = yuv(10, "420"), ColorSpec(matrix=Matrix.BT709)
    wide = [
        torch.from_numpy(generator.integers(64, 940, (2, rows, columns + 9)).astype(np.uint16))
        for rows, columns in (layout.plane_size(index, 22, 14) for index in range(3))
    ]
    planes = [plane[..., :-9] for plane in wide]
    both = planes_to_rgb(planes, layout, color)
    for sample in range(2):
        alone = planes_to_rgb(
            [plane[sample : sample + 1].clone() for plane in planes], layout, color
        )
        assert torch.equal(both[sample : sample + 1], alone)
    whole = rgb_to_planes(both, layout, color)
    channels_last = rgb_to_planes(both.contiguous(memory_format=torch.channels_last), layout, color)
    for plane, other in zip(whole, channels_last, strict=True):
        assert plane.is_contiguous() and other.is_contiguous()
        assert torch.equal(plane, other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_are_reckoned_in_float32(dtype: torch.dtype) -> None:
    rgb = torch.rand((1, 3, 10, 14), generator=torch.Generator().manual_seed(0)).to(dtype)
    layout, color = yuv(10, "420"), ColorSpec(matrix=Matrix.BT709)
    planes = rgb_to_planes(rgb, layout, color)
    expected = rgb_to_planes(rgb.float(), layout, color)
    assert all(torch.equal(a, b) for a, b in zip(planes, expected, strict=True))
    back = planes_to_rgb(planes, layout, color, dtype=dtype)
    assert back.dtype is dtype
    assert torch.equal(back, planes_to_rgb(planes, layout, color).to(dtype))


def test_inputs_are_left_alone_and_results_repeat() -> None:
    rgb = torch.rand((1, 3, 256, 384), generator=torch.Generator().manual_seed(0)) * 1.4 - 0.2
    before = rgb.clone()
    layout, color = yuv(8, "420"), ColorSpec(matrix=Matrix.BT709)
    threads = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            planes = rgb_to_planes(rgb, layout, color)
            copies = [plane.clone() for plane in planes]
            results.append((*planes, planes_to_rgb(planes, layout, color)))
            assert all(torch.equal(a, b) for a, b in zip(planes, copies, strict=True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(rgb, before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class TestDither:
    layout = PlaneLayout(bits=8, is_gray=True)
    color = ColorSpec(full_range=True)

    def planes(self, value: float, dither: int | None, batch: int = 1) -> Tensor:
        rgb = torch.full((batch, 3, 64, 64), value / 255)
        return rgb_to_planes(rgb, self.layout, self.color, dither=dither)[0]

    @pytest.mark.parametrize("value", [100.125, 100.5, 100.8])
    def test_mean_is_kept(self, value: float) -> None:
        plane = self.planes(value, dither=0)
        assert set(plane.flatten().tolist()) == {100, 101}
        assert abs(float(plane.float().mean()) - value) < 0.01
        blocks = plane.float().view(8, 8, 8, 8).mean((1, 3))  # evenly spread, not clustered
        assert float((blocks - value).abs().max()) < 0.1

    def test_codes_stay_codes(self) -> None:
        for code in (0, 1, 128, 254, 255):
            assert torch.equal(self.planes(code, dither=5), torch.full((1, 64, 64), code))

    @pytest.mark.parametrize("bits", [8, 10, 12])
    def test_codes_stay_codes_in_limited_range(self, bits: int) -> None:
        layout, color = PlaneLayout(bits=bits, is_gray=True), ColorSpec()
        codes = np.arange(2**bits)[None, :].repeat(64, 0)
        rgb = planes_to_rgb([to_tensor(codes, bits)], layout, color)
        for frame in range(4):
            (plane,) = rgb_to_planes(rgb, layout, color, dither=frame)
            assert np.array_equal(to_array(plane), codes)

    def test_frames_differ_and_repeat(self) -> None:
        batch = self.planes(100.5, dither=7, batch=2)
        assert torch.equal(batch[:1], self.planes(100.5, dither=7))
        assert torch.equal(batch[1:], self.planes(100.5, dither=8))
        assert not torch.equal(batch[0], batch[1])
        assert torch.equal(self.planes(100.5, dither=10**12), self.planes(100.5, dither=10**12))

    def test_off_by_default(self) -> None:
        assert set(self.planes(100.4, dither=None).flatten().tolist()) == {100}


M, P, T, C = Matrix, Primaries, Transfer, ChromaLocation


@pytest.mark.parametrize(
    ("given", "size", "layout", "wanted"),
    [
        ({}, (1920, 1080), yuv(8, "420"), (M.BT709, P.BT709, T.BT709, C.LEFT)),
        ({}, (960, 720), yuv(8, "420"), (M.BT709, P.BT709, T.BT709, C.LEFT)),
        ({}, (1280, 534), yuv(8, "420"), (M.BT709, P.BT709, T.BT709, C.LEFT)),
        ({}, (720, 576), yuv(8, "422"), (M.BT470BG, P.BT470BG, T.SMPTE170M, C.LEFT)),
        ({}, (720, 480), yuv(8, "411"), (M.SMPTE170M, P.SMPTE170M, T.SMPTE170M, C.LEFT)),
        ({}, (640, 360), yuv(8, "420"), (M.SMPTE170M, P.BT709, T.BT709, C.LEFT)),
        ({}, (160, 120), yuv(8, "410"), (M.SMPTE170M, P.BT709, T.BT709, C.CENTER)),
        (
            {"full_range": True},
            (720, 480),
            yuv(8, "420"),
            (M.SMPTE170M, P.SMPTE170M, T.SMPTE170M, C.CENTER),
        ),
        ({"transfer": T.PQ}, (640, 360), yuv(10, "420"), (M.BT2020_NCL, P.BT2020, T.PQ, C.TOPLEFT)),
        (
            {"transfer": T.HLG},
            (3840, 2160),
            yuv(10, "420"),
            (M.BT2020_NCL, P.BT2020, T.HLG, C.TOPLEFT),
        ),
        (
            {"primaries": P.BT2020},
            (3840, 2160),
            yuv(10, "420"),
            (M.BT2020_NCL, P.BT2020, T.BT2020_10, C.TOPLEFT),
        ),
        (
            {"matrix": M.BT2020_NCL},
            (3840, 2160),
            yuv(12, "444"),
            (M.BT2020_NCL, P.BT2020, T.BT2020_12, C.UNSPECIFIED),
        ),
        (
            {"matrix": M.SMPTE170M, "chroma_location": C.CENTER},
            (1920, 1080),
            yuv(8, "420"),
            (M.SMPTE170M, P.SMPTE170M, T.SMPTE170M, C.CENTER),
        ),
        ({"matrix": M.SMPTE240M}, (1920, 1035), yuv(8), (M.SMPTE240M, P.SMPTE240M, T.SMPTE240M, 0)),
        ({"matrix": M.FCC}, (640, 480), yuv(8), (M.FCC, P.BT470M, T.GAMMA22, 0)),
        ({"matrix": M.RGB}, (1920, 1080), yuv(8, "420"), (M.BT709, P.BT709, T.BT709, C.LEFT)),
        ({"matrix": M.YCGCO}, (1920, 1080), yuv(8), (M.YCGCO, P.BT709, T.BT709, 0)),
        ({}, (64, 64), PlaneLayout(bits=8, is_rgb=True), (M.RGB, P.BT709, T.SRGB, 0)),
        (
            {"matrix": M.BT709},
            (64, 64),
            PlaneLayout(bits=8, is_rgb=True),
            (M.RGB, P.BT709, T.SRGB, 0),
        ),
        ({}, (64, 64), PlaneLayout(bits=8, is_gray=True), (M.SMPTE170M, P.BT709, T.BT709, 0)),
    ],
)
def test_complete(
    given: dict[str, Any],
    size: tuple[int, int],
    layout: PlaneLayout,
    wanted: tuple[int, int, int, int],
) -> None:
    color, notes = complete(replace(ColorSpec(), **given), *size, layout)
    assert (color.matrix, color.primaries, color.transfer, color.chroma_location) == wanted
    assert color.full_range == given.get("full_range", False)
    assert all(note.endswith(".") and "\n" not in note and len(note) < 100 for note in notes)
    guessed = [name for name in ("Matrix", "Primaries", "Transfer") if name.lower() not in given]
    if layout.is_rgb:
        guessed = ["Primaries", "Transfer"]
    for name in guessed:
        assert any(note.startswith(name) for note in notes), name
    again, more = complete(color, *size, layout)
    assert again == color
    assert more == ()


def test_complete_says_nothing_when_all_is_tagged() -> None:
    color = ColorSpec(
        primaries=P.BT709, transfer=T.BT709, matrix=M.BT709, chroma_location=C.TOPLEFT
    )
    assert complete(color, 64, 64, yuv(8, "420")) == (color, ())


@pytest.mark.parametrize("full_range", [False, True])
def test_complete_leaves_the_range_of_rgb(full_range: bool) -> None:
    color = ColorSpec(full_range=full_range)
    assert complete(color, 64, 64, PlaneLayout(bits=8, is_rgb=True))[0].full_range is full_range


def test_complete_names_the_nonsense() -> None:
    notes = complete(ColorSpec(matrix=M.RGB), 1920, 1080, yuv(8, "420"))[1]
    assert notes[0] == "Matrix RGB is tagged but the planes are not RGB: treated as not tagged."
    assert notes[1].startswith("Matrix is not tagged: taken as BT709, because 1920x1080")


@pytest.mark.parametrize("matrix", [m for m in Matrix if m not in {*KR_KB, Matrix.YCGCO}])
def test_unsupported_matrix(matrix: Matrix) -> None:
    color, layout = ColorSpec(matrix=matrix), yuv(8)
    plane = torch.zeros((1, 4, 4), dtype=torch.uint8)
    with pytest.raises(UnsupportedVideoError, match=f"matrix {matrix.name} cannot"):
        planes_to_rgb([plane] * 3, layout, color)
    with pytest.raises(UnsupportedVideoError, match=f"matrix {matrix.name} cannot"):
        rgb_to_planes(torch.zeros((1, 3, 4, 4)), layout, color)


@pytest.mark.parametrize(
    "layout",
    [
        PlaneLayout(bits=7),
        PlaneLayout(bits=17),
        PlaneLayout(bits=32, is_float=True),
        PlaneLayout(bits=24, is_float=True, is_rgb=True),
        PlaneLayout(bits=8, log2_chroma_w=3),
    ],
)
def test_unsupported_layout(layout: PlaneLayout) -> None:
    with pytest.raises(UnsupportedVideoError):
        rgb_to_planes(torch.zeros((1, 3, 4, 4)), layout, ColorSpec(matrix=Matrix.BT709))


def test_wrong_shapes_and_types() -> None:
    color = ColorSpec(matrix=Matrix.BT709)
    luma, chroma = (
        torch.zeros((1, 5, 7), dtype=torch.uint8),
        torch.zeros((1, 3, 4), dtype=torch.uint8),
    )
    layout = yuv(8, "420")
    assert planes_to_rgb([luma, chroma, chroma], layout, color).shape == (1, 3, 5, 7)
    for planes in (
        [luma],
        [luma, chroma],
        [luma[0], chroma[0], chroma[0]],
        [luma, chroma, chroma[:, :2]],
        [luma, chroma, chroma.expand(2, 3, 4)],
        [luma, chroma, chroma.to(torch.uint16)],
        [luma, chroma, chroma.float()],
    ):
        with pytest.raises(ShapeError):
            planes_to_rgb(planes, layout, color)
    for rgb in (
        torch.zeros((3, 4, 4)),
        torch.zeros((1, 4, 4, 3)),
        torch.zeros((1, 3, 4, 4), dtype=torch.uint8),
    ):
        with pytest.raises(ShapeError):
            rgb_to_planes(rgb, layout, color)


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("dither", [None, 3])
def test_values_are_never_read_back(bits: int, dither: int | None) -> None:
    """Runs on tensors without data: hence no wait for a device, and nothing falls to the CPU."""
    layout, color = yuv(bits, "420"), ColorSpec(matrix=Matrix.BT709)
    rgb = torch.empty((2, 3, 9, 15), device="meta")
    planes = rgb_to_planes(rgb, layout, color, dither=dither)
    assert [tuple(plane.shape) for plane in planes] == [(2, 9, 15), (2, 5, 8), (2, 5, 8)]
    assert planes_to_rgb(planes, layout, color).shape == (2, 3, 9, 15)
    assert all(plane.is_meta for plane in planes)
