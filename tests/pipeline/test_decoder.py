"""Which decoder reads a film: chosen before the plan is written, never at the cost of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.media.fake_hardware import FakeHardware
from vsr.config import resolve_config
from vsr.errors import DeviceError, HardwareDecodeError
from vsr.media import hardware as hardware_module
from vsr.media.encoder import SegmentEncoder
from vsr.media.hardware import DecoderChoice
from vsr.pipeline import decoder as decoder_module
from vsr.pipeline.death import Death
from vsr.pipeline.decoder import plan_decoder
from vsr.pipeline.plan import Plan
from vsr.pipeline.planning import make_plan
from vsr.pipeline.scan import Scan, scan
from vsr.pipeline.segment import Effort, run_segment

MakeClip = Callable[..., Path]


@pytest.fixture
def clip(make_clip: MakeClip, tmp_path: Path) -> Path:
    return make_clip(tmp_path / "clip.mkv", frames=30, bframes=2)


@pytest.fixture
def plan(clip: Path) -> Plan:
    flags = {"model": "bicubic-x2", "device": "cpu", "codec": "ffv1"}
    return make_plan(clip, Path("out.mkv"), resolve_config(flags=flags))


@pytest.fixture
def found(clip: Path, plan: Plan) -> Scan:
    return scan(clip, plan.video, decode_threads=1)


def use(monkeypatch: pytest.MonkeyPatch, hardware: FakeHardware) -> FakeHardware:
    monkeypatch.setattr(hardware_module, "open_hardware", lambda _: hardware)
    return hardware


def by_hardware(plan: Plan) -> Plan:
    return plan.model_copy(update={"decoder": "cuda"})


def chosen(plan: Plan, found: Scan, **changes: Any) -> tuple[str, str]:
    wanted: dict[str, Any] = {"device": "cuda:0", "wish": "hardware", "pool": None, **changes}
    name, notes = plan_decoder(plan.source_path, plan.video, found, **wanted)
    return name, " ".join(notes)


def test_a_segment_is_the_same_whoever_decodes(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run_segment(plan, 0, tmp_path)
    hardware = use(monkeypatch, FakeHardware())
    result = run_segment(by_hardware(plan), 0, tmp_path)
    assert result.sha256 == wanted.sha256
    assert (hardware.num_opened, hardware.num_pictures, result.notes) == (1, 30, ())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"missing": True}, "is not there"),
        ({"unfit": True}, "does not decode h264"),
        ({"fail_at": 1}, "refused a packet"),
        ({"fail_at": 25}, "refused a packet"),
        ({"drop": 7}, "gave another frame 7"),
    ],
)
def test_a_decoder_that_fails_costs_no_byte(
    plan: Plan,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    said: str,
) -> None:
    wanted = run_segment(plan, 0, tmp_path)
    hardware = use(monkeypatch, FakeHardware(**options))
    counts: list[int] = []
    result = run_segment(
        by_hardware(plan), 0, tmp_path, on_frame=lambda count, _: counts.append(count)
    )
    assert (result.sha256, result.num_frames, result.exact) == (wanted.sha256, 30, True)
    (note,) = result.notes
    assert note.startswith("Segment 0 was decoded by software: ")
    assert said in note
    assert counts[-1] == 30
    assert hardware.num_opened <= 1
    assert not list(tmp_path.glob("*.part"))


def test_what_cannot_be_begun_again_is_decoded_by_software(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = use(monkeypatch, FakeHardware())
    run_segment(by_hardware(plan), 0, tmp_path, open_encoder=lambda *given: SegmentEncoder(*given))
    assert hardware.num_opened == 0


def test_after_a_crash_the_decoder_is_left_alone(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = use(monkeypatch, FakeHardware())
    run_segment(by_hardware(plan), 0, tmp_path, effort=Effort(is_plain=True))
    assert hardware.num_opened == 0


def test_other_errors_stay_what_they_are(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, FakeHardware())

    def push(*_: Any, **__: Any) -> Any:
        raise DeviceError("the device failed")

    monkeypatch.setattr("vsr.engine.runner.Runner.push", push)
    with pytest.raises(DeviceError, match="the device failed"):
        run_segment(by_hardware(plan), 0, tmp_path)


def test_a_plan_keeps_its_decoder(plan: Plan) -> None:
    assert plan.decoder == "software"
    assert not any(note.startswith("Decoded") for note in plan.notes)
    other = by_hardware(plan)
    assert Plan.model_validate_json(other.model_dump_json()).decoder == "cuda"
    assert other.digest() != plan.digest()


def test_a_try_compares_and_says_what_came_of_it(
    plan: Plan, found: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder_module, "can_start", lambda: False)
    use(monkeypatch, FakeHardware())
    name, said = chosen(plan, found)
    assert name == "cuda"
    assert said.startswith("Decoded on the GPU: the first 24 pictures are the same, ")
    use(monkeypatch, FakeHardware(drop=2))
    assert chosen(plan, found) == (
        "software",
        "Decoded by software: the GPU's decoder gives another picture 2.",
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wish": "software"}, ""),
        ({"wish": "auto"}, "Decoded by software: pictures of 64x48 are decoded fastest"),
        ({"wish": "auto", "device": "cpu"}, ""),
        ({"device": "cpu"}, "Decoded by software: there is no other decoder on cpu."),
    ],
)
def test_it_is_not_tried_where_it_cannot_pay(
    plan: Plan, found: Scan, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    hardware = use(monkeypatch, FakeHardware())
    name, note = chosen(plan, found, **changes)
    assert name == "software"
    assert note.startswith(said) and bool(note) == bool(said)
    assert hardware.num_opened == 0


def test_a_damaged_film_is_for_the_software_decoder(plan: Plan, found: Scan) -> None:
    assert chosen(plan, replace(found, num_damaged=1))[1] == (
        "Decoded by software: the film is damaged."
    )


class Pool:
    """A child that does as it is told to."""

    def __init__(self, outcome: Any) -> None:
        self._outcome = outcome

    def try_out(self, *_: Any, limit_s: float) -> Any:
        assert limit_s <= 60
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


DIED = Death(how="was killed by SIGSEGV", stage=None, said="", is_memory=False, is_killed=False)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (DIED, "the process that tried the GPU was killed by SIGSEGV"),
        (HardwareDecodeError("no driver."), "trying the GPU failed (no driver)"),
        (RuntimeError("a worker process failed:\nValueError: x"), "failed (ValueError: x)"),
    ],
)
def test_a_driver_that_crashes_ends_no_run(
    plan: Plan, found: Scan, outcome: Any, said: str
) -> None:
    name, note = chosen(plan, found, pool=Pool(outcome))
    assert (name, said in note) == ("software", True)
    assert chosen(plan, found, pool=Pool(DecoderChoice("cuda", "x")))[0] == "cuda"


def test_a_child_tries(plan: Plan, found: Scan) -> None:
    """Where there is no card, it comes back and says so."""
    name, note = chosen(plan, found)
    assert note.startswith("Decoded on the GPU" if name == "cuda" else "Decoded by software: ")


@pytest.mark.usefixtures("needs_cuda")
def test_a_run_decodes_on_the_gpu(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "large.mkv", width=1920, height=1080, frames=30, bframes=2)
    digests = []
    for wish in ("hardware", "software"):
        flags = {"model": "bicubic-x2", "device": "cuda", "codec": "h264"}
        config = resolve_config(flags=flags, sets=[f"engine.decoder={wish}"])
        plan = make_plan(clip, Path("out.mkv"), config)
        assert plan.decoder == {"hardware": "cuda", "software": "software"}[wish], plan.notes
        result = run_segment(plan, 0, tmp_path)
        assert result.notes == ()
        digests.append(result.sha256)
    assert digests[0] == digests[1]
