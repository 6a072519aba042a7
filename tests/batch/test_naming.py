"""Names of results: the tree is kept, and no two clips share a name."""

from __future__ import annotations

import os
from pathlib import PurePosixPath

import pytest

from vsr.batch.naming import Names, sidecar_name, wished_name


@pytest.mark.parametrize(
    ("path", "container", "wished"),
    [
        ("a/b/clip.mp4", None, "a/b/clip.mp4"),
        ("a/clip.MOV", "auto", "a/clip.MOV"),
        ("a/clip.avi", None, "a/clip.mkv"),
        ("a.b/clip", None, "a.b/clip.mkv"),
        ("clip.mp4", "mkv", "clip.mkv"),
        ("clip.auto", None, "clip.mkv"),
    ],
)
def test_wished_names(path: str, container: str | None, wished: str) -> None:
    assert wished_name(path, container) == wished


def give(*paths: str) -> list[str]:
    names = Names()
    return [names.give(path, wished_name(path, None)) for path in paths]


def test_same_names_in_different_folders_stay() -> None:
    assert give("a/x.mp4", "b/x.mp4", "x.mp4") == ["a/x.mp4", "b/x.mp4", "x.mp4"]


def test_a_clash_keeps_the_whole_name() -> None:
    assert give("x.mkv", "x.avi", "x.avi.mkv") == ["x.mkv", "x.avi.mkv", "x.avi.mkv.mkv"]
    assert give("X.mkv", "x.mkv") == ["X.mkv", "x.mkv.mkv"]
    # The same letter, with its accent in it and behind it.
    assert give("\u00e9.mkv", "e\u0301.mkv")[1] == "e\u0301.mkv.mkv"


def test_what_is_written_beside_a_result_counts_as_taken() -> None:
    assert give("x.mkv", "x.rejected.mkv")[1] != "x.rejected.mkv"
    assert give("x.mp4", "x.mov") == ["x.mp4", "x.mov"]


def test_names_of_an_earlier_scan_are_taken() -> None:
    names = Names()
    names.take("x.mkv")
    assert names.give("x.avi", "x.mkv") == "x.avi.mkv"


@pytest.mark.parametrize("stem", ["n" * 251, os.fsdecode(b"\xe9" * 251), "é" * 125])
def test_long_names_leave_room_for_a_sidecar(stem: str) -> None:
    first, second = give(f"{stem}.avi", f"{stem}.mkv")
    assert first != second
    for name in (first, second):
        assert len(os.fsencode(PurePosixPath(sidecar_name(name)).name)) <= 255
