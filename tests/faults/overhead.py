"""What safety costs: the wall time of a whole run against a plain encode of the same frames.

    python -m tests.faults.overhead [--runs 3] [--seconds 120] [--json FILE]

Both are processes of their own that import, load `flowprop-s-x4`, decode, infer and encode the same
film of 160x90 with the same settings, decoding, computing and encoding side by side. The
plain one is handed its plan and writes one file in one go: no scan, no child process, no segments,
no reading back, no digest, no fsync, no journal, no copying of other streams, no join, and no check
of the result. The other one is `vsr upscale` with its defaults, all of these included. They are
measured in pairs, the first of which alternates; more than 5 % in the median of the ratios fails.
Other work on the machine spoils it: CPU seconds are told as well.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import proof

CLAIM = "segments, journal and proof cost under 5 % of the wall time of a plain encode"
MAX_RATIO = 1.05
MODEL = "flowprop-s-x4"
RATE, SIZE, SHOT = 24, (160, 90), 250


def plain(plan_file: Path, folder: Path) -> None:
    """The process that only decodes, infers and encodes."""
    from vsr.media import encoder
    from vsr.pipeline import segment
    from vsr.pipeline.as_json import from_json
    from vsr.pipeline.plan import Plan

    for module, name in (
        (encoder, "verify_segment"),
        (encoder, "sync_file"),
        (encoder, "sync_folder"),
        (segment, "sha256_of"),
    ):
        assert callable(getattr(module, name))
        setattr(module, name, lambda *_: "")
    segment.run_segment(from_json(Plan, plan_file.read_bytes()), 0, folder)


def plan_of_one(film: Path, output: Path) -> bytes:
    """The plan of a run in one piece."""
    from vsr.config import resolve_config
    from vsr.pipeline.as_json import to_json
    from vsr.pipeline.planning import make_plan

    engine = {"segment_frames": 1_000_000}
    flags = {"model": MODEL, "device": "cpu", "engine": engine}
    plan = make_plan(film, output, resolve_config(flags=flags))
    assert len(plan.segments) == 1
    return to_json(plan).encode()


def measure(which: str, film: Path, plan_file: Path, folder: Path) -> proof.Run:
    """One process of a pair."""
    folder.mkdir()
    bare = [sys.executable, "-m", "tests.faults.overhead", "--plain"]
    arguments = [*bare, str(plan_file), str(folder)]
    if which == "safe":
        arguments = proof.command(film, folder / "result.mkv", "--model", MODEL)
    env = proof.environment()
    # As on a user's machine.
    del env["OMP_NUM_THREADS"]
    ended = proof.finish(arguments, env)
    assert ended.code == 0, ended.err
    return ended


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=3, what="pairs")
    parser.add_argument("--seconds", type=float, default=120, help="of film")
    parser.add_argument("--plain", nargs=2, type=Path, metavar=("PLAN", "DIR"), help="one side")
    given = parser.parse_args(argv)
    if given.plain:
        plain(*given.plain)
        return 0
    started = time.perf_counter()
    runs: dict[str, list[proof.Run]] = {"plain": [], "safe": []}
    with tempfile.TemporaryDirectory(prefix="vsr-overhead-") as name:
        folder = Path(name)
        num_frames = round(given.seconds * RATE)
        film = proof.film(
            folder / "film.mkv", num_frames=num_frames, rate=RATE, size=SIZE, shot=SHOT
        )
        plan_file = folder / "plan.json"
        plan_file.write_bytes(plan_of_one(film, folder / "result.mkv"))
        for pair in range(given.runs):
            order = ("plain", "safe") if pair % 2 == 0 else ("safe", "plain")
            for which in order:
                run = measure(which, film, plan_file, folder / f"{pair}-{which}")
                runs[which].append(run)
                proof.told(f"{which:5}: {run.wall_s:.2f} s wall, {run.cpu_s:.2f} s CPU")
    return _report(runs, num_frames, given.json, started)


def _report(
    runs: dict[str, list[proof.Run]], num_frames: int, file: Path | None, started: float
) -> int:
    pairs = list(zip(runs["plain"], runs["safe"], strict=True))
    wall = statistics.median(safe.wall_s / bare.wall_s for bare, safe in pairs)
    cpu = statistics.median(safe.cpu_s / bare.cpu_s for bare, safe in pairs)
    medians = {name: statistics.median(run.wall_s for run in some) for name, some in runs.items()}
    proof.told(
        f"medians: plain {medians['plain']:.2f} s, safe {medians['safe']:.2f} s; "
        f"ratio of wall times {wall:.3f}, of CPU times {cpu:.3f}"
    )
    figures = {
        "num_frames": num_frames,
        "wall_ratio": round(wall, 4),
        "cpu_ratio": round(cpu, 4),
        **{
            f"{name}_{kind}": [round(getattr(run, kind), 2) for run in some]
            for name, some in runs.items()
            for kind in ("wall_s", "cpu_s")
        },
    }
    return proof.conclude(CLAIM, wall <= MAX_RATIO, figures, file, started)


if __name__ == "__main__":
    sys.exit(main())
