"""Measure a run: each stage alone, all of it together, and the loop that most tools use.

Every rate is the median of several repeats of the same work in the same process, with the plan that
`vsr upscale` would make for the clip.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vsr.config import UpscaleConfig
from vsr.engine.trace import Trace
from vsr.engine.trace import trace as look_at
from vsr.engine.waiting import wait_briefly
from vsr.frame import Frame
from vsr.media.encoder import SegmentEncoder
from vsr.media.hardware import hardware_of
from vsr.media.reader import FrameReader
from vsr.media.rgb24 import Rgb24Writer, read_rgb24
from vsr.pipeline.bench_clip import write_bench_clip
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.upscale import upscale

_MAX_HELD_BYTES = 256 << 20
"""Of frames that are decoded or enlarged beforehand and used again and again."""
_NUM_TRACED_CHUNKS = 3

OnStep = Callable[[str], None]


class Rate(BaseModel):
    """Frames a second over the repeats."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: float
    lowest: float
    highest: float


class StageRates(BaseModel):
    """Median frames a second of each stage while nothing else runs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decode_fps: float
    infer_fps: float
    encode_fps: float


class BenchResult(BaseModel):
    """What was measured, for people and scripts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machine: dict[str, Any]
    model: str
    size: str
    """Of the source, `WIDTHxHEIGHT`."""
    result_size: str
    frames: int
    repeats: int
    device: str
    dtype: str
    encoder: str
    """Name, options and threads."""
    stages: StageRates
    spread: dict[str, Rate]
    """Of every rate, the naive loop's among them."""
    end_to_end_fps: float
    """Of whole runs: scan, segments, join and check included."""
    upscale_fps: float
    """Of the part of those runs in which the three stages work side by side."""
    efficiency: float
    """`end_to_end_fps` over the rate of the slowest stage alone; 1 is the most there can be."""
    naive_fps: float | None
    speedup: float | None
    """`end_to_end_fps` over `naive_fps`."""
    peak_rss_mb: float
    """Of this process and its largest child."""
    peak_vram_mb: float | None
    """Of the model alone, while it is measured alone; None without a GPU."""
    gpu_busy: float | None
    """Share of the whole run in which the GPU computed; None without a GPU."""
    gpu_busy_upscale: float | None = None
    """The same of the part in which the three stages work side by side."""
    bytes_per_frame: dict[str, int]
    """Samples that go to the device and come back."""
    decoder: str = "software"
    """What decodes: as in the plan."""
    graphs: bool = False
    """Whether chunks are replayed as CUDA graphs."""
    trace: Trace | None = None
    """Where the model's time goes, measured alone, where that was asked for."""


def bench(
    config: UpscaleConfig,
    *,
    source: Path | None = None,
    size: tuple[int, int] = (320, 180),
    num_frames: int = 120,
    repeats: int = 3,
    naive: bool = False,
    trace: bool = False,
    on_step: OnStep | None = None,
) -> BenchResult:
    """Measure one configuration on one clip.

    Args:
        config: as for `upscale`.
        source: a film; None renders one of `size` and `num_frames`.
        size: (width, height) of the rendered film.
        num_frames: of the rendered film.
        repeats: how often everything is measured, at least 1.
        naive: measure the loop that most tools use as well.
        trace: look at what the model does with torch's profiler.
        on_step: called with what is measured next.

    Raises:
        VsrError: as `upscale`.
    """
    wait_briefly()
    tell = on_step or (lambda _: None)
    with tempfile.TemporaryDirectory(prefix="vsr-bench-") as name:
        folder = Path(name)
        if source is None:
            tell("render the clip")
            source = folder / "clip.mkv"
            write_bench_clip(source, *size, num_frames)
        output = folder / "result.mkv"
        plan = make_plan(source, output, config)
        return _Bench(plan, source, output, config, repeats, tell).run(naive=naive, trace=trace)


class _Bench:
    """The measurements of one clip."""

    def __init__(
        self,
        plan: Plan,
        source: Path,
        output: Path,
        config: UpscaleConfig,
        repeats: int,
        tell: OnStep,
    ) -> None:
        self._plan, self._source, self._output = plan, source, output
        self._config = config.model_copy(update={"overwrite": True, "restart": True})
        self._repeats, self._tell = repeats, tell
        self._upscale_fps: list[float] = []
        self._busy: list[float] = []
        self._busy_upscale: list[float] = []
        self._trace: Trace | None = None

    def run(self, *, naive: bool, trace: bool) -> BenchResult:
        # Here, because what measures the GPU needs torch.
        import torch

        from vsr.engine.meter import describe_machine, peak_vram_mb

        plan = self._plan
        device = torch.device(plan.compute.device)
        frames = self._frames()
        results, infer = self._infer(frames, trace=trace)
        frames = []
        vram = peak_vram_mb(device)
        rates = {
            "decode": self._rate("decode", self._decode),
            "infer": infer,
            "encode": self._rate("encode", lambda: self._encode(results)),
        }
        results = []
        rates["end_to_end"] = self._rate("run as a whole", self._end_to_end)
        if naive:
            rates["naive"] = self._rate("run as most tools do", self._naive)
        whole = rates["end_to_end"].median
        slowest = min(rates[stage].median for stage in ("decode", "infer", "encode"))
        naive_fps = rates["naive"].median if naive else None
        video, encoder = plan.video, plan.encoder
        return BenchResult(
            machine=describe_machine(device),
            model=plan.model.id,
            size=f"{video.width}x{video.height}",
            result_size=f"{encoder.width}x{encoder.height}",
            frames=plan.num_frames,
            repeats=self._repeats,
            device=plan.compute.device,
            dtype=plan.compute.dtype,
            encoder=f"{encoder.codec} {encoder.options} threads {encoder.threads}",
            stages=StageRates(
                decode_fps=rates["decode"].median,
                infer_fps=rates["infer"].median,
                encode_fps=rates["encode"].median,
            ),
            spread=rates,
            end_to_end_fps=whole,
            upscale_fps=round(statistics.median(self._upscale_fps), 3),
            efficiency=round(whole / slowest, 4),
            naive_fps=naive_fps,
            speedup=None if naive_fps is None else round(whole / naive_fps, 3),
            peak_rss_mb=peak_rss_mb(),
            peak_vram_mb=vram,
            gpu_busy=_median(self._busy),
            gpu_busy_upscale=_median(self._busy_upscale),
            bytes_per_frame=self._moved,
            decoder=plan.decoder,
            graphs=plan.compute.graphs,
            trace=self._trace,
        )

    def _rate(self, name: str, work: Callable[[], int]) -> Rate:
        """Repeat work that says how many frames it did."""
        found = []
        for number in range(self._repeats):
            self._tell(f"{name} ({number + 1} of {self._repeats})")
            started = time.perf_counter()
            count = work()
            found.append(count / (time.perf_counter() - started))
        return Rate(
            median=round(statistics.median(found), 3),
            lowest=round(min(found), 3),
            highest=round(max(found), 3),
        )

    def _reader(self) -> FrameReader:
        """As the plan has it."""
        plan = self._plan
        return FrameReader(
            self._source,
            info=plan.video,
            threads=plan.decode_threads,
            hardware=hardware_of(plan.decoder, plan.compute.device),
        )

    def _frames(self) -> list[Frame]:
        """The first source frames, as many as may be held."""
        with self._reader() as reader:
            return _held(reader)

    def _decode(self) -> int:
        with self._reader() as reader:
            return sum(1 for _ in reader)

    def _infer(self, frames: Sequence[Frame], *, trace: bool) -> tuple[list[Frame], Rate]:
        """Results to encode, and the rate of colour conversion and model."""
        import torch

        from vsr.pipeline.segment import make_runner

        plan = self._plan
        runner = make_runner(plan, plan.segments[0])
        count = plan.num_frames

        def enlarge(number: int) -> Iterator[Frame]:
            runner.start_shot()
            for frame in islice(cycle(frames), number):
                yield from runner.push(frame)
            yield from runner.finish_shot()

        # Warms up, too: first calls choose kernels and allocate.
        results = _held(enlarge(len(frames)))
        self._moved = {"in": _num_bytes(frames[0]), "out": _num_bytes(results[0])}
        rate = self._rate("infer", lambda: sum(1 for _ in enlarge(count)))
        if trace:
            self._tell("look at the model")
            few = min(count, _NUM_TRACED_CHUNKS * plan.model.chunk + plan.model.context)
            device = torch.device(plan.compute.device)
            self._trace = look_at(lambda: sum(1 for _ in enlarge(few)), device)
        return results, rate

    def _encode(self, results: Sequence[Frame]) -> int:
        path = self._output.with_name("alone.mkv")
        count = self._plan.num_frames
        with SegmentEncoder(path, self._plan.encoder) as encoder:
            for number, frame in enumerate(islice(cycle(results), count)):
                encoder.encode(_at(frame, number))
        path.unlink()
        return count

    def _end_to_end(self) -> int:
        import torch

        from vsr.engine.meter import BusyMeter

        with BusyMeter(torch.device(self._plan.compute.device)) as meter:
            started = time.time()
            result = upscale(self._source, self._output, self._config)
        self._upscale_fps.append(result.fps)
        if meter.share is not None:
            self._busy.append(meter.share)
        begun = started + result.stages["scan"]
        share = meter.share_between(begun, begun + result.stages["upscale"])
        if share is not None:
            self._busy_upscale.append(share)
        self._output.unlink()
        return result.frames

    def _naive(self) -> int:
        """One frame per call: swscale to packed RGB, float32, the whole picture in float, back."""
        import torch

        from vsr.models.checkpoint import load_upscaler

        plan = self._plan
        device = torch.device(plan.compute.device)
        model = load_upscaler(
            plan.model.file or plan.model.id, device=device, dtype=torch.float32
        ).eval()
        path = self._output.with_name("naive.mkv")
        state = None
        count = 0
        with torch.no_grad(), Rgb24Writer(path, plan.encoder) as writer:
            for picture_HW3 in read_rgb24(self._source):
                pixels = torch.from_numpy(picture_HW3).to(device)
                frame_B1CHW = (pixels.permute(2, 0, 1).float() / 255).contiguous()[None, None]
                if state is None:
                    state = model.init_state(1, *frame_B1CHW.shape[-2:], plan.model.seed)
                    state = tuple(tensor.to(device) for tensor in state)
                result_B1CHW, state = model.upscale(frame_B1CHW, state, 0)
                codes = result_B1CHW[0, 0].clamp(0, 1).mul(255).round().byte()
                writer.write(codes.permute(1, 2, 0).contiguous().cpu().numpy())
                count += 1
        path.unlink()
        return count


def _median(shares: Sequence[float]) -> float | None:
    return round(statistics.median(shares), 4) if shares else None


def _held(frames: Iterator[Frame] | FrameReader) -> list[Frame]:
    """The first frames, at least one, of at most so many bytes; the rest is run through."""
    held: list[Frame] = []
    for frame in frames:
        if not held or (len(held) + 1) * _num_bytes(frame) <= _MAX_HELD_BYTES:
            held.append(frame)
    return held


def _num_bytes(frame: Frame) -> int:
    return sum(plane.nbytes for plane in frame.planes)


def _at(frame: Frame, number: int) -> Frame:
    return replace(frame, pts=number, side_data=())


def peak_rss_mb() -> float:
    """Most memory that this process and its largest child ever held, megabytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    most = sum(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return round(most * unit / 1e6, 1)
