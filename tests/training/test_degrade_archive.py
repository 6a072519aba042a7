from __future__ import annotations

import pytest
import torch

from vsr.training import degrade
from vsr.training.degrade_archive import MAX_WEAVE_PX, Archive, Film, draw_archive, juddered
from vsr.training.tape import Tape, in_fields, to_rgb, to_yuv
from vsr.training.wander import lines_moved, moved, walk

CLEAN_FILM = {"grain": 0.0, "weave_px": 0.0, "flicker": 0.0}
CLEAN_FILM |= {"scratches": 0.0, "dirt": 0.0}


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def film(**strengths: float) -> Film:
    return Film(**{**CLEAN_FILM, **strengths})


def picture(num_frames: int = 6, height: int = 40, width: int = 56) -> torch.Tensor:
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator(3))
    large = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
    return (large * 255).clamp(0, 255).repeat(num_frames, 1, 1, 1)


def test_walks_are_slow_and_stay() -> None:
    paths = torch.stack([walk(200, generator(seed), pull=0.1) for seed in range(60)])
    assert float(paths.std()) == pytest.approx(1.0, abs=0.15)
    assert float(paths[:, 0].std()) == pytest.approx(1.0, abs=0.35)
    assert float(paths.diff(dim=1).std()) < 0.5


def test_pictures_and_lines_move_as_told() -> None:
    frames = picture(2)
    path = torch.tensor([[2.0, 0.0], [0.0, -3.0]])
    shifted = moved(frames, path)
    assert torch.allclose(shifted[0, :, :, 4:], frames[0, :, :, 2:-2], atol=1e-2)
    assert torch.allclose(shifted[1, :, :-4], frames[1, :, 3:-1], atol=1e-2)
    slipped = lines_moved(frames, torch.full((2, 40), 1.5))
    between = 0.5 * (frames[..., 1:-1] + frames[..., :-2])
    assert torch.allclose(slipped[..., 2:], between, atol=1e-2)


def test_grain_has_its_strength_and_is_strongest_in_mid_grey() -> None:
    levels = (8.0, 128.0, 247.0)
    spread = [
        float((film(grain=8.0).apply(torch.full((4, 3, 48, 48), v), generator()) - v).std())
        for v in levels
    ]
    assert spread[1] == pytest.approx(8.0, rel=0.15)
    assert spread[0] < 0.6 * spread[1] and spread[2] < 0.6 * spread[1]


def test_flicker_changes_the_whole_frame_and_weave_stays_near() -> None:
    frames = picture(30)
    bright = frames.clamp(min=20)
    ratio = film(flicker=0.05).apply(bright, generator()) / bright
    assert float(ratio.flatten(1).std(dim=1).max()) < 1e-3
    assert float(ratio.mean(dim=(1, 2, 3)).std()) > 0.02
    woven = film(weave_px=0.4).apply(frames, generator())
    slope = frames.diff(dim=-1).abs().max() + frames.diff(dim=-2).abs().max()
    assert 0 < float((woven - frames).abs().max()) <= MAX_WEAVE_PX * float(slope) * 1.5


def test_dirt_lasts_a_frame_and_a_scratch_longer() -> None:
    frames = torch.full((20, 3, 40, 56), 128.0)
    dirty = (film(dirt=1.0).apply(frames, generator()) - frames).abs().mean(dim=1) > 30
    assert dirty.any()
    assert not (dirty[:-1] & dirty[1:]).flatten(1).any(dim=1).all()
    scratched = (film(scratches=2.0).apply(frames, generator(4)) - frames).abs().mean(dim=1) > 30
    columns = scratched.float().mean(dim=1)
    assert columns.max() == 1.0  # from top to bottom
    assert (columns > 0.9).any(dim=1).sum() > 3


def test_colour_differences_are_undone() -> None:
    frames = picture(1)
    assert torch.allclose(to_rgb(to_yuv(frames)), frames, atol=1e-3)


def test_tape_blurs_chroma_more_than_luma_and_brings_it_late() -> None:
    bars = torch.zeros(3, 3, 16, 64)
    bars[..., 32:] = 255.0
    bars[:, 1] = 60.0  # magenta on dark green: edges in luma and in both differences
    tape = Tape(
        luma_px=0.3,
        ringing=0.0,
        chroma_px=2.5,
        chroma_shift_px=3.0,
        noise=0.0,
        jitter_px=0.0,
        head_lines=0,
        dropouts=0.0,
        fields="none",
    )
    out = to_yuv(tape.apply(bars, generator()))[1, :, 8]

    def middle(line: torch.Tensor) -> float:
        part = (line - line[0]) / (line[-1] - line[0])
        return float((part < 0.5).sum())

    assert middle(out[0]) == 32 and 33.5 <= middle(out[2]) <= 36.5
    steep = [float(line.diff().abs().max() / (line[-1] - line[0]).abs()) for line in out]
    assert steep[0] > 2 * steep[2]


def test_heads_and_dropouts_are_where_they_belong() -> None:
    frames = picture(8)
    still = {"luma_px": 0.01, "ringing": 0.0, "chroma_px": 0.01, "chroma_shift_px": 0.0}
    still |= {"noise": 0.0, "jitter_px": 0.0}
    heads = Tape(**still, head_lines=3, dropouts=0.0, fields="none")
    luma = (to_yuv(heads.apply(frames, generator())) - to_yuv(frames))[:, 0].abs()
    assert luma[:, :-3].max() < 1 and luma[:, -3:].max() > 5
    drops = Tape(**still, head_lines=0, dropouts=2.0, fields="none")
    lines = ((to_yuv(drops.apply(frames, generator())) - to_yuv(frames))[:, 0].abs() > 40).any(-1)
    assert 4 <= int(lines.sum()) <= 17


def test_fields_are_of_two_times() -> None:
    frames = torch.stack([torch.full((3, 8, 8), 20.0 * t) for t in range(4)])
    woven = in_fields(frames, "woven")
    assert torch.equal(woven[1, :, ::2], frames[1, :, ::2])
    assert float(woven[1, 0, 1, 0]) == 30.0
    assert torch.equal(in_fields(frames, "none"), frames)
    assert float(in_fields(frames, "blended")[1, 0, 4, 0]) == 25.0
    rows = torch.arange(8.0)[:, None].expand(1, 3, 8, 8)
    assert in_fields(rows, "doubled")[0, 0, :, 0].tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_judder_shows_a_frame_twice() -> None:
    frames = torch.arange(10.0)[:, None, None, None].expand(10, 3, 2, 2)
    assert juddered(frames)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 3, 5, 6, 7, 8, 8]


def test_recipes_differ_and_leave_the_picture_recognisable() -> None:
    dice = generator(5)
    recipes = [draw_archive(dice) for _ in range(40)]
    assert all(isinstance(recipe, Archive) for recipe in recipes)
    assert {recipe.film is None for recipe in recipes} == {True, False}
    assert {recipe.tape is None for recipe in recipes} == {True, False}
    large = torch.nn.functional.interpolate(picture(4), scale_factor=4, mode="bicubic")[None]
    large = large.clamp(0, 255)
    plain = degrade.bicubic(large[0], 4)
    errors = []
    for recipe in recipes:
        spoiled = degrade.degrade(large, 4, [recipe])[0]
        flat = torch.stack((spoiled.flatten(), plain.flatten()))
        assert float(torch.corrcoef(flat)[0, 1]) > 0.6
        errors.append(float((spoiled - plain).abs().mean()))
    assert sorted(errors)[20] > 3  # half of them are off by more than three codes
