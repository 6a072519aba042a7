"""What every model of the catalogue must keep, checked with random weights on tiny frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vsr.models.catalog import list_models
from vsr.models.image.per_frame import PerFrame
from vsr.models.upscaler import ModelSpec, State

# Ids that share one network and its parameters need one run.
SPECS = list(
    {
        (spec.family, str(sorted(spec.params.items()))): spec
        for spec in list_models()
        if spec.family != "pulse"  # takes pictures of one size alone; has tests of its own
    }.values()
)


def _build(spec: ModelSpec) -> Any:
    """Random weights, large enough that what a layer adds is seen in the output."""
    torch.manual_seed(11)
    params = dict(spec.params)
    if params.get("num_channels", 0) > 32 and spec.family == "flowprop":
        params |= {"num_channels": 16, "num_blocks": 1}  # contracts do not depend on the size
    if spec.family == "zssr":
        params |= {"num_steps": 2}  # nor on how much is learnt
    module = spec.build(**params)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and float(layer.weight.detach().abs().max()) < 0.02:
            nn.init.normal_(layer.weight, std=0.02)
    return module.eval().requires_grad_(False)


def _frames(num_frames: int, height: int, width: int, batch: int = 1, seed: int = 5) -> Tensor:
    """Texture that moves by one pixel a frame, (B, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(batch, 3, height + num_frames, width + num_frames, generator=generator)
    picture = nn.functional.avg_pool2d(picture, 3, stride=1, padding=1)
    return torch.stack(
        [picture[..., t : t + height, t : t + width] for t in range(num_frames)], dim=1
    )


def _run(
    model: Any, frames: Tensor, chunk: int, context: int, state: State | None = None
) -> Tensor:
    """A whole shot in calls of `chunk` written frames."""
    batch, num_frames, _, height, width = frames.shape
    state = model.init_state(batch, height, width) if state is None else state
    results: list[Tensor] = []
    start = 0
    while start < num_frames:
        is_last = num_frames - start < chunk + context
        stop = num_frames if is_last else start + chunk + context
        num_context = 0 if is_last else context
        result, state = model.upscale(frames[:, start:stop], state, num_context)
        results.append(result)
        start = stop - num_context
    return torch.cat(results, dim=1)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.id)
class TestConformance:
    def test_spec_is_sound(self, spec: ModelSpec) -> None:
        model = _build(spec)
        assert model.scale == spec.scale
        assert spec.chunk >= 1 and spec.context >= 0 and spec.warmup >= 0
        assert spec.min_size >= 1
        assert (spec.kind == "image") <= (spec.context == 0 and spec.warmup == 0 and spec.causal)
        assert (spec.weights is None) == (not any(True for _ in model.parameters()))

    @pytest.mark.parametrize(("height", "width"), [(17, 31), (30, 13), (16, 16)])
    def test_odd_sizes(self, spec: ModelSpec, height: int, width: int) -> None:
        model = _build(spec)
        result, _ = model.upscale(_frames(3, height, width), model.init_state(1, height, width))
        assert result.shape == (1, 3, 3, spec.scale * height, spec.scale * width)
        assert result.dtype == torch.float32
        assert bool(result.isfinite().all())

    def test_smallest_size(self, spec: ModelSpec) -> None:
        model = _build(spec)
        size = spec.min_size
        result, _ = model.upscale(_frames(2, size, size), model.init_state(1, size, size))
        assert result.shape[-2:] == (spec.scale * size, spec.scale * size)
        assert bool(result.isfinite().all())

    def test_constant_super_white_and_black_survive(self, spec: ModelSpec) -> None:
        model = _build(spec)
        cleaning = getattr(model, "cleaning", None)
        for last in (getattr(model, "tail", None), cleaning and cleaning.residual):
            if last is not None:  # what is left is the skip, which must carry every level
                nn.init.zeros_(last.weight)
        for level in (1.4, -0.3):
            frames = torch.full((1, 2, 3, 20, 24), level)
            result, _ = model.upscale(frames, model.init_state(1, 20, 24))
            if isinstance(model, PerFrame):  # one without a skip, on nominal samples
                nominal = frames.clamp(0, 1)
                inside, _ = model.upscale(nominal, model.init_state(1, 20, 24))
                result = result - inside + nominal[0, 0, 0, 0, 0]
            assert result.sub(level).abs().max() < 1e-4

    def test_halo_is_the_receptive_field(self, spec: ModelSpec) -> None:
        model = _build(spec)
        if not isinstance(model, PerFrame):
            pytest.skip("not a network of one frame")
        assert (spec.halo_px, spec.tileable) == (model.halo_px, model.tileable)
        if not spec.tileable:
            pytest.skip("this network is not run on tiles")
        halo, width = spec.halo_px, 2 * spec.halo_px + 3
        frames = torch.rand(1, 1, 3, 8, width, generator=torch.Generator().manual_seed(3))
        other = frames.clone()
        # The columns just outside of the halo of the one in the middle.
        other[..., 0], other[..., -1] = 0.5, 0.5
        state = model.init_state(1, 8, width)
        (one, _), (two, _) = model.upscale(frames, state), model.upscale(other, state)
        middle = slice(spec.scale * (halo + 1), spec.scale * (halo + 2))
        assert torch.equal(one[..., middle], two[..., middle])
        assert not torch.equal(one, two)

    def test_state_is_pure(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(6, 18, 22)
        _, state = model.upscale(frames[:, :3], model.init_state(1, 18, 22))
        copy = tuple(tensor.clone() for tensor in state)
        frames_copy = frames.clone()
        first, after = model.upscale(frames[:, 3:], state)
        assert all(torch.equal(a, b) for a, b in zip(state, copy, strict=True))
        assert torch.equal(frames, frames_copy)
        again, after_again = model.upscale(frames[:, 3:], state)
        assert torch.equal(first, again)
        assert all(torch.equal(a, b) for a, b in zip(after, after_again, strict=True))

    def test_state_is_tensors_with_the_batch_first(self, spec: ModelSpec) -> None:
        model = _build(spec)
        state = model.init_state(3, 18, 22)
        _, after = model.upscale(_frames(2, 18, 22, batch=3), state)
        assert isinstance(state, tuple) and len(state) == len(after)
        for before, later in zip(state, after, strict=True):
            assert before.shape == later.shape and before.shape[0] == 3
            assert before.dtype == later.dtype and before.device == later.device
            assert bool(later.isfinite().all())

    def test_one_sample_can_be_reset_alone(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(4, 18, 22, batch=2)
        _, state = model.upscale(frames[:, :2], model.init_state(2, 18, 22))
        fresh = model.init_state(2, 18, 22)
        mixed = tuple(torch.cat((new[:1], old[1:])) for new, old in zip(fresh, state, strict=True))
        result, _ = model.upscale(frames[:, 2:], mixed)
        restarted, _ = model.upscale(frames[:1, 2:], model.init_state(1, 18, 22))
        carried, _ = model.upscale(frames[:, 2:], state)
        assert (result[:1] - restarted).abs().max() < 1e-4
        assert (result[1:] - carried[1:]).abs().max() < 1e-4

    def test_batch_equals_one_by_one(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(3, 18, 22, batch=3)
        together, _ = model.upscale(frames, model.init_state(3, 18, 22))
        for index in range(3):
            alone, _ = model.upscale(frames[index : index + 1], model.init_state(1, 18, 22))
            assert (together[index] - alone[0]).abs().max() < 1e-4

    def test_chunked_equals_whole(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(7, 18, 22)
        whole = _run(model, frames, 7, spec.context)
        for chunk in (1, 3) if spec.causal else (3,):
            chunked = _run(model, frames, chunk, spec.context)
            assert chunked.shape == whole.shape
            if spec.causal:
                assert torch.equal(chunked, whole)
            else:
                assert (chunked - whole).abs().mean() < 0.02

    def test_context_is_looked_at_and_not_written(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(4 + spec.context, 18, 22)
        state = model.init_state(1, 18, 22)
        result, after = model.upscale(frames, state, spec.context)
        assert result.shape[1] == 4
        other = frames.clone()
        other[:, 4:] = _frames(max(spec.context, 1), 18, 22, seed=9)[:, : spec.context]
        changed, _ = model.upscale(other, state, spec.context)
        if spec.context:
            assert not torch.equal(result, changed)
        if spec.causal:
            # Frame t may look at frames up to t + context and no further.
            unaffected = 4 - spec.context
            assert torch.equal(result[:, :unaffected], changed[:, :unaffected])
        # The last written frame is remembered, cleaned where that is done, not the last frame seen.
        cleaning = getattr(model, "cleaning", None)
        last = frames[:, 3] if cleaning is None else frames[:, 3] + cleaning(frames[:, 3])
        pictures = [tensor for tensor in after if tensor.shape == last.shape]
        assert all(torch.equal(tensor, last) for tensor in pictures)

    def test_video_models_use_their_past(self, spec: ModelSpec) -> None:
        model = _build(spec)
        frames = _frames(4, 18, 22)
        _, state = model.upscale(frames[:, :3], model.init_state(1, 18, 22))
        carried, _ = model.upscale(frames[:, 3:], state)
        fresh, _ = model.upscale(frames[:, 3:], model.init_state(1, 18, 22))
        assert torch.equal(carried, fresh) == (spec.kind == "image")

    def test_cut_gives_a_fresh_start(self, spec: ModelSpec) -> None:
        model = _build(spec)
        model.upscale(_frames(5, 18, 22), model.init_state(1, 18, 22))
        after_use, _ = model.upscale(_frames(2, 18, 22, seed=8), model.init_state(1, 18, 22))
        never_used = _build(spec)
        fresh, _ = never_used.upscale(_frames(2, 18, 22, seed=8), never_used.init_state(1, 18, 22))
        assert torch.equal(after_use, fresh)

    def test_seed_is_all_that_is_random(self, spec: ModelSpec) -> None:
        model = _build(spec)
        torch.manual_seed(1)
        first, _ = model.upscale(_frames(2, 18, 22), model.init_state(1, 18, 22, seed=3))
        torch.manual_seed(2)
        again, _ = model.upscale(_frames(2, 18, 22), model.init_state(1, 18, 22, seed=3))
        assert torch.equal(first, again)

    def test_bf16_is_close_to_float32(self, spec: ModelSpec) -> None:
        frames = _frames(4, 18, 22)
        model = _build(spec)
        exact, _ = model.upscale(frames, model.init_state(1, 18, 22))
        half = _build(spec).to(dtype=torch.bfloat16)
        got, state = half.upscale(frames.to(torch.bfloat16), half.init_state(1, 18, 22))
        assert got.dtype == torch.bfloat16
        mse = float((got.float() - exact).square().mean())
        assert mse < 1e-4  # 40 dB
        again, _ = half.upscale(frames.to(torch.bfloat16), state)
        assert bool(again.isfinite().all())
