"""`vsr image`: stills and folders of them, what is kept, and what is said of those that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from tests.media.test_images import exif_block, icc_profile, picture
from vsr.cli.main import run
from vsr.pipeline import image as image_module

FAST = ["--model", "bicubic-x2", "--device", "cpu"]


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_still(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output = tmp_path / f"-in ü{suffix}", tmp_path / f"out{suffix}"
    picture().save(source, exif=exif_block(), icc_profile=icc_profile())
    assert run(["image", *FAST, "--json", "--", str(source), str(output)]) == 0
    (image,) = report(capsys)["images"]
    assert (image["ok"], image["width"], image["height"]) == (True, 80, 48)
    with Pillow.open(output) as opened:
        assert set(opened.size) == {80, 48}
        assert opened.info["icc_profile"] == icc_profile()
        assert opened.getexif()[0x0112] == 6
        enlarged = np.asarray(opened.convert("RGB"), dtype=float)
    wanted = np.asarray(picture().resize((80, 48), Pillow.Resampling.BICUBIC), dtype=float)
    if enlarged.shape == wanted.shape:
        assert np.abs(enlarged - wanted)[4:-4, 4:-4].mean() < 3


def test_sixteen_bits_and_alpha(tmp_path: Path) -> None:
    y, x = np.mgrid[0:24, 0:40]
    pixels = np.stack((1600 * x, 2700 * y, 900 * (x + y), 65535 - 2000 * y), -1).astype(np.uint16)
    source, output = tmp_path / "in.tif", tmp_path / "out.tif"
    tifffile.imwrite(source, pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert run(["image", *FAST, "--scale", "3", str(source), str(output)]) == 0
    again = tifffile.imread(output)
    assert again.shape == (72, 120, 4) and again.dtype == np.uint16
    inside = again[12:-12:3, 12:-12:3].astype(float)
    assert np.abs(inside - pixels[4:-4, 4:-4]).max() < 2800, "a ramp stays a ramp, alpha too"
    assert len(np.unique(again % 256)) > 100, "more than 8 bits"


def test_a_folder_goes_on_past_a_broken_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "loop").symlink_to(source, target_is_directory=True)
    picture().save(source / "a.png")
    picture().save(source / "a.jpg")
    picture("L").save(source / "deep" / "b.webp", lossless=True)
    (source / "broken.png").write_bytes((source / "a.png").read_bytes()[:90])
    (source / "notes.txt").write_text("no still")
    assert run(["image", *FAST, "--json", str(source), str(output)]) == 7
    said = report(capsys)
    assert (said["done"], said["failed"]) == (3, 1)
    (failed,) = (image for image in said["images"] if not image["ok"])
    assert failed["source"].endswith("broken.png") and "decoded" in failed["error"]
    made = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.*"))
    assert made == ["a.jpg", "a.png", "deep/b.webp"]
    # Again: names are taken; with --overwrite an output inside the input is no source.
    assert run(["image", *FAST, str(source), str(output)]) == 6
    inside = source / "larger"
    for _ in range(2):
        assert run(["image", *FAST, "--overwrite", str(source), str(inside)]) == 7
    assert len(list(inside.rglob("*.*"))) == 3


def test_two_that_would_become_one_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    picture().save(source / "a.png")
    picture().save(source / "a.jpg")
    assert run(["image", *FAST, "--format", "webp", str(source), str(tmp_path / "out")]) == 2
    assert "a.jpg" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, output, elsewhere = (tmp_path / name for name in ("in", "out", "elsewhere"))
    for folder in (source / "sub", output, elsewhere):
        folder.mkdir(parents=True)
    (output / "sub").symlink_to(elsewhere)
    picture().save(source / "sub" / "a.png")
    assert run(["image", *FAST, str(source), str(output)]) == 6
    assert "outside" in capsys.readouterr().err
    assert not list(elsewhere.iterdir())


def test_names_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.png"
    picture().save(source)
    before = source.read_bytes()
    assert run(["image", *FAST, "--overwrite", str(source), str(source)]) == 2
    assert run(["image", *FAST, str(source), str(tmp_path / "out.gif")]) == 2
    assert run(["image", *FAST, str(tmp_path / "absent.png"), str(tmp_path / "out.png")]) == 3
    (tmp_path / "empty").mkdir()
    assert run(["image", *FAST, str(tmp_path / "empty"), str(tmp_path / "out")]) == 3
    assert run(["image", "--model", "nothing-x2", str(source), str(tmp_path / "out.png")]) == 4
    for line in capsys.readouterr().err.strip().splitlines():
        assert line.startswith("vsr: "), line
    assert source.read_bytes() == before


def test_losses_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "in.png"
    picture("RGBA").save(source)
    assert run(["image", *FAST, str(source), str(tmp_path / "out.jpg")]) == 0
    assert "lost: alpha channel" in capsys.readouterr().out


def test_a_video_model_enlarges_one_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.png"
    picture().save(source)
    argv = ["image", "--model", "reconstruction-x2", "--device", "cpu", "--json"]
    assert run([*argv, str(source), str(tmp_path / "out.png")]) == 0
    assert report(capsys)["images"][0]["model"] == "reconstruction-x2"


def test_memory_that_runs_out_makes_tiles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (130, 170, 3), dtype=np.uint8)
    source = tmp_path / "in.png"
    Pillow.fromarray(pixels).save(source)
    assert run(["image", *FAST, str(source), str(tmp_path / "whole.png")]) == 0
    real = image_module._Studio._run

    def tight(
        self: Any, tool: Any, image: Any, shape: Any, written: Any, tile: Any, seed: int
    ) -> Any:
        if tile is None or tile > 80:
            raise MemoryError
        return real(self, tool, image, shape, written, tile, seed)

    monkeypatch.setattr(image_module._Studio, "_run", tight)
    capsys.readouterr()
    assert run(["image", *FAST, "--json", str(source), str(tmp_path / "tiles.png")]) == 0
    assert report(capsys)["images"][0]["tile_px"] == 64
    one, other = (np.asarray(Pillow.open(tmp_path / n)) for n in ("whole.png", "tiles.png"))
    np.testing.assert_array_equal(one, other)
