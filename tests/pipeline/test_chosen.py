"""`--detail` and `--fidelity`: what they choose, what they refuse, and what the plan says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from tests.models.test_blend import install
from vsr.cli.main import run
from vsr.config import resolve_config
from vsr.errors import ConfigError
from vsr.models import catalog
from vsr.pipeline.planning import make_plan

MakeClip = Callable[..., Path]
GAN, PSNR = "srgan-x4", "srresnet-x4"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setattr(catalog, "WEIGHTS_FOLDER", folder)
    for seed, model_id in enumerate((PSNR, GAN)):
        install(folder, model_id, seed)


@pytest.mark.parametrize("named", [GAN, PSNR])
def test_the_plan_records_the_mixture(named: str, make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, width=32, height=32)
    flags = {"model": named, "device": "cpu", "detail": 0.3}
    plan = make_plan(clip, tmp_path / "out.mkv", resolve_config(flags=flags))
    assert (plan.model.id, plan.model.parent, plan.model.detail) == (GAN, PSNR, 0.3)
    assert plan.model.weights_sha256 != plan.model.parent_sha256 is not None
    assert any("0.3" in note for note in plan.notes)
    barred = resolve_config(flags={**flags, "fidelity": True})
    with pytest.raises(ConfigError, match="fidelity"):
        make_plan(clip, tmp_path / "out.mkv", barred)
    allowed = resolve_config(flags={**flags, "fidelity": True, "detail": 0.0})
    assert make_plan(clip, tmp_path / "out.mkv", allowed).model.fidelity


def test_other_digest_for_another_mixture(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, width=32, height=32)
    digests = set()
    for detail in (None, 0.0, 0.5):
        config = resolve_config(flags={"model": GAN, "device": "cpu", "detail": detail})
        digests.add(make_plan(clip, tmp_path / "out.mkv", config).digest())
    assert len(digests) == 3


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.png"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Pillow.fromarray(pixels).save(source)
    made = {}
    for name, model, more in (
        ("parent", PSNR, []),
        ("none", GAN, ["--detail", "0", "--fidelity"]),
        ("half", GAN, ["--detail", "0.5"]),
        ("all", GAN, []),
    ):
        output = tmp_path / f"{name}.png"
        argv = ["image", "--json", "--device", "cpu", "--model", model, *more]
        assert run([*argv, str(source), str(output)]) == 0
        made[name] = np.asarray(Pillow.open(output)).astype(int)
    assert np.array_equal(made["parent"], made["none"])
    assert not np.array_equal(made["half"], made["none"])
    assert not np.array_equal(made["half"], made["all"])
    capsys.readouterr()
    for argv in (
        ["image", "--fidelity", "--model", GAN],
        ["image", "--detail", "0.5", "--model", "bicubic-x4"],
        ["image", "--detail", "1.5", "--model", GAN],
    ):
        assert run([*argv, str(source), str(tmp_path / "x.png")]) == 2, argv
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 3, said.err


def test_json_says_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.png"
    Pillow.new("RGB", (16, 16)).save(source)
    argv = ["image", "--json", "--device", "cpu", "--model", GAN, "--detail", "0.5"]
    assert run([*argv, str(source), str(tmp_path / "out.png")]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["detail"], document["fidelity"]) == (0.5, False)
