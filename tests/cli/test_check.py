"""`vsr check` as a user meets it: a table or JSON, and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vsr.cli.main import run

MakeClip = Callable[..., Path]


@pytest.fixture(scope="module")
def films(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A source, its result, and another film."""
    folder = tmp_path_factory.mktemp("check")
    source = make_clip(folder / "-a film.mkv", frames=6, audio=["flac"])
    other = make_clip(folder / "other.mkv", frames=5, audio=["flac"])
    result = folder / "result.mkv"
    arguments = ["upscale", "--model", "bicubic-x2", "--device", "cpu", "-q"]
    assert run([*arguments, "--", str(source), str(result)]) == 0
    return source, result, other


def test_the_same_film(films: tuple[Path, Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, result, _ = films
    capfd.readouterr()
    assert run(["check", "--", str(source), str(result)]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    lines = captured.out.splitlines()
    assert lines[-1].startswith("the same film, only larger: all ")
    assert not any(line.startswith("FAILED") for line in lines)
    assert any(line.split()[:2] == ["ok", "pts"] for line in lines)


def test_another_film(films: tuple[Path, Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, _, other = films
    assert run(["check", "--", str(source), str(other)]) == 1
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1].startswith("not the same film: ")
    assert any(line.split()[:2] == ["FAILED", "frames"] for line in lines)


def test_json(films: tuple[Path, Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    source, result, other = films
    for path, code in ((result, 0), (other, 1)):
        capfd.readouterr()
        assert run(["check", "--json", "--", str(source), str(path)]) == code
        document = json.loads(capfd.readouterr().out)
        assert set(document) == {"ok", "rows"}
        assert document["ok"] is (code == 0)
        assert set(document["rows"][0]) == {"name", "ok", "source", "result", "note"}
        assert document["ok"] == all(row["ok"] for row in document["rows"])


def test_a_source_that_is_not_there(
    films: tuple[Path, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, result, _ = films
    assert run(["check", str(tmp_path / "none.mkv"), str(result)]) == 3
    assert "does not exist" in capfd.readouterr().err
    assert run(["check", "--", str(films[0]), str(tmp_path / "none.mkv")]) == 1
