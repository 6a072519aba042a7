"""Rows 1 to 6: what is no film at all, cannot be read, or was cut off."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from tests.faults.damage import noisy, spans
from tests.faults.promise import FAST, NOBODY, Ended, Faults, MakeClip, in_a_process, listing
from vsr.pipeline.upscale import Progress

CONTAINERS: dict[str, dict[str, Any]] = {
    "mkv": {},
    "ts": {},
    "avi": {"codec": "mpeg4"},
    "fragmented.mp4": {
        "container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    },
}


@pytest.mark.fault(row=1, injected="a file of 0 bytes, 1 byte, 20,000 random bytes")
@pytest.mark.parametrize("name", ["0.mp4", "1.mkv", "random.mp4", "random.ts"])
def test_no_film_at_all(faults: Faults, name: str) -> None:
    sizes = {"0.mp4": 0, "1.mkv": 1}
    path = faults.source / name
    data = bytes((index * index * 97 + index // 7) % 251 for index in range(20_000))
    path.write_bytes(data[: sizes.get(name)])
    faults.refused(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "directory": (Path.mkdir, "no picture in the folder"),
    "fifo": (os.mkfifo, "named pipe"),
    "socket": (_socket, "device or socket"),
    "zero": (lambda path: path.symlink_to("/dev/zero"), "device or socket"),
    "loop of links": (lambda path: path.symlink_to(path), "cannot be looked at"),
}


@pytest.mark.fault(row=2, injected="mkfifo, bind, mkdir, links to /dev/zero and to itself")
@pytest.mark.parametrize("kind", KINDS)
def test_no_regular_file(faults: Faults, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, words = KINDS[kind]
    # The name of a socket may have 107 bytes only.
    monkeypatch.chdir(faults.source)
    make(Path("film.mp4"))
    faults.refused(faults.source / "film.mp4", words=words)


def as_nobody(arguments: Any) -> Ended:
    """Run the program as an ordinary user, to whom permissions mean something."""
    code = (
        # All of it before: an ordinary user may not see where the program lies.
        "import vsr.cli.main, vsr.cli.upscale, vsr.pipeline.upscale, vsr.config\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})"
    )
    return in_a_process(arguments, code=code if os.getuid() == 0 else "")


@pytest.mark.fault(row=3, injected="mode 000, read by uid 65534 in a child")
def test_no_permission(open_faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(open_faults.source / "film.mp4", frames=3)
    film.chmod(0)
    open_faults.refused(film, words="cannot be read: Permission denied", run=as_nobody)


def at_start(phase: str, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Something to do once, as soon as a phase has begun."""
    waiting = [act]

    def watch(progress: Progress) -> None:
        if progress.phase == phase and waiting:
            waiting.pop()()

    return watch


def run_with(act: Callable[[], object], phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command line's progress do something at the start of a phase."""
    monkeypatch.setattr("vsr.cli.upscale._Lines", lambda: at_start(phase, act))


@pytest.mark.fault(row=3, injected="its name taken away as soon as frames are upscaled")
def test_it_vanishes_after_the_scan(
    faults: Faults, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = make_clip(faults.source / "film.mkv", frames=60, gop=12)
    output = faults.target / "result.mkv"
    with monkeypatch.context() as patch:
        run_with(lambda: film.rename(film.with_name("away")), "upscale", patch)
        ended = faults.run("upscale", *FAST, film, output)
    assert ended.code == 3
    assert "film.mkv does not exist" in ended.sentence
    assert not output.exists()
    assert listing(faults.target)[0] == ".result.mkv.vsr-work"
    faults.assert_no_scratch()
    faults.tell(f'exit 3: "{faults.plain(ended.sentence)}"')
    film.with_name("away").rename(film)
    faults.continued(film, num_frames=60, told="with the film back in its place")


@pytest.mark.fault(row=3, injected="1 MB appended, or 64 bytes overwritten, during the upscale")
@pytest.mark.parametrize("how", ["append", "overwrite"])
def test_it_changes_while_it_is_read(
    faults: Faults, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    film = make_clip(faults.source / "film.mkv", frames=60, gop=12, fill=noisy)

    def change() -> None:
        with film.open("r+b") as file:
            file.seek(0, os.SEEK_END if how == "append" else os.SEEK_SET)
            file.seek(0 if how == "append" else 30_000, os.SEEK_CUR)
            file.write(bytes(1_000_000 if how == "append" else 64))

    run_with(change, "upscale", monkeypatch)
    ended = faults.run("upscale", *FAST, film, faults.target / "result.mkv")
    assert ended.code == 3, ended.err
    assert "changed" in ended.sentence
    assert listing(faults.target) == []
    faults.tell(f'exit 3: "{faults.plain(ended.sentence)}"')


@pytest.mark.fault(row=4, injected="an mp4 cut to 50 %, its index being at the end")
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_an_index_that_was_never_written(faults: Faults, make_clip: MakeClip, suffix: str) -> None:
    film = make_clip(faults.source / f"film{suffix}", frames=100, truncate=0.5)
    faults.refused(film, words=r"cut off before its index was written.*record it again")


@pytest.mark.fault(row=5, injected="100 frames cut to 50 % of their bytes")
@pytest.mark.parametrize("container", CONTAINERS)
def test_cut_off_in_the_middle(faults: Faults, make_clip: MakeClip, container: str) -> None:
    film = faults.source / f"film.{container}"
    options = {"frames": 100, "gop": 10, "fill": noisy, "audio": ["mp2"], **CONTAINERS[container]}
    make_clip(film, **options)
    os.truncate(film, film.stat().st_size // 2)
    document = faults.continued(film)
    # Half of the bytes, to a packet or a fragment.
    assert 40 <= document["frames"] <= 60
    said = {event["kind"] for event in document["events"]}
    if container in ("mkv", "avi"):
        assert "short" in said
        faults.tell("that it is short is an event")
    elif container == "ts":
        faults.tell("a transport stream does not say how long it should be")
    else:
        assert said


@pytest.mark.fault(row=6, injected="a faststart mp4 cut inside its first packet")
def test_cut_off_in_the_first_picture(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(
        faults.source / "film.mp4",
        frames=50,
        fill=noisy,
        container_options={"movflags": "+faststart"},
    )
    first = spans(film)[0]
    os.truncate(film, first.start + first.size // 3)
    faults.refused(film, words="No picture of .* could be decoded")


@pytest.mark.fault(row=6, injected="the same, cut behind its first 3 packets")
def test_cut_off_after_a_few_pictures(faults: Faults, make_clip: MakeClip) -> None:
    film = faults.source / "film.mp4"
    make_clip(film, frames=50, gop=1, fill=noisy, container_options={"movflags": "+faststart"})
    last = spans(film)[2]
    os.truncate(film, last.start + last.size)
    document = faults.continued(film)
    assert document["frames"] >= 3
    assert Fraction(document["frames"]) <= 50
    assert document["events"]
