"""Rows 30 to 36: runs that are stopped, killed, gone on with, or not alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.damage import noisy
from tests.faults.promise import FAST, Faults, MakeClip, listing
from tests.faults.unfinished import (
    FLAGS,
    Undisturbed,
    arguments_of,
    children,
    ended,
    gone,
    killed_at,
    resumed,
    settled,
    sha256,
    slowed,
    started,
    undisturbed,
)

NUM_FRAMES = 40
WORK = ".result.mkv.vsr-work"


@pytest.fixture(scope="module")
def calm(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """A film of four shots with sound."""
    folder = tmp_path_factory.mktemp("calm")
    film = make_clip(folder / "film.mkv", frames=NUM_FRAMES, gop=10, fill=noisy, audio=["aac"])
    return undisturbed(film, folder)


@pytest.mark.fault(row=30, injected="one signal while frames are written")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_one_signal(faults: Faults, calm: Undisturbed, name: str) -> None:
    film, output = settled(faults, calm)
    process = slowed(faults, film, output)
    helpers = children(process.pid)
    process.send_signal(getattr(signal, name))
    done = ended(process)
    code = 128 + getattr(signal, name)
    assert done.code == code, done.err
    assert "Traceback" not in done.err
    assert not output.exists()
    assert listing(faults.target)[0] == WORK
    assert gone(helpers)
    resumed(faults, film, output, calm)
    faults.tell(f"exit {code}; gone on with: the same bytes")


@pytest.mark.fault(row=30, injected="SIGINT twice, the second at once")
@pytest.mark.slow
def test_two_interrupts(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    process = slowed(faults, film, output)
    helpers = children(process.pid)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    done = ended(process, timeout_s=10)
    assert done.code == 130, done.err
    assert not output.exists()
    assert gone(helpers)
    resumed(faults, film, output, calm)
    faults.tell("exit 130 at once; gone on with: the same bytes")


@pytest.mark.fault(row=30, injected="stdout closed before the JSON is printed")
@pytest.mark.slow
def test_a_closed_pipe(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    process = started(arguments_of(film, output, "--json"), {})
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    code = process.wait(60)
    assert code == 141, errors
    assert "Traceback" not in errors
    assert sha256(output) == calm.sha256
    faults.tell("exit 141; the result stands, the same bytes")


KILLS: dict[str, tuple[str, str, bool]] = {
    "in the scan": ("vsr.pipeline.planning", "scan_and_listen", False),
    "before the plan is stored": ("vsr.pipeline.journal", "Journal.begin", False),
    "before a segment is entered": ("vsr.pipeline.journal", "Journal.add", False),
    "after a segment is entered": ("vsr.pipeline.journal", "Journal.add", True),
    "before the join": ("vsr.pipeline.joining", "join", False),
    "after the join": ("vsr.pipeline.joining", "join", True),
    "after the check": ("vsr.pipeline.check", "check", True),
    "before it takes its name": ("vsr.pipeline.output", "take_name", False),
    "after it took its name": ("vsr.pipeline.output", "take_name", True),
    "when all is done": ("vsr.pipeline.journal", "Journal.finish", True),
}


def _killed(faults: Faults, calm: Undisturbed, stage: str) -> None:
    film, output = settled(faults, calm)
    module, where, after = KILLS[stage]
    killed_at(faults, film, output, module, where, after=after)
    assert not output.exists() or sha256(output) == calm.sha256
    resumed(faults, film, output, calm)
    faults.tell("gone on with: the same bytes")


@pytest.mark.fault(row=31, injected="SIGKILL of the run as it calls a function of ours")
@pytest.mark.slow
@pytest.mark.parametrize("stage", ["after a segment is entered"])
def test_killed(faults: Faults, calm: Undisturbed, stage: str) -> None:
    _killed(faults, calm, stage)


@pytest.mark.fault(row=31, injected="the same at every other stage")
@pytest.mark.slow
@pytest.mark.parametrize("stage", [s for s in KILLS if s != "after a segment is entered"])
def test_killed_at_every_stage(faults: Faults, calm: Undisturbed, stage: str) -> None:
    _killed(faults, calm, stage)


@pytest.mark.fault(row=31, injected="SIGKILL of the run while its worker writes frames")
@pytest.mark.slow
def test_killed_while_frames_are_written(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    process = slowed(faults, film, output)
    helpers = children(process.pid)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    assert gone(helpers)
    assert not output.exists()
    resumed(faults, film, output, calm)
    faults.tell("its children end too; gone on with: the same bytes")


@pytest.fixture(scope="module")
def stopped(
    calm: Undisturbed, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """What a run leaves that was killed when all its segments were entered."""
    folder = tmp_path_factory.mktemp("stopped")

    class Place:
        source, target = folder / "in", folder / "out"

    for each in (Place.source, Place.target):
        each.mkdir()
    film = shutil.copy2(calm.film, Place.source / calm.film.name)
    killed_at(Place, film, Place.target / "result.mkv", "vsr.pipeline.joining", "join")  # type: ignore[arg-type]
    assert len(list((Place.target / WORK).glob("segment-*.mkv"))) == NUM_FRAMES // 10
    return folder


def _left(faults: Faults, calm: Undisturbed, stopped: Path) -> tuple[Path, Path]:
    """A copy of what such a run left."""
    film, output = settled(faults, calm)
    shutil.copytree(stopped / "out", faults.target, dirs_exist_ok=True)
    return film, output


CHANGES: dict[str, tuple[str, ...]] = {
    "crf": ("--crf", "30"),
    "model": ("--model", "bicubic-x3"),
    "size": ("--height", "100"),
    "codec": ("--codec", "ffv1"),
}


@pytest.mark.fault(row=32, injected="the same command with other settings")
@pytest.mark.parametrize("what", CHANGES)
def test_other_settings(faults: Faults, calm: Undisturbed, stopped: Path, what: str) -> None:
    film, output = _left(faults, calm, stopped)
    done = faults.run("upscale", *FLAGS, *CHANGES[what], film, output)
    assert done.code == 2, done.err
    assert "--restart" in done.sentence and "->" in done.sentence
    assert not output.exists()
    kept = {path.name: path.read_bytes() for path in (stopped / "out" / WORK).glob("segment-*")}
    assert kept == {path.name: path.read_bytes() for path in (faults.target / WORK).glob("seg*")}
    faults.tell(f'exit 2: "{faults.plain(done.sentence)}"')


@pytest.mark.fault(row=32, injected="another film under the same name")
@pytest.mark.slow
def test_another_source(
    faults: Faults, calm: Undisturbed, stopped: Path, make_clip: MakeClip
) -> None:
    film, output = _left(faults, calm, stopped)
    make_clip(film, frames=NUM_FRAMES, gop=10, audio=["aac"])
    done = faults.run("upscale", *FLAGS, film, output)
    assert done.code == 2, done.err
    assert "--restart" in done.sentence
    faults.tell(f'exit 2: "{faults.plain(done.sentence)}"')
    again = faults.run("upscale", *FLAGS, "--restart", "--json", film, output)
    assert again.code == 0, again.err
    faults.proven(film, output, again, num_frames=NUM_FRAMES, told="with --restart")


@pytest.mark.fault(row=32, injected="the journal of another version of vsr")
def test_another_version(
    faults: Faults, calm: Undisturbed, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, output = _left(faults, calm, stopped)
    monkeypatch.setattr("vsr.__version__", "99.0")
    done = faults.run("upscale", *FLAGS, film, output)
    assert done.code == 2, done.err
    assert "99.0" in done.sentence
    faults.tell(f'exit 2: "{faults.plain(done.sentence)}"')


def _torn(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scrambled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


TEARS: dict[str, Callable[[Path], None]] = {
    "torn": _torn,
    "gone": Path.unlink,
    "one bit flipped": _scrambled,
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.fault(row=33, injected="each file of the work folder torn, gone, changed or emptied")
@pytest.mark.slow
@pytest.mark.parametrize("how", TEARS)
@pytest.mark.parametrize("kind", ["run.json", "plan.json", "segment-*.json", "segment-*.mkv"])
def test_a_torn_journal(
    faults: Faults, calm: Undisturbed, stopped: Path, kind: str, how: str
) -> None:
    film, output = _left(faults, calm, stopped)
    found = sorted((faults.target / WORK).glob(kind))
    assert found, listing(faults.target)
    TEARS[how](found[0])
    resumed(faults, film, output, calm)
    faults.tell("made anew where needed: the same bytes")


@pytest.mark.fault(row=33, injected="the whole journal torn at once")
@pytest.mark.slow
def test_everything_torn(faults: Faults, calm: Undisturbed, stopped: Path) -> None:
    film, output = _left(faults, calm, stopped)
    for path in (faults.target / WORK).iterdir():
        if path.is_file() and path.stat().st_size:
            _torn(path)
    resumed(faults, film, output, calm)
    faults.tell("made anew: the same bytes")


@pytest.mark.fault(row=33, injected="a journal of a later format")
def test_a_newer_journal(faults: Faults, calm: Undisturbed, stopped: Path) -> None:
    film, output = _left(faults, calm, stopped)
    path = faults.target / WORK / "run.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "journal_format": 99}))
    done = faults.run("upscale", *FLAGS, film, output)
    assert done.code == 2, done.err
    assert "newer version" in done.sentence
    faults.tell(f'exit 2: "{faults.plain(done.sentence)}"')


@pytest.mark.fault(row=34, injected="the same command while the first one runs")
@pytest.mark.slow
def test_two_runs(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    process = slowed(faults, film, output)
    second = faults.run("upscale", *FLAGS, film, output)
    assert second.code == 6, second.err
    assert not output.exists()
    first = ended(process)
    assert first.code == 0, first.err
    assert sha256(output) == calm.sha256
    faults.tell(f'exit 6: "{faults.plain(second.sentence)}"; the first ends well')


LINKS: dict[str, tuple[Callable[[Path, Path], object], int]] = {
    "another file": (lambda film, output: output.write_bytes(b"mine"), 6),
    "a folder": (lambda film, output: output.mkdir(), 6),
    "a link into nothing": (lambda film, output: output.symlink_to("nowhere"), 6),
    "a link to the source": (lambda film, output: output.symlink_to(film), 2),
    "a hard link to the source": (lambda film, output: output.hardlink_to(film), 2),
}


@pytest.mark.fault(row=35, injected="something at the output's name")
@pytest.mark.parametrize("kind", LINKS)
def test_something_is_there(faults: Faults, make_clip: MakeClip, kind: str) -> None:
    film, output = make_clip(faults.source / "film.mkv", frames=3), faults.target / "result.mkv"
    make, code = LINKS[kind]
    make(film, output)
    sound = film.read_bytes()
    faults.refused(film, code=code)
    if code == 2:
        faults.refused(film, "--overwrite", code=code)
    assert film.read_bytes() == sound


@pytest.mark.fault(row=35, injected="the source's own name, and another spelling of it")
def test_output_is_input(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.mkv", frames=3)
    sound = film.read_bytes()
    for name in (film, faults.source / "." / ".." / "in" / "film.mkv"):
        faults.refused(film, "--overwrite", code=2, output=name)
    assert film.read_bytes() == sound


@pytest.mark.fault(row=36, injected="a second film to the name that the first one's result has")
def test_one_name_for_two_films(faults: Faults, make_clip: MakeClip) -> None:
    first = make_clip(faults.source / "a.avi", codec="mpeg4", frames=3)
    second = make_clip(faults.source / "a.mov", frames=4)
    output = faults.target / "a.mkv"
    assert faults.run("upscale", *FAST, first, output).code == 0
    made = output.read_bytes()
    faults.refused(second, code=6, output=output)
    assert output.read_bytes() == made
