"""One film, made in many ways that must not matter: the digests of all results are the same.

    python -m tests.faults.identity [--runs 3] [--json FILE]

A film of 80x45 with sound becomes 320x180 with `flowprop-xs-x4` and x264's preset `medium`, in mkv,
mp4 and mov (`--runs` says how many of them): by one worker and two; with one thread for each of
torch's operations and two; on one core; with freed and new memory filled with other bytes; in
another folder, zone and language, from a file of another date; and, where a C compiler can make the
library for it, on another date of the whole system. The same film with flipped bits is made twice,
by one worker and by two, and in one segment's worth of memory patterns. Any difference fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import proof
from tests.faults.damage import flip
from tests.faults.unfinished import sha256

CLAIM = "results are the same bytes whatever workers, threads, cores, memory, place and date"
CONTAINERS = ("mkv", "mp4", "mov")
FLAGS = (
    *("--model", "flowprop-xs-x4", "--codec", "h264", "--encoder-preset", "medium"),
    *("--set", "engine.segment_frames=24"),
)
NUM_FRAMES, RATE, SHOT = 108, 24, 33
OLD_DATE_S = 946_684_800
"""1 January 2000."""
_CLOCK = """\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
#define BACK 600000000L
int clock_gettime(clockid_t id, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(id, at);
    if (id == CLOCK_REALTIME) at->tv_sec -= BACK;
    return code;
}
int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    int code = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return code;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


@dataclass(frozen=True)
class Way:
    """One way to make the result."""

    name: str
    flags: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()
    is_elsewhere: bool = False


SOUND = (
    Way("1 worker"),
    Way("2 workers", ("--workers", "2")),
    Way("OMP_NUM_THREADS=1", env={"OMP_NUM_THREADS": "1"}),
    Way("OMP_NUM_THREADS=2", env={"OMP_NUM_THREADS": "2"}),
    Way("2 workers, OMP_NUM_THREADS=1", ("--workers", "2"), {"OMP_NUM_THREADS": "1"}),
    Way("taskset -c 0", prefix=("taskset", "-c", "0")),
    Way("MALLOC_PERTURB_=0", env={"MALLOC_PERTURB_": "0"}),
    Way("MALLOC_PERTURB_=85", env={"MALLOC_PERTURB_": "85"}),
    Way("MALLOC_PERTURB_=170", env={"MALLOC_PERTURB_": "170"}),
    Way(
        "another folder, file date, zone, language",
        env={"TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "7"},
        is_elsewhere=True,
    ),
    Way("one process, no children", ("--set", "engine.isolate=false")),
)
DAMAGED = (
    Way("flipped bits, 1 worker"),
    Way("flipped bits, again"),
    Way("flipped bits, 2 workers", ("--workers", "2")),
    Way("flipped bits, MALLOC_PERTURB_=85", env={"MALLOC_PERTURB_": "85"}),
    Way("flipped bits, taskset -c 0", prefix=("taskset", "-c", "0")),
)


@dataclass(frozen=True)
class Made:
    """A result."""

    container: str
    way: str
    sha256: str
    seconds: float
    problem: str = ""


def other_date(folder: Path) -> tuple[Way, ...]:
    """A way on another date, if a library can be made that tells it; both parts of a run obey."""
    compiler = shutil.which("cc")
    if compiler is None:
        proof.told("no C compiler: the system's date stays as it is")
        return ()
    (folder / "clock.c").write_text(_CLOCK, encoding="ascii")
    library = folder / "clock.so"
    built = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, folder / "clock.c", "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    env = {"LD_PRELOAD": str(library)}
    code = "import time; print(int(time.time()))"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True
    )
    assert int(told.stdout) < time.time() - 599_000_000, "the date could not be changed"
    return (Way("19 years ago", env=env),)


def make(source: Path, folder: Path, way: Way) -> Made:
    """Run the program in this way, in a folder that is empty."""
    folder.mkdir(parents=True)
    if way.is_elsewhere:
        moved = folder / "other place" / source.name
        moved.parent.mkdir()
        shutil.copyfile(source, moved)
        os.utime(moved, (OLD_DATE_S, OLD_DATE_S))
        source = moved
    container = source.suffix.removeprefix(".")
    output = folder / f"result.{container}"
    env = proof.environment()
    if "OMP_NUM_THREADS" not in way.env:
        # As on a user's machine.
        del env["OMP_NUM_THREADS"]
    ended = proof.finish(
        [*way.prefix, *proof.command(source, output, *FLAGS, *way.flags)], {**env, **way.env}
    )
    digest = sha256(output) if ended.code == 0 else ""
    problem = "" if ended.code == 0 else f"exit code {ended.code}: {ended.err}"
    shutil.rmtree(folder)
    return Made(container, way.name, digest, ended.wall_s, problem)


def compare(source: Path, folder: Path, ways: Sequence[Way]) -> list[Made]:
    """Make one result after the other, and say what differs from the first."""
    found: list[Made] = []
    for number, way in enumerate(ways):
        made = make(source, folder / str(number), way)
        found.append(made)
        same = made.problem or ("" if made.sha256 == found[0].sha256 else "  DIFFERS")
        proof.told(
            f"{made.container:4} {made.way:44} {made.sha256[:16]:16} {made.seconds:5.1f} s{same}"
        )
    return found


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=len(CONTAINERS), what="containers")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    groups: list[list[Made]] = []
    with tempfile.TemporaryDirectory(prefix="vsr-identity-") as name:
        folder = Path(name)
        ways = (*SOUND, *other_date(folder))
        for container in CONTAINERS[: given.runs]:
            source = proof.film(
                folder / f"film.{container}",
                num_frames=NUM_FRAMES,
                rate=RATE,
                size=(80, 45),
                # H.264 takes no odd heights in 4:2:0.
                codec="mpeg4",
                shot=SHOT,
                audio="aac",
                options={"bf": "2"},
            )
            groups.append(compare(source, folder / container, ways))
            flip(source, 60)
            groups.append(compare(source, folder / f"flipped-{container}", DAMAGED))
    bad = [
        made for group in groups for made in group if made.problem or made.sha256 != group[0].sha256
    ]
    figures = {
        "results": [vars(made) for group in groups for made in group],
        "different": [f"{made.container}: {made.way}" for made in bad],
    }
    return proof.conclude(CLAIM, not bad, figures, given.json, started)


if __name__ == "__main__":
    sys.exit(main())
