"""Scenes made all at once are the scenes that are made one by one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vsr.models.flow import warp
from vsr.training import motion, scenes

SIZE = 48


def photos(count: int, side: int, seed: int = 3) -> tuple[Tensor, ...]:
    """Smooth random pictures, for the background and the objects."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(1 + scenes.NUM_OBJECTS):
        noise = torch.rand(count, 3, side // 6, side // 6, generator=generator) * 255
        found.append(F.interpolate(noise, size=(side, side), mode="bicubic").clamp(0, 255))
    return tuple(found)


def draw(count: int = 3, num_frames: int = 4, speed: float = 4.0, seed: int = 1) -> scenes.Scenes:
    dice = scenes.Dice(torch.Generator().manual_seed(seed))
    return scenes.random_scenes(
        dice, photos(count, 100), num_frames, size_px=SIZE, max_speed_px=speed
    )


def one_by_one(scene: scenes.Scenes, index: int) -> list[motion.Layer]:
    """The layers of one scene as the scalar module has them."""
    layers = []
    for number, photo in enumerate(scene.photos):
        radii = scene.radii_LB2[number, index]
        if number and float(radii.min()) == 0.0:
            continue
        layers.append(
            motion.Layer(
                photo_3HW=photo[index],
                homographies_T33=scene.homographies_LBT33[number, index],
                radii=(float(radii[0]), float(radii[1])) if number else None,
            )
        )
    return layers


def test_render_equals_the_scalar_renderer() -> None:
    scene = draw()
    frames = scenes.render(scene, SIZE)
    assert frames.shape == (3, 4, 3, SIZE, SIZE)
    for index in range(3):
        expected = motion.render(one_by_one(scene, index), SIZE, SIZE)
        # float32 coordinates in place of float64.
        assert float((frames[index] - expected).abs().max()) < 0.1


def test_some_scenes_have_objects_and_some_have_none() -> None:
    radii = draw(count=64).radii_LB2
    with_one = (radii[1].amin(dim=-1) > 0).double().mean()
    with_two = (radii[2].amin(dim=-1) > 0).double().mean()
    # 0.6 of all scenes may have objects: none, one or two of them equally often.
    assert 0.2 < float(with_one) < 0.6
    assert 0.05 < float(with_two) < 0.4


def test_flow_equals_the_scalar_flow() -> None:
    scene = draw(count=4, num_frames=2, seed=5)
    flow, visible = scenes.exact_flows(scene, 0, 1, SIZE // 2, step=2)
    for index in range(4):
        layers = one_by_one(scene, index)
        expected, seen = motion.exact_flow(layers, 0, 1, SIZE // 2, SIZE // 2, step=2)
        assert torch.allclose(flow[index], expected, atol=1e-6)
        assert torch.equal(visible[index], seen)


def test_the_flow_finds_the_same_samples() -> None:
    scene = draw(count=8, num_frames=2, speed=2.0, seed=7)
    frames = scenes.render(scene, SIZE)
    flow, visible = scenes.exact_flows(scene, 0, 1, SIZE, step=1)
    still = (frames[:, 0] - frames[:, 1]).abs().mean(dim=1, keepdim=True)[visible].mean()
    warped = (frames[:, 0] - warp(frames[:, 1], flow)).abs().mean(dim=1, keepdim=True)
    assert float(warped[visible].mean()) < 0.3 * float(still)


@pytest.mark.parametrize("speed", [1.0, 6.0])
def test_speeds_stay_below_the_limit(speed: float) -> None:
    dice = scenes.Dice(torch.Generator().manual_seed(2))
    paths = scenes.random_trajectories(dice, 9, torch.zeros(200, 2).double(), max_speed_px=speed)
    steps = (paths[:, 1:, :2, 2] - paths[:, :-1, :2, 2]).norm(dim=-1)
    zoom = scenes.ZOOM[1] * 1.1
    assert float(steps.max()) <= speed * zoom * (1 + 0.15 * 2**0.5)
    assert float(steps.max()) > 0.3 * speed


def test_equal_seeds_give_equal_scenes() -> None:
    first, second, other = draw(seed=4), draw(seed=4), draw(seed=5)
    assert torch.equal(first.homographies_LBT33, second.homographies_LBT33)
    assert torch.equal(first.radii_LB2, second.radii_LB2)
    assert not torch.equal(first.homographies_LBT33, other.homographies_LBT33)
