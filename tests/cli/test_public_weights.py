"""Public weights on the command line: recognised, run, described; refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch

from tests.models.video.public import Family, entries, in_mmagic_names, random_weights
from vsr.cli.main import run

MakeClip = Callable[..., Path]


@pytest.mark.parametrize("family", ["basicvsr", "basicvsrpp", "realbasicvsr"])
def test_upscale(
    family: Family, make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The published sizes, on three frames of 32x32."""
    found = entries(family)
    weights = tmp_path / "public.pth"
    mmagic = in_mmagic_names(found, random_weights(found))
    for name, value in mmagic.items():
        if "conv_last" in name:
            value.mul_(0.05)  # random detail at its full strength would not pass for the same film
    torch.save({"state_dict": {f"generator.{name}": mmagic[name] for name in mmagic}}, weights)
    clip = make_clip(tmp_path / "clip.mkv", frames=3, width=32, height=32)
    output = tmp_path / "out.mkv"
    argv = ["upscale", "--model", str(weights), "--device", "cpu", "--json"]
    assert run([*argv, str(clip), str(output)]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == f"{family}-x4"
    with av.open(str(output)) as container:
        pictures = [picture.to_ndarray() for picture in container.decode(video=0)]
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (128, 128)
    assert len(pictures) == 3


def test_eval(make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "public.pth"
    torch.save({"params": random_weights(entries("basicvsr", 4, 1))}, weights)
    (tmp_path / "gt").mkdir()
    make_clip(tmp_path / "gt" / "clip.mkv", frames=3, width=96, height=96)
    argv = ["eval", "--model", str(weights), "--gt", str(tmp_path / "gt"), "--device", "cpu"]
    assert run([*argv, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["params"] > 1_440_000 and row["psnr"] > 5, row


def test_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "public.pth"
    torch.save({"params": random_weights(entries("basicvsr", 4, 1))}, weights)
    assert run(["models", "show", str(weights), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["id"], facts["licence"]) == ("basicvsr-x4", "NOASSERTION")
    assert facts["params"] > 1_440_000
    assert facts["shipped"] is False


def test_unknown_network_is_one_sentence(
    make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "public.pth"
    torch.save({"backbone.first.weight": torch.ones(3)}, weights)
    clip = make_clip(tmp_path / "clip.mkv", frames=3, width=32, height=32)
    assert run(["upscale", "--model", str(weights), str(clip), str(tmp_path / "out.mkv")]) == 4
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "not known here" in lines[0], lines
