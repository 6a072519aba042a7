"""How busy a GPU is, as its driver's tool tells."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path

import pytest
import torch

from vsr.engine.meter import BusyMeter, read_samples

GPU = torch.device("cuda", 1)


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]


def test_lines_are_read_and_torn_ones_left_out() -> None:
    now = round(time.time(), 3)
    output = f"{stamp(now)}, 40\n{stamp(now + 1)}, [N/A]\n{stamp(now + 2)}, 100\n2026/1"
    samples = read_samples(output)
    assert [share for _, share in samples] == [0.4, 1.0]
    assert samples[0][0] == pytest.approx(now, abs=1e-3)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in is a shell script")
def test_a_block_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    tool = tmp_path / "nvidia-smi"
    lines = "".join(f"echo '{stamp(now + i)}, {50 * i}'\n" for i in range(3))
    tool.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\n{lines}exec sleep 60\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with BusyMeter(GPU) as meter:
        assert meter.share is None
        deadline = time.monotonic() + 10
        while not (tmp_path / "asked").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
    assert meter.share == pytest.approx(0.5)
    assert meter.share_between(now + 0.5, now + 9) == pytest.approx(0.75)
    assert meter.share_between(now + 7, now + 9) is None
    assert "--id=1" in (tmp_path / "asked").read_text()


def test_without_a_gpu_nothing_is_sampled() -> None:
    with BusyMeter(torch.device("cpu")) as meter:
        pass
    assert meter.share is None
    assert meter.share_between(0.0, 1e12) is None
