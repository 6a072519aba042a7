from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner

from tests.training.conftest import texture
from vsr.cli.train import command
from vsr.errors import ConfigError
from vsr.models.catalog import get_spec
from vsr.training.config import find_train_config, load_train_config
from vsr.training.data import FrameStore
from vsr.training.networks import build
from vsr.training.validation import Validation, hold_out

MakeStore = Callable[..., FrameStore]


def test_whole_clips_are_kept_and_never_trained_on(make_store: MakeStore) -> None:
    store = make_store([(6, 64, 72)] * 5 + [(1, 80, 80)])
    rest, held = hold_out(store, 0.4)
    assert len(held) == 2 and len(rest.videos) == 3 and len(rest.photos) == 1
    assert not {clip.name for clip in held} & {clip.name for clip in rest.clips}
    again = hold_out(store, 0.4)[1]
    assert [clip.name for clip in held] == [clip.name for clip in again]
    assert len(store.videos) == 5


def test_of_a_single_clip_the_end_is_kept(make_store: MakeStore) -> None:
    rest, held = hold_out(make_store([(20, 64, 72)]), 0.2)
    assert (len(rest.videos[0].frames), len(held[0].frames)) == (16, 4)
    with pytest.raises(ConfigError, match="too short to keep frames"):
        hold_out(make_store([(2, 64, 72)], folder="short"), 0.5)


def test_a_network_that_interpolates_scores_as_bicubic_does(make_store: MakeStore) -> None:
    store = make_store([(6, 64, 72)] * 2)
    validation = Validation(tuple(store.videos), 2, "mixed")
    spec = get_spec("bicubic-x2")
    plain = validation.psnr_db(None)
    assert 10 < plain < 60
    assert validation.psnr_db(spec.build(**spec.params)) == pytest.approx(plain, abs=1e-6)


def test_the_packaged_configuration_fits_the_shipped_weights() -> None:
    config = load_train_config(find_train_config("finetune"))
    spec = get_spec(config.init.weights or "")
    ours = sorted((n, p.shape) for n, p in build(config).named_parameters())
    theirs = sorted((n, p.shape) for n, p in spec.build(**spec.params).named_parameters())
    assert ours == theirs and config.data.scale == spec.scale


def test_fine_tuning_on_a_folder_tells_what_it_gains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Counting runs the network on thirty frames of 320x180, which has a test of its own.
    monkeypatch.setattr("vsr.training.export.count_gmac", lambda *_: 1.0)
    data = tmp_path / "mine"
    data.mkdir()
    for number in range(3):
        bgr = texture(1, 96, 96, seed=number)[0][..., ::-1]
        assert cv2.imwrite(str(data / f"still{number}.png"), bgr)
    text = (find_train_config("finetune")).read_text("utf-8")
    text = text.replace("crop_px = 48", "crop_px = 16").replace("[5, 8]", "[2]")
    text = text.replace("batch = 4", "batch = 1").replace("minutes = 20", "steps = 20")
    text = text.replace("share = 0.1", "share = 0.3\nearly = 0.25")
    config = tmp_path / "mine.toml"
    config.write_text('precision = "fp32"\n' + text, "utf-8")
    arguments = [str(config), "--data", str(data), "--store", str(tmp_path / "store")]
    arguments += ["--out", str(tmp_path / "run"), "--device", "cpu", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    scores = json.loads(result.stdout)["validation"]
    assert set(scores) == {"bicubic", "before", "early", "after"}
    assert "1 kept for validation" in result.stderr
    assert "validation after 25 %" in result.stderr
    assert abs(scores["after"] - scores["before"]) < 3
    assert (tmp_path / "run" / "finetuned-x4.safetensors").is_file()
