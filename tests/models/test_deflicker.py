"""Per-frame models on film: shimmer goes, motion and cuts stay, repeats cost nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vsr.errors import ShapeError
from vsr.models.deflicker import Deflicker, Once, steady
from vsr.models.image.interpolation import Interpolation, imresize
from vsr.models.upscaler import State


class Shimmer(Interpolation):
    """Bicubic with other fine detail in every frame, which a network of single frames may add."""

    def __init__(self, amount: float = 0.05) -> None:
        super().__init__(2)
        self.amount = amount
        self.num_frames = 0

    def upscale(
        self, frames_BTCHW: Tensor, state: State, num_context: int = 0
    ) -> tuple[Tensor, State]:
        plain, _ = super().upscale(frames_BTCHW, state, num_context)
        self.num_frames += plain.shape[1]
        generator = torch.Generator().manual_seed(int(1e6 * float(frames_BTCHW.double().mean())))
        return plain + self.amount * torch.randn(plain.shape, generator=generator), state


def panned(num_frames: int, step: int = 2, height: int = 48, width: int = 64) -> Tensor:
    """A texture that moves by `step` pixels a frame, (1, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(1, 3, height // 4 + 8, width // 4 + 8, generator=generator)
    picture = imresize(coarse, scale=4)
    return torch.stack(
        [picture[..., step * t : step * t + height, 8 : 8 + width] for t in range(num_frames)], 1
    )


def run(model: Any, frames: Tensor, chunk: int | None = None) -> Tensor:
    state = model.init_state(len(frames), *frames.shape[-2:])
    parts = []
    for piece in frames.split(chunk or frames.shape[1], dim=1):  # type: ignore[no-untyped-call]
        part, state = model.upscale(piece, state)
        parts.append(part)
    return torch.cat(parts, dim=1)


def shimmer_of(result: Tensor, plain: Tensor) -> float:
    """Deviation of what was added, along a motion of 4 px a frame of the result."""
    added = result - plain
    change = added[:, 1:, ..., :-4, :] - added[:, :-1, ..., 4:, :]
    return float(change[:, -3:, ..., 8:-8, 8:-8].std())


def test_shimmer_falls_along_the_motion() -> None:
    frames = panned(8)
    plain = run(Interpolation(2), frames)
    before = shimmer_of(run(Once(Shimmer()), frames), plain)
    after = shimmer_of(run(Deflicker(Shimmer(), 0.5), frames), plain)
    assert after < 0.6 * before
    still = shimmer_of(run(Deflicker(Shimmer(), 0.2), frames), plain)
    assert after < still < before


def test_nothing_is_carried_where_the_source_disagrees() -> None:
    frames = panned(1)
    other = 1 - frames
    model = Deflicker(Shimmer(), 0.9)
    alone = run(model, other)[:, 0]
    after = run(model, torch.cat((frames, other), dim=1))[:, 1]
    far = ((frames - other).square().sum(2) > 0.4)[:, :, None].repeat_interleave(2, -1)
    far = far.repeat_interleave(2, -2)[:, 0].expand_as(alone)
    assert far.any()
    # What registration can line up by chance is allowed to differ.
    assert (after - alone)[far].abs().median() < 0.02


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_chunked_is_whole(strength: float) -> None:
    frames = panned(5)
    whole = run(steady(Shimmer(), strength), frames)
    assert torch.equal(run(steady(Shimmer(), strength), frames, chunk=1), whole)
    assert torch.equal(run(steady(Shimmer(), strength), frames, chunk=2), whole)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_shot_starts_anew(strength: float) -> None:
    frames = panned(4)
    model = steady(Shimmer(), strength)
    first = run(model, frames)
    assert torch.equal(run(model, frames), first)
    assert torch.equal(first[:, :1], run(Once(Shimmer()), frames[:, :1]))


def test_repeats_are_computed_once_and_equal_to_the_bit() -> None:
    moving = panned(3)
    black = torch.zeros_like(moving[:, :1])
    order = [moving[:, :1], moving[:, :1], moving[:, 1:2], black, black, black, moving[:, 2:]]
    frames = torch.cat(order, dim=1)
    each = Shimmer()
    expected = torch.cat([each.upscale(frame, ())[0] for frame in frames.split(1, dim=1)], 1)  # type: ignore[no-untyped-call]
    model = Shimmer()
    assert torch.equal(run(Once(model), frames), expected)
    assert model.num_frames == 4
    steadied = Shimmer()
    result = run(Deflicker(steadied, 0.5), frames)
    assert steadied.num_frames == 4
    assert torch.equal(result[:, 0], result[:, 1]) and torch.equal(result[:, 3], result[:, 5])


def test_samples_of_a_batch_do_not_touch() -> None:
    one, two = panned(3), panned(3, step=0)
    model = Deflicker(Shimmer(0.0), 0.5)
    both = run(model, torch.cat((one, two)))
    assert torch.allclose(both[:1], run(model, one), atol=1e-6)
    assert torch.allclose(both[1:], run(model, two), atol=1e-6)


def test_a_call_must_write_something() -> None:
    model = Deflicker(Interpolation(2))
    frames = panned(1)
    with pytest.raises(ShapeError):
        model.upscale(frames, model.init_state(1, 48, 64), 1)
