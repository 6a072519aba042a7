"""Tiles cover the picture once, and give what the whole picture gives."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.test_runner import RunningSum
from vsr.engine.tiles import (
    ALIGN_PX,
    TiledRenderer,
    TiledUpscaler,
    split_axis,
    tile_grid,
    tile_upscaler,
)
from vsr.models.catalog import get_spec
from vsr.models.checkpoint import load_upscaler
from vsr.models.image.interpolation import Interpolation
from vsr.models.upscaler import FrameRenderer, ModelSpec, State, Upscaler
from vsr.models.video.flowprop import FlowProp


@pytest.mark.parametrize("length", [1, 15, 16, 17, 100, 213, 1080])
@pytest.mark.parametrize("tile_px", [1, 16, 64, 100, 256])
@pytest.mark.parametrize("halo_px", [0, 2, 32])
def test_spans_cover_an_axis_once(length: int, tile_px: int, halo_px: int) -> None:
    spans = split_axis(length, tile_px, halo_px)
    assert [i for span in spans for i in range(span.start, span.stop)] == list(range(length))
    for span in spans:
        assert span.stop - span.start <= math.ceil(tile_px / ALIGN_PX) * ALIGN_PX
        assert span.seen_start % ALIGN_PX == 0
        assert span.seen_start == 0 or span.start - span.seen_start >= halo_px
        assert span.seen_stop == length or span.seen_stop - span.stop >= halo_px
        assert 0 <= span.seen_start <= span.start < span.stop <= span.seen_stop <= length


def test_tiles_are_of_even_size() -> None:
    sizes = [span.stop - span.start for span in split_axis(1080, 1000, 0)]
    assert sizes == [544, 536]


def test_cut_and_paste_put_a_picture_together() -> None:
    picture = torch.rand(2, 3, 50, 70)
    whole = torch.full((2, 3, 100, 140), -1.0)
    for tile in tile_grid(50, 70, 32, 5):
        piece = tile.cut(picture)
        assert piece.shape[-2:] == tile.size
        tile.paste(piece.repeat_interleave(2, -1).repeat_interleave(2, -2), whole, 2)
    assert torch.equal(whole, picture.repeat_interleave(2, -1).repeat_interleave(2, -2))


def run_calls(model: Upscaler, frames_BTCHW: Tensor, calls: list[tuple[int, int]]) -> Tensor:
    """Results of calls (frames, context) that follow each other."""
    height, width = frames_BTCHW.shape[-2:]
    state = model.init_state(1, height, width, 7)
    results, at = [], 0
    for length, context in calls:
        frames = frames_BTCHW[:, at : at + length]
        if isinstance(model, FrameRenderer):
            features, state = model.propagate(frames, state, context)
            results += [model.render(frames[:, t], f) for t, f in enumerate(features)]
        else:
            result, state = model.upscale(frames, state, context)
            results += list(result.unbind(1))
        at += length - context
    return torch.stack(results, 1)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(61, 45), (48, 96)])
def test_interpolation_on_tiles_is_that_of_the_whole(scale: int, size: tuple[int, int]) -> None:
    frames = torch.rand(1, 2, 3, *size)
    model = Interpolation(scale)
    tiled = tile_upscaler(model, get_spec(f"bicubic-x{scale}"), 32)
    assert type(tiled) is TiledUpscaler
    with torch.inference_mode():
        whole, _ = model.upscale(frames, ())
        result, state = tiled.upscale(frames, tiled.init_state(1, *size))
    assert state == ()
    assert torch.equal(whole, result)


def test_every_tile_has_a_state_of_its_own() -> None:
    frames = torch.rand(1, 5, 3, 40, 56)
    calls = [(3, 1), (3, 1), (1, 0)]
    tiled = TiledUpscaler(RunningSum(), tile_px=16, halo_px=3)
    with torch.inference_mode():
        assert torch.equal(run_calls(tiled, frames, calls), run_calls(RunningSum(), frames, calls))


def test_a_tile_keeps_what_a_small_picture_is() -> None:
    spec = get_spec("flowprop-xs-x4")
    torch.manual_seed(0)
    model = FlowProp(**spec.params).eval()
    tiled = tile_upscaler(model, spec, 64)
    assert isinstance(tiled, TiledRenderer) and isinstance(tiled, FrameRenderer)
    frames = torch.rand(1, 3, 3, 40, 50)
    with torch.inference_mode():
        whole = run_calls(model, frames, [(2, 1), (2, 0)])
        assert torch.equal(run_calls(tiled, frames, [(2, 1), (2, 0)]), whole)


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_a_recurrent_network_on_tiles_comes_near_the_whole(direction: Any) -> None:
    torch.manual_seed(1)
    model = FlowProp(num_channels=16, num_blocks=1, direction=direction, flow_channels=8).eval()
    torch.nn.init.normal_(model.tail.weight, std=0.02)
    base = torch.nn.functional.interpolate(torch.rand(1, 3, 20, 40), size=(96, 150), mode="bicubic")
    frames = torch.stack([base.roll(t, -1) for t in range(4)], 1)
    tiled = TiledRenderer(model, tile_px=80, halo_px=32)
    with torch.inference_mode():
        whole = run_calls(model, frames, [(3, 1), (2, 0)])
        result = run_calls(tiled, frames, [(3, 1), (2, 0)])
        plain, _ = Interpolation(4).upscale(frames, ())
    assert result.shape == whole.shape
    # The network's part of the picture, not only the interpolated one, has to be alike.
    detail = float((whole - plain).square().mean())
    assert float((whole - result).square().mean()) < 0.01 * detail


def texture(num_frames: int, height: int, width: int) -> Tensor:
    """(1, T, 3, H, W): noise as rough as photographs are, that drifts by 1.5 px a frame."""
    generator = torch.Generator().manual_seed(4)
    rows, columns = 2 * height, 2 * width + 3 * num_frames
    noise = torch.fft.rfft2(torch.randn(3, rows, columns, generator=generator))
    across, down = torch.fft.rfftfreq(columns), torch.fft.fftfreq(rows)[:, None]
    picture = torch.fft.irfft2(noise / torch.hypot(across, down).clamp_min(1 / rows))
    picture = (0.5 + 0.15 * picture / picture.std()).clamp(0, 1)
    shifted = [picture[:, :, 3 * t : 3 * t + 2 * width] for t in range(num_frames)]
    return torch.stack([torch.nn.functional.avg_pool2d(x, 2) for x in shifted])[None]


@pytest.mark.parametrize("name", ["espcn-x4", "fsrcnn-x4", "srvgg-x4"])
def test_a_network_of_one_frame_on_tiles_is_that_of_the_whole(name: str) -> None:
    spec, frames = get_spec(name), texture(1, 80, 112)
    model = load_upscaler(name)
    tiled = tile_upscaler(model, spec, 32)
    with torch.inference_mode():
        whole, _ = model.upscale(frames, ())
        result, _ = tiled.upscale(frames, tiled.init_state(1, 80, 112))
    assert torch.equal(whole, result)


def test_trained_propagation_on_tiles_shows_no_seam() -> None:
    spec, frames, tile_px = get_spec("flowprop-xs-x4-bi"), texture(6, 96, 160), 80
    model = load_upscaler(spec.id)
    tiled = tile_upscaler(model, spec, tile_px)
    with torch.inference_mode():
        whole = run_calls(model, frames, [(4, 1), (3, 0)])
        result = run_calls(tiled, frames, [(4, 1), (3, 0)])
    assert not torch.equal(whole, result)
    errors = (result - whole).square().flatten(2).mean(2)
    assert float(-10 * errors.max().log10()) >= 50
    seam = spec.scale * tile_px
    step, expected = ((x[..., seam] - x[..., seam - 1]).abs().mean() for x in (result, whole))
    # A quarter of a code of 255.
    assert abs(float(step - expected)) < 0.25 / 255


def test_a_model_that_must_not_be_tiled_is_left_whole() -> None:
    spec = ModelSpec(
        id="sum-x2", family="sum", scale=2, kind="video", build=RunningSum, tileable=False
    )
    model = RunningSum()
    assert tile_upscaler(model, spec, 64) is model


def test_memory_follows_the_tile() -> None:
    sizes: list[int] = []

    class Spy(RunningSum):
        def upscale(
            self, frames_BTCHW: Tensor, state: State, num_context: int = 0
        ) -> tuple[Tensor, State]:
            sizes.append(frames_BTCHW.shape[-2] * frames_BTCHW.shape[-1])
            return super().upscale(frames_BTCHW, state, num_context)

    for tile_px in (128, 64, 32):
        tiled = TiledUpscaler(Spy(), tile_px=tile_px, halo_px=16)
        tiled.upscale(torch.zeros(1, 1, 3, 128, 256), tiled.init_state(1, 128, 256))
    largest = [max(group) for _, group in itertools.groupby(sizes[:2])]
    assert largest[0] == 128 * 144
    assert max(sizes[-32:]) == 64 * 64
