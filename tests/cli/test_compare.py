"""`vsr compare` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from vsr.cli.main import run

MakeClip = Callable[..., Path]


def gray(frame: object, index: int) -> None:
    """Frame k is of 10 codes more than the one before."""
    for number, plane in enumerate(frame.planes):  # type: ignore[attr-defined]
        code = 40 + 10 * index if number == 0 else 128
        plane.update(bytes([code]) * (plane.height * plane.line_size))


@pytest.fixture(scope="module")
def films(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("compare")
    options = {"fill": gray, "rate": Fraction(10), "codec_options": {"crf": "1"}}
    small = make_clip(folder / "smäll 'one'.mkv", width=64, height=48, **options)
    large = make_clip(folder / "large.mp4", width=128, height=96, start=20, **options)
    return small, large


def test_the_same_moment_of_two_films(
    films: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["compare", "--at", "0.3", "--at", "00:01", "-o", str(sheet), "--"]
    assert run([*arguments, *map(str, films)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines == [
        f"{sheet}: 00:00:00.300, 00:00:01.000",
        f"A: {films[0]}",
        f"B: {films[1]}",
    ]
    picture = cv2.imdecode(np.frombuffer(sheet.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (2 * (28 + 96 + 4 + 90 + 4), 2 * 128 + 4, 3)
    for top, index in ((28, 3), (28 + 222, 10)):
        code = round((40 + 10 * index - 16) * 255 / 219)
        for left in (0, 132):
            tile = picture[top : top + 96, left : left + 128]
            assert tile.mean() == pytest.approx(code, abs=2)
    assert list(tmp_path.iterdir()) == [sheet]


def test_the_middle_and_a_name_beside_the_first_by_default(films: tuple[Path, Path]) -> None:
    sheet = films[0].with_name(f"{films[0].name}.compare.png")
    assert run(["compare", *map(str, films)]) == 0
    before = sheet.read_bytes()
    assert before.startswith(b"\x89PNG")
    assert run(["compare", *map(str, films)]) == 6
    assert run(["compare", "--overwrite", "--at", "0", *map(str, films)]) == 0
    assert sheet.read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--at", "9"], 2),
        (["--at", "soon"], 2),
        (["-o", "sheet.txt"], 2),
        (["-o", "missing/sheet.png"], 6),
    ],
)
def test_what_cannot_be_done_is_said(
    films: tuple[Path, Path],
    arguments: list[str],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in arguments else ["-o", "sheet.png"]
    assert run(["compare", *arguments, *output, "--", *map(str, films)]) == code
    assert list(tmp_path.iterdir()) == []


def test_one_film_is_not_enough_and_none_is_replaced(films: tuple[Path, Path]) -> None:
    assert run(["compare", str(films[0])]) == 2
    picture = films[0].with_name("film.png")
    picture.write_bytes(films[0].read_bytes())
    assert run(["compare", "--overwrite", "-o", str(picture), str(picture), str(films[1])]) == 2
    assert picture.read_bytes() == films[0].read_bytes()


def test_a_turned_film_stands_upright(make_clip: MakeClip, tmp_path: Path) -> None:
    turned = make_clip(tmp_path / "turned.mp4", width=64, height=48, rotation=90)
    upright = make_clip(tmp_path / "upright.mp4", width=48, height=64)
    assert (
        run(["compare", "--at", "0", "-o", str(tmp_path / "s.png"), str(turned), str(upright)]) == 0
    )
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None
    assert picture.shape[:2] == (28 + 64 + 4 + 64 + 4, 2 * 48 + 4)
