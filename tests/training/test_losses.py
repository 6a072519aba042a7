from __future__ import annotations

import pytest
import torch

from vsr.training.losses import (
    PIXEL_LOSSES,
    charbonnier,
    endpoint_error,
    frequency,
    luma_weighted,
    photometric,
    total_variation,
)


def test_charbonnier_is_a_hypotenuse() -> None:
    assert float(charbonnier(torch.full((2, 3), 3.0), epsilon=4.0)) == 5.0
    assert float(charbonnier(torch.zeros(4))) == pytest.approx(1e-3)
    assert float(charbonnier(torch.tensor([1.0, -1.0]), epsilon=0.0)) == 1.0


def test_a_grey_difference_is_all_luma() -> None:
    weighted = luma_weighted(torch.full((2, 5, 3, 4, 4), 0.5))
    assert weighted.shape == (2, 5, 3, 4, 4)
    torch.testing.assert_close(weighted[:, :, 0], torch.full((2, 5, 4, 4), 0.5))
    assert float(weighted[:, :, 1:].abs().max()) < 1e-6


def test_chroma_counts_less() -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1)
    expected = torch.tensor([0.299, 0.5 * 0.564 * -0.299, 0.5 * 0.713 * 0.701]).view(3, 1, 1)
    torch.testing.assert_close(luma_weighted(red, chroma_weight=0.5), expected)


def test_endpoint_error_is_the_mean_length_where_it_is_visible() -> None:
    truth = torch.zeros(1, 2, 2, 2)
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    flow[0, :, 1, 1] = torch.tensor([100.0, 0.0])
    visible = torch.tensor([[[[True, True], [False, False]]]])
    assert float(endpoint_error(flow, truth, visible)) == pytest.approx(2.5, abs=1e-3)
    assert float(endpoint_error(flow, truth, torch.zeros_like(visible))) == 0.0


def test_endpoint_error_has_a_gradient_where_flow_is_right() -> None:
    flow = torch.zeros(1, 2, 4, 4, requires_grad=True)
    visible = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    torch.autograd.backward(endpoint_error(flow, torch.zeros(1, 2, 4, 4), visible))
    assert flow.grad is not None and bool(flow.grad.isfinite().all())


def test_photometric_error_is_least_for_the_true_flow() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.rand(1, 3, 24, 40, generator=generator)
    ref, other = wide[..., 2:34], wide[..., 0:32]
    truth = torch.zeros(1, 2, 24, 32)
    truth[:, 0] = 2.0
    losses = {
        shift: float(photometric(ref, other, truth * shift / 2)) for shift in (-2.0, 0.0, 1.0, 2.0)
    }
    assert min(losses, key=lambda shift: losses[shift]) == 2.0
    assert losses[2.0] == pytest.approx(1e-6**0.45)


def test_photometric_error_wants_smooth_flow_and_forgives_edges() -> None:
    flat = torch.full((1, 3, 16, 16), 0.5)
    edged = flat.clone()
    edged[..., 8:] = 1.0
    step = torch.zeros(1, 2, 16, 16)
    step[..., 8:] = 1.0
    still = torch.zeros_like(step)
    on_flat = float(photometric(flat, flat, step) - photometric(flat, flat, still))
    # 1 px in 2 of 2 components at 1 of 15 column borders
    assert on_flat == pytest.approx(0.02 / 15, rel=1e-3)
    on_edge = float(photometric(edged, edged, step) - photometric(edged, edged, still))
    assert on_edge < 0.01 * on_flat


def test_pixel_losses_are_known_by_name() -> None:
    difference = torch.tensor([3.0, -4.0])
    values = {name: float(loss(difference)) for name, loss in PIXEL_LOSSES.items()}
    assert values == pytest.approx({"l1": 3.5, "mse": 12.5, "charbonnier": 3.5}, abs=1e-5)


def test_total_variation_counts_steps_across_and_down() -> None:
    stripes = torch.zeros(1, 1, 4, 4)
    stripes[..., ::2] = 1.0
    assert float(total_variation(stripes)) == 1.0
    assert float(total_variation(stripes.transpose(-1, -2))) == 1.0
    assert float(total_variation(torch.full((1, 1, 4, 4), 0.3))) == 0.0


def test_frequency_sees_one_wave_as_one_coefficient() -> None:
    x = torch.arange(8) * 2 * torch.pi / 8
    wave = torch.cos(2 * x).expand(1, 1, 8, 8)
    # Of 8 x 5 coefficients one is 8/2, orthonormal.
    assert float(frequency(wave)) == pytest.approx(4 / 40, rel=1e-5)
    assert float(frequency(torch.zeros(1, 1, 8, 8))) == 0.0
