"""Kill runs at random moments, go on with them, and compare the bytes with an undisturbed run's.

    python -m tests.faults.kill_loop [--runs 100] [--seed 1] [--jobs 1] [--json FILE]

A film of 20 s and five shots goes through `flowprop-xs-x4` on the CPU, by the real command. One run
in peace gives the reference. Each further run is killed with SIGKILL one to four times, resumed by
the same command, and must end in the same bytes with nothing left beside them. Most kills hit the
main process alone, so that its children have to notice; some hit all processes of the run at once,
and some a single child, after which the run has to go on by itself. Half of the moments are spread
evenly over the time an undisturbed run takes; the others lie within a phase drawn at random, since
some phases are short. Every run draws from a seed of its own, which is told when it fails.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import proof
from tests.faults.promise import ROOT
from tests.faults.unfinished import children, sha256

CLAIM = "runs killed at random moments and resumed give the bytes of an undisturbed run"
NUM_FRAMES, RATE, SHOT = 240, 12, 50
FLAGS = ("--model", "flowprop-xs-x4", "--set", "engine.segment_frames=48")
PHASES = ("start", "scan", "segments", "join", "check", "naming")
LIMIT_S = 600.0
ORPHANS_END_S = 10.0
_POLL_S = 0.002


@dataclass
class Killed:
    """What became of one run."""

    seed: int
    kills: list[tuple[str, str]] = field(default_factory=list)
    """(phase, whom) of each."""
    num_starts: int = 0
    num_orphans: int = 0
    problem: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Calm:
    """The film, and what it takes and gives without a disturbance."""

    film: Path
    sha256: str
    num_bytes: int
    seconds: float
    cpu_s: float
    phase_s: dict[str, float]


def phase_of(output: Path, calm_bytes: int | None = None) -> str:
    """How far a run is, by what lies in its work folder."""
    work = proof.work_folder(output)
    if output.exists():
        return "naming" if work.exists() else "after"
    if (work / "result.json").exists():
        return "naming"
    joined = next(work.glob("joined.*"), None)
    if joined is not None:
        try:
            is_whole = calm_bytes is not None and joined.stat().st_size == calm_bytes
        except FileNotFoundError:
            return "naming"
        return "check" if is_whole else "join"
    if (work / "run.json").exists():
        return "segments"
    return "scan" if work.exists() else "start"


def undisturbed(film: Path, folder: Path) -> Calm:
    """Run in peace, and note when each phase began."""
    output = folder / "result.mkv"
    began: dict[str, float] = {}
    start = time.perf_counter()
    before = os.times()
    with _started(film, output, 1) as process:
        while process.poll() is None:
            began.setdefault(phase_of(output, _final_bytes(output)), time.perf_counter() - start)
            time.sleep(_POLL_S)
    seconds = time.perf_counter() - start
    after = os.times()
    assert process.returncode == 0, f"the undisturbed run ended with {process.returncode}"
    began = {phase: began[phase] for phase in PHASES if phase in began}
    ends = [*list(began.values())[1:], seconds]
    lengths = {name: end - at for (name, at), end in zip(began.items(), ends, strict=True)}
    cpu_s = after.children_user + after.children_system - before[2] - before[3]
    return Calm(film, sha256(output), output.stat().st_size, seconds, cpu_s, lengths)


def _final_bytes(output: Path) -> int | None:
    """Of the joined file, once nobody writes to it: unknown while there is no reference."""
    joined = next(proof.work_folder(output).glob("joined.*"), None)
    try:
        if joined is None or time.time() - joined.stat().st_mtime < 0.05:
            return None
        return joined.stat().st_size
    except FileNotFoundError:
        return None


def _started(film: Path, output: Path, workers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        proof.command(film, output, *FLAGS, "--workers", str(workers)),
        env=proof.environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def disturbed(calm: Calm, folder: Path, seed: int) -> Killed:
    """One run, killed one to four times; drawn again from the start if no kill came in time."""
    rng = random.Random(seed)
    found = Killed(seed)
    start = time.perf_counter()
    while not found.kills and not found.problem:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _attempt(calm, folder / "result.mkv", rng, found)
    found.seconds = time.perf_counter() - start
    return found


def _attempt(calm: Calm, output: Path, rng: random.Random, found: Killed) -> None:
    planned = rng.randint(1, 4)
    while not found.problem:
        with _started(calm.film, output, rng.choice((1, 1, 2))) as process:
            found.num_starts += 1
            is_over = _disturb(calm, process, output, rng, found, planned)
            found.num_orphans += _orphans(process.pid)
            if is_over:
                _judge(calm, process, output, found)
                return


def _disturb(
    calm: Calm,
    process: subprocess.Popen[bytes],
    output: Path,
    rng: random.Random,
    found: Killed,
    planned: int,
) -> bool:
    """Kill at moments until the process is gone; whether it ended by itself."""
    num_children = 0
    while len(found.kills) < planned:
        if not _wait_for_moment(calm, process, output, rng):
            return True
        whom = rng.choices(("main", "all", "child"), (70, 15, 15))[0]
        victims = children(process.pid) if whom == "child" and num_children == 0 else []
        if whom == "child" and victims:
            phase = phase_of(output, calm.num_bytes)
            _kill(rng.choice(victims))
            num_children += 1
            found.kills.append((phase, "child"))
            continue
        if whom == "all":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait(LIMIT_S)
        if process.returncode != -signal.SIGKILL:
            return True
        found.kills.append((phase_of(output, calm.num_bytes), "all" if whom == "all" else "main"))
        return False
    return _wait(process)


def _kill(process_id: int) -> None:
    try:
        os.kill(process_id, signal.SIGKILL)
    except ProcessLookupError:
        return


def _wait(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return True


def _wait_for_moment(
    calm: Calm, process: subprocess.Popen[bytes], output: Path, rng: random.Random
) -> bool:
    """Sleep until the next kill is due; False if the process ends before."""
    moment_s = rng.uniform(0, calm.seconds)
    if rng.random() < 0.5:
        phase = rng.choice(list(calm.phase_s))
        moment_s = rng.uniform(0, calm.phase_s[phase])
        while phase_of(output, calm.num_bytes) != phase:
            if process.poll() is not None:
                return False
            time.sleep(_POLL_S)
    try:
        process.wait(moment_s)
    except subprocess.TimeoutExpired:
        return True
    return False


def _orphans(group: int) -> int:
    """Processes of a run that are still there some time after its main one, which are then ended.

    Each run has a session of its own.
    """
    limit = time.monotonic() + ORPHANS_END_S
    while members := _members(group):
        if time.monotonic() > limit:
            os.killpg(group, signal.SIGKILL)
            return len(members)
        time.sleep(0.02)
    return 0


def _members(group: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def _judge(calm: Calm, process: subprocess.Popen[bytes], output: Path, found: Killed) -> None:
    assert process.stderr is not None
    said = process.stderr.read().decode("utf-8", "replace")
    names = sorted(path.name for path in output.parent.iterdir())
    if process.returncode != 0:
        found.problem = f"exit code {process.returncode}: {said}"
    elif sha256(output) != calm.sha256:
        found.problem = f"other bytes: {sha256(output)}"
    elif names != [f".{output.name}.vsr.json", output.name]:
        found.problem = f"left behind: {names}"


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=100, what="runs to disturb")
    parser.add_argument("--seed", type=int, default=1, help="of the first run; counts upwards")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vsr-kill-") as name:
        folder = Path(name)
        film = proof.film(folder / "film.mkv", num_frames=NUM_FRAMES, rate=RATE, shot=SHOT)
        (folder / "calm").mkdir()
        calm = undisturbed(film, folder / "calm")
        lengths = ", ".join(f"{name} {value:.2f}" for name, value in calm.phase_s.items())
        proof.told(f"undisturbed: {calm.seconds:.1f} s ({lengths}), sha256 {calm.sha256[:16]}")
        runs: list[Killed] = []
        with ThreadPoolExecutor(given.jobs) as pool:
            seeds = range(given.seed, given.seed + given.runs)
            for run in pool.map(lambda seed: disturbed(calm, folder / str(seed), seed), seeds):
                runs.append(run)
                kills = ", ".join(f"{whom} in {phase}" for phase, whom in run.kills)
                outcome = run.problem or "identical"
                proof.told(
                    f"{len(runs)}: seed {run.seed}: {kills}: {outcome} ({run.seconds:.0f} s)"
                )
                shutil.rmtree(folder / str(run.seed), ignore_errors=True)
        cpu_s = sum(os.times()[2:4]) - calm.cpu_s
    return _report(calm, runs, cpu_s, given.json, started)


def _report(calm: Calm, runs: list[Killed], cpu_s: float, file: Path | None, start: float) -> int:
    good = [run for run in runs if not run.problem]
    orphans = sum(run.num_orphans for run in runs)
    phases = Counter(phase for run in runs for phase, _ in run.kills)
    whom = Counter(who for run in runs for _, who in run.kills)
    times = Counter(len(run.kills) for run in runs)
    proof.told(f"identical: {len(good)} of {len(runs)}; orphans: {orphans}")
    proof.told(f"kills by phase: {dict(phases)}; by victim: {dict(whom)}; per run: {dict(times)}")
    proof.told(f"CPU per run: {cpu_s / max(1, len(runs)):.1f} s")
    figures = {
        "identical": len(good),
        "runs": len(runs),
        "orphans": orphans,
        "kills_by_phase": dict(phases),
        "kills_by_victim": dict(whom),
        "runs_by_kills": {str(key): value for key, value in sorted(times.items())},
        "undisturbed_s": round(calm.seconds, 2),
        "cpu_s_per_run": round(cpu_s / max(1, len(runs)), 2),
        "seeds": [run.seed for run in runs],
        "problems": {run.seed: run.problem for run in runs if run.problem},
    }
    ok = len(good) == len(runs) > 0 and orphans == 0
    return proof.conclude(CLAIM, ok, figures, file, start)


if __name__ == "__main__":
    sys.exit(main())
