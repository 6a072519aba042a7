"""The synthetic camera: what is drawn and what the exact flow says must be the same motion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vsr.models.flow import warp
from vsr.training.motion import Layer, exact_flow, random_scene, random_trajectory, render

SIDE = 64


def photo(height: int = 200, width: int = 200, phase: float = 0.0) -> Tensor:
    """(3, H, W) uint8, smooth enough for bilinear sampling to be exact to a code or two."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = [torch.sin(x / a + phase) * torch.cos(y / b) for a, b in ((9, 11), (13, 8), (10, 14))]
    return (128 + 100 * torch.stack(waves)).round().to(torch.uint8)


def moved(*offsets: tuple[float, float]) -> Tensor:
    """Homographies whose photo point under the picture's centre is at each offset."""
    matrices = torch.eye(3, dtype=torch.float64).repeat(len(offsets), 1, 1)
    matrices[:, 0, 2] = torch.tensor([x for x, _ in offsets])
    matrices[:, 1, 2] = torch.tensor([y for _, y in offsets])
    return matrices


def inside(centre: tuple[float, float], radii: tuple[float, float]) -> Tensor:
    """(SIDE, SIDE) bool: pixels of an ellipse, centre in pixels from the picture's centre."""
    axis = torch.arange(SIDE) - (SIDE - 1) / 2
    dx, dy = (axis[None] - centre[0]) / radii[0], (axis[:, None] - centre[1]) / radii[1]
    return torch.hypot(dx, dy) < 1


@pytest.mark.parametrize("seed", range(6))
def test_flow_maps_what_is_drawn(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    layers = random_scene(generator, [photo()], 2, size_px=SIDE, max_speed_px=6.0, object_share=0.0)
    frames = render(layers, SIDE, SIDE)
    flow, visible = exact_flow(layers, 0, 1, SIDE, SIDE)
    error = (warp(frames[1:], flow[None]) - frames[:1]).abs().amax(dim=1)[visible]
    assert visible.float().mean() > 0.5
    assert float(error.max()) < 4.0
    assert float(error.mean()) < 0.6


def test_flow_of_objects_maps_what_is_drawn_and_not_what_they_hide() -> None:
    radii = (12.0, 8.0)
    layers = [
        Layer(photo_3HW=photo(), homographies_T33=moved((0, 0), (2, -1))),
        # The photo point of an object at (x, y) is its centre, so its homography moves by -(x, y).
        Layer(
            photo_3HW=photo(60, 60, 2.0),
            homographies_T33=moved((10, 0), (-4.5, -3)),
            radii=radii,
        ),
    ]
    frames = render(layers, SIDE, SIDE)
    flow, visible = exact_flow(layers, 0, 1, SIDE, SIDE)
    is_object = inside((-10, 0), radii)
    expected = torch.where(
        is_object,
        torch.tensor([14.5, 3.0])[:, None, None],
        torch.tensor([-2.0, 1.0])[:, None, None],
    )
    assert torch.equal(flow, expected)
    # A background pixel p is seen at p + (-2, 1), unless the object has arrived there or it has
    # left the picture.
    axis = torch.arange(SIDE)
    stays = ((axis[None] >= 2) & (axis[:, None] < SIDE - 1)).expand(SIDE, SIDE)
    hidden = inside((4.5 + 2, 3 - 1), radii)
    assert torch.equal(visible[0], is_object | (stays & ~hidden))
    assert bool((hidden & ~is_object).any())
    error = (warp(frames[1:], flow[None]) - frames[:1]).abs().amax(dim=1)[0]
    edge = inside((-10, 0), (14, 10)) & ~inside((-10, 0), (10, 6))
    near_hidden = inside((6.5, 2), (15, 11))
    assert float(error[visible[0] & ~edge & ~near_hidden].max()) < 4.0
    assert float(error[hidden & ~is_object].mean()) > 20.0


def test_a_camera_that_stands_still_gives_zero_flow() -> None:
    layers = [Layer(photo_3HW=photo(), homographies_T33=moved((3, 4), (3, 4)))]
    flow, visible = exact_flow(layers, 0, 1, 17, 31)
    assert flow.shape == (2, 17, 31) and visible.shape == (1, 17, 31)
    assert not flow.any()
    assert bool(visible.all())
    frames = render(layers, 17, 31)
    assert torch.equal(frames[0], frames[1])


def test_identity_shows_the_photo() -> None:
    frames = render([Layer(photo_3HW=photo(20, 30), homographies_T33=moved((0, 0)))], 20, 30)
    assert float((frames[0] - photo(20, 30)).abs().max()) < 0.01


def test_flow_at_the_source_resolution_is_that_of_the_middle_of_its_pixels() -> None:
    generator = torch.Generator().manual_seed(4)
    layers = random_scene(generator, [photo()], 2, size_px=SIDE, max_speed_px=8.0, object_share=0.0)
    fine, _ = exact_flow(layers, 0, 1, SIDE, SIDE)
    coarse, visible = exact_flow(layers, 0, 1, SIDE // 4, SIDE // 4, step=4)
    mean = torch.nn.functional.avg_pool2d(fine[None], 4)[0] / 4
    assert visible.shape == (1, 16, 16)
    torch.testing.assert_close(coarse, mean, atol=1e-3, rtol=0)


def test_flow_there_and_back_cancels() -> None:
    layers = [Layer(photo_3HW=photo(), homographies_T33=moved((0, 0), (3, -2)))]
    there, _ = exact_flow(layers, 0, 1, SIDE, SIDE)
    back, _ = exact_flow(layers, 1, 0, SIDE, SIDE)
    assert torch.equal(there, -back)


@pytest.mark.parametrize("seed", range(8))
def test_the_pan_keeps_its_speed_limit(seed: int) -> None:
    path = random_trajectory(
        torch.Generator().manual_seed(seed), 9, max_speed_px=5.0, zoom=(1.0, 1.0)
    )
    assert path.shape == (9, 3, 3) and path.dtype == torch.float64
    steps = path[1:, :2, 2] - path[:-1, :2, 2]
    # Jitter adds up to 15 % in each direction and the zoom drifts by 0.8 % a frame.
    limit = 5.0 * (1 + 0.15 * math.sqrt(2)) * math.exp(0.008 * 8)
    assert float(steps.norm(dim=1).max()) <= limit


def test_equal_seeds_give_equal_scenes() -> None:
    photos = [photo(), photo(90, 90, 1.0), photo(80, 80, 2.0)]

    def frames(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        scene = random_scene(generator, photos, 3, size_px=32, max_speed_px=4, object_share=1.0)
        assert len(scene) == 3
        return render(scene, 32, 32)

    assert torch.equal(frames(5), frames(5))
    assert not torch.equal(frames(5), frames(6))
