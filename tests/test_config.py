"""Presets, `--set` and flags: order, refusals, and where the packaged files are found."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from pydantic import ValidationError

from vsr.config import (
    UpscaleConfig,
    config_folder,
    find_preset,
    list_presets,
    parse_set,
    resolve_config,
)
from vsr.errors import ConfigError
from vsr.notation import parse_time


def test_defaults_are_the_plain_case() -> None:
    config = resolve_config()
    assert config == UpscaleConfig()
    assert (config.scale, config.model, config.device, config.container) == (
        4,
        None,
        "auto",
        None,
    )


def test_preset_loses_to_set_loses_to_flag(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('crf = 30.0\ncodec = "hevc"\nseed = 1\n[engine]\nqueue_frames = 3\n')
    config = resolve_config(
        str(preset), {"crf": 10.0, "codec": None}, ["crf=20", "seed=2", "engine.precision=fp32"]
    )
    assert (config.crf, config.codec, config.seed) == (10.0, "hevc", 2)
    assert (config.engine.queue_frames, config.engine.precision) == (3, "fp32")


def test_config_is_frozen() -> None:
    config = resolve_config()
    with pytest.raises(ValidationError):
        # Not an assignment, which type checkers know to be wrong, or not, by their version.
        config.__setattr__("scale", 2)


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["crff=3"], ("'crff'", "--set crff=3", "did you mean 'crf'")),
        (["engine.queue_frame=3"], ("'engine.queue_frame'", "did you mean 'queue_frames'")),
        (["engine.precision=fp99"], ("engine.precision", "'fp99'")),
        (["scale=0.5"], ("scale", "got 0.5")),
        (["overwrite=1"], ("overwrite", "got 1")),
        (["threads=-1"], ("threads", "got -1")),
        (["crf"], ("key=value",)),
        (["crf=a b"], ("'a b'",)),
    ],
)
def test_what_is_refused_is_named(sets: list[str], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config(sets=sets)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    for word in words:
        assert word in message


def test_refusal_names_the_file(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("modle = 'bicubic-x4'\n")
    with pytest.raises(ConfigError, match=r"'modle' in mine\.toml .*'model'"):
        resolve_config(str(preset))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", {"a": {"b": 1}}),
        ("a=1.5", {"a": 1.5}),
        ("a=true", {"a": True}),
        ("a=word", {"a": "word"}),
        ('a="two words"', {"a": "two words"}),
        ("a=bicubic-x2", {"a": "bicubic-x2"}),
        ("a=[1, 2]", {"a": [1, 2]}),
    ],
)
def test_parse_set(text: str, value: dict[str, object]) -> None:
    assert parse_set(text) == value


@pytest.mark.parametrize(
    ("model", "scale", "expected"),
    [("bicubic-x2", None, 2), ("flowprop-s-x4-bi", None, 4), (None, 3, 3), ("a/b-x2.pt", None, 4)],
)
def test_scale_follows_the_model_id(model: str | None, scale: int | None, expected: int) -> None:
    assert resolve_config(flags={"model": model, "scale": scale}).scale == expected


def test_scale_may_differ_from_the_model_id() -> None:
    config = resolve_config(flags={"model": "bicubic-x3", "scale": 2.5})
    assert (config.model, config.scale) == ("bicubic-x3", 2.5)


def test_a_stronger_size_or_model_replaces_a_weaker_size(tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text("scale = 4\n")
    assert resolve_config(str(preset), {"height": 720}).height == 720
    assert resolve_config(str(preset), {"model": "bicubic-x2"}).scale == 2
    assert resolve_config(str(preset), {"scale": 3}, ["size=640x480"]).size is None
    preset.write_text("height = 480\n")
    assert resolve_config(str(preset), {"model": "bicubic-x2"}).height == 480
    assert resolve_config(str(preset), {"scale": 1.5}).height is None


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"scale": 2, "height": 720}, "scale and height"),
        ({"height": 720, "size": "10x10"}, "height and size"),
        ({"size": "10 x 10"}, "size"),
        ({"size": "0x10"}, "size"),
        ({"start": "1:2:3:4"}, "no time"),
        ({"start": "-1"}, "no time"),
        ({"start": "1.5:30"}, "decimals"),
        ({"duration": 0}, "after 0"),
        ({"sample": "3"}, "sample"),
        ({"sample": "0x3s"}, "takes nothing"),
        ({"sample": "3x10s", "start": 1}, "leave start"),
        ({"fit": "fill"}, "fit"),
    ],
)
def test_sizes_and_times_that_make_no_sense(flags: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve_config(flags=flags)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", "90"),
        (1.1, "1.1"),
        (2, "2"),
        ("1:30", "90"),
        ("01:00:00.040", "3600.04"),
        ("10s", "10"),
        (".5", "0.5"),
    ],
)
def test_times_are_exact_as_written(text: str | float, seconds: str) -> None:
    assert parse_time(text) == Fraction(seconds)


def test_packaged_presets_are_found_and_valid() -> None:
    assert list_presets() == ("archive", "fast", "quality")
    for name in list_presets():
        assert find_preset(name).parent == config_folder("presets")
        config = resolve_config(name)
        assert config.scale == 4
        assert resolve_config(str(find_preset(name))) == config


def test_preset_models_are_in_the_catalogue() -> None:
    catalog = pytest.importorskip("vsr.models.catalog")
    for name in list_presets():
        model = resolve_config(name).model
        if model is not None:
            assert catalog.get_spec(model).scale == 4


def test_missing_and_broken_presets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'fast'"):
        resolve_config("fsat")
    with pytest.raises(ConfigError, match="No such file"):
        resolve_config(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("crf = = 3\n")
    with pytest.raises(ConfigError, match="is not TOML"):
        resolve_config(str(broken))


def test_round_trip_through_json() -> None:
    config = resolve_config("quality")
    assert UpscaleConfig.model_validate_json(config.model_dump_json()) == config
