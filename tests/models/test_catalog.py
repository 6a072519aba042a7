from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vsr.errors import ConfigError, UnknownModelError
from vsr.models import catalog


def test_ids_of_the_first_release() -> None:
    ids = [spec.id for spec in catalog.list_models()]
    for name in ("bicubic", "lanczos"):
        assert [f"{name}-x{scale}" in ids for scale in (2, 3, 4)] == [True] * 3
    assert {"flowprop-xs-x4", "flowprop-s-x4", "flowprop-xs-x4-bi", "flowprop-s-x4-bi"} <= set(ids)


def test_default_ids_share_the_weights_of_the_bi_models() -> None:
    for size in ("xs", "s", "m"):
        plain, bi = (
            catalog.get_spec(f"flowprop-{size}-x4"),
            catalog.get_spec(f"flowprop-{size}-x4-bi"),
        )
        assert bi.weights == f"flowprop-{size}-x4-bi"
        assert plain.weights in (plain.id, bi.weights)
        assert plain.params == bi.params


def test_unknown_id_names_near_ones() -> None:
    with pytest.raises(UnknownModelError, match=r"did you mean .*bicubic-x4") as caught:
        catalog.get_spec("bicubik-x4")
    assert caught.value.exit_code == 4
    with pytest.raises(UnknownModelError, match="there are bicubic-x1, "):
        catalog.get_spec("zzzzzzzzz")


def test_duplicates_and_ids_without_scale_are_refused() -> None:
    spec = catalog.get_spec("bicubic-x2")
    with pytest.raises(ConfigError, match=r"Two models .* 'bicubic-x2'"):
        catalog.index_specs((spec, spec))
    with pytest.raises(ConfigError, match="does not say its scale, x2"):
        catalog.index_specs((replace(spec, id="bicubic-x24"),))


def test_default_model_follows_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", tmp_path)
    assert catalog.default_model(2) == "bicubic-x2"
    assert catalog.default_model(3) == "bicubic-x3"
    assert catalog.default_model(4) == "bicubic-x4"
    (tmp_path / "flowprop-s-x4.safetensors").touch()
    assert catalog.default_model(4) == "flowprop-s-x4"
    with pytest.raises(UnknownModelError, match="use one of 1, 2, 3, 4"):
        catalog.default_model(5)


def test_reading_the_catalogue_imports_no_network() -> None:
    code = (
        "import sys, vsr.models.catalog as c; c.list_models(); rooms = 'vsr.models.image.', "
        "'vsr.models.video.'; print([m for m in sys.modules if m.startswith(rooms)])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
