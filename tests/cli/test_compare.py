"""`vsr compare` as a user meets it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
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
        (["--duration", "1"], 2),
        (["--wipe"], 2),
        (["-o", "film.mkv", "--at", "9"], 2),
        (["-o", "film.mkv", "--duration", "0"], 2),
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


def planes(film: Path) -> list[list[np.ndarray]]:
    """Y, U and V of every frame."""
    with av.open(str(film)) as container:
        decoded = list(container.decode(container.streams.video[0]))
    made = []
    for frame in decoded:
        rows = [
            np.frombuffer(bytes(p), np.uint8).reshape(p.height, p.line_size)[:, : p.width]
            for p in frame.planes
        ]
        made.append(rows)
    return made


def times(film: Path) -> list[Fraction]:
    with av.open(str(film)) as container:
        stream = container.streams.video[0]
        return [Fraction(f.pts or 0) * Fraction(f.time_base or 0) for f in container.decode(stream)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
def test_two_films_side_by_side_as_a_film(
    films: tuple[Path, Path], tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / f"side.{suffix}"
    arguments = ["compare", "--at", "0.3", "--at", "0.8", "--duration", "0.3", "--out", str(out)]
    assert run([*arguments, *map(str, films)]) == 0
    assert capfd.readouterr().out.splitlines() == [
        f"{out}: 6 frames, 0.600 s",
        "from 00:00:00.300, 00:00:00.800",
        f"A: {films[0]}",
        f"B: {films[1]}",
    ]
    assert times(out) == pytest.approx([Fraction(k, 10) for k in range(6)], abs=1e-3)
    for (luma, *chroma), index in zip(planes(out), (3, 4, 5, 8, 9, 10), strict=True):
        assert luma.shape == (28 + 96, 2 * 128 + 4)
        for left in (0, 132):
            tile = luma[30:122, left + 2 : left + 126]
            assert tile.mean() == pytest.approx(40 + 10 * index, abs=1)
            assert luma[:28, left : left + 128].max() > 180
        assert all(abs(float(plane.mean()) - 128) < 1 for plane in chroma)
    assert list(tmp_path.iterdir()) == [out]


def test_a_wipe_shows_one_film_on_either_side(
    films: tuple[Path, Path], make_clip: MakeClip, tmp_path: Path
) -> None:
    def white(frame: object, _: int) -> None:
        for number, plane in enumerate(frame.planes):  # type: ignore[attr-defined]
            plane.update(bytes([235 if number == 0 else 128]) * (plane.height * plane.line_size))

    other = make_clip(tmp_path / "white.mkv", width=128, height=96, fill=white, rate=Fraction(5))
    out = tmp_path / "wipe.mp4"
    arguments = ["compare", "--wipe", "--at", "0", "--duration", "9", "-o", str(out)]
    assert run([*arguments, str(films[1]), str(other)]) == 0
    shown = planes(out)
    # Until the first of them is over, at the rate of the faster.
    assert len(shown) == 12
    for index, (luma, *_) in enumerate(shown):
        assert luma.shape == (28 + 96, 128)
        assert luma[30:122, 4:40].mean() == pytest.approx(40 + 10 * index, abs=1)
        border = round(128 * (0.5 + 0.5 * np.sin(2 * np.pi * index / 10 / 8)))
        assert luma[30:122, border + 6 :].mean() == pytest.approx(235, abs=1)
    assert run([*arguments, "--overwrite", *map(str, (*films, other))]) == 2


def test_a_slower_film_shows_what_it_showed_then(
    films: tuple[Path, Path], make_clip: MakeClip, tmp_path: Path
) -> None:
    slow = make_clip(
        tmp_path / "slow.mkv",
        width=64,
        height=48,
        fill=gray,
        rate=Fraction(4),
        codec_options={"crf": "1"},
    )
    out = tmp_path / "out.mkv"
    arguments = ["compare", "--at", "0.4", "--duration", "0.6", "-o", str(out)]
    assert run([*arguments, str(slow), str(films[0])]) == 0
    found = [
        [round((float(luma[30:74, x + 2 : x + 62].mean()) - 40) / 10) for x in (0, 68)]
        for luma, *_ in planes(out)
    ]
    # Frame k of the fast one begins at k / 10 s, of the slow one at k / 4 s.
    assert found == [[1, 4], [2, 5], [2, 6], [2, 7], [3, 8], [3, 9]]


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_an_excerpt_shows_the_same_moment_as_its_source(
    films: tuple[Path, Path], tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    source, excerpt = films[1], tmp_path / f"part.{suffix}"
    upscale = ["upscale", "-q", "--model", "bicubic-x2", "--device", "cpu", "--start", "0.5"]
    assert run([*upscale, "--", str(source), str(excerpt)]) == 0
    out = tmp_path / "out.mkv"
    arguments = ["compare", "--overwrite", "--duration", "0.3", "-o", str(out)]
    for pair, at, first in (
        ((source, excerpt), "0.7", 7),
        ((excerpt, source), "0.2", 7),
        ((excerpt, excerpt), "0.2", 7),
    ):
        assert run([*arguments, "--at", at, *map(str, pair)]) == 0
        found = [
            [round((float(luma[40:200, x + 9 : x + 240].mean()) - 40) / 10) for x in (0, 260)]
            for luma, *_ in planes(out)
        ]
        assert found == [[first + k] * 2 for k in range(3)]
    capfd.readouterr()
    assert run([*arguments, "--at", "0.2", str(source), str(excerpt)]) == 2
    assert "begins at 00:00:00.500 only" in capfd.readouterr().err


def test_a_film_of_turned_pixels_keeps_their_shape(make_clip: MakeClip, tmp_path: Path) -> None:
    turned = make_clip(
        tmp_path / "a.mp4", width=64, height=48, rotation=90, sar=Fraction(16, 15), frames=3
    )
    out = tmp_path / "out.mkv"
    assert run(["compare", "--at", "0", "-o", str(out), str(turned), str(turned)]) == 0
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (2 * 48 + 4, 64 + 28)
        assert stream.sample_aspect_ratio == Fraction(15, 16)


def test_pictures_are_films_too(films: tuple[Path, Path], tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    upscale = ["upscale", "-q", "--model", "bicubic-x2", "--device", "cpu"]
    assert run([*upscale, "--", str(films[0]), str(pictures / "f.%03d.png")]) == 0
    out = tmp_path / "out.png"
    assert run(["compare", "--at", "0", "-o", str(out), str(films[0]), str(pictures)]) == 0
    picture = cv2.imread(str(out))
    assert picture is not None
    assert picture[40:110, 4:120].mean() == pytest.approx(picture[40:110, 140:250].mean(), abs=1)


def test_the_same_colour_by_two_matrices_is_the_same(make_clip: MakeClip, tmp_path: Path) -> None:
    """Pure red of full strength, once by BT.601 and once by BT.709."""

    def filled(codes: tuple[int, int, int]) -> Callable[[object, int], None]:
        def fill(frame: object, _: int) -> None:
            for code, plane in zip(codes, frame.planes, strict=True):  # type: ignore[attr-defined]
                plane.update(bytes([code]) * (plane.height * plane.line_size))

        return fill

    red = {6: (81, 90, 240), 1: (63, 102, 240)}
    paths = [
        make_clip(
            tmp_path / f"{matrix}.mkv",
            fill=filled(codes),
            color=(1, 1, matrix, 1),
            codec_options={"crf": "1"},
        )
        for matrix, codes in red.items()
    ]
    out = tmp_path / "out.mp4"
    assert run(["compare", "--at", "0", "-o", str(out), *map(str, paths)]) == 0
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        tags = context.color_primaries, context.color_trc, context.colorspace, context.color_range
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    luma, blue, red_difference = planes(out)[0]
    for left in (0, 68):
        inside = slice(20, 36), slice(left // 2 + 4, left // 2 + 28)
        assert luma[32:72, left + 4 : left + 60].mean() == pytest.approx(63, abs=1)
        assert blue[inside].mean() == pytest.approx(102, abs=1)
        assert red_difference[inside].mean() == pytest.approx(240, abs=1)


def test_a_deep_film_stays_deep_and_keeps_its_curve(make_clip: MakeClip, tmp_path: Path) -> None:
    film = make_clip(
        tmp_path / "pq.mkv",
        codec="libx265",
        pixel_format="yuv420p10le",
        color=(9, 16, 9, 1),
        frames=3,
    )
    out = tmp_path / "out.mkv"
    assert run(["compare", "--at", "0", "-o", str(out), str(film), str(film)]) == 0
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert context.pix_fmt == "yuv420p10le"
        assert [int(context.color_primaries), int(context.color_trc)] == [9, 16]
        assert int(context.colorspace) == 9


def test_a_turned_film_stands_upright(make_clip: MakeClip, tmp_path: Path) -> None:
    turned = make_clip(tmp_path / "turned.mp4", width=64, height=48, rotation=90)
    upright = make_clip(tmp_path / "upright.mp4", width=48, height=64)
    assert (
        run(["compare", "--at", "0", "-o", str(tmp_path / "s.png"), str(turned), str(upright)]) == 0
    )
    picture = cv2.imread(str(tmp_path / "s.png"))
    assert picture is not None
    assert picture.shape[:2] == (28 + 64 + 4 + 64 + 4, 2 * 48 + 4)
