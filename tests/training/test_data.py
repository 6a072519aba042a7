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
from vsr.training.data import FrameStore, Sampler, _mirrored

MakeStore = Callable[..., FrameStore]


@pytest.mark.parametrize("bare_list", [False, True])
def test_a_store_gives_back_what_was_written(
    make_store: MakeStore, tmp_path: Path, bare_list: bool
) -> None:
    store = make_store(bare_list=bare_list)
    flat = np.fromfile(tmp_path / "store" / "frames.u8", np.uint8)
    assert [clip.frames.shape for clip in store.clips] == [
        (6, 64, 72, 3),
        (1, 96, 96, 3),
        (1, 80, 90, 3),
    ]
    assert np.array_equal(np.concatenate([c.frames.reshape(-1) for c in store.clips]), flat)
    assert [clip.name for clip in store.videos] == ["clip0"]
    assert [clip.name for clip in store.photos] == ["clip1", "clip2"]
    assert store.sources == [("made", "unknown")]


@pytest.mark.parametrize(
    "index",
    ["", "{}", "[1]", '[{"name": "a"}]', '{"clips": [{"name": "a", "group": "b", "offset": 0}]}'],
)
def test_what_is_no_store_is_refused(tmp_path: Path, index: str) -> None:
    (tmp_path / "index.json").write_text(index)
    (tmp_path / "frames.u8").write_bytes(bytes(12))
    with pytest.raises(ConfigError, match="is no training store"):
        FrameStore(tmp_path)


def test_a_cut_store_is_refused(make_store: MakeStore, tmp_path: Path) -> None:
    make_store()
    frames = tmp_path / "store" / "frames.u8"
    frames.write_bytes(frames.read_bytes()[:-5])
    with pytest.raises(ConfigError, match="is no training store"):
        FrameStore(tmp_path / "store")
    (tmp_path / "store" / "index.json").write_text(json.dumps({"version": 1, "clips": []}))
    assert FrameStore(tmp_path / "store").clips == []


def sampler(store: FrameStore, **changes: Any) -> Sampler:
    return Sampler(store, **{"scale": 2, "crop_px": 16, "seed": 3, **changes})


@pytest.mark.parametrize("photo_share", [0.0, 0.5, 1.0])
def test_equal_seeds_draw_equal_crops(make_store: MakeStore, photo_share: float) -> None:
    store = make_store()
    one, two = (sampler(store, photo_share=photo_share) for _ in range(2))
    other = sampler(store, photo_share=photo_share, seed=4)
    for _ in range(3):
        a, b, c = (s.draw(2, 3) for s in (one, two, other))
        assert torch.equal(a.source_BTCHW, b.source_BTCHW)
        assert torch.equal(a.target_BTCHW, b.target_BTCHW)
        assert not torch.equal(a.target_BTCHW, c.target_BTCHW)


@pytest.mark.parametrize("photo_share", [0.0, 1.0])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_source_is_the_shrunk_target(
    make_store: MakeStore, photo_share: float, scale: int
) -> None:
    store = make_store([(5, 90, 100), (1, 120, 120)])
    batch = sampler(store, photo_share=photo_share, scale=scale).draw(2, 3)
    assert batch.source_BTCHW.shape == (2, 3, 3, 16, 16)
    assert batch.target_BTCHW.shape == (2, 3, 3, 16 * scale, 16 * scale)
    codes = batch.source_BTCHW * 255
    assert float((codes - codes.round()).abs().max()) < 1e-4
    shrunk = degrade.bicubic(batch.target_BTCHW * 255, scale)
    difference = (shrunk - codes)[..., 2:-2, 2:-2].abs()
    # A sum that lies on a half may be rounded either way.
    assert float(difference.max()) < 1.01
    assert float((difference > 0.5).float().mean()) < 1e-3


def test_a_video_crop_is_cut_from_the_clip(make_store: MakeStore) -> None:
    store = make_store([(4, 40, 40)])  # exactly as large as a crop with its margin
    clip = torch.from_numpy(store.clips[0].frames.copy()).permute(0, 3, 1, 2)[..., 4:-4, 4:-4]
    for _ in range(4):
        target = sampler(store).draw(1, 4).target_BTCHW[0].mul(255).round().to(torch.uint8)
        turned = [
            version.transpose(-1, -2) if transposed else version
            for dims in ([], [-1], [-2], [-1, -2], [0], [0, -1], [0, -2], [0, -1, -2])
            for version in [clip.flip(dims)]
            for transposed in (False, True)
        ]
        assert any(torch.equal(target, version) for version in turned)


def test_flow_pairs_fit_their_flow(make_store: MakeStore) -> None:
    store = make_store([(1, 150, 150), (1, 130, 140)])
    draws = sampler(store, max_speed_px=2.0)
    errors = {"as told": 0.0, "none": 0.0, "turned": 0.0, "transposed": 0.0}
    for _ in range(4):
        batch = draws.draw_flow(2)
        flow = batch.flow_B2HW
        assert flow.shape == (2, 2, 16, 16)
        visible = batch.visible_B1HW.expand(-1, 3, -1, -1)
        tries = {"as told": flow, "none": 0 * flow, "turned": -flow, "transposed": flow.flip(1)}
        for name, tried in tries.items():
            error = warp(batch.other_BCHW, tried) - batch.ref_BCHW
            errors[name] += float(error.abs()[visible].mean())
    # Waves of 2 to 3 px do not survive bilinear sampling whole.
    assert errors["as told"] < 0.5 * min(errors[name] for name in tries if name != "as told")


def test_a_large_group_does_not_drown_a_small_one(make_store: MakeStore) -> None:
    store = make_store([(2, 40, 40)] * 10, groups=["film"] * 9 + ["phone"])
    weights = sampler(store)._weights
    assert float(weights[:9].sum()) == pytest.approx(3.0)
    assert float(weights[9]) == 1.0


def test_missing_kinds_are_made_up_for_or_refused(make_store: MakeStore) -> None:
    videos = sampler(make_store([(2, 40, 44)], folder="videos"), photo_share=1.0)
    assert videos.photo_share == 0.0
    assert videos.draw(1, 5).source_BTCHW.shape == (1, 5, 3, 16, 16)
    with pytest.raises(ConfigError, match="needs photographs"):
        videos.draw_flow(1)
    photos = sampler(make_store([(1, 40, 44)], folder="photos"), photo_share=0.0)
    assert photos.photo_share == 1.0
    assert photos.draw(1, 2).source_BTCHW.shape == (1, 2, 3, 16, 16)
    with pytest.raises(ConfigError, match="as large as 40 x 40"):
        sampler(make_store([(2, 39, 80)], folder="small"))


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [3]), (3, [3, 4, 5]), (7, [3, 4, 5, 4, 3, 4, 5])]
)
def test_short_clips_are_played_forth_and_back(count: int, expected: list[int]) -> None:
    assert _mirrored(range(3, 6), count) == expected
    assert _mirrored([7], count) == [7] * count
