"""Kill a batch at random moments, go on with it, and compare all of it with an undisturbed one.

    python -m tests.faults.archive [--runs 5] [--seed 1] [--media DIR] [--json FILE]

A tree of 60 good clips, real ones from DIR and rendered ones, in nested folders: the same name in
several of them, and names with spaces, quotes, other scripts or a line's end. Among them are broken
files, a loop of links, a named pipe and a file that may not be read; root is an ordinary user here,
without capabilities. One batch in peace gives the reference. The other is planned, run, killed with
SIGKILL five times at moments drawn from as long as the first took, and each time run again by the
same command. Once a second run is tried beside the first. What `vsr batch status` says is held
against what is on disk after each kill, and against itself all the while.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import proof
from tests.faults.promise import ROOT
from tests.faults.unfinished import sha256

CLAIM = "a batch killed again and again makes every good clip once, to the same bytes"
NUM_GOOD = 60
WORKERS = 2
FLAGS = (
    *("--model", "bicubic-x2", "--device", "cpu", "--encoder-preset", "ultrafast"),
    *("--duration", "0.5", "--set", "engine.isolate=false", "--set", "engine.segment_frames=4"),
)
LIMIT_S = 3600.0
_FOLDERS = ("", "a", "a/b c", 'it\'s "new"', "映画/ünïcode", "line\nbreak", "-x %0A")
_FILMS = ("mp4", "mkv", "mov", "avi")
_PLAIN = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
"""To root, permissions mean something only without its capabilities."""


@dataclass
class Tree:
    """What a tree holds, by paths relative to it."""

    root: Path
    good: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)


def tree(root: Path, media: Path | None) -> Tree:
    """Make the tree, for whoever runs to read."""
    found = Tree(root)
    films = _films(root.with_name("rendered"), media)
    folders = itertools.cycle(_FOLDERS)
    for number, (film, folder) in enumerate(zip(films, folders, strict=False)):
        # The same name in each folder, until all have one.
        name = f"x{film.suffix}" if number < len(_FOLDERS) else film.name
        path = root / folder / name
        if path.exists():
            path = path.with_stem(f"{path.stem} {number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(film, path)
        found.good.add(os.fspath(path.relative_to(root)))
    _spoil(found)
    return found


def _films(folder: Path, media: Path | None) -> list[Path]:
    """Real films, and rendered ones until there are enough; no two with the same pictures."""
    folder.mkdir()
    real = sorted(media.iterdir()) if media is not None else []
    films = [path for path in real if path.is_file() and path.name not in _NOT_GOOD]
    for number in range(NUM_GOOD - len(films)):
        path = folder / f"film {number}.{_FILMS[number % len(_FILMS)]}"
        codec = "mpeg4" if path.suffix == ".avi" else "libx264"
        proof.film(path, num_frames=12 + number, shot=9 + number, codec=codec)
        films.append(path)
    return films[:NUM_GOOD]


_NOT_GOOD = frozenset({"corrupted.mp4", "no_duration.webm", "sample.flv"})
"""Of the real ones: those of which nobody promises that half a second can be made."""


def _spoil(found: Tree) -> None:
    """Add what can be no clip."""
    root = found.root
    film = (root / min(found.good)).read_bytes()
    (root / "a" / "cut.mp4").write_bytes(film[: len(film) // 2])
    (root / "a" / "empty.mkv").touch()
    (root / "noise.mp4").write_bytes(random.Random(0).randbytes(50_000))
    (root / "a" / "text.mov").write_text("This is no film.\n" * 100)
    (root / "secret.mkv").write_bytes(film)
    (root / "secret.mkv").chmod(0)
    os.mkfifo(root / "pipe.mp4")
    (root / "nowhere.mp4").symlink_to("is not there.mp4")
    (root / "a" / "loop").symlink_to(root)
    (root / "notes.txt").write_text("no film")
    found.bad = {
        *("a/cut.mp4", "a/empty.mkv", "noise.mp4", "a/text.mov"),
        *("secret.mkv", "pipe.mp4", "nowhere.mp4"),
    }


class Batch:
    """Runs of the program on one tree, with one folder of results."""

    def __init__(self, source: Tree, out: Path) -> None:
        self.source = source
        self.out = out
        home = out.parent
        changes = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "XDG_CACHE_HOME": str(home)}
        self._env = proof.environment(**changes)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`vsr batch ARGUMENTS`, as an ordinary user."""
        return subprocess.Popen(
            [*_PLAIN, sys.executable, "-m", "vsr", "batch", *arguments],
            env=self._env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, *arguments: str) -> tuple[int, str, str]:
        """The same to its end: exit code, stdout, stderr."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out, err

    @property
    def places(self) -> tuple[str, str]:
        return str(self.source.root), str(self.out)

    def plan(self) -> None:
        code, _, err = self.end("-q", "plan", *self.places, *FLAGS, "--no-estimate")
        assert code == 0, err

    def run(self) -> subprocess.Popen[str]:
        return self.start("-q", "run", *self.places, "--workers", str(WORKERS))

    def status(self) -> dict[str, Any]:
        code, out, err = self.end("status", str(self.out), "--json")
        assert code == 0, err
        document: dict[str, Any] = json.loads(out)
        return document

    def results(self) -> dict[str, str]:
        """Path and digest of every file that stands at a result's name."""
        found = {}
        for path in self.out.rglob("*"):
            relative = path.relative_to(self.out)
            is_hidden = any(part.startswith(".") for part in relative.parts)
            if path.is_file() and not is_hidden and path.suffix in (".mp4", ".mkv", ".mov"):
                found[os.fspath(relative)] = sha256(path)
        return found


@dataclass
class Watch:
    """What was seen of a batch while it ran, and what of it was wrong."""

    num_looks: int = 0
    problems: list[str] = field(default_factory=list)
    done: frozenset[str] = frozenset()

    def look(self, batch: Batch, document: dict[str, Any], *, is_running: bool) -> None:
        """Hold what status says against itself and what it said before."""
        self.num_looks += 1
        clips = document["clips"]
        good, bad = batch.source.good, batch.source.bad
        states = {clip["clip"]: clip["state"] for clip in clips}
        done = frozenset(path for path, state in states.items() if state == "done")
        names = ("done", "running", "waiting", "failed", "quarantined", "vanished")
        self._expect(set(states) == good | bad, f"clips are {sorted(set(states) ^ (good | bad))}")
        self._expect(document["total"] == len(clips) == sum(document[n] for n in names), "total")
        for name in names:
            self._expect(document[name] == list(states.values()).count(name), f"count of {name}")
        self._expect(document["running"] <= (WORKERS if is_running else 0), "running")
        self._expect(self.done <= done, f"not done any more: {sorted(self.done - done)}")
        self._expect(done <= good, f"done, though bad: {sorted(done - good)}")
        aside = {path for path, state in states.items() if state == "quarantined"}
        self._expect(aside <= bad, f"quarantined, though good: {sorted(aside - bad)}")
        least = sum(clip["frames"] for clip in clips if clip["state"] == "done")
        self._expect(document["frames_done"] >= least, "frames_done")
        self.done = done

    def compare(self, batch: Batch, document: dict[str, Any], calm: dict[str, str]) -> int:
        """Hold what status says after a kill against the disk; how many it does not know yet."""
        self.look(batch, document, is_running=False)
        told = {clip["output"] for clip in document["clips"] if clip["state"] == "done"}
        there = batch.results()
        self._expect(told <= set(there), f"done, but not there: {sorted(told - set(there))}")
        # Those that had just taken their name: the next run finds them finished.
        self._expect(len(set(there) - told) <= WORKERS, f"unknown: {sorted(set(there) - told)}")
        others = sorted(name for name, digest in there.items() if calm.get(name) != digest)
        self._expect(not others, f"other bytes: {others}")
        return len(set(there) - told)

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so and what not in self.problems:
            self.problems.append(what)


@contextmanager
def _watched(batch: Batch, watch: Watch) -> Iterator[None]:
    """Look at the status all the while."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(1.0):
            try:
                watch.look(batch, batch.status(), is_running=True)
            except AssertionError as error:
                watch.problems.append(f"status failed: {error}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def outside(folder: Path, out: Path) -> dict[str, tuple[int, int]]:
    """Size and date of everything in a folder but for the results."""
    found = {}
    for path in folder.rglob("*"):
        if path != out and out not in path.parents:
            status = path.lstat()
            date = 0 if path in out.parents or path.is_dir() else status.st_mtime_ns
            found[str(path)] = (status.st_size if not path.is_dir() else 0, date)
    return found


def disturbed(
    batch: Batch, calm: dict[str, str], calm_s: float, num_kills: int, seed: int
) -> tuple[Watch, dict[str, Any]]:
    """Plan, run, and kill again and again; then run to the end."""
    rng, watch = random.Random(seed), Watch()
    batch.plan()
    watch.look(batch, batch.status(), is_running=False)
    kills: list[dict[str, Any]] = []
    while len(kills) < num_kills:
        with _watched(batch, watch), batch.run() as process:
            moment_s = rng.uniform(0, 2 * calm_s / (num_kills + 1))
            if not kills:
                moment_s = min(moment_s, calm_s / 4)  # trying a second one takes its time
                _try_second(batch, watch)
            try:
                process.wait(moment_s)
            except subprocess.TimeoutExpired:
                # The main process alone: its children have to notice.
                process.kill()
            process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        num_unknown = watch.compare(batch, batch.status(), calm)
        kills.append({"at_s": round(moment_s, 2), "done": len(watch.done), "unknown": num_unknown})
        proof.told(f"killed after {moment_s:.1f} s: {len(watch.done)} done, {num_unknown} unknown")
    with _watched(batch, watch), batch.run() as process:
        _, err = process.communicate(timeout=LIMIT_S)
    if process.returncode != 7:
        watch.problems.append(f"the last run ended with {process.returncode}: {err}")
    watch.compare(batch, batch.status(), calm)
    return watch, {"kills": kills, "looks": watch.num_looks}


def _try_second(batch: Batch, watch: Watch) -> None:
    """A second run beside the first is refused."""
    time.sleep(3)
    code, _, err = batch.end("run", *batch.places)
    if code != 6 or "another run is working" not in err:
        watch.problems.append(f"a second run ended with {code}: {err}")


def judge(batch: Batch, calm: dict[str, str]) -> list[str]:
    """What of the finished batch is not as it should be."""
    problems = []
    code, out, err = batch.end("export", str(batch.out), "--format", "json")
    assert code == 0, err
    rows = {row["clip"]: row for row in json.loads(out)}
    for path in sorted(batch.source.good):
        states = [step["state"] for step in rows[path]["history"]]
        if states.count("done") != 1 or states[-1] != "done":
            problems.append(f"{path}: {states}")
    for path in sorted(batch.source.bad):
        row = rows[path]
        if row["state"] != "quarantined" or len((row["error"] or "").splitlines()) != 1:
            problems.append(f"{path}: {row['state']}: {row['error']}")
    found = batch.results()
    if found != calm:
        problems.append(f"results differ: {sorted(set(found.items()) ^ set(calm.items()))}")
    problems += [f"left: {path}" for path in batch.out.rglob("*.vsr-work")]
    return problems


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=5, what="kills")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--media", type=Path, metavar="DIR", help="real films to take")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vsr-archive-") as name:
        folder = Path(name)
        source = tree(folder / "src", given.media)
        home = folder / "home"
        (home / "tmp").mkdir(parents=True)
        proof.told(f"{len(source.good)} good and {len(source.bad)} bad files")
        undisturbed = Batch(source, home / "calm")
        undisturbed.plan()
        start = time.perf_counter()
        with undisturbed.run() as process:
            _, err = process.communicate(timeout=LIMIT_S)
        calm_s = time.perf_counter() - start
        assert process.returncode == 7, f"ended with {process.returncode}: {err}"
        calm = undisturbed.results()
        problems = judge(undisturbed, calm)
        proof.told(f"undisturbed: {calm_s:.1f} s, {len(calm)} results, problems: {problems}")
        batch = Batch(source, home / "out")
        before = outside(folder, batch.out)
        watch, figures = disturbed(batch, calm, calm_s, given.runs, given.seed)
        problems += [*watch.problems, *judge(batch, calm)]
        changed = set(outside(folder, batch.out).items()) ^ set(before.items())
        problems += [f"outside: {what}" for what in sorted(map(str, changed))]
    for problem in problems:
        proof.told(problem)
    figures |= {
        "good": len(source.good),
        "bad": len(source.bad),
        "results": len(calm),
        "undisturbed_s": round(calm_s, 1),
        "problems": problems,
    }
    ok = not problems and len(figures["kills"]) == given.runs and len(calm) == NUM_GOOD
    return proof.conclude(CLAIM, ok, figures, given.json, started)


if __name__ == "__main__":
    sys.exit(main())
