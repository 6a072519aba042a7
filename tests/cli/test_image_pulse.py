"""`vsr image --model pulse-...`: several samples, marked, barred by --fidelity, never by itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from tests.media.test_images import exif_block
from vsr.cli.main import run
from vsr.models import catalog
from vsr.models.card import Card, write_card
from vsr.models.checkpoint import save_checkpoint
from vsr.models.image import pulse
from vsr.models.image.pulse import PULSE
from vsr.models.image.stylegan import StyleGAN1


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", folder)
    # Of the search itself nothing is asked here.
    defaults = PULSE.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "num_steps", 2)
    monkeypatch.setattr(pulse, "_NUM_WHITENED", 100)
    spec = catalog.get_spec("pulse-x4")
    torch.manual_seed(0)
    path = folder / "pulse-x4.safetensors"
    digest = save_checkpoint(
        path, spec.build(**spec.params), spec_id="pulse-x4", params=spec.params
    )
    card = Card(
        id="pulse-x4", sha256=digest, licence="Apache-2.0", degradation="bi", num_params=1,
        gmac_180p=1,
    )  # fmt: skip
    write_card(path.with_suffix(".toml"), card)
    assert len(path.read_bytes()) < 6e6


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jpg"
    pixels = np.full((16, 16, 3), 120, np.uint8)
    Pillow.fromarray(pixels).save(path, exif=exif_block())
    return path


def test_samples_differ_and_are_marked(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["image", "--device", "cpu", "--model", "pulse-x4", "--samples", "2", "--seed", "3"]
    assert run([*argv, "--json", str(source), str(tmp_path / "out.png")]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [(i["seed"], i["invents_detail"], i["width"]) for i in images] == [
        (3, True, 64),
        (4, True, 64),
    ]
    pictures = []
    for name in ("out.png", "out-2.png"):
        with Pillow.open(tmp_path / name) as opened:
            assert "AI-invented detail (vsr pulse-x4)" in opened.getexif()[270]
            assert opened.getexif()[0x0112] == 6, "what the source said is kept"
            pictures.append(np.asarray(opened.convert("RGB")))
    assert not np.array_equal(pictures[0], pictures[1])
    assert run([*argv, str(source), str(tmp_path / "again.png")]) == 0
    assert "INVENTED DETAIL" in capsys.readouterr().out


def test_who_may_not(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.png")
    for argv, said in (
        (["--model", "pulse-x4", "--fidelity"], "--fidelity"),
        (["--model", "bicubic-x4", "--samples", "2"], "samples"),
        (["--model", "bicubic-x4", "--generator", "a.pt", "b.pt"], "--generator"),
        (["--model", "pulse-x8"], "64x64 pixels of 8x8"),
    ):
        assert run(["image", "--device", "cpu", *argv, str(source), out]) == 2
        assert said in capsys.readouterr().err
    assert "pulse" not in str([*catalog.DEFAULTS.values(), *catalog.STILL_DEFAULTS.values()])


def test_a_generator_of_the_users(source: Path, tmp_path: Path) -> None:
    made = StyleGAN1(64, latent_dim=8, mapping_layers=2, base=256, most=8)
    for name, part in (("m.pt", made.g_mapping), ("s.pt", made.g_synthesis)):
        torch.save(part.state_dict(), tmp_path / name)
    files = [str(tmp_path / name) for name in ("m.pt", "s.pt")]
    out = tmp_path / "out.png"
    argv = ["image", "--device", "cpu", "--model", "pulse-x4", "--generator", *files]
    assert run([*argv, str(source), str(out)]) == 0
    assert Pillow.open(out).size == (64, 64)
