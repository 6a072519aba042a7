"""How large a tile is chosen, for networks whose layers are known."""

from __future__ import annotations

import pytest
import torch

from vsr.engine.memory import MIN_TILE_PX
from vsr.engine.room import bytes_per_pixel, choose_tile, free_memory
from vsr.models.catalog import get_spec
from vsr.models.upscaler import Upscaler

CPU = torch.device("cpu")


def model_of(model_id: str) -> Upscaler:
    spec = get_spec(model_id)
    model: Upscaler = spec.build(**spec.params).eval()  # type: ignore[assignment]
    return model


def test_layers_are_counted() -> None:
    spec = get_spec("edsr-x4")
    found = bytes_per_pixel(model_of("edsr-x4"), spec, CPU)
    # Its largest layers work on 64 channels at full size: 16 pixels for one, floats, in and out.
    assert found >= 16 * 64 * 4 * 2
    assert found <= 16 * 64 * 4 * 20


def test_more_memory_makes_larger_tiles() -> None:
    spec, model = get_spec("edsr-x4"), model_of("edsr-x4")
    sides = [
        choose_tile(model, spec, height=3000, width=4000, device=CPU, free_bytes=free << 30)
        for free in (1, 8, 16, 4000)
    ]
    assert sides[0] is not None and sides[0] >= MIN_TILE_PX
    assert sides[1] is not None and sides[2] is not None and sides[0] <= sides[1] < sides[2]
    assert sides[3] is None


@pytest.mark.parametrize("size", [(100, 100), (512, 512)])
def test_small_pictures_stay_whole(size: tuple[int, int]) -> None:
    spec, model = get_spec("edsr-x4"), model_of("edsr-x4")
    height, width = size
    assert choose_tile(model, spec, height=height, width=width, device=CPU, free_bytes=1) is None


def test_what_may_not_be_cut_stays_whole() -> None:
    spec, model = get_spec("classsr-x4"), model_of("classsr-x4")
    chosen = choose_tile(model, spec, height=3000, width=4000, device=CPU, free_bytes=1 << 30)
    assert chosen is None


def test_free_memory_is_a_number_of_bytes() -> None:
    free = free_memory(CPU)
    assert free is None or 1 << 20 < free < 1 << 50
