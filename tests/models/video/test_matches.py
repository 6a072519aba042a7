"""Matches of neighbouring frames: each found once, and none between frames that are equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vsr.models.flow import FlowNet
from vsr.models.video.flowprop import Direction, FlowProp
from vsr.models.video.matches import Matches

HEIGHT, WIDTH = 18, 22


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


class Counting(FlowNet):
    """Says how many pairs it was asked for."""

    num_pairs = 0

    def between(
        self, refs: Sequence[Tensor], others: Sequence[Tensor], height: int, width: int
    ) -> Tensor:
        self.num_pairs += len(refs[0])
        return super().between(refs, others, height, width)


def network() -> Counting:
    torch.manual_seed(1)
    return Counting(4, 2).eval()


def drift(num_frames: int, held: int = 1) -> list[Tensor]:
    """(1, 3, H, W) each: texture that moves by a pixel, every picture `held` times."""
    picture = torch.rand(1, 3, HEIGHT + 9, WIDTH + 9, generator=torch.Generator().manual_seed(5))
    picture = F.avg_pool2d(picture, 3, stride=1, padding=1)
    steps = [t // held for t in range(num_frames)]
    return [picture[..., t : t + HEIGHT, t : t + WIDTH].contiguous() for t in steps]


def build(direction: Direction) -> FlowProp:
    torch.manual_seed(3)
    model = FlowProp(
        direction=direction, num_channels=8, num_blocks=1, flow_channels=4, flow_levels=2
    )
    model.flow = network()
    nn.init.normal_(model.tail.weight, std=0.02)
    return model.eval()


def pairs_of(model: FlowProp) -> int:
    assert isinstance(model.flow, Counting)
    return model.flow.num_pairs


def test_both_ways_are_found_at_once_and_are_what_each_is_alone() -> None:
    net, frames = network(), drift(4)
    matches = Matches(net, frames, keep=False)
    flow, error, more = matches.after(1)
    assert net.num_pairs == 2 and more == ()
    back, _, _ = matches.before(2)
    assert net.num_pairs == 2, "it was at hand"
    assert flow is not None and back is not None
    torch.testing.assert_close(flow, net(frames[2], frames[3]))
    torch.testing.assert_close(back, net(frames[3], frames[2]))
    assert error.shape == (1, 1, HEIGHT, WIDTH)


def test_what_is_not_kept_is_let_go() -> None:
    net = network()
    matches = Matches(net, drift(3), keep=False)
    matches.after(0)
    matches.before(1)
    matches.before(1)
    assert net.num_pairs == 3


def test_between_equal_frames_nothing_is_computed() -> None:
    net, frames = network(), drift(6, held=2)
    matches = Matches(net, frames, keep=False)
    flow, error, _ = matches.before(0)
    assert flow is None and not error.any()
    flow, _, (added,) = matches.both(0)
    assert flow is None and added.any() and net.num_pairs == 1
    flow, _, (added,) = matches.both(1)
    assert flow is not None and not added.any() and net.num_pairs == 2


@pytest.mark.parametrize(("direction", "num_pairs"), [("forward", 9), ("both", 9)])
def test_animation_on_twos_takes_half_the_matches(direction: Direction, num_pairs: int) -> None:
    model, shot = build(direction), torch.stack(drift(10, held=2), dim=1)
    model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
    # Four changes, both ways, and the frame before the first.
    assert pairs_of(model) == num_pairs


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_repeated_frame_is_nearly_what_it_would_be_computed(direction: Direction) -> None:
    model, shot = build(direction), torch.stack(drift(8, held=2), dim=1)
    skipped, _ = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
    # No frame is the one before any more, by far less than a code.
    touched = shot + 1e-6 * torch.arange(8).view(1, 8, 1, 1, 1)
    computed, _ = model.upscale(touched, model.init_state(1, HEIGHT, WIDTH))
    assert pairs_of(model) > 15
    torch.testing.assert_close(skipped, computed, atol=2e-3, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_repeats_do_not_depend_on_where_a_chunk_ends(chunk: int) -> None:
    model, shot = build("forward"), torch.stack(drift(8, held=2), dim=1)
    whole, _ = model.upscale(shot, model.init_state(1, HEIGHT, WIDTH))
    state, results = model.init_state(1, HEIGHT, WIDTH), []
    for start in range(0, 8, chunk):
        stop = min(start + chunk + 1, 8)
        num_context = min(1, 8 - start - chunk) if start + chunk < 8 else 0
        result, state = model.upscale(shot[:, start:stop], state, num_context)
        results.append(result[:, :chunk])
    assert torch.equal(torch.cat(results, dim=1), whole)
