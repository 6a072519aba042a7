"""The commands that prove a claim still run, and hold for the smallest number of runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults import archive, fuzz, identity, kill_loop, overhead, two_hours
from tests.faults.mutations import sound_films, spoil

pytestmark = pytest.mark.faults


def test_kill_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kill_loop.main(["--runs", "1", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["identical"] == found["runs"] == 1
    assert sum(found["kills_by_phase"].values()) >= 1
    assert "identical: 1 of 1; orphans: 0" in capsys.readouterr().out


def test_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "NUM_GOOD", 10)
    assert archive.main(["--runs", "1", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["good"], found["bad"], found["results"]) == (10, 7, 10)
    assert len(found["kills"]) == 1


def test_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(identity, "SOUND", identity.SOUND[:2])
    monkeypatch.setattr(identity, "DAMAGED", identity.DAMAGED[:1])
    assert identity.main(["--runs", "1", "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found["results"]) >= 3
    assert found["different"] == []


def test_a_difference_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    other = identity.Way("other settings", ("--crf", "40"))
    monkeypatch.setattr(identity, "SOUND", (identity.SOUND[0], other))
    monkeypatch.setattr(identity, "DAMAGED", ())
    monkeypatch.setattr(identity, "other_date", lambda _: ())
    assert identity.main(["--runs", "1"]) == 1


def test_fuzz(tmp_path: Path) -> None:
    given = ["--runs", "8", "--jobs", "1", "--keep", str(tmp_path / "failed")]
    assert fuzz.main([*given, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["files"] == 8
    assert found["numbers"] == [0, 7]


def test_files_that_once_failed(tmp_path: Path) -> None:
    """Sheared display matrices, sound that leaps, memory of decoders, wild colours, and more."""
    tester = fuzz.Tester(tmp_path / "work", sound_films(tmp_path), 1)
    try:
        for number in (45, 145, 178, 189, 260, 301, 354, 374, 384, 425, 490, 610, 652, 761):
            outcome, _ = tester.test(number)
            assert outcome.ok, outcome
            assert outcome.told == "result", outcome
    finally:
        tester.close()


def test_a_mutation_is_told_by_its_number(tmp_path: Path) -> None:
    films = sound_films(tmp_path)
    assert len({film.name for film in films}) == len(films)
    one, same, next_one = spoil(films, 1, 40), spoil(films, 1, 40), spoil(films, 1, 48)
    assert one == same
    assert one.sound == next_one.sound
    assert one.data != next_one.data


def test_overhead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Of half a second nearly all is start-up; that it runs is what counts here.
    monkeypatch.setattr(overhead, "MAX_RATIO", 100)
    given = ["--runs", "1", "--seconds", "0.5", "--json", str(tmp_path / "found.json")]
    assert overhead.main(given) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["num_frames"] == 12
    assert found["plain_cpu_s"][0] > 0


def test_two_hours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A machine that runs other tests may be slow, and a run of seconds still fills its caches.
    monkeypatch.setattr(two_hours, "MAX_START_S", 60)
    monkeypatch.setattr(two_hours, "MAX_GROWTH", 2)
    given = ["--runs", "960", "--segment-frames", "48", "--until", "0.2"]
    assert two_hours.main([*given, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["segments_kept"] >= 4
    assert 0 < found["resumed_start_s"] < 60
