"""How large, which way up and of which shape: by numbers, without a film."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from vsr.config import resolve_config
from vsr.engine.geometry import Orientation
from vsr.errors import ConfigError
from vsr.frame import ColorSpec, PlaneLayout, VideoInfo
from vsr.pipeline.geometry import GeometryPlan, plan_geometry

ONE = 1 << 16
LAST = 1 << 30
CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, LAST)
"""Shown turned by 90 degrees clockwise, as phones held upright write it."""


def video(width: int = 64, height: int = 48, **changes: Any) -> VideoInfo:
    values: dict[str, Any] = {
        "stream_index": 0,
        "codec": "h264",
        "width": width,
        "height": height,
        "pixel_format": "yuv420p",
        "layout": PlaneLayout(bits=8, log2_chroma_w=1, log2_chroma_h=1),
        "color": ColorSpec(),
        "time_base": Fraction(1, 25),
        "frame_rate": Fraction(25),
        "num_frames": None,
        "start_pts": 0,
        "duration_s": None,
    }
    return VideoInfo(**{**values, **changes})


def plan(source: VideoInfo, multiple: tuple[int, int] = (2, 2), **flags: Any) -> GeometryPlan:
    config = resolve_config(flags=flags)
    return plan_geometry(
        config,
        source,
        scale=Fraction(str(config.scale)),
        model_scales=(1, 2, 3, 4),
        multiple=multiple,
    )


def frame(made: GeometryPlan) -> tuple[int, int]:
    return made.geometry.width, made.geometry.height


def picture(made: GeometryPlan) -> tuple[int, int]:
    return made.geometry.picture_width, made.geometry.picture_height


@pytest.mark.parametrize(
    ("size", "scale", "made", "shown"),
    [
        ((321, 241), 2, (642, 482), (642, 482)),
        ((321, 241), 3, (963, 723), (964, 724)),
        ((321, 241), 1, (321, 241), (322, 242)),
        ((321, 241), 2.5, (802, 602), (802, 602)),
        ((64, 48), 1.5, (96, 72), (96, 72)),
        ((1, 1), 4, (4, 4), (4, 4)),
    ],
)
def test_whole_scales_are_exact_and_filled_up_others_are_rounded(
    size: tuple[int, int], scale: float, made: tuple[int, int], shown: tuple[int, int]
) -> None:
    result = plan(video(*size), scale=scale)
    assert picture(result) == made
    assert frame(result) == shown
    is_exact = (size[0] * scale, size[1] * scale) == shown
    assert any("nearest size" in note for note in result.notes) != is_exact
    assert frame(plan(video(*size), (1, 1), scale=int(scale))) == (
        size[0] * int(scale),
        size[1] * int(scale),
    )


@pytest.mark.parametrize(
    ("scale", "model"), [(1, 1), (1.01, 2), (2, 2), (2.5, 3), (3.999, 4), (4, 4), (7.5, 4)]
)
def test_the_smallest_model_that_reaches_it(scale: float, model: int) -> None:
    assert plan(video(), scale=scale).model_scale == model


@pytest.mark.parametrize(
    ("fit", "made", "shown", "crop"),
    [
        ("contain", (144, 108), (144, 108), (0, 0)),
        ("cover", (192, 144), (192, 108), (0, 18)),
        ("stretch", (192, 108), (192, 108), (0, 0)),
    ],
)
def test_into_a_size(
    fit: str, made: tuple[int, int], shown: tuple[int, int], crop: tuple[int, int]
) -> None:
    result = plan(video(64, 48), size="192x108", fit=fit)
    assert picture(result) == made
    assert frame(result) == shown
    assert (result.geometry.crop_left, result.geometry.crop_top) == crop
    shape = Fraction(*frame(result)) * result.geometry.sample_aspect_ratio
    assert shape == (Fraction(4, 3) if fit != "cover" else Fraction(192, 108))
    expected = tuple(map(Fraction, (0, 6, 64, 36))) if fit == "cover" else None
    assert result.declared.crop == expected


def test_stretching_to_square_pixels_really_stretches() -> None:
    result = plan(video(64, 48), size="192x108", fit="stretch", par="square")
    assert frame(result) == (192, 108)
    assert result.geometry.sample_aspect_ratio == 1


def test_contain_never_leaves_the_size() -> None:
    result = plan(video(720, 576, sample_aspect_ratio=Fraction(16, 15)), size="1921x1081")
    assert frame(result) == (1350, 1080)
    square = plan(
        video(720, 576, sample_aspect_ratio=Fraction(16, 15)), size="1921x1081", par="square"
    )
    assert frame(square) == (1440, 1080)


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(16, 15), (1536, 1152)), (Fraction(8, 9), (1280, 1152))]
)
def test_square_pixels_resample_the_width(aspect: Fraction, size: tuple[int, int]) -> None:
    source = video(720, 576, sample_aspect_ratio=aspect)
    kept, square = plan(source, scale=2), plan(source, scale=2, par="square")
    assert (frame(kept), kept.geometry.sample_aspect_ratio) == ((1440, 1152), aspect)
    assert frame(square) == size
    assert square.geometry.sample_aspect_ratio == 1
    assert square.declared.square_pixels
    assert any("become square" in note for note in square.notes)


def test_a_height_is_the_height_as_displayed() -> None:
    assert frame(plan(video(64, 48), height=96)) == (128, 96)
    sideways = video(64, 48, display_matrix=CLOCKWISE, rotation=270)
    assert frame(plan(sideways, height=128)) == (128, 96)
    assert frame(plan(sideways, height=128, rotate="bake")) == (96, 128)
    assert frame(plan(sideways, size="96x128")) == (128, 96)


def test_baking_turns_the_pictures_and_takes_the_matrix_off() -> None:
    source = video(64, 48, display_matrix=CLOCKWISE, sample_aspect_ratio=Fraction(4, 3))
    result = plan(source, scale=2, rotate="bake")
    assert frame(result) == (96, 128)
    assert result.geometry.orientation == Orientation(transpose=True, flip_h=True)
    assert result.geometry.sample_aspect_ratio == Fraction(3, 4)
    assert result.geometry.display_matrix is None
    assert (result.declared.turn, result.declared.flip) == (270, False)
    kept = plan(source, scale=2)
    assert kept.geometry.display_matrix == CLOCKWISE
    assert kept.geometry.orientation.is_identity


def test_a_slanted_film_cannot_be_baked() -> None:
    slanted = (ONE, ONE // 2, 0, -ONE // 2, ONE, 0, 0, 0, LAST)
    with pytest.raises(ConfigError, match="only quarter turns"):
        plan(video(display_matrix=slanted), rotate="bake")
    assert plan(video(display_matrix=slanted)).geometry.display_matrix == slanted


@pytest.mark.parametrize(
    "flags", [{"height": 24}, {"size": "32x200"}, {"size": "200x40", "fit": "stretch"}]
)
def test_smaller_than_the_source_is_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="smaller than the source's 64x48"):
        plan(video(), **flags)


@pytest.mark.parametrize("flags", [{"scale": 100}, {"size": "40000x22500"}, {"height": 40000}])
def test_frames_beyond_all_bounds_are_refused_in_one_sentence(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="megapixels a frame, more than the 143 that are"):
        plan(video(1920, 1080), **flags)
