"""Rows 21 to 24, 28 and 29: disks, memory, processes and clocks that fail."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.damage import noisy
from tests.faults.inject import injected
from tests.faults.promise import FAST, NOBODY, ROOT, Ended, Faults, MakeClip, in_a_process, listing
from tests.faults.unfinished import (
    Undisturbed,
    arguments_of,
    children,
    ended,
    resumed,
    settled,
    sha256,
    slowed,
    undisturbed,
)

WORK = ".result.mkv.vsr-work"
BIG = ("--codec", "ffv1")


@pytest.fixture(scope="module")
def calm(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("calm")
    film = make_clip(folder / "film.mkv", frames=40, gop=10, fill=noisy, audio=["aac"])
    return undisturbed(film, folder)


@contextmanager
def small_disk(folder: Path, *options: str) -> Iterator[Path]:
    """A disk of its own in the place of a folder: a tmpfs, for which tests run as root."""
    folder.mkdir(exist_ok=True)
    wanted = ",".join(("mode=777", *options))
    subprocess.run(["mount", "-t", "tmpfs", "-o", wanted, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def film(faults: Faults, make_clip: MakeClip) -> Path:
    """One whose result under FFV1 takes 2 MB and more."""
    return make_clip(faults.source / "film.mkv", frames=100, gop=10, fill=noisy)


def failed_for_room(faults: Faults, ended: Ended, output: Path) -> None:
    """Assert what is promised of a full disk."""
    assert ended.code == 6, (ended.code, ended.err)
    assert not output.exists()
    faults.assert_no_scratch()
    faults.tell(f'exit 6: "{faults.plain(ended.sentence)}"')


@pytest.mark.fault(row=21, injected="a tmpfs of 1 MB, too small from the start")
def test_disk_too_small(faults: Faults, film: Path) -> None:
    with small_disk(faults.target, "size=1m"):
        output = faults.target / "result.mkv"
        ended = faults.run("upscale", *FAST, *BIG, film, output)
        failed_for_room(faults, ended, output)


@pytest.mark.fault(row=21, injected="a tmpfs of 1 MB that is filled while frames are written")
@pytest.mark.slow
def test_disk_full_in_the_middle(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    with small_disk(faults.target, "size=1m"):
        process = slowed(faults, film, output)
        filler = faults.target / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        done = ended(process)
        failed_for_room(faults, done, output)
        filler.unlink()
        resumed(faults, film, output, calm)
        faults.tell("with room again: the same bytes")


@pytest.mark.fault(row=21, injected="the join, the last write and the JSON run out of room")
@pytest.mark.slow
@pytest.mark.parametrize("where", ["join", "name", "json"])
def test_disk_full_at_the_end(faults: Faults, calm: Undisturbed, where: str) -> None:
    film, output = settled(faults, calm)
    fill = f"""
    real = {{"join": getattr(module, "join", None), "name": getattr(module, "take_name", None)}}

    def full(*arguments, **options):
        with open({os.fspath(faults.target / "filler")!r}, "wb", 0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        return real[{where!r}](*arguments, **options)

    setattr(module, {{"join": "join", "name": "take_name"}}.get({where!r}, "unused"), full)
    """
    module = {"join": "vsr.pipeline.joining", "name": "vsr.pipeline.output"}.get(where)
    env = injected(faults.source.parent / "inject", module, fill) if module else {}
    with small_disk(faults.target, "size=1m"):
        flags: tuple[str, ...] = ()
        if where == "json":
            full = faults.source.parent / "full"
            stack = small_disk(full, "size=4k")
            with stack:
                (full / "filler").write_bytes(bytes(4096))
                flags = ("--json-file", str(full / "out.json"))
                done = in_a_process(arguments_of(film, output, *flags))
                assert done.code == 6, done.err
                assert listing(full) == ["filler"]
            assert sha256(output) == calm.sha256
            faults.tell(f'exit 6: "{faults.plain(done.sentence)}", the result stands')
            return
        done = in_a_process(arguments_of(film, output), env=env)
        if where == "name" and done.code == 0:
            # Renaming takes no room.
            assert sha256(output) == calm.sha256
            faults.tell("exit 0: taking the name needs no room")
            return
        failed_for_room(faults, done, output)
        (faults.target / "filler").unlink()
        resumed(faults, film, output, calm)
        faults.tell("with room again: the same bytes")


@pytest.mark.fault(row=21, injected="a folder of temporary files without room")
@pytest.mark.slow
def test_temporary_folder_full(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    with small_disk(faults.scratch, "size=4k") as scratch:
        (scratch / "filler").write_bytes(bytes(4096))
        done = in_a_process(arguments_of(film, output))
        assert done.code in (0, 6), done.err
        assert "Traceback" not in done.err
        (scratch / "filler").unlink()
        faults.tell(f"exit {done.code}")
        if done.code == 0:
            assert sha256(output) == calm.sha256


def _limited(limit: int, value: int) -> str:
    return f"import resource; resource.setrlimit({limit}, ({value}, {value}))"


@pytest.mark.fault(row=22, injected="a file size limit of 200 kB")
@pytest.mark.slow
def test_file_size_limit(faults: Faults, film: Path) -> None:
    output = faults.target / "result.mkv"
    code = _limited(resource.RLIMIT_FSIZE, 200_000)
    done = in_a_process(["upscale", *FAST, *BIG, str(film), str(output)], code=code)
    failed_for_room(faults, done, output)


@pytest.mark.fault(row=22, injected="a tmpfs of 3 inodes")
def test_no_inode_left(faults: Faults, film: Path) -> None:
    output = faults.target / "result.mkv"
    with small_disk(faults.target, "nr_inodes=3"):
        failed_for_room(faults, faults.run("upscale", *FAST, film, output), output)


@pytest.mark.fault(row=22, injected="a folder of mode 555, written to by uid 65534 in a child")
@pytest.mark.slow
def test_read_only_folder(open_faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(open_faults.source / "film.mkv", frames=3)
    open_faults.target.chmod(0o555)
    code = (
        "import vsr.cli.main, vsr.cli.upscale, vsr.pipeline.upscale, vsr.config\n"
        f"os.setgid({NOBODY}); os.setuid({NOBODY})"
    )

    def run(arguments: Sequence[str]) -> Ended:
        return in_a_process(arguments, code=code if os.getuid() == 0 else "")

    open_faults.refused(film, code=6, words="write", run=run)


@pytest.mark.fault(row=22, injected="a read-only file system")
def test_read_only_disk(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.mkv", frames=3)
    with small_disk(faults.target, "ro"):
        faults.refused(film, code=6, words="Read-only file system")


@pytest.mark.fault(row=22, injected="names of 256 bytes and paths of 5,000")
@pytest.mark.parametrize("name", ["x" * 252 + ".mkv", "/".join(["d" * 200] * 25) + "/a.mkv"])
def test_long_names(faults: Faults, make_clip: MakeClip, name: str) -> None:
    film = make_clip(faults.source / "film.mkv", frames=3)
    faults.refused(film, code=6, output=faults.target / name)


READ_FAILS = """
import io, os
real = module.av.open

class Sick(io.FileIO):
    def read(self, size=-1):
        {act}
        return super().read(size)

def sick(name, mode="r", *arguments, **options):
    if mode == "r" and "film.mkv" in str(name):
        name = Sick(str(name).removeprefix("file:"))
        options["options"] = {{
            k: v for k, v in options["options"].items() if k != "protocol_whitelist"
        }}
    return real(name, mode, *arguments, **options)

module.av.open = sick
"""


@pytest.mark.fault(row=23, injected="reads that fail with EIO from byte 20,000 on")
@pytest.mark.slow
def test_read_error(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    act = "if self.tell() >= 20_000: raise OSError(5, 'Input/output error')"
    env = injected(faults.source.parent / "inject", "vsr.media.opening", READ_FAILS.format(act=act))
    done = in_a_process(arguments_of(film, output), env=env)
    assert done.code == 3, (done.code, done.err)
    assert not output.exists()
    # PyAV itself tells of an exception in a file object of Python's; a sick disk has none.
    (sentence,) = [line for line in done.err.splitlines() if line.startswith("vsr: ")]
    faults.tell(f'exit 3: "{faults.plain(sentence)}"')


@pytest.mark.fault(row=23, injected="reads that take 20 ms each")
@pytest.mark.slow
def test_slow_disk(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    env = injected(
        faults.source.parent / "inject",
        "vsr.media.opening",
        READ_FAILS.format(act="import time; time.sleep(0.02)"),
    )
    done = in_a_process(arguments_of(film, output), env=env)
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    faults.tell("waited for: the same bytes")


@pytest.mark.fault(row=24, injected="RLIMIT_AS of 700 MB to 1.5 GB")
@pytest.mark.slow
@pytest.mark.parametrize("limit_mb", [700, 1500])
def test_little_memory(faults: Faults, make_clip: MakeClip, limit_mb: int) -> None:
    film = make_clip(faults.source / "film.mkv", width=1920, height=1080, frames=3)
    output = faults.target / "result.mkv"
    code = _limited(resource.RLIMIT_AS, limit_mb * 1_000_000)
    flags = ["--model", "bicubic-x4", "--device", "cpu"]
    done = in_a_process(["upscale", *flags, str(film), str(output)], code=code)
    # Which library finds out first differs; its own words may stand before ours.
    assert done.code in (2, 3, 5, 6), (done.code, done.err)
    assert "Traceback" not in done.err
    assert not output.exists()
    *_, sentence = [line for line in done.err.splitlines() if line.startswith("vsr: ")]
    faults.tell(f'exit {done.code}: "{faults.plain(sentence)[:160]}"')


DEATHS = {
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGABRT": "os.abort()",
}
DIE = """
import os, signal
encode = module.SegmentEncoder.encode
mark = {mark!r}
seen = []

def mortal(self, frame):
    seen.append(frame.pts)
    if len(seen) == 7 and ({always!r} or not os.path.exists(mark)):
        open(mark, "w").close()
        {act}
    return encode(self, frame)

module.SegmentEncoder.encode = mortal
"""


@pytest.mark.fault(row=28, injected="a worker that dies once while it encodes")
@pytest.mark.slow
@pytest.mark.parametrize("how", DEATHS)
def test_a_worker_dies_once(faults: Faults, calm: Undisturbed, how: str) -> None:
    film, output = settled(faults, calm)
    mark = faults.source.parent / "mark"
    body = DIE.format(mark=os.fspath(mark), always=False, act=DEATHS[how])
    env = injected(faults.source.parent / "inject", "vsr.media.encoder", body)
    done = in_a_process(arguments_of(film, output), env=env)
    assert mark.exists()
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    faults.tell("that segment is made again: the same bytes")


@pytest.mark.fault(row=28, injected="a worker that dies every time")
@pytest.mark.slow
def test_a_worker_dies_always(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    body = DIE.format(
        mark=os.fspath(faults.source.parent / "mark"), always=True, act=DEATHS["SIGSEGV"]
    )
    env = injected(faults.source.parent / "inject", "vsr.media.encoder", body)
    done = in_a_process(arguments_of(film, output), env=env)
    assert done.code in (3, 5, 6), (done.code, done.err)
    assert "Traceback" not in done.err
    assert not output.exists()
    resumed(faults, film, output, calm)
    faults.tell(f"exit {done.code} after three tries; gone on with: the same bytes")


@pytest.mark.fault(row=28, injected="a worker stopped by SIGSTOP, with a watchdog of 3 s")
@pytest.mark.slow
def test_a_worker_hangs(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    mark = faults.source.parent / "mark"
    body = DIE.format(
        mark=os.fspath(mark), always=False, act="os.kill(os.getpid(), signal.SIGSTOP)"
    )
    env = injected(faults.source.parent / "inject", "vsr.media.encoder", body)
    code = (
        "import vsr.pipeline.isolate as i\ni.WorkerPool.__init__.__kwdefaults__['watchdog_s'] = 3.0"
    )
    done = in_a_process(arguments_of(film, output), env=env, code=code)
    assert mark.exists()
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    faults.tell("ended and made again: the same bytes")


@pytest.mark.fault(row=29, injected="a wall clock that jumps a year to and fro at every look")
@pytest.mark.slow
def test_the_clock_jumps(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    folder = faults.source.parent / "inject"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import itertools, time\n"
        "real, sign = time.time, itertools.cycle((1, -1))\n"
        "time.time = lambda: real() + next(sign) * 31_536_000\n"
    )
    env = {"PYTHONPATH": os.pathsep.join([str(folder), os.fspath(ROOT)])}
    done = in_a_process(arguments_of(film, output), env=env)
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    faults.tell("the same bytes")


@pytest.mark.fault(row=29, injected="all processes of a run stopped for 3 s, then let go on")
@pytest.mark.slow
def test_suspended(faults: Faults, calm: Undisturbed) -> None:
    film, output = settled(faults, calm)
    process = slowed(faults, film, output)
    everyone = [process.pid, *children(process.pid)]
    for number in everyone:
        os.kill(number, signal.SIGSTOP)
    time.sleep(3)
    for number in everyone:
        os.kill(number, signal.SIGCONT)
    done = ended(process)
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    faults.tell("the same bytes")
