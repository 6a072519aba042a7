"""Batches cut on the device are true crops, aligned, and repeat with their seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsr.errors import ConfigError
from vsr.models.flow import warp
from vsr.training import degrade
from vsr.training.data import FrameStore
from vsr.training.resident import ResidentSampler
from vsr.training.shelves import Shelf, mirror

MakeStore = Callable[..., FrameStore]
CPU = torch.device("cpu")


def sampler(store: FrameStore, **changes: Any) -> ResidentSampler:
    wanted = {"scale": 2, "crop_px": 16, "seed": 3, **changes}
    return ResidentSampler(store, device=CPU, **wanted)


@pytest.fixture
def coordinates(tmp_path: Path) -> FrameStore:
    """One video whose red is the column, green the row and blue the frame."""
    t, y, x = np.mgrid[0:5, 0:100, 0:120]
    frames = np.stack((x, y, 10 * t), axis=-1).astype(np.uint8)
    frames.tofile(tmp_path / "frames.u8")
    entry = {"name": "a", "group": "g", "offset": 0, "frames": 5, "height": 100, "width": 120}
    (tmp_path / "index.json").write_text(json.dumps([entry]))
    return FrameStore(tmp_path)


def test_windows_are_slices_and_mirror_at_edges(make_store: MakeStore) -> None:
    store = make_store()
    shelf = Shelf([clip.frames for clip in store.clips], CPU)
    clip, frame = torch.tensor([0, 2]), torch.tensor([[1, 4], [0, 0]])
    found = shelf.windows(clip, frame, torch.tensor([3, 76]), torch.tensor([7, 2]), 12)
    assert found.shape == (2, 2, 3, 12, 12)
    video, photo = store.clips[0].frames, store.clips[2].frames[0]
    expected = video[[1, 4], 3:15, 7:19].transpose(0, 3, 1, 2)
    assert np.array_equal(found[0].numpy(), expected)
    rows = [*range(76, 80), *range(78, 70, -1)]
    assert np.array_equal(found[1, 0].numpy(), photo[rows, 2:14].transpose(2, 0, 1))


def test_play_goes_forth_and_back() -> None:
    assert mirror(torch.arange(8), torch.tensor(4)).tolist() == [0, 1, 2, 3, 2, 1, 0, 1]
    assert mirror(torch.arange(3), torch.tensor(1)).tolist() == [0, 0, 0]


def test_video_crops_are_crops_of_consecutive_frames(coordinates: FrameStore) -> None:
    frames = sampler(coordinates)._video_crops(16, 7)
    red, green, blue = frames.unbind(2)
    assert bool((red.diff(dim=-1) == 1).all() and (green.diff(dim=-2) == 1).all())
    assert bool((red.diff(dim=1) == 0).all() and (green.diff(dim=1) == 0).all())
    # Forth and back over five frames.
    assert bool((blue.diff(dim=1).abs() == 10).all())


def test_small_pictures_are_the_large_ones_made_small(make_store: MakeStore) -> None:
    drawn = sampler(make_store(), photo_share=0.5)
    frames = drawn._turn(drawn._sides(4, 3))
    batch = drawn._degrade(frames)
    assert batch.source_BTCHW.shape == (4, 3, 3, 16, 16)
    assert batch.target_BTCHW.shape == (4, 3, 3, 32, 32)
    small = degrade.bicubic(frames, 2)[..., 2:-2, 2:-2] / 255
    assert torch.equal(batch.source_BTCHW, small)
    assert torch.equal(batch.target_BTCHW, frames[..., 4:-4, 4:-4] / 255)


def test_turning_keeps_every_sample_and_uses_all_ways(coordinates: FrameStore) -> None:
    drawn = sampler(coordinates)
    frames = drawn._video_crops(64, 3)
    turned = drawn._turn(frames)
    signs = set()
    for before, after in zip(frames, turned, strict=True):
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values)
        by_row, by_column = after[0, 0].diff(dim=0), after[0, 0].diff(dim=1)
        signs.add((float(by_row[0, 0]), float(by_column[0, 0])))
    assert signs == {(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)}


def test_flow_pairs_match(make_store: MakeStore) -> None:
    batch = sampler(make_store(), scale=1, crop_px=32, max_speed_px=2.0).draw_flow(8)
    visible = batch.visible_B1HW.expand(-1, 3, -1, -1)
    still = (batch.ref_BCHW - batch.other_BCHW).abs()[visible].mean()
    warped = (batch.ref_BCHW - warp(batch.other_BCHW, batch.flow_B2HW)).abs()[visible].mean()
    assert float(warped) < 0.5 * float(still)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_the_share_of_photographs_holds(make_store: MakeStore, num_frames: int) -> None:
    drawn = sampler(make_store(), photo_share=0.25)
    assert drawn.draw(4, num_frames).source_BTCHW.shape[:2] == (4, num_frames)
    assert sampler(make_store(((6, 64, 72),), folder="b"), photo_share=0.25).photo_share == 0.0
    assert sampler(make_store(((1, 64, 72),), folder="c"), photo_share=0.25).photo_share == 1.0


def test_equal_seeds_draw_equal_batches(make_store: MakeStore) -> None:
    store = make_store()
    first, second = sampler(store).draw(3, 4), sampler(store).draw(3, 4)
    other = sampler(store, seed=4).draw(3, 4)
    assert torch.equal(first.target_BTCHW, second.target_BTCHW)
    assert not torch.equal(first.target_BTCHW, other.target_BTCHW)


def test_too_small_pictures_are_refused(make_store: MakeStore) -> None:
    with pytest.raises(ConfigError, match="as large as 264 x 264"):
        sampler(make_store(), crop_px=128)
