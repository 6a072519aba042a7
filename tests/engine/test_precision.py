"""The probe measures, decides by a margin and disturbs nothing."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import pytest
import torch
from torch import nn

from vsr.engine import precision
from vsr.engine.precision import PrecisionProbe, choose_dtype, cpu_has_bfloat16, probe_cpu_bf16
from vsr.models.upscaler import ModelSpec

CPU = torch.device("cpu")
SPEC = ModelSpec(
    id="stub-x2", family="stub", scale=2, kind="video", build=nn.Identity, weights="stub-x2"
)


def test_probe_gives_times_and_leaves_the_random_generator_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    probe = probe_cpu_bf16()
    assert torch.equal(torch.get_rng_state(), before)
    assert 0 < probe.float32_ms < 10_000
    assert 0 < probe.bfloat16_ms < 10_000


def test_bfloat16_needs_a_clear_gain() -> None:
    assert PrecisionProbe(float32_ms=20.0, bfloat16_ms=10.0).prefers_bfloat16
    assert not PrecisionProbe(float32_ms=10.5, bfloat16_ms=10.0).prefers_bfloat16
    assert not PrecisionProbe(float32_ms=5.0, bfloat16_ms=10.0).prefers_bfloat16


@pytest.mark.parametrize(
    ("probe", "expected"),
    [
        (PrecisionProbe(20.0, 10.0), torch.bfloat16),
        (PrecisionProbe(10.0, 20.0), torch.float32),
    ],
)
def test_an_unknown_cpu_gets_what_the_probe_says(
    monkeypatch: pytest.MonkeyPatch, probe: PrecisionProbe, expected: torch.dtype
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: None)
    monkeypatch.setattr(precision, "probe_cpu_bf16", lambda: probe)
    dtype, reason = choose_dtype(SPEC, CPU)
    assert dtype == expected
    assert "20.0 ms" in reason
    assert "10.0 ms" in reason


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", torch.bfloat16),
        ("flags\t\t: fpu amx_bf16\n", torch.bfloat16),
        ("flags\t\t: fpu avx2 avx512f\n", torch.float32),
    ],
)
def test_nothing_is_measured_where_the_system_tells(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, expected: torch.dtype
) -> None:
    def fail() -> PrecisionProbe:
        raise AssertionError("probed")

    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(precision, "probe_cpu_bf16", fail)
    assert choose_dtype(SPEC, CPU)[0] == expected


def test_what_the_system_does_not_tell_is_not_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "missing")
    assert cpu_has_bfloat16() is None
    (tmp_path / "empty").write_text("processor : 0\n")
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "empty")
    assert cpu_has_bfloat16() is None
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert cpu_has_bfloat16() is None


@pytest.mark.parametrize("change", [{"weights": None}, {"bf16": False}])
def test_models_without_use_for_it_are_not_probed(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    def fail() -> PrecisionProbe:
        raise AssertionError("probed")

    monkeypatch.setattr(precision, "probe_cpu_bf16", fail)
    spec = dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]
    assert choose_dtype(spec, CPU)[0] == torch.float32
