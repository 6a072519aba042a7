"""imresize against an independent dense-matrix oracle, and Interpolation against imresize."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vsr.errors import ConfigError, ShapeError
from vsr.models.image.interpolation import (
    Interpolation,
    Kernel,
    imresize,
    pad_symmetric,
    phase_kernel,
    shuffled,
)


def _weight(kernel: str, x: float) -> float:
    x = abs(x)
    if kernel == "bicubic":
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0
    if kernel == "bilinear":
        return max(0.0, 1.0 - x)
    if x == 0:
        return 1.0
    if x >= 3:
        return 0.0
    return 3 * math.sin(math.pi * x) * math.sin(math.pi * x / 3) / (math.pi * x) ** 2


def _dense(num_in: int, num_out: int, scale: float, kernel: str, antialias: bool) -> np.ndarray:
    """Every output sample against a source that is mirrored many times over, by plain loops."""
    squeeze = scale if antialias and scale < 1 else 1.0
    matrix = np.zeros((num_out, num_in))
    for out in range(num_out):
        centre = (out + 0.5) / scale - 0.5
        reach = math.ceil(3 / squeeze) + 2
        for at in range(math.floor(centre) - reach, math.floor(centre) + reach + 1):
            folded = at
            while not 0 <= folded < num_in:  # ... c b a | a b c | c b a ...
                folded = -1 - folded if folded < 0 else 2 * num_in - 1 - folded
            matrix[out, folded] += _weight(kernel, (centre - at) * squeeze)
        matrix[out] /= matrix[out].sum()
    return matrix


def _oracle(
    image: np.ndarray,
    size: tuple[int, int],
    scales: tuple[float, float],
    kernel: str,
    antialias: bool = True,
) -> np.ndarray:
    rows = _dense(image.shape[-2], size[0], scales[0], kernel, antialias)
    columns = _dense(image.shape[-1], size[1], scales[1], kernel, antialias)
    result: np.ndarray = rows @ image @ columns.T
    return result


def _noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.2, 1.2, shape)


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos3", "bilinear"])
@pytest.mark.parametrize("scale", [Fraction(2), Fraction(3), Fraction(4), Fraction(1, 4)])
@pytest.mark.parametrize("shape", [(24, 36), (23, 37), (7, 5)])
def test_scale_equals_dense_oracle(kernel: Kernel, scale: Fraction, shape: tuple[int, int]) -> None:
    image = _noise(2, 3, *shape)
    factor = float(scale)
    size = (math.ceil(shape[0] * scale), math.ceil(shape[1] * scale))
    got = imresize(torch.from_numpy(image), scale=factor, kernel=kernel).numpy()
    assert got.shape == (2, 3, *size)
    expected = _oracle(image, size, (factor, factor), kernel)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [(20, 31), (50, 11), (13, 90), (23, 37), (1, 1)])
@pytest.mark.parametrize("antialias", [True, False])
def test_size_equals_dense_oracle(size: tuple[int, int], antialias: bool) -> None:
    image = _noise(1, 1, 23, 37)
    got = imresize(torch.from_numpy(image), size=size, antialias=antialias).numpy()
    expected = _oracle(image, size, (size[0] / 23, size[1] / 37), "bicubic", antialias)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("denominator", [2, 3, 4])
def test_shrinking_by_a_fraction_gives_the_exact_size(denominator: int) -> None:
    image = torch.rand(1, 3, 12 * denominator, 9 * denominator)
    assert imresize(image, scale=1 / denominator).shape == (1, 3, 12, 9)


def test_known_values_of_the_cubic() -> None:
    # A unit step enlarged by 2: by hand from Keys' kernel at distances 0.25, 0.75, 1.25, 1.75.
    step = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64).view(1, 1, 1, 6)
    got = imresize(step, size=(1, 12)).flatten()
    expected = [0, 0, 0, -0.0234375, -0.0703125, 0.203125]
    expected += [1 - value for value in reversed(expected)]
    assert got.tolist() == pytest.approx(expected, abs=1e-12)


def test_float32_is_close_and_constant_is_kept() -> None:
    image = _noise(1, 3, 31, 45)
    exact = imresize(torch.from_numpy(image), scale=4)
    single = imresize(torch.from_numpy(image).float(), scale=4)
    assert (exact - single).abs().max() < 1e-6
    assert imresize(torch.full((1, 1, 9, 9), 1.25), scale=3).sub(1.25).abs().max() < 1e-6


def test_half_types_are_computed_in_float32() -> None:
    image = torch.rand(1, 3, 17, 19).to(torch.bfloat16)
    assert torch.equal(
        imresize(image, scale=2), imresize(image.float(), scale=2).to(torch.bfloat16)
    )


def test_gradient_flows() -> None:
    image = torch.rand(1, 1, 8, 8, requires_grad=True)
    imresize(image, scale=0.5).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    # Shrinking keeps the mean of a picture here: each source pixel weighs a quarter on average.
    assert image.grad.mean().item() == pytest.approx(0.25, abs=1e-6)


@pytest.mark.parametrize("kernel", ["bicubic", "lanczos3"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_phase_kernel_with_pixel_shuffle_is_imresize(kernel: Kernel, scale: int) -> None:
    image = torch.from_numpy(_noise(2, 1, 9, 14))
    weight = phase_kernel(scale, kernel, dtype=torch.float64)
    assert weight.shape[:2] == (scale * scale, 1)
    assert weight.sum((1, 2, 3)).tolist() == pytest.approx([1.0] * scale**2)
    padded = pad_symmetric(image, weight.shape[-1] // 2)
    got = F.pixel_shuffle(F.conv2d(padded, weight), scale)
    torch.testing.assert_close(got, imresize(image, scale=scale, kernel=kernel), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shape", "num_px"), [((5, 6), 3), ((2, 1), 7), ((1, 3), 3)])
def test_pad_symmetric_equals_numpy(shape: tuple[int, int], num_px: int) -> None:
    image = _noise(1, 2, *shape)
    expected = np.pad(image, ((0, 0), (0, 0), (num_px,) * 2, (num_px,) * 2), mode="symmetric")
    assert np.array_equal(pad_symmetric(torch.from_numpy(image), num_px).numpy(), expected)


def test_bad_arguments() -> None:
    image = torch.rand(1, 3, 8, 8)
    for scale, size in ((None, None), (2.0, (4, 4)), (0.0, None), (None, (0, 4))):
        with pytest.raises(ConfigError):
            imresize(image, scale=scale, size=size)
    with pytest.raises(ConfigError, match="Unknown interpolation kernel 'cubic'"):
        imresize(image, scale=2, kernel="cubic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        Interpolation(2, "nearest")  # type: ignore[arg-type]
    with pytest.raises(ShapeError):
        imresize(image.to(torch.uint8), scale=2)


def test_interpolation_is_imresize_per_frame_and_is_not_clamped() -> None:
    frames = torch.rand(2, 3, 3, 10, 12) * 3 - 1
    model = Interpolation(3, "lanczos3").to(torch.bfloat16)
    result, state = model.upscale(frames, model.init_state(2, 10, 12), num_context=1)
    assert state == ()
    assert result.shape == (2, 2, 3, 30, 36)
    assert torch.equal(result[1, 1], imresize(frames[1, 1], scale=3, kernel="lanczos3"))
    assert result.min() < -0.5 and result.max() > 1.5


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("planes", "scale"), [(1, 2), (3, 4), (4, 3)])
def test_shuffled_is_the_pixel_shuffle_in_planes(
    order: torch.memory_format, planes: int, scale: int
) -> None:
    phases = torch.rand(2, planes * scale**2, 5, 7).contiguous(memory_format=order)
    result = shuffled(phases, scale)
    assert torch.equal(result, F.pixel_shuffle(phases, scale))
    assert result.is_contiguous()
