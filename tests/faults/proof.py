"""What the commands that prove a claim share: films, runs of the program, and how they report."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np

from tests.faults.promise import ROOT

SAMPLE_RATE = 48000


def film(
    path: Path,
    *,
    num_frames: int,
    rate: int = 12,
    size: tuple[int, int] = (64, 48),
    shot: int = 60,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    gop: int = 24,
    audio: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Path:
    """Write a film of several shots: a pan over another texture in each.

    Args:
        path: its suffix tells the container.
        num_frames: of the film.
        rate: frames per second.
        size: (width, height), both even.
        shot: frames of each shot.
        codec: of the pictures.
        pixel_format: what the codec takes.
        gop: frames from key frame to key frame.
        audio: codec of a tone as long as the film; None for no sound.
        options: of the encoder.
    """
    with av.open(str(path), "w") as output:
        stream = cast(av.VideoStream, output.add_stream(codec, rate=rate))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.options = dict(options or {})
        packets: list[Any] = _tone(output, audio, num_frames / rate) if audio else []
        for index in range(num_frames):
            picture = av.VideoFrame.from_ndarray(_picture(index, size, shot), "rgb24")
            picture = picture.reformat(format=pixel_format)
            picture.pts, picture.time_base = index, Fraction(1, rate)
            packets += stream.encode(picture)
        packets += stream.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _picture(index: int, size: tuple[int, int], shot: int) -> np.ndarray:
    """(height, width, 3) uint8."""
    width, height = size
    rng = np.random.default_rng(index // shot)
    # Texture of 4 px, moved by half a pixel a frame, and wide enough to do so for 64 frames.
    coarse = rng.integers(40, 215, (height // 4 + 2, width // 4 + 10, 3))
    step = index % shot % 64 // 2
    fine = np.kron(coarse, np.ones((4, 4, 1)))[:height, step : step + width]
    return np.ascontiguousarray(fine.astype(np.uint8))


def _tone(output: Any, codec: str, seconds: float) -> list[Any]:
    stream = output.add_stream(codec, rate=SAMPLE_RATE, layout="stereo")
    kind = stream.codec_context.codec.audio_formats[0].name
    resampler = av.AudioResampler(kind, "stereo", SAMPLE_RATE)
    packets: list[Any] = []
    size = 960 if codec == "libopus" else 1152 if codec == "mp2" else 1024
    for start in range(0, int(seconds * SAMPLE_RATE), size):
        wave = 0.3 * np.sin(np.arange(start, start + size) * 0.05)
        data = np.tile(wave.astype(np.float32), (2, 1))
        frame = av.AudioFrame.from_ndarray(data, "fltp", "stereo")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        for ready in resampler.resample(frame):
            packets += stream.encode(ready)
    return packets + list(stream.encode(None))


def command(source: Path, output: Path, *flags: str) -> list[str]:
    """`vsr upscale` as a process; on the CPU, quiet."""
    always = ("--device", "cpu", "-q")
    upscale = [sys.executable, "-m", "vsr", "upscale", *always, *flags]
    return [*upscale, "--", str(source), str(output)]


def environment(**changes: str) -> dict[str, str]:
    """Of a run: one thread for each operation unless told otherwise."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}


@dataclass(frozen=True)
class Run:
    """How a process ended."""

    code: int
    err: str
    wall_s: float
    cpu_s: float
    """Of all processes that ended meanwhile; not to be had when several runs go side by side."""


def finish(arguments: Sequence[str], env: Mapping[str, str], *, cwd: Path = ROOT) -> Run:
    """Run a command to its end, which must come within ten minutes or as long as a film takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(
        arguments, env=env, cwd=cwd, capture_output=True, text=True, errors="replace", check=False
    )
    wall_s = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(done.returncode, done.stderr, wall_s, cpu_s)


def work_folder(output: Path) -> Path:
    """Where a run leaves what is unfinished."""
    return output.with_name(f".{output.name}.vsr-work")


def arguments(doc: str | None, *, runs: int, what: str) -> argparse.ArgumentParser:
    """A parser with the flags that all these commands take."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=runs, help=f"{what} (default {runs})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    return parser


def conclude(
    claim: str, ok: bool, figures: dict[str, Any], file: Path | None, started: float
) -> int:
    """Say and store what was found; the exit code."""
    document = {
        "claim": claim,
        "ok": ok,
        "seconds": round(time.perf_counter() - started, 1),
        "load": [round(value, 1) for value in os.getloadavg()],
        "cores": os.cpu_count(),
        **figures,
    }
    if file is not None:
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    load = "/".join(str(value) for value in document["load"])
    told(f"{'holds' if ok else 'FAILS'}: {claim} ({document['seconds']} s, load {load})")
    return 0 if ok else 1


def told(text: str) -> None:
    """Say it at once, for those who watch a long run."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
