"""What a machine is and how hard its GPU works, for measurements."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

_SAMPLE_MS = 100


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, GPU and versions."""
    return {
        "cpu": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": _num_cores(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }


def _processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_vram_mb(device: torch.device) -> float | None:
    """Most GPU memory that tensors of this process ever held, megabytes; None without a GPU."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / 1e6, 1)


class BusyMeter:
    """Samples how busy a GPU is, whichever process uses it; a context manager.

    Reads the driver's own figure through `nvidia-smi`: the share of each sampling period in which
    at least one kernel ran.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process: subprocess.Popen[str] | None = None
        self.share: float | None = None
        """Mean share from 0 to 1 once the block has ended; None without a GPU or its tool."""
        self._samples: list[tuple[float, float]] = []

    def __enter__(self) -> Self:
        tool = shutil.which("nvidia-smi")
        if self._device.type == "cuda" and tool is not None:
            self._process = subprocess.Popen(
                [
                    tool,
                    f"--id={self._device.index or 0}",
                    "--query-gpu=timestamp,utilization.gpu",
                    "--format=csv,noheader,nounits",
                    f"--loop-ms={_SAMPLE_MS}",
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is None:
            return
        self._process.terminate()
        output, _ = self._process.communicate()
        self._samples = read_samples(output)
        self.share = self.share_between(float("-inf"), float("inf"))

    def share_between(self, begin: float, end: float) -> float | None:
        """Mean share in a stretch of the block, by `time.time`; None where nothing was sampled."""
        shares = [share for moment, share in self._samples if begin <= moment <= end]
        return sum(shares) / len(shares) if shares else None


def read_samples(output: str) -> list[tuple[float, float]]:
    """Seconds since the epoch and share from 0 to 1 of each line that `nvidia-smi` printed."""
    samples = []
    for line in output.splitlines():
        moment, _, percent = line.partition(",")
        try:
            # Local time, without its zone.
            seconds = datetime.strptime(moment.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            samples.append((seconds, float(percent) / 100))
        except ValueError:
            # What it cannot tell it calls "[N/A]", and its last line may be torn.
            continue
    return samples
