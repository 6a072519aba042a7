"""A film of two hours: what a plan and a journal weigh, how memory grows, how fast a run resumes.

    python -m tests.faults.two_hours [--runs 172800] [--until 0.5] [--json FILE]

The source has 172,800 tiny frames (`--runs` says how many), made of one minute that is repeated by
copying packets, and goes through `bicubic-x2`. The run is killed once a share of its segments is
finished, and started again; the time from the start of the process to the first bytes of a new
segment is its start-up. It need not finish: it is killed again some segments later. It fails when
the start-up takes 5 s or more, when memory grows by more than a tenth between the first quarter and
the end of the time in which segments were made, or when plan and journal weigh more than 100 bytes
a frame.
"""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import av

from tests.faults import proof
from tests.faults.promise import ROOT
from tests.faults.unfinished import children

CLAIM = "of two hours, memory stays flat, plan and journal small, and a run resumes within 5 s"
MAX_START_S = 5.0
MAX_GROWTH = 1.1
MAX_BYTES_PER_FRAME = 100
RATE, SIZE = 24, (32, 32)
LOOP_FRAMES = 60 * RATE
NUM_AFTER = 5
"""Segments that a resumed run makes before it is stopped."""
LIMIT_S = 3600.0
_POLL_S = 0.01
_SAMPLE_S = 0.5
_MIB = 1 << 20


def looped(source: Path, target: Path, num_frames: int) -> Path:
    """Repeat a film by copying its packets; whole repetitions and a part."""
    with av.open(str(source)) as reader:
        stream = reader.streams.video[0]
        packets = [packet for packet in reader.demux(stream) if packet.size]
        base = packets[0].time_base
        with av.open(str(target), "w") as writer:
            out = writer.add_stream_from_template(stream, opaque=True)
            for number in range(num_frames):
                turn, place = divmod(number, len(packets))
                packet = av.Packet(bytes(packets[place]))
                shift = round(turn * len(packets) / RATE / base)
                packet.time_base = base
                # Without B-frames both are the same.
                packet.pts = packet.dts = _known(packets[place].pts) + shift
                packet.duration = packets[place].duration
                packet.is_keyframe = packets[place].is_keyframe
                packet.stream = out
                writer.mux(packet)
    return target


def _known(value: int | None) -> int:
    assert value is not None
    return value


@dataclass
class Watched:
    """One process of a run, from its start to its kill."""

    first_work_s: float = 0.0
    """From its start until it wrote to a new segment."""
    rss: dict[str, list[float]] = field(default_factory=lambda: {"parent": [], "child": []})
    """MiB, twice a second while segments are made."""


def watch(film: Path, output: Path, num_done: int, flags: tuple[str, ...]) -> Watched:
    """Run until so many segments are finished, and kill it."""
    found = Watched()
    work = proof.work_folder(output)
    stale = set(work.glob("at-work-*/*"))
    start = time.perf_counter()
    next_sample_s = 0.0
    with subprocess.Popen(
        proof.command(film, output, *flags),
        env=proof.environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        while process.poll() is None and time.perf_counter() - start < LIMIT_S:
            now = time.perf_counter() - start
            if not found.first_work_s:
                fresh = set(work.glob("at-work-*/segment-*.mkv")) - stale
                found.first_work_s = now if any(map(_size, fresh)) else 0.0
            elif now >= next_sample_s:
                next_sample_s = now + _SAMPLE_S
                _sample(found, process.pid)
                if len(list(work.glob("segment-*.json"))) >= num_done:
                    break
            time.sleep(_POLL_S)
        is_early = process.poll() is not None
        process.send_signal(signal.SIGKILL)
        assert process.stderr is not None
        said = process.stderr.read().decode("utf-8", "replace")
    assert not is_early, f"the run ended too early, with {process.returncode}: {said}"
    assert found.first_work_s, "no segment was begun"
    return found


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _sample(found: Watched, process_id: int) -> None:
    found.rss["parent"].append(_rss_mib(process_id))
    held = [_rss_mib(child) for child in children(process_id)]
    if held:
        found.rss["child"].append(max(held))


def _rss_mib(process_id: int) -> float:
    try:
        pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * 4096 / _MIB


def growth(values: list[float]) -> float:
    """The end over the time after the first quarter, medians of a tenth of the samples each."""
    length = max(1, len(values) // 10)
    early = values[len(values) // 4 :][:length]
    return statistics.median(values[-length:]) / statistics.median(early)


def main(argv: list[str] | None = None) -> int:
    parser = proof.arguments(__doc__, runs=172_800, what="frames")
    parser.add_argument("--until", type=float, default=0.5, help="share made before the kill")
    parser.add_argument("--segment-frames", type=int, default=480, help="about the most of one")
    given = parser.parse_args(argv)
    started = time.perf_counter()
    flags = ("--model", "bicubic-x2", "--set", f"engine.segment_frames={given.segment_frames}")
    with tempfile.TemporaryDirectory(prefix="vsr-two-hours-") as name:
        folder = Path(name)
        minute = proof.film(
            folder / "minute.mkv",
            num_frames=LOOP_FRAMES,
            rate=RATE,
            size=SIZE,
            shot=300,
            gop=48,
            options={"bf": "0"},
        )
        film = looped(minute, folder / "film.mkv", given.runs)
        proof.told(f"source: {film.stat().st_size / _MIB:.1f} MiB, {given.runs} frames")
        output = folder / "result.mkv"
        num_done = max(2, int(given.until * given.runs / given.segment_frames))
        first = watch(film, output, num_done, flags)
        work = proof.work_folder(output)
        kept = len(list(work.glob("segment-*.json")))
        proof.told(f"first run: {first.first_work_s:.1f} s to its first segment; {kept} kept")
        again = watch(film, output, kept + NUM_AFTER, flags)
        sizes = {
            path.name: path.stat().st_size for path in work.glob("*.json") if path.stat().st_size
        }
    return _report(first, again, kept, sizes, given.runs, given.json, started)


def _report(
    first: Watched,
    again: Watched,
    kept: int,
    sizes: dict[str, int],
    num_frames: int,
    file: Path | None,
    started: float,
) -> int:
    entries = [size for name, size in sizes.items() if name.startswith("segment-")]
    grown = {name: round(growth(values), 3) for name, values in first.rss.items() if values}
    ends = {
        name: [round(values[len(values) // 4], 1), round(values[-1], 1), round(max(values), 1)]
        for name, values in first.rss.items()
        if values
    }
    per_frame = sum(sizes.values()) / num_frames
    proof.told(f"resumed after {kept} segments: {again.first_work_s:.2f} s to a new segment")
    proof.told(
        f"plan.json {sizes['plan.json'] / 1024:.0f} KiB, entries of segments "
        f"{statistics.mean(entries):.0f} bytes each; {per_frame:.1f} bytes a frame in all"
    )
    for name, (early, late, most) in ends.items():
        proof.told(f"{name}: {early} MiB after a quarter, {late} at the end, {most} at most")
    figures = {
        "num_frames": num_frames,
        "segments_kept": kept,
        "first_start_s": round(first.first_work_s, 2),
        "resumed_start_s": round(again.first_work_s, 2),
        "plan_bytes": sizes["plan.json"],
        "run_bytes": sizes["run.json"],
        "mean_entry_bytes": round(statistics.mean(entries)),
        "bytes_per_frame": round(per_frame, 2),
        "rss_mib_quarter_end_most": ends,
        "rss_growth": grown,
    }
    ok = again.first_work_s < MAX_START_S and per_frame <= MAX_BYTES_PER_FRAME
    ok = ok and all(value <= MAX_GROWTH for value in grown.values())
    return proof.conclude(CLAIM, ok, figures, file, started)


if __name__ == "__main__":
    sys.exit(main())
