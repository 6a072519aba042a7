"""Give the program thousands of spoiled files: each ends in a proven result or in one sentence.

    python -m tests.faults.fuzz [--runs 2000] [--seed 1] [--first 0] [--jobs 2] [--keep DIR]
                                [--json FILE]

Films of eight frames, made here in eight kinds of codec and container, are truncated, hurt in their
headers or have bits flipped, and go through `vsr.upscale` with `bicubic-x2`, segments of four
frames and workers of their own, as in every real run; only that one pool of workers serves many
films. Processes that do this are watched from outside. It fails when one of them dies or hangs,
when `vsr check` does not pass over a result, when an error is not one clean sentence, or when less
than 90 % of the files with flipped bits give a result, of those whose header survives: av still
opens them and finds the same codec and size. Files that fail are kept in a folder that is named.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults import proof
from tests.faults.mutations import Sound, Spoiled, shape_of, sound_films, spoil
from tests.faults.promise import ROOT

CLAIM = "each spoiled file ends in a proven result or a clean error, and nothing dies or hangs"
MIN_RESULTS = 0.9
WATCHDOG_S = 20.0
LIMIT_S = 180.0
"""For one file, from outside: several times the watchdog."""
FILES_PER_PROCESS = 250


@dataclass
class Outcome:
    """What became of one file."""

    number: int
    name: str
    kind: str
    told: str
    """`result`, or the class of the error, or what went wrong."""
    text: str
    ok: bool
    seconds: float
    survives: bool
    """Whether the header does."""


def serve() -> None:
    """The process that is watched: takes a file's name from each line, and tells its outcome."""
    import vsr
    from vsr.config import resolve_config
    from vsr.pipeline import upscale as module
    from vsr.pipeline.isolate import WorkerPool

    answers, sys.stdout = sys.stdout, sys.stderr
    with WorkerPool(watchdog_s=WATCHDOG_S, limit_s=3 * WATCHDOG_S) as pool:
        # One pool for all, which spares the start of a child for each file.
        setattr(module, "open_workers", lambda _: _Lent(pool))  # noqa: B010 - mypy is right
        engine = {"segment_frames": 4, "isolate": True}
        flags = {"model": "bicubic-x2", "device": "cpu", "crf": 23, "engine": engine}
        config = resolve_config(flags=flags)
        for line in sys.stdin:
            source = Path(line.rstrip("\n"))
            output = source.with_name("result.mkv")
            answer = _tried(vsr, source, output, config)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


class _Lent:
    """A pool that does not close with the run that uses it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def __enter__(self) -> Any:
        return self._pool

    def __exit__(self, *_: object) -> None:
        """Stays for the next."""


def _tried(vsr: Any, source: Path, output: Path, config: Any) -> tuple[str, str, bool]:
    """(what is told, all of it, whether it is as promised)."""
    from vsr.errors import CheckFailedError, VsrError

    try:
        made = vsr.upscale(source, output, config)
        proof = vsr.check(source, output)
        failures = "; ".join(f"{row.name}: {row.result} {row.note}" for row in proof.failures)
        is_good = proof.ok and made.check.ok and made.frames > 0
        return ("result" if is_good else "check fails"), failures, is_good
    except CheckFailedError as error:
        return "rejected", str(error), False
    except VsrError as error:
        is_clean = error.exit_code in (2, 3, 6) and "\n" not in str(error) and len(str(error)) < 500
        return type(error).__name__, str(error), is_clean
    except Exception:  # noqa: BLE001 - whatever it is, it is told as a defect
        return "defect", traceback.format_exc(), False


class Tester:
    """One watched process, started anew when it died or had its share of files."""

    def __init__(self, folder: Path, films: list[Sound], seed: int) -> None:
        folder.mkdir()
        self._folder = folder
        self._films = films
        self._seed = seed
        self._process: subprocess.Popen[str] | None = None
        self._num_files = 0

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        self._num_files = 0

    def test(self, number: int) -> tuple[Outcome, Spoiled]:
        spoiled = spoil(self._films, self._seed, number)
        source = self._folder / spoiled.name
        source.write_bytes(spoiled.data)
        survives = shape_of(source) == (spoiled.sound.codec, spoiled.sound.size)
        start = time.perf_counter()
        told, text, ok = self._ask(source)
        seconds = time.perf_counter() - start
        self._clean()
        outcome = Outcome(
            number, spoiled.name, spoiled.kind, told, text, ok, round(seconds, 3), survives
        )
        return outcome, spoiled

    def _ask(self, source: Path) -> tuple[str, str, bool]:
        if self._process is None or self._num_files >= FILES_PER_PROCESS:
            self.close()
            self._process = _start()
        process = self._process
        self._num_files += 1
        assert process.stdin is not None
        assert process.stdout is not None
        hung = threading.Event()

        def end() -> None:
            hung.set()
            process.kill()

        alarm = threading.Timer(LIMIT_S, end)
        alarm.start()
        try:
            process.stdin.write(f"{source}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            alarm.cancel()
        if line:
            told, text, ok = json.loads(line)
            return told, text, ok
        code = process.wait()
        self._process = None
        return (
            ("hang", f"longer than {LIMIT_S:g} s", False)
            if hung.is_set()
            else ("crash", f"exit code {code}", False)
        )

    def _clean(self) -> None:
        for path in self._folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _start() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from tests.faults.fuzz import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=proof.environment(),
        cwd=ROOT,
    )


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=2000, what="files to try")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--jobs", type=int, default=2, help="processes side by side")
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    keep: Path = given.keep or Path(tempfile.mkdtemp(prefix="vsr-fuzz-failed-"))
    keep.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vsr-fuzz-") as name:
        films = sound_films(Path(name))
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(given.first, given.first + given.runs):
            todo.put(number)
        outcomes: list[Outcome] = []
        testers = [Tester(Path(name) / str(k), films, given.seed) for k in range(given.jobs)]
        threads = [
            threading.Thread(target=_work, args=(tester, todo, outcomes, keep))
            for tester in testers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return _report(outcomes, given.runs, given.seed, keep, given.json, started)


def _work(
    tester: Tester, todo: queue.SimpleQueue[int], outcomes: list[Outcome], keep: Path
) -> None:
    while True:
        try:
            number = todo.get_nowait()
        except queue.Empty:
            tester.close()
            return
        outcome, spoiled = tester.test(number)
        outcomes.append(outcome)
        if not outcome.ok:
            (keep / spoiled.name).write_bytes(spoiled.data)
            proof.told(f"{outcome.name} ({outcome.kind}): {outcome.told}: {outcome.text[-1500:]}")
        if len(outcomes) % 100 == 0:
            proof.told(f"{len(outcomes)} files")


def _report(
    outcomes: list[Outcome], runs: int, seed: int, keep: Path, file: Path | None, started: float
) -> int:
    bad = [one for one in outcomes if not one.ok]
    flipped = [one for one in outcomes if one.kind == "bit flips" and one.survives]
    share = sum(one.told == "result" for one in flipped) / max(1, len(flipped))
    told = Counter(f"{one.kind}: {one.told}" for one in outcomes)
    for key, count in sorted(told.items()):
        proof.told(f"{count:6d}  {key}")
    proof.told(
        f"results of files with flipped bits whose header survives: {share:.1%} of {len(flipped)}"
    )
    slowest = max(outcomes, key=lambda one: one.seconds)
    proof.told(f"slowest: {slowest.name}, {slowest.seconds} s")
    if bad:
        proof.told(f"{len(bad)} files that fail are in {keep}")
    elif not any(keep.iterdir()):
        keep.rmdir()
    figures = {
        "files": len(outcomes),
        "failed": [vars(one) for one in bad],
        "told": dict(sorted(told.items())),
        "flipped_with_header": len(flipped),
        "flipped_with_result": round(share, 4),
        "no_result_though_header_survives": [
            {"name": one.name, "kind": one.kind, "text": one.text}
            for one in outcomes
            if one.survives and one.told != "result"
        ],
        "seed": seed,
        "numbers": [min(one.number for one in outcomes), max(one.number for one in outcomes)],
        "slowest_s": slowest.seconds,
    }
    ok = not bad and len(outcomes) == runs and (share >= MIN_RESULTS or not flipped)
    return proof.conclude(CLAIM, ok, figures, file, started)


if __name__ == "__main__":
    sys.exit(main())
