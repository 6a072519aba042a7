"""flowprop beyond the contract that all models keep: gates, look-ahead, state, skip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.errors import ShapeError
from vsr.models.flow import warp
from vsr.models.image.interpolation import imresize
from vsr.models.upscaler import State
from vsr.models.video.flowprop import FlowProp
from vsr.models.video.propagation import GroupedWarp, Propagation

Direction = Literal["none", "forward", "both"]
DIRECTIONS: tuple[Direction, ...] = ("none", "forward", "both")
HEIGHT, WIDTH = 18, 22


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def build(direction: Direction, **params: Any) -> FlowProp:
    """Random weights, with a tail and states that are seen in the output."""
    torch.manual_seed(3)
    sizes = {"num_channels": 8, "num_blocks": 1, "flow_channels": 4, "flow_levels": 2}
    model = FlowProp(direction=direction, **{**sizes, **params}).eval()
    nn.init.normal_(model.tail.weight, std=0.02)
    for name, parameter in model.named_parameters():
        if name.endswith("initial"):
            nn.init.normal_(parameter, std=0.3)
    return model


def frames(num_frames: int, batch: int = 1, seed: int = 5) -> Tensor:
    """Texture that moves by a pixel a frame, (B, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(batch, 3, HEIGHT + num_frames, WIDTH + num_frames, generator=generator)
    picture = F.avg_pool2d(picture, 3, stride=1, padding=1)
    return torch.stack(
        [picture[..., t : t + HEIGHT, t : t + WIDTH] for t in range(num_frames)], dim=1
    )


def run(model: FlowProp, shot: Tensor, chunk: int, context: int) -> tuple[Tensor, State]:
    """A whole shot in calls of `chunk` written frames."""
    state = model.init_state(shot.shape[0], HEIGHT, WIDTH)
    results, start = [], 0
    while start < shot.shape[1]:
        rest = shot.shape[1] - start
        num_context = context if rest >= chunk + context else 0
        stop = start + chunk + context if num_context or rest > chunk else shot.shape[1]
        result, state = model.upscale(shot[:, start:stop], state, num_context)
        results.append(result)
        start += result.shape[1]
    return torch.cat(results, dim=1), state


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 8])
def test_forward_in_chunks_equals_the_whole_bit_for_bit(chunk: int) -> None:
    model, shot = build("forward"), frames(9)
    whole, end = run(model, shot, 9, 1)
    chunked, chunked_end = run(model, shot, chunk, 1)
    assert torch.equal(chunked, whole)
    assert all(torch.equal(a, b) for a, b in zip(chunked_end, end, strict=True))


def test_more_look_ahead_than_a_frame_changes_nothing_forward() -> None:
    model, shot = build("forward"), frames(6)
    state = model.init_state(1, HEIGHT, WIDTH)
    one, after_one = model.upscale(shot[:, :4], state, 1)
    three, after_three = model.upscale(shot, state, 3)
    assert torch.equal(one, three)
    assert all(torch.equal(a, b) for a, b in zip(after_one, after_three, strict=True))


def test_the_next_frame_is_seen_only_by_the_last_one_before_it() -> None:
    model, shot = build("forward"), frames(4)
    other = shot.clone()
    # Still alike enough for the look-ahead to be believed.
    other[:, 3] += 0.02 * torch.rand(other[:, 3].shape, generator=torch.Generator().manual_seed(1))
    state = model.init_state(1, HEIGHT, WIDTH)
    one, _ = model.upscale(shot, state, 1)
    two, _ = model.upscale(other, state, 1)
    assert torch.equal(one[:, :2], two[:, :2])
    assert not torch.equal(one[:, 2], two[:, 2])
    without, _ = model.upscale(shot[:, :3], state)
    assert torch.equal(one[:, :2], without[:, :2])
    assert not torch.equal(one[:, 2], without[:, 2])


def test_both_directions_in_chunks_are_close_to_the_whole() -> None:
    model, shot = build("both"), frames(12)
    whole, _ = run(model, shot, 12, 0)
    with_context, _ = run(model, shot, 4, 4)
    without, _ = run(model, shot, 4, 0)
    near, far = ((x - whole).square().mean() for x in (with_context, without))
    skip = (whole - bicubic(shot, 4)).square().mean()
    # Small against what the network adds, and smaller for the look-ahead.
    assert float(near) < 0.01 * float(skip)
    assert float(near) < 0.5 * float(far)


def bicubic(shot: Tensor, scale: int) -> Tensor:
    large = imresize(shot.flatten(0, 1), scale=scale)
    return large.view(*shot.shape[:2], *large.shape[1:])


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_without_a_tail_it_is_bicubic(direction: Direction, scale: int) -> None:
    model, shot = build(direction, scale=scale), 1.6 * frames(3) - 0.3
    nn.init.zeros_(model.tail.weight)
    result, _ = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
    phases = model.interpolation.phases(shot.flatten(0, 1))
    assert torch.equal(result[0], F.pixel_shuffle(phases, scale))
    torch.testing.assert_close(result, bicubic(shot, scale), atol=2e-6, rtol=0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_fresh_network_starts_near_bicubic(direction: Direction) -> None:
    torch.manual_seed(0)
    model, shot = FlowProp(direction=direction).eval(), frames(3)
    result, _ = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
    difference = (result - bicubic(shot, 4)).abs().max()
    assert 0 < float(difference) < 0.05


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_no_previous_frame_is_a_fresh_start(direction: Direction) -> None:
    model, shot = build(direction), frames(6)
    _, state = model.upscale(shot[:, :3], model.init_state(1, HEIGHT, WIDTH))
    hidden, previous, has_previous = state
    assert bool((has_previous == 1).all())
    fresh, _ = model.upscale(shot[:, 3:], model.init_state(1, HEIGHT, WIDTH))
    reset, _ = model.upscale(shot[:, 3:], (hidden, previous, torch.zeros_like(has_previous)))
    carried, _ = model.upscale(shot[:, 3:], state)
    assert torch.equal(reset, fresh)
    assert not torch.equal(carried, fresh)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_state_is_the_last_written_frame_and_its_features(direction: Direction) -> None:
    model, shot = build(direction), frames(5)
    state = model.init_state(1, HEIGHT, WIDTH)
    assert [tuple(part.shape) for part in state] == [
        (1, 8, HEIGHT, WIDTH),
        (1, 3, HEIGHT, WIDTH),
        (1, 1, 1, 1),
    ]
    assert float(state[2]) == 0.0
    _, after = model.upscale(shot, state, 2)
    assert torch.equal(after[1], shot[:, 2])
    assert float(after[2]) == 1.0
    assert float(state[2]) == 0.0, "the state given is left alone"
    assert model.init_state(2, 4, 5)[0].shape == (2, 8, 4, 5)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_batch_is_its_samples_one_by_one(direction: Direction) -> None:
    model, shot = build(direction), frames(4, batch=3)
    together, _ = model.upscale(shot, model.init_state(3, HEIGHT, WIDTH))
    for index in range(3):
        alone, _ = run(model, shot[index : index + 1], 4, 0)
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)


def test_frames_alone_are_not_mixed() -> None:
    model, shot = build("none"), frames(4)
    together, state = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH), 1)
    assert state == () and together.shape[1] == 3
    for t in range(3):
        alone, _ = model.upscale(shot[:, t : t + 1], ())
        torch.testing.assert_close(together[:, t : t + 1], alone, atol=1e-6, rtol=0)


def test_the_gate_opens_for_a_match_and_shuts_for_an_occlusion() -> None:
    propagation = Propagation(3, 4, 1)
    nn.init.constant_(propagation.initial, -1.0)
    hidden = torch.full((1, 4, 6, 6), 5.0)
    still = torch.zeros(1, 2, 6, 6)
    error = torch.zeros(1, 1, 6, 6)
    error[..., 3:] = 1e4
    aligned = propagation.align(hidden, still, error, torch.zeros(1, 3, 6, 6))
    gate = float(torch.sigmoid(torch.tensor(3.0)))
    torch.testing.assert_close(
        aligned[..., :3], torch.full((1, 4, 6, 3), gate * 5.0 - (1 - gate)), atol=1e-4, rtol=0
    )
    assert torch.equal(aligned[..., 3:], torch.full((1, 4, 6, 3), -1.0))


def test_a_cut_inside_a_call_hardly_leaks() -> None:
    """Calls never span a cut, but a missed one must not smear the old shot over the new."""
    model = build("forward")
    old, new = frames(3), 1 - frames(2, seed=8).flip(-1)
    new[..., ::2] += 0.5  # unlike the old shot in every pixel
    joined, _ = model.upscale(torch.cat((old, new), dim=1), model.init_state(1, HEIGHT, WIDTH))
    fresh, _ = model.upscale(new, model.init_state(1, HEIGHT, WIDTH))
    carried = (joined[:, 3:] - fresh).abs().mean()
    detail = (fresh - bicubic(new, 4)).abs().mean()
    assert float(carried) < 0.5 * float(detail)


@pytest.mark.parametrize(
    ("shape", "num_context"),
    [((1, 2, 3, 8, 8), 2), ((1, 2, 3, 8, 8), -1), ((1, 2, 1, 8, 8), 0), ((1, 0, 3, 8, 8), 0)],
)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_wrong_shapes_are_refused(
    direction: Direction, shape: tuple[int, ...], num_context: int
) -> None:
    model = build(direction)
    with pytest.raises(ShapeError, match="context frames"):
        model.upscale(torch.zeros(shape), model.init_state(1, 8, 8), num_context)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_weight_but_those_of_coarse_flow_learns(direction: Direction) -> None:
    model, shot = build(direction).train(), frames(3)
    with torch.enable_grad():
        result, _ = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
        torch.autograd.backward(result.square().mean())
    for name, parameter in model.named_parameters():
        if name.startswith("flow.levels.0."):
            # Each level takes the coarser ones' flow as given: they learn in flow training only.
            assert parameter.grad is None
            continue
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name
        assert bool(parameter.grad.any()), name


def grid(**params: Any) -> FlowProp:
    """Two rounds, groups with offsets, and a tail of its own; offsets that are not 0."""
    model = build("both", num_groups=4, num_rounds=2, tail_blocks=1, **params)
    for module in model.modules():
        if isinstance(module, GroupedWarp):
            last = module.head[2]
            nn.init.normal_(last.weight, std=0.05)  # type: ignore[arg-type]
    return model


def test_two_rounds_in_chunks_are_close_to_the_whole() -> None:
    model, shot = grid(), frames(12)
    whole, end = run(model, shot, 12, 0)
    chunked, _ = run(model, shot, 4, 4)
    skip = (whole - bicubic(shot, 4)).square().mean()
    assert float((chunked - whole).square().mean()) < 0.01 * float(skip)
    assert [tuple(t.shape[1:]) for t in end] == [(8, 18, 22), (8, 18, 22), (3, 18, 22), (1, 1, 1)]


def test_later_rounds_see_what_lies_on_both_sides() -> None:
    model, shot = grid(), frames(5)
    state = model.init_state(1, HEIGHT, WIDTH)
    whole, _ = model.upscale(shot, state)
    for changed in (0, 4):
        other = shot.clone()
        other[:, changed] = other[:, changed].flip(-1)
        result, _ = model.upscale(other, state)
        assert not torch.equal(result[:, 2], whole[:, 2])


def test_context_changes_the_state_only_through_the_frames_before_it() -> None:
    model, shot = grid(), frames(6)
    state = model.init_state(1, HEIGHT, WIDTH)
    _, after = model.upscale(shot[:, :4], state, 1)
    assert torch.equal(after[2], shot[:, 2])
    assert float(after[3]) == 1.0


def test_a_grouped_warp_starts_as_a_plain_one() -> None:
    torch.manual_seed(2)
    plain = GroupedWarp(8, 4)
    hidden, flow = torch.rand(2, 8, 9, 11), torch.randn(2, 2, 9, 11)
    error, frame = torch.rand(2, 1, 9, 11), torch.rand(2, 3, 9, 11)
    assert torch.allclose(plain(hidden, flow, error, frame), warp(hidden, flow), atol=1e-6)


def test_each_group_moves_along_its_own_offset() -> None:
    moving = GroupedWarp(4, 2)
    shift = torch.tensor([0.4, -0.8, 0.0, -0.4, 1.2, 0.5])
    with torch.no_grad():
        moving.head[2].bias.copy_(shift)  # type: ignore[operator]
    hidden, flow = torch.rand(1, 4, 9, 11), torch.randn(1, 2, 9, 11)
    found = moving(hidden, flow, torch.rand(1, 1, 9, 11), torch.rand(1, 3, 9, 11))
    for group in range(2):
        dx, dy, gain = shift[3 * group : 3 * group + 3]
        offset = 5 * torch.tanh(torch.stack((dx, dy)))[:, None, None]
        part = slice(2 * group, 2 * group + 2)
        expected = warp(hidden[:, part], flow + offset) * 2 * torch.sigmoid(gain)
        assert torch.allclose(found[:, part], expected, atol=1e-5)


def test_rounds_need_both_directions() -> None:
    with pytest.raises(ValueError, match="both directions"):
        build("forward", num_rounds=2)
