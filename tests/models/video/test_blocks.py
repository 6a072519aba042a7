"""Every block of the BasicVSR family, and whole films, against plain loops over the samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.video import plain
from tests.models.video.plain import Array, Weights
from tests.models.video.public import Family, as_arrays, entries, random_weights
from vsr.models.checkpoint import load_upscaler
from vsr.models.flow import warp
from vsr.models.video.basicvsrpp import deform_conv

HEIGHT, WIDTH = 10, 13
WIDTH_C, GROUPS = 4, 4


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def make(family: Family, folder: Path, seed: int = 0) -> tuple[Any, Weights]:
    """The network as loaded from a file, and the file's weights for the plain loops."""
    weights = random_weights(entries(family, WIDTH_C, 1, GROUPS), seed)
    torch.save({"params": weights}, folder / f"{family}.pth")
    return load_upscaler(folder / f"{family}.pth"), as_arrays(weights)


def film(length: int, seed: int = 4) -> Tensor:
    """Smooth texture that moves by (0.5, 1) pixels a frame, (1, T, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    picture = torch.rand(1, 3, 12, 16, generator=generator)
    picture = torch.nn.functional.interpolate(picture, scale_factor=4, mode="bicubic")
    return torch.stack(
        [picture[..., t : t + 2 * HEIGHT : 2, 2 * t : 2 * (t + WIDTH) : 2] for t in range(length)],
        dim=1,
    )


def arrays(frames_BTCHW: Tensor) -> list[Array]:
    return [frame.numpy().astype(np.float64) for frame in frames_BTCHW[0]]


def near(got: Tensor, wanted: Array, tolerance: float = 2e-4) -> None:
    assert got.shape[1:] == wanted.shape
    difference = np.abs(got[0].double().numpy() - wanted).max()
    assert difference < tolerance * max(1.0, float(np.abs(wanted).max())), difference
    assert np.abs(wanted).max() > 0.01, "nothing was compared"


def run(model: Any, frames: Tensor, calls: list[tuple[int, int]]) -> Tensor:
    """A film in calls of so many frames, so many of them context."""
    state = model.init_state(len(frames), *frames.shape[-2:])
    results, start = [], 0
    for length, context in calls:
        result, state = model.upscale(frames[:, start : start + length], state, context)
        results.append(result)
        start += length - context
    assert start == frames.shape[1]
    return torch.cat(results, dim=1)


@pytest.mark.parametrize("outside", ["zeros", "border"])
def test_warp(outside: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 6, 7, generator=generator)
    flow = 4 * torch.randn(1, 2, 6, 7, generator=generator)
    wanted = plain.warp(image[0].double().numpy(), flow[0].double().numpy(), outside)
    near(warp(image, flow, outside), wanted, 1e-5)


@pytest.mark.parametrize("size", [(10, 13), (32, 32), (33, 20)])
def test_spynet(tmp_path: Path, size: tuple[int, int]) -> None:
    model, weights = make("basicvsr", tmp_path)
    pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    flow = model.spynet(pictures[:1], pictures[1:])
    ref, other = arrays(pictures[None])
    wanted = plain.spynet(ref, other, weights)
    assert 0.5 < np.abs(wanted).max() < 40, "flows of a few pixels"
    near(flow, wanted)


def test_trunk(tmp_path: Path) -> None:
    model, weights = make("basicvsr", tmp_path)
    x = torch.randn(1, 3 + WIDTH_C, 6, 5, generator=torch.Generator().manual_seed(2))
    near(model.forward_trunk(x), plain.trunk(arrays(x[None])[0], weights, "forward_trunk"), 1e-5)


def test_tail(tmp_path: Path) -> None:
    model, weights = make("basicvsr", tmp_path)
    generator = torch.Generator().manual_seed(2)
    frame = torch.rand(1, 3, 5, 4, generator=generator)
    feature = torch.randn(1, WIDTH_C, 5, 4, generator=generator)
    wanted = plain.tail(arrays(frame[None])[0], arrays(feature[None])[0], weights)
    near(model.render(frame, feature), wanted, 1e-5)


def _deform_arguments(seed: int = 6) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((1, 8, 5, 6), (1, 18 * GROUPS, 5, 6), (1, 9 * GROUPS, 5, 6), (3, 8, 3, 3), (3,))
    x, offset, mask, weight, bias = (torch.randn(shape, generator=generator) for shape in shapes)
    return x, 2 * offset, mask, weight, bias


def test_deform_conv() -> None:
    arguments = _deform_arguments()
    x, offset, mask, weight, bias = (argument.double().numpy() for argument in arguments)
    near(deform_conv(*arguments), plain.deform_conv(x[0], offset[0], mask[0], weight, bias), 1e-5)


def test_deform_conv_is_the_usual_one() -> None:
    try:
        from torchvision.ops import deform_conv2d
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no torchvision that fits this torch: {error}")
    x, offset, mask, weight, bias = _deform_arguments()
    wanted = deform_conv2d(x, offset, weight, bias, padding=1, mask=mask)
    assert (deform_conv(x, offset, mask, weight, bias) - wanted).abs().max() < 1e-4


def test_deform_conv_without_offsets_is_a_convolution() -> None:
    x, offset, mask, weight, bias = _deform_arguments()
    got = deform_conv(x, torch.zeros_like(offset), torch.ones_like(mask), weight, bias)
    wanted = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    assert (got - wanted).abs().max() < 1e-4


def test_alignment(tmp_path: Path) -> None:
    model, weights = make("basicvsrpp", tmp_path)
    generator = torch.Generator().manual_seed(7)
    parts = [torch.randn(1, WIDTH_C, 6, 7, generator=generator) for _ in range(5)]
    flows = [3 * torch.randn(1, 2, 6, 7, generator=generator) for _ in range(2)]
    got = model.deform_align["forward_2"](torch.cat(parts[:2], 1), torch.cat(parts[2:], 1), *flows)
    first, second, *conditions = (arrays(part[None])[0] for part in parts)
    flow_arrays = [arrays(flow[None])[0] for flow in flows]
    name = "deform_align.forward_2"
    near(got, plain.alignment((first, second), conditions, flow_arrays, weights, name))
    swapped = plain.alignment((first, second), conditions, flow_arrays[::-1], weights, name)
    assert np.abs(got[0].numpy() - swapped).max() > 0.05, "which flow is whose must be seen"


@pytest.mark.parametrize("length", [1, 2, 4])
def test_basicvsr_is_the_published_one(tmp_path: Path, length: int) -> None:
    model, weights = make("basicvsr", tmp_path)
    frames = film(length)
    result = run(model, frames, [(length, 0)])
    for got, wanted in zip(result[0], plain.basicvsr(arrays(frames), weights), strict=True):
        near(got[None], wanted)


@pytest.mark.parametrize("length", [1, 2, 4])
def test_basicvsrpp_is_the_published_one(tmp_path: Path, length: int) -> None:
    model, weights = make("basicvsrpp", tmp_path)
    frames = film(length)
    result = run(model, frames, [(length, 0)])
    for got, wanted in zip(result[0], plain.basicvsrpp(arrays(frames), weights), strict=True):
        near(got[None], wanted)


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_realbasicvsr_is_the_published_one(tmp_path: Path, passes: int) -> None:
    model, weights = make("realbasicvsr", tmp_path, seed=2)
    frames = film(3)
    sizes = []
    cleaned = arrays(frames)
    for _ in range(3):
        found = [
            plain.conv(plain.trunk(x, weights, "image_cleaning.0"), weights, "image_cleaning.1")
            for x in cleaned
        ]
        sizes.append(float(np.mean(np.abs(found))))
        cleaned = [x + residual for x, residual in zip(cleaned, found, strict=True)]
    assert len({round(size, 4) for size in sizes}) == 3
    # What the first `passes` - 1 passes find must be over it; of the last, nothing is asked.
    model.threshold = {1: 2 * max(sizes), 3: 0.0}.get(passes, (sizes[0] + sizes[1]) / 2)
    if passes == 2:
        assert sizes[1] < sizes[0], "corrections shrink with these weights"
    result = run(model, frames, [(3, 0)])
    wanted = plain.realbasicvsr(arrays(frames), weights, model.threshold)
    for got, picture in zip(result[0], wanted, strict=True):
        near(got[None], picture)


def test_each_sample_is_cleaned_as_it_needs(tmp_path: Path) -> None:
    model, _ = make("realbasicvsr", tmp_path)
    frames = torch.cat((film(2), 0.1 * film(2, seed=8)))
    sizes = [model.cleaning(sample).abs().mean() for sample in frames]
    model.threshold = float(sum(sizes)) / 2
    together = model.clean(frames)
    alone = torch.cat([model.clean(sample[None]) for sample in frames])
    assert (together - alone).abs().max() < 1e-5
    once = frames + torch.stack([model.cleaning(sample) for sample in frames])
    same = [bool((together[k] - once[k]).abs().max() < 1e-5) for k in (0, 1)]
    assert sorted(same) == [False, True], "one is clean after a pass, the other is not"


@pytest.mark.parametrize("family", ["basicvsr", "basicvsrpp", "realbasicvsr"])
def test_calls_differ_by_what_lies_beyond_the_look_ahead(tmp_path: Path, family: Family) -> None:
    model, _ = make(family, tmp_path)
    frames = film(8)
    whole = run(model, frames, [(8, 0)])
    # The look-ahead ends with the shot, so nothing is unknown.
    seen = run(model, frames, [(8, 5), (5, 0)])
    blind = run(model, frames, [(3, 0), (5, 0)])
    if family != "realbasicvsr":  # whose cleaning is decided anew
        assert (seen[:, :3] - whole[:, :3]).abs().max() < 1e-4
        assert (seen - whole).abs().max() < 1e-4
    assert (blind - whole).abs().max() > 1e-3
    assert (seen - whole).abs().mean() < 0.5 * (blind - whole).abs().mean()


@pytest.mark.parametrize("family", ["basicvsr", "basicvsrpp", "realbasicvsr"])
def test_contract(tmp_path: Path, family: Family) -> None:
    model, _ = make(family, tmp_path)
    frames = torch.cat((film(5), film(5, seed=8)))
    fresh = model.init_state(2, HEIGHT, WIDTH)
    _, state = model.upscale(frames[:, :3], fresh, 1)
    assert [part.shape for part in state] == [part.shape for part in fresh]
    assert all(part.dtype == torch.float32 for part in state)
    kept = [part.clone() for part in state]
    result, _ = model.upscale(frames[:, 2:], state)
    assert all(torch.equal(a, b) for a, b in zip(kept, state, strict=True)), "the call is pure"
    # A sample can be reset without the others.
    mixed = tuple(torch.cat((new[:1], old[1:])) for new, old in zip(fresh, state, strict=True))
    reset, _ = model.upscale(frames[:, 2:], mixed)
    begun, _ = model.upscale(frames[:1, 2:], model.init_state(1, HEIGHT, WIDTH))
    assert (reset[0] - begun[0]).abs().max() < 1e-4
    assert (reset[1] - result[1]).abs().max() < 1e-4
    assert (reset[0] - result[0]).abs().max() > 1e-4, "the past is used"
    model.to(torch.bfloat16)
    half, later = model.upscale(frames.to(torch.bfloat16), model.init_state(2, HEIGHT, WIDTH))
    assert half.dtype == torch.bfloat16 and bool(half.isfinite().all())
    assert all(part.dtype == torch.float32 for part in later)
