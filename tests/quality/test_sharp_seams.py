"""A border of sharpness is found where it is; edges of things are none."""

from __future__ import annotations

import av
import av.filter
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vsr.models.checkpoint import load_upscaler
from vsr.models.flow import luma
from vsr.quality.consistency import Pair
from vsr.quality.defects import Seams
from vsr.quality.sharp_seams import SharpSeams
from vsr.quality.views import View, resize

Picture = NDArray[np.float32]
ROWS, COLUMNS, FRAMES = 96, 160, 10
SMALL = np.zeros((3, 90, 160), np.float32)


def world() -> Picture:
    random = np.random.default_rng(5)
    fine = random.normal(0, 1, (ROWS + 40, COLUMNS + 80)).astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(fine, (0, 0), 1.2), np.float32)
    return np.asarray(0.5 + 0.1 * blurred / blurred.std(), np.float32)


def films(turned: bool = False, num: int = FRAMES) -> list[tuple[Picture, Picture]]:
    """A camera over texture, and the same plainly enlarged."""
    wide, pairs = world(), []
    for k in range(num):
        source = wide[k : k + ROWS, 3 * k : 3 * k + COLUMNS]
        source = np.ascontiguousarray(source.T if turned else source)
        rows, columns = source.shape
        pairs.append((source, resize(source, 2 * rows, 2 * columns)))
    return pairs


def soft(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.0), np.float32)


def found(pairs: list[tuple[Picture, Picture]]) -> SharpSeams:
    seams = SharpSeams()
    for source, result in pairs:
        seams.update(Pair.of(View(source, SMALL), View(result, SMALL)))
    return seams


@pytest.mark.parametrize("at", [40, 87, 120])
@pytest.mark.parametrize("turned", [False, True])
def test_where_a_tile_is_softer(at: int, turned: bool) -> None:
    pairs = films(turned)
    for _, result in pairs:
        part = (slice(2 * at, None), slice(None)) if turned else (slice(None), slice(2 * at, None))
        result[part] = soft(result)[part]
    columns, rows = found(pairs).compute()
    steps, none = (rows, columns) if turned else (columns, rows)
    assert none == []
    assert len(steps) == 1
    assert abs(steps[0][0] - at) <= 2
    assert -0.3 < steps[0][1] < -0.05


def test_a_whole_film_that_is_softer_has_no_border() -> None:
    assert found([(source, soft(result)) for source, result in films()]).compute() == ([], [])


def test_the_border_of_a_thing_is_none() -> None:
    """The right half of every frame shows something coarse, in source and result alike."""
    pairs = []
    for source, _ in films():
        source[:, COLUMNS // 2 :] = cv2.GaussianBlur(source, (0, 0), 3)[:, COLUMNS // 2 :]
        pairs.append((source, resize(source, 2 * ROWS, 2 * COLUMNS)))
    assert found(pairs).compute() == ([], [])


@pytest.mark.parametrize(
    "drawn, model",
    [
        ("testsrc=128x128", "flowprop-s-x4"),
        ("smptehdbars=160x96", "flowprop-xs-x4"),
        ("pal75bars=160x96", "flowprop-xs-x4"),
    ],
)
def test_what_networks_make_of_a_test_card_has_no_border(drawn: str, model: str) -> None:
    """Its edges stay where they are, and networks draw some of them sharper to one side."""
    graph = av.filter.Graph()
    name, size = drawn.split("=")
    nodes = graph.add(name, f"size={size}"), graph.add("format", "rgb24"), graph.add("buffersink")
    graph.link_nodes(*nodes).configure()
    frames = np.stack([graph.pull().to_ndarray() for _ in range(FRAMES)])
    small = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
    network = load_upscaler(model)
    with torch.inference_mode():
        large, _ = network.upscale(small, network.init_state(1, *small.shape[3:]))
    seams, sharp_seams = Seams(), SharpSeams()
    for source, result in zip(luma(small[0]), luma(large[0].clamp(0, 1)), strict=True):
        pair = Pair.of(View(source[0].numpy(), SMALL), View(result[0].numpy(), SMALL))
        seams.update(pair)
        sharp_seams.update(pair)
    assert seams.compute() == ([], [])
    assert sharp_seams.compute() == ([], [])


def test_a_few_frames_and_no_frames_have_none() -> None:
    few = films(num=7)
    for _, result in few:
        result[:, COLUMNS:] = soft(result)[:, COLUMNS:]
    assert found(few).compute() == ([], [])
    assert SharpSeams().compute() == ([], [])
