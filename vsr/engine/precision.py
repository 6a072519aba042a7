"""Choose the number format of a run's convolutions.

The choice is made once, before the plan is written, and stands in the plan: a resumed run, another
worker or another machine reads it there and never measures again, because the format changes the
result's bytes. float16 is never chosen on a CPU, where it is emulated.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.models.upscaler import ModelSpec

PROBE_SIZES = ((36, 64), (72, 128))
"""(height, width): one that fits the processor's caches and one that does not quite."""
PROBE_CHANNELS = 32
PROBE_REPEATS = 3
MIN_GAIN = 1.15
"""How many times faster bfloat16 has to be. Processors that have it measure 1.4 to 3, those that
emulate it stay under 1. On a crowded machine noise is larger than that gap all the same."""
_CPU_INFO = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True, slots=True)
class PrecisionProbe:
    """What the start-up probe measured: the sums over all sizes, best of the repeats."""

    float32_ms: float
    bfloat16_ms: float

    @property
    def gain(self) -> float:
        """How many times faster bfloat16 ran than float32."""
        return self.float32_ms / self.bfloat16_ms

    @property
    def prefers_bfloat16(self) -> bool:
        return self.gain >= MIN_GAIN


def cpu_has_bfloat16() -> bool | None:
    """Whether the processor multiplies bfloat16 itself; None where the system does not tell.

    What Linux says of an x86 agrees with what was measured on each. Of others it is not known
    whether torch makes use of what they have.
    """
    if platform.machine() != "x86_64":
        return None
    try:
        with _CPU_INFO.open(encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), None)
    except OSError:
        return None
    return None if flags is None else not _BFLOAT16_FLAGS.isdisjoint(flags.split())


def _stack(dtype: torch.dtype) -> nn.Module:
    layers: list[nn.Module] = []
    for _ in range(2):
        conv = nn.Conv2d(PROBE_CHANNELS, PROBE_CHANNELS, 3, padding=1)
        # Filled by hand: default initialisation would draw from the process's random generator.
        nn.init.constant_(conv.weight, 1.0 / 512)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.ReLU()]
    stack = nn.Sequential(*layers).to(dtype).eval()
    # What torch declares for this overload changes from version to version.
    cast(Any, stack).to(memory_format=torch.channels_last)
    return stack


def _time_ms(stack: nn.Module, image_BCHW: Tensor) -> float:
    start = time.perf_counter()
    stack(image_BCHW)
    return (time.perf_counter() - start) * 1e3


def probe_cpu_bf16() -> PrecisionProbe:
    """Time a small stack of 3x3 convolutions in float32 and bfloat16, channels last.

    For processors of which nothing is known: beside six busy processes on two cores, 5 of 60
    measurements preferred the wrong one.

    Takes about 20 ms on a processor of today. Runs on one thread: on a busy machine threads wait
    for each other at every layer, which once made both formats 20 times slower and equally slow.
    Call it before other threads of the process compute.
    """
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return _measure()
    finally:
        torch.set_num_threads(num_threads)


def _measure() -> PrecisionProbe:
    dtypes = (torch.float32, torch.bfloat16)
    with torch.random.fork_rng(devices=[]):
        stacks = {dtype: _stack(dtype) for dtype in dtypes}
    totals = dict.fromkeys(dtypes, 0.0)
    for height, width in PROBE_SIZES:
        images = {
            dtype: torch.full((1, PROBE_CHANNELS, height, width), 0.5, dtype=dtype).to(
                memory_format=torch.channels_last
            )
            for dtype in dtypes
        }
        for dtype in dtypes:  # kernels are built at a shape's first run
            stacks[dtype](images[dtype])
        best = dict.fromkeys(dtypes, float("inf"))
        for _ in range(PROBE_REPEATS):
            # In turn, so that a busy moment of the machine meets both.
            for dtype in dtypes:
                best[dtype] = min(best[dtype], _time_ms(stacks[dtype], images[dtype]))
        for dtype in dtypes:
            totals[dtype] += best[dtype]
    return PrecisionProbe(totals[torch.float32], totals[torch.bfloat16])


def choose_dtype(spec: ModelSpec, device: torch.device) -> tuple[torch.dtype, str]:
    """Number format of a model's convolutions on a device, and why.

    Colours, flow and sampling grids are float32 whatever is chosen here.
    """
    if spec.weights is None:
        return torch.float32, "no weights, nothing to gain"
    if not spec.bf16:
        return torch.float32, "the model asks for float32"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "native on this GPU"
        return torch.float32, "this GPU has no bfloat16"
    if device.type != "cpu":
        return torch.float32, f"not tried on {device.type}"
    if (is_native := cpu_has_bfloat16()) is not None:
        # Rather than measured: a run that is killed while it plans must choose the same again.
        if is_native:
            return torch.bfloat16, "native on this processor"
        return torch.float32, "this processor has no bfloat16"
    probe = probe_cpu_bf16()
    dtype = torch.bfloat16 if probe.prefers_bfloat16 else torch.float32
    return dtype, (
        f"3x3 convolutions took {probe.float32_ms:.1f} ms in float32 "
        f"and {probe.bfloat16_ms:.1f} ms in bfloat16"
    )
