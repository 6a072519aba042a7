"""A declaration survives its way through tag and file, and nonsense is told from it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from vsr.pipeline.declared import (
    TAG,
    Declared,
    DeclaredPicture,
    DeclaredRange,
    DeclaredTimeline,
    read_declared,
    write_sidecar,
)


def declared(num_frames: int) -> Declared:
    pts = [7 + 3 * k + k % 2 for k in range(num_frames)]
    sources = [5 + k // 2 for k in range(num_frames)]
    return Declared(
        left_out=(2, 3),
        ranges=(DeclaredRange(start_s=Fraction(1, 3), end_s=Fraction(2), at_s=Fraction(0)),),
        timeline=DeclaredTimeline.of(Fraction(1, 25), pts, [3] * num_frames, sources),
        picture=DeclaredPicture(turn=90, box=(1, 2, 3, 4)),
        deinterlaced="bob",
        parity="bff",
        combed=((1, 3), (0, 4)),
    )


@pytest.mark.parametrize("num_frames", [1, 20, 5000])
def test_a_tag_says_it_all(num_frames: int) -> None:
    before = declared(num_frames)
    text = before.to_tag()
    assert len(text) < 4000
    assert text.startswith("zlib:") == (num_frames == 5000)
    after = Declared.from_tag(text)
    assert after == before
    assert after.timeline is not None
    assert after.timeline.sources() == [5 + k // 2 for k in range(num_frames)]
    assert after.timeline.times.pts()[-1] == 7 + 3 * (num_frames - 1) + (num_frames - 1) % 2


def test_nothing_declared_is_short() -> None:
    assert Declared().to_tag() == "{}"
    assert Declared.from_tag("{}") == Declared()


@pytest.mark.parametrize("text", ["", "[]", '{"leftout": [1]}', "zlib:!", "zlib:AAAA"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="declaration"):
        Declared.from_tag(text)


def test_tag_before_file_before_nothing(tmp_path: Path) -> None:
    result = tmp_path / "film.mp4"
    assert read_declared(result, {"title": "x"}) == Declared()
    write_sidecar(result, Declared(left_out=(1,)))
    assert (tmp_path / "film.mp4.vsr.json").is_file()
    assert read_declared(result, {}).left_out == (1,)
    assert read_declared(result, {TAG.lower(): '{"left_out": [4]}'}).left_out == (4,)
    (tmp_path / "film.mp4.vsr.json").write_text("not json")
    with pytest.raises(ValueError, match="cannot be read"):
        read_declared(result, {})
