"""The curves around the model come back to where they began, on the whole number line."""

from __future__ import annotations

import pytest
import torch

from vsr.engine.curves import from_display, to_display
from vsr.frame import Curve


@pytest.mark.parametrize("curve", ["linear", "density"])
def test_every_code_of_16_bits_comes_back(curve: Curve) -> None:
    codes = torch.arange(65536, dtype=torch.float32)
    back = from_display(to_display(codes / 65535, curve), curve) * 65535
    assert (back - codes).abs().max() < 0.02


def test_every_half_float_comes_back_in_linear_light() -> None:
    bits = torch.arange(0x7C00, dtype=torch.int32).to(torch.int16)
    half = torch.cat([bits.view(torch.float16), -bits.view(torch.float16)])
    back = from_display(to_display(half.float(), "linear"), "linear")
    assert torch.equal(back.half(), half)
    single = torch.exp(torch.linspace(-40, 60, 20001))
    assert (
        (from_display(to_display(single, "linear"), "linear") - single) / single
    ).abs().max() < (1e-5)


@pytest.mark.parametrize("curve", ["linear", "density"])
def test_what_a_model_overshoots_comes_back_too(curve: Curve) -> None:
    shown = torch.linspace(-1, 6, 7001)
    again = to_display(from_display(shown, curve), curve)
    assert (again - shown).abs().max() < 1e-5


@pytest.mark.parametrize("curve", ["linear", "density"])
def test_curves_rise_without_a_jump(curve: Curve) -> None:
    x = torch.linspace(-0.5, 1.5, 200001, dtype=torch.float32)
    steps = to_display(x, curve).diff()
    assert steps.min() > 0
    # 12.92 per unit at the steepest, times the spacing; a jump would show above it.
    assert steps.max() < 2.5e-4


def test_known_places() -> None:
    linear = torch.tensor([0.0, 0.0031308, 0.18, 1.0, 100.0, -0.18])
    shown = to_display(linear, "linear")
    expected = torch.tensor([0.0, 0.0404500, 0.4613561, 1.0, 3.0243, -0.4613561])
    torch.testing.assert_close(shown, expected, atol=1e-4, rtol=0)
    density = torch.tensor([95.0, 685.0]) / 1023
    torch.testing.assert_close(
        to_display(density, "density"), torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0
    )
    # An 18 % grey card is exposed to about code 470.
    grey = to_display(torch.tensor(470 / 1023), "density")
    assert 0.45 < float(grey) < 0.48


def test_none_is_the_values_themselves() -> None:
    x = torch.rand(3)
    assert to_display(x, "none") is x
    assert from_display(x, "none") is x
