"""Clips degraded before a run: whole, aligned with their truth, kept, drawn by both samplers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsr.errors import ConfigError, OutputError
from vsr.training.config import TrainConfig
from vsr.training.data import Batch, FrameStore, Sampler
from vsr.training.degrade import degrade_clip, draw_recipe
from vsr.training.degraded import prepare_pairs
from vsr.training.pairs import Pair, Turn
from vsr.training.resident import ResidentSampler

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")


def configured(make_config: MakeConfig, **data: Any) -> TrainConfig:
    return make_config(data={"degradation": "archive", "degraded_copies": 2, **data})


def reopened(store: FrameStore) -> FrameStore:
    return FrameStore(store.folder)


def pixels(frames_THWC: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frames_THWC.copy()).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("number", range(16))
def test_a_turn_can_be_undone(number: int) -> None:
    turn = Turn(*(bool(number >> bit & 1) for bit in range(4)))
    frames = torch.rand(2, 3, 4, 6)
    assert torch.equal(turn.undo(turn.apply(frames)), frames)
    assert torch.equal(turn.apply(frames), frames) == (number == 0)


@pytest.mark.parametrize("degradation", ["archive", "mixed", "bd-corner"])
def test_a_video_is_degraded_whole(
    make_store: MakeStore,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    degradation: str,
) -> None:
    store = make_store([(4, 66, 71)])
    seen = []

    def noted(name: str, generator: torch.Generator) -> Any:
        seen.append(recipe := draw_recipe(name, generator))
        return recipe

    monkeypatch.setattr("vsr.training.degraded.draw_recipe", noted)
    pairs = prepare_pairs(store, configured(make_config, degradation=degradation))
    assert len(pairs) == 2
    assert seen[0] != seen[1] or degradation == "bd-corner"
    for pair, recipe in zip(pairs, seen, strict=True):
        assert np.array_equal(pair.truth, store.clips[0].frames)
        # 71 columns do not divide by the scale: the last one is left out.
        truth = pixels(pair.truth)[..., :66, :70]
        assert pair.turns_freely == (recipe.is_per_frame and degradation != "bd-corner")
        expected = degrade_clip(iter(pair.turn.apply(truth)), 2, recipe)
        assert torch.equal(pair.turn.apply(pixels(pair.source)), expected)
    assert {pair.turn for pair in pairs} != {Turn()} or pairs[0].turns_freely


def test_photographs_become_scenes_or_stay_stills(
    make_store: MakeStore, make_config: MakeConfig
) -> None:
    store = make_store([(1, 80, 90), (1, 64, 72)])
    scenes = prepare_pairs(store, configured(make_config))
    assert [pair.source.shape for pair in scenes] == [(3, 24, 24, 3)] * 4
    assert [pair.truth.shape for pair in scenes] == [(3, 48, 48, 3)] * 4
    assert all(pair.is_photo for pair in scenes)
    small = torch.nn.functional.avg_pool2d(pixels(scenes[0].truth), 2)
    # Whatever the damage, the same things are at the same places.
    places = torch.corrcoef(torch.stack((small.flatten(), pixels(scenes[0].source).flatten())))
    assert float(places[0, 1]) > 0.5
    stills = prepare_pairs(store, configured(make_config, num_frames=[1]))
    assert [pair.source.shape for pair in stills] == [(1, 40, 45, 3), (1, 32, 36, 3)] * 2


def test_equal_seeds_make_equal_pairs_whatever_the_threads(
    make_store: MakeStore, make_config: MakeConfig
) -> None:
    config = configured(make_config)
    made: list[list[Pair]] = []
    for name, num_threads in (("a", 1), ("b", 3)):
        torch.set_num_threads(num_threads)
        made.append(prepare_pairs(make_store(folder=name), config))
        assert torch.get_num_threads() == num_threads
    for one, two in zip(*made, strict=True):
        assert np.array_equal(one.source, two.source) and np.array_equal(one.truth, two.truth)
    other = prepare_pairs(make_store(folder="c"), config.model_copy(update={"seed": 2}))
    assert any(
        not np.array_equal(one.source, two.source) for one, two in zip(made[0], other, strict=True)
    )


def test_pairs_are_reused_as_long_as_they_fit(
    make_store: MakeStore, make_config: MakeConfig, tmp_path: Path
) -> None:
    store, config = make_store(), configured(make_config)
    told: list[tuple[int, int]] = []

    def prepare(config: TrainConfig, store: FrameStore = store) -> tuple[list[Pair], bool]:
        told.clear()
        pairs = prepare_pairs(reopened(store), config, lambda done, all_: told.append((done, all_)))
        return pairs, bool(told)

    first, is_new = prepare(config)
    assert is_new and told == [(done, 6) for done in range(7)]
    again, is_new = prepare(config)
    assert not is_new
    assert all(
        np.array_equal(a.source, b.source) and a.turn == b.turn
        for a, b in zip(first, again, strict=True)
    )
    # Carried to another place, with the store.
    carried = store.folder.rename(tmp_path / "carried")
    assert not prepare(config, FrameStore(carried))[1]
    assert prepare(configured(make_config, degraded_copies=1), FrameStore(carried))[1]
    for folder in carried.glob("degraded-*"):
        data = (folder / "frames.u8").read_bytes()
        (folder / "frames.u8").write_bytes(data[:-1])
    assert prepare(config, FrameStore(carried))[1]
    assert not list(carried.rglob("*.part"))
    # The same names with other pictures.
    assert prepare(config, make_store(groups=["x"] * 3, folder="same"))[1]


def test_runs_that_differ_in_scenes_share_their_videos(
    make_store: MakeStore, make_config: MakeConfig
) -> None:
    store = make_store()
    first = prepare_pairs(store, configured(make_config))
    told: list[tuple[int, int]] = []
    other = configured(make_config, crop_px=18)
    second = prepare_pairs(store, other, lambda done, total: told.append((done, total)))
    # Two photographs, twice.
    assert told == [(done, 4) for done in range(5)]
    assert len(list(store.folder.glob("degraded-*"))) == 3
    for one, two in zip(first, second, strict=True):
        assert (one is two) == (not one.is_photo)


def test_no_copies_make_nothing(make_store: MakeStore, make_config: MakeConfig) -> None:
    store = make_store()
    assert prepare_pairs(store, configured(make_config, degraded_copies=0)) == []
    assert not list(store.folder.glob("degraded-*"))


def test_what_cannot_be_made_or_kept_is_told(
    make_store: MakeStore, make_config: MakeConfig
) -> None:
    with pytest.raises(ConfigError, match="large enough to be degraded"):
        prepare_pairs(make_store([(2, 20, 90)], folder="small"), configured(make_config))
    store = make_store()
    (store.folder / "degraded-x").touch()
    store.folder = store.folder / "degraded-x"
    with pytest.raises(OutputError, match="degraded clips cannot be kept"):
        prepare_pairs(store, configured(make_config))


def drawn_from(config: TrainConfig, store: FrameStore, kind: str, **changes: Any) -> Any:
    data = config.data
    options: dict[str, Any] = {
        "scale": data.scale,
        "crop_px": data.crop_px,
        "degradation": data.degradation,
        "pairs": prepare_pairs(store, config),
        "seed": 5,
        **changes,
    }
    if kind == "resident":
        return ResidentSampler(store, device=CPU, **options)
    return Sampler(store, **options)


def has(pair: Pair, source: torch.Tensor, truth: torch.Tensor) -> bool:
    """Whether both are the same crop of both of a pair's clips, turned alike."""
    whole_small, whole_large = pixels(pair.source), pixels(pair.truth)
    for number in range(16):
        turn = Turn(*(bool(number >> bit & 1) for bit in range(4)))
        if not pair.turns_freely and turn != pair.turn:
            continue
        small, large = turn.undo(source), turn.undo(truth)
        side = small.shape[-1]
        lines = whole_small.unfold(3, side, 1)
        # Frames may be skipped or come twice, so that each is looked for on its own.
        for frame, big in zip(small, large, strict=True):
            places = (lines == frame[:, :1, None]).all(dim=(1, 4)).nonzero().tolist()
            if not any(
                torch.equal(frame, whole_small[t, :, y : y + side, x : x + side])
                and torch.equal(
                    big, whole_large[t, :, 2 * y : 2 * (y + side), 2 * x : 2 * (x + side)]
                )
                for t, y, x in places
            ):
                break
        else:
            return True
    return False


@pytest.mark.parametrize("degradation", ["archive", "mixed"])
@pytest.mark.parametrize("kind", ["host", "resident"])
def test_crops_are_aligned_crops_of_the_kept_clips(
    make_store: MakeStore, make_config: MakeConfig, kind: str, degradation: str
) -> None:
    store, config = make_store(), configured(make_config, degradation=degradation)
    pairs = prepare_pairs(store, config)
    sampler = drawn_from(config, store, kind)
    kinds = set()
    for _ in range(3):
        batch: Batch = sampler.draw(4, 3)
        assert batch.source_BTCHW.shape == (4, 3, 3, 16, 16)
        assert batch.target_BTCHW.shape == (4, 3, 3, 32, 32)
        for source, truth in zip(batch.source_BTCHW, batch.target_BTCHW, strict=True):
            codes = (source * 255).round(), (truth * 255).round()
            found = [pair for pair in pairs if has(pair, *codes)]
            assert found
            kinds |= {pair.is_photo for pair in found}
    assert kinds == {True, False}


@pytest.mark.parametrize("kind", ["host", "resident"])
def test_draws_repeat_with_their_seed_and_keep_their_share(
    make_store: MakeStore, make_config: MakeConfig, kind: str
) -> None:
    store, config = make_store(), configured(make_config)
    one, two = (drawn_from(config, store, kind).draw(3, 2) for _ in range(2))
    assert torch.equal(one.source_BTCHW, two.source_BTCHW)
    assert torch.equal(one.target_BTCHW, two.target_BTCHW)
    other = drawn_from(config, store, kind, seed=6).draw(3, 2)
    assert not torch.equal(one.target_BTCHW, other.target_BTCHW)
    videos = make_store([(5, 64, 64)], folder="videos")
    assert drawn_from(config, videos, kind).photo_share == 0.0
    photos = make_store([(1, 64, 64)], folder="photos")
    assert drawn_from(config, photos, kind).photo_share == 1.0
    with pytest.raises(ConfigError, match="as large as 80 x 80"):
        drawn_from(config, videos, kind, crop_px=40)


@pytest.mark.parametrize("kind", ["host", "resident"])
def test_flow_pairs_need_no_codec(
    make_store: MakeStore, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    store, config = make_store(), configured(make_config)
    sampler = drawn_from(config, store, kind)
    monkeypatch.setattr("vsr.training.degrade_mixed.recompress", None)
    assert sampler.draw_flow(2).flow_B2HW.shape == (2, 2, 16, 16)
    assert sampler.draw(2, 2).source_BTCHW.shape == (2, 2, 3, 16, 16)
