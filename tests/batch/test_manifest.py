"""The manifest: what it keeps, who may write it, and what is said of one that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from vsr.batch.manifest import FOLDER_NAME, Manifest
from vsr.batch.opening import copy_manifest, is_at_work, open_manifest, read_manifest
from vsr.batch.status import status
from vsr.errors import ConfigError, OutputError

NAMES = (
    "plain.mp4",
    "with space.mp4",
    'it\'s "quoted" $(x).mp4',
    "line\nbreak.mp4",
    "ünïcode 映画.mp4",
    "-leading.mp4",
    os.fsdecode(b"latin-\xe9.mp4"),
)


def add(manifest: Manifest, path: str, **values: object) -> int:
    return manifest.add(path, "waiting", output=f"{path}.mkv", **values)


@pytest.mark.parametrize("name", NAMES)
def test_any_name_comes_back(tmp_path: Path, name: str) -> None:
    with open_manifest(tmp_path) as manifest:
        manifest.move(add(manifest, name), "quarantined", error=f"{name} is broken")
    with read_manifest(tmp_path) as manifest:
        (clip,) = manifest.clips()
    assert (clip.path, clip.output) == (name, f"{name}.mkv")
    assert clip.error is not None
    assert clip.error.endswith("is broken")


def test_states_have_a_history(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        clip_id = add(manifest, "a.mp4")
        manifest.move(clip_id, "running")
        manifest.move(clip_id, "failed", error="the disk is full", attempts=1)
        manifest.move(clip_id, "done", error=None)
        steps = [(state, note) for _, state, note in manifest.history(clip_id)]
        assert manifest.counts() == {
            "done": 1,
            "running": 0,
            "waiting": 0,
            "failed": 0,
            "quarantined": 0,
            "vanished": 0,
        }
    assert steps == [
        ("waiting", None),
        ("running", None),
        ("failed", "the disk is full"),
        ("done", None),
    ]


def test_one_writer_any_number_of_readers(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        add(manifest, "a.mp4")
        with pytest.raises(OutputError, match=r"another run .* \(process \d+\)") as caught:
            open_manifest(tmp_path)
        assert "\n" not in str(caught.value)
        with read_manifest(tmp_path) as reader:
            assert len(reader.clips()) == 1
            manifest.move(1, "running")
            assert reader.clip(1).state == "running"
    with open_manifest(tmp_path) as manifest:
        assert manifest.clip(1).state == "waiting"
        assert manifest.history(1)[-1][2] == "the run ended before it was done"


def test_what_a_killed_run_left_running_is_told_as_waiting(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        manifest.move(add(manifest, "a.mp4"), "running")
        assert is_at_work(tmp_path)
        with read_manifest(tmp_path) as reader:
            assert status(reader)["running"] == 1
    assert not is_at_work(tmp_path)
    with read_manifest(tmp_path) as reader:
        document = status(reader)
    assert (document["running"], document["waiting"]) == (0, 1)
    assert document["clips"][0]["state"] == "waiting"


def test_together_is_all_or_nothing(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        with pytest.raises(ZeroDivisionError), manifest.together():
            add(manifest, "a.mp4")
            add(manifest, "b.mp4")
            raise ZeroDivisionError
        assert manifest.clips() == []
        with manifest.together():
            add(manifest, "a.mp4")
        assert len(manifest.clips()) == 1


def test_a_copy_is_forgotten(tmp_path: Path) -> None:
    with copy_manifest(tmp_path) as manifest:
        add(manifest, "a.mp4")
    assert list(tmp_path.iterdir()) == []
    with open_manifest(tmp_path) as manifest:
        add(manifest, "a.mp4")
    with copy_manifest(tmp_path) as copy:
        assert len(copy.clips()) == 1
        add(copy, "b.mp4")
    with read_manifest(tmp_path) as manifest:
        assert len(manifest.clips()) == 1


def test_none_to_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no manifest"):
        read_manifest(tmp_path)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    open_manifest(tmp_path).close()
    file = tmp_path / FOLDER_NAME / "manifest.sqlite"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    for opener in (open_manifest, read_manifest, copy_manifest):
        with pytest.raises(ConfigError, match="newer version"):
            opener(tmp_path)


def test_damaged_manifest_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER_NAME
    folder.mkdir()
    (folder / "manifest.sqlite").write_bytes(b"nonsense" * 1000)
    for opener in (open_manifest, read_manifest):
        with pytest.raises(OutputError, match="cannot be used: file is not a database"):
            opener(tmp_path)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    elsewhere.mkdir()
    out.mkdir()
    (out / FOLDER_NAME).symlink_to(elsewhere)
    with pytest.raises(OutputError, match="is a link"):
        open_manifest(out)
    assert list(elsewhere.iterdir()) == []


def test_an_older_schema_is_read_and_renewed(tmp_path: Path) -> None:
    with open_manifest(tmp_path) as manifest:
        add(manifest, "a.mp4")
    file = tmp_path / FOLDER_NAME / "manifest.sqlite"
    connection = sqlite3.connect(file)
    for column in ("is_interlaced", "is_hdr"):
        connection.execute(f"ALTER TABLE clips DROP COLUMN {column}")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    before = file.read_bytes()
    with read_manifest(tmp_path) as manifest:
        assert manifest.clips()[0].is_hdr is False
    assert file.read_bytes() == before
    with open_manifest(tmp_path) as manifest:
        manifest.change(1, is_hdr=True)
    with read_manifest(tmp_path) as manifest:
        assert manifest.clips()[0].is_hdr is True
