"""Runs in processes of their own that are slowed, stopped or killed, and what they leave."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.inject import injected
from tests.faults.promise import ISOLATED, ROOT, Ended, Faults, in_a_process

FLAGS = (*ISOLATED, "--crf", "23", "--set", "engine.segment_frames=10")
"""Four segments of a film of 40 frames."""
SLOW_ENCODER = """
import time
encode = module.SegmentEncoder.encode

def slowly(self, frame):
    time.sleep(0.1)
    return encode(self, frame)

module.SegmentEncoder.encode = slowly
"""
_FATAL = """
import os, signal
owner, *path = module, *{where!r}.split(".")
for name in path[:-1]:
    owner = getattr(owner, name)
real = getattr(owner, path[-1])

def fatal(*arguments, **options):
    if {after!r}:
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, path[-1], fatal)
"""


@dataclass(frozen=True)
class Undisturbed:
    """A film, and the digest of its result when nothing goes wrong."""

    film: Path
    sha256: str


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def arguments_of(film: Path, output: Path, *flags: str) -> list[str]:
    return ["upscale", *FLAGS, *flags, "--", str(film), str(output)]


def undisturbed(film: Path, folder: Path) -> Undisturbed:
    """Run once, in peace."""
    output = folder / "result.mkv"
    ended = in_a_process(arguments_of(film, output))
    assert ended.code == 0, ended.err
    return Undisturbed(film, sha256(output))


def settled(faults: Faults, calm: Undisturbed) -> tuple[Path, Path]:
    """A copy of the film in a test's own folder, and the name of its result."""
    film = faults.source / calm.film.name
    shutil.copy2(calm.film, film)
    return film, faults.target / "result.mkv"


def killed_at(
    faults: Faults, film: Path, output: Path, module: str, where: str, *, after: bool = False
) -> None:
    """Run until a function of ours is called, and die there of SIGKILL."""
    body = _FATAL.format(where=where, after=after)
    env = injected(faults.source.parent / "inject", module, body)
    ended = in_a_process(arguments_of(film, output), env=env)
    assert ended.code == -signal.SIGKILL, (ended.code, ended.err)


def slowed(faults: Faults, film: Path, output: Path, *flags: str) -> subprocess.Popen[str]:
    """Start a run that takes 0.1 s for each frame, and wait until it is upscaling."""
    env = injected(faults.source.parent / "inject", "vsr.media.encoder", SLOW_ENCODER)
    process = started(arguments_of(film, output, *flags), env)
    assert process.stderr is not None
    line = process.stderr.readline()
    assert " %  " in line, line + process.stderr.read()
    return process


def started(arguments: list[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
    script = "import signal, sys\nfrom vsr.cli.main import main\n"
    # A test's own shell, or nohup, may have told us to ignore them.
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\nmain()\n"
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )


def ended(process: subprocess.Popen[str], timeout_s: float = 60) -> Ended:
    """Wait for it."""
    out, err = process.communicate(timeout=timeout_s)
    return Ended(process.returncode, out, err)


def resumed(faults: Faults, film: Path, output: Path, calm: Undisturbed, *flags: str) -> Ended:
    """Run the same command again, and assert that it ends as if nothing had been."""
    done = in_a_process(arguments_of(film, output, *flags))
    assert done.code == 0, done.err
    assert sha256(output) == calm.sha256
    assert [path.name for path in faults.target.iterdir() if path.name != output.name] == [
        f".{output.name}.vsr.json"
    ]
    return done


def children(process_id: int) -> list[int]:
    """Processes that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process_id and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def gone(process_ids: list[int], within_s: float = 10) -> bool:
    """Whether all of them end in time."""
    limit = time.monotonic() + within_s
    while time.monotonic() < limit:
        alive = [number for number in process_ids if _is_alive(number)]
        if not alive:
            return True
        time.sleep(0.1)
    return False


def _is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
