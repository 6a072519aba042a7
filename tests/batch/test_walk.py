"""Which files of a tree are clips, and what is said of those that cannot be."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vsr.batch.walk import Filters, Tree, refuse_folders
from vsr.errors import ConfigError, OpenError


def put(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)


def paths(tree: Tree) -> list[str]:
    return [found.path for found in tree.walk() if found.problem is None]


def test_films_by_suffix_in_order(tmp_path: Path) -> None:
    put(tmp_path, "b/x.mp4", "a/y.MKV", "a/x.mkv", "notes.txt", "cover.jpg", ".hidden.mp4")
    put(tmp_path, ".trash/x.mp4", "line\nbreak.mov")
    tree = Tree(tmp_path, Filters(), tmp_path / "out")
    assert paths(tree) == ["line\nbreak.mov", "a/x.mkv", "a/y.MKV", "b/x.mp4"]
    assert tree.num_left_out == 4


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.mp4")
    try:
        put(tmp_path, name)
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    assert paths(Tree(tmp_path, Filters(), tmp_path / "out")) == [name]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        (Filters(include=("*.mp4",)), ["a/x.mp4", "b/x.mp4"]),
        (Filters(include=("a/*",)), ["a/x.mkv", "a/x.mp4", "a/x.txt"]),
        (Filters(exclude=("b",)), ["a/x.mkv", "a/x.mp4"]),
        (Filters(exclude=("a/*.mkv", "b/x.*")), ["a/x.mp4"]),
        (Filters(min_bytes=101), []),
        (Filters(min_bytes=100, max_bytes=100), ["a/x.mkv", "a/x.mp4", "b/x.mp4"]),
        (Filters(max_bytes=99), []),
    ],
)
def test_filters(tmp_path: Path, filters: Filters, wanted: list[str]) -> None:
    put(tmp_path, "a/x.mkv", "a/x.mp4", "a/x.txt", "b/x.mp4")
    assert paths(Tree(tmp_path, filters, tmp_path / "out")) == wanted


def test_a_loop_of_links_is_not_entered(tmp_path: Path) -> None:
    put(tmp_path, "a/x.mp4")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/loop.mp4").symlink_to(tmp_path)
    (tmp_path / "link.mp4").symlink_to("a/x.mp4")
    tree = Tree(tmp_path, Filters(), tmp_path / "out")
    assert paths(tree) == ["link.mp4", "a/x.mp4"]
    assert tree.num_linked_folders == 1


def test_what_is_no_file_gets_a_sentence(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "broken.mp4").symlink_to("nowhere")
    (tmp_path / "self.mp4").symlink_to("self.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.mp4"))
        found = Tree(tmp_path, Filters(), tmp_path / "out").walk()
        said = {entry.path: entry.problem for entry in found}
    assert said["x.mp4"] is None
    assert "named pipe" in str(said["pipe.mp4"])
    assert "device or socket" in str(said["device.mp4"])
    assert "device or socket" in str(said["s.mp4"])
    assert "leads nowhere" in str(said["broken.mp4"])
    assert "leads nowhere" in str(said["self.mp4"])


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a/x.mp4", "b/x.mp4")
    listing = os.scandir

    def refuse(path: Any) -> Iterator[os.DirEntry[str]]:
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree = Tree(tmp_path, Filters(), tmp_path / "out")
    found = list(tree.walk())
    assert [(entry.path, entry.problem) for entry in found] == [
        ("a", "the folder cannot be listed: Permission denied"),
        ("b/x.mp4", None),
    ]
    assert tree.unread == ["a"]


def test_results_inside_the_tree_are_no_sources(tmp_path: Path) -> None:
    put(tmp_path, "x.mp4", "out/x.mp4")
    assert paths(Tree(tmp_path, Filters(), tmp_path / "out")) == ["x.mp4"]


def test_folders_that_make_no_sense(tmp_path: Path) -> None:
    source, file = tmp_path / "src", tmp_path / "file"
    source.mkdir()
    file.touch()
    refuse_folders(source, tmp_path / "out")
    refuse_folders(source, source / "out")
    for out in (source, tmp_path):
        with pytest.raises(ConfigError, match="among the sources"):
            refuse_folders(source, out)
    for bad in (file, tmp_path / "none"):
        with pytest.raises(OpenError, match="expected the folder"):
            refuse_folders(bad, tmp_path / "out")
