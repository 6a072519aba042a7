"""Rows 25 to 27: devices and models that fail while a film runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.faults.damage import noisy
from tests.faults.inject import injected
from tests.faults.promise import Ended, Faults, MakeClip, in_a_process, listing

MODEL = "flowprop-xs-x4"
NUM_FRAMES = 8
_SABOTAGE = """
import os
import torch

load = module.load_upscaler

def loaded(name, **options):
    model = load(name, **options)
    if str(name) == {model!r}:
        for method in ("upscale", "render"):
            if hasattr(model, method):
                setattr(model, method, sabotaged(getattr(model, method)))
    return model

calls = []

def sabotaged(real):
    def wrong(*arguments, **options):
        calls.append(1)
        result = real(*arguments, **options)
        frames = result[0] if isinstance(result, tuple) else result
        {act}
        return (frames, *result[1:]) if isinstance(result, tuple) else frames
    return wrong

module.load_upscaler = loaded
"""


def run(faults: Faults, film: Path, act: str, *flags: str, model: str = MODEL) -> Ended:
    """Upscale with a model whose results, `frames`, are changed by `act`."""
    body = _SABOTAGE.format(model=model, act=act)
    env = injected(faults.source.parent / "inject", "vsr.models.checkpoint", body)
    output = faults.target / "result.mkv"
    arguments = ["upscale", "--model", model, "--device", "cpu", "--json", *flags]
    return in_a_process([*arguments, "--", str(film), str(output)], env=env)


@pytest.fixture
def film(faults: Faults, make_clip: MakeClip) -> Path:
    return make_clip(faults.source / "film.mkv", frames=NUM_FRAMES, fill=noisy)


WRONGS = {
    "NaN": ("frames = frames * float('nan')", "nan"),
    "infinity": ("frames = frames + float('inf')", "nan"),
    "black": ("frames = torch.zeros_like(frames)", "black"),
    "wrong shape": ("frames = frames[..., :-1]", "shape"),
    "wrong dtype": ("frames = frames.to(torch.int32)", None),
}


@pytest.mark.fault(row=27, injected="a network whose every picture is wrong")
@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONGS)
def test_wrong_pictures(faults: Faults, film: Path, wrong: str) -> None:
    act, kind = WRONGS[wrong]
    ended = run(faults, film, act)
    if ended.code == 0:
        document = faults.proven(film, faults.target / "result.mkv", ended, num_frames=NUM_FRAMES)
        events = [e for e in document["events"] if e["kind"] not in ("picture_change",)]
        assert events, document
        assert kind is None or kind in {event["kind"] for event in events}
        faults.tell(f"{events[0]['kind']}: {events[0].get('action') or events[0]['detail']}")
    else:
        refused(faults, ended, 4)


@pytest.mark.fault(row=27, injected="one call of the network gives NaN")
@pytest.mark.slow
def test_one_wrong_picture(faults: Faults, film: Path) -> None:
    ended = run(faults, film, "frames = frames * float('nan') if len(calls) == 1 else frames")
    assert ended.code == 0, ended.err
    document = faults.proven(film, faults.target / "result.mkv", ended, num_frames=NUM_FRAMES)
    (event,) = [event for event in document["events"] if event["kind"] == "nan"]
    faults.tell(f"frames of that call {event.get('action') or event['detail']}")


def refused(faults: Faults, ended: Ended, *codes: int) -> None:
    """Assert that it ended in a sentence, and that nothing took the result's name."""
    assert ended.code in codes, (ended.code, ended.err)
    assert "Traceback" not in ended.err
    assert "result.mkv" not in listing(faults.target)
    *_, sentence = [line for line in ended.err.splitlines() if line.startswith("vsr: ")]
    faults.tell(f'exit {ended.code}: "{faults.plain(sentence)}"')


OUT = "raise torch.cuda.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB')"


@pytest.mark.fault(row=25, injected="torch's out-of-memory error for larger pictures alone")
@pytest.mark.slow
def test_out_of_memory_once(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(
        faults.source / "film.mkv", frames=NUM_FRAMES, width=160, height=96, fill=noisy
    )
    act = f"if frames.shape[-1] * frames.shape[-2] > 16 * 10_000: {OUT}"
    ended = run(faults, film, act)
    assert ended.code == 0, ended.err
    document = faults.proven(film, faults.target / "result.mkv", ended, num_frames=NUM_FRAMES)
    assert document["exact"] is False
    memory = [event for event in document["events"] if event["kind"] == "memory"]
    assert memory or "memory" in str(document["plan"]), document
    faults.tell(f"not exact: {memory[0].get('action') if memory else 'said'}")


@pytest.mark.fault(row=25, injected="torch's out-of-memory error at every size")
@pytest.mark.slow
def test_out_of_memory_always(faults: Faults, film: Path) -> None:
    refused(faults, run(faults, film, OUT), 5)


@pytest.mark.fault(row=26, injected="CUDA errors out of every call")
@pytest.mark.slow
def test_a_device_that_fails(faults: Faults, film: Path) -> None:
    act = "raise RuntimeError('CUDA error: an illegal memory access was encountered')"
    refused(faults, run(faults, film, act), 5)


@pytest.mark.fault(row=26, injected="a device asked for that is not there")
def test_no_such_device(faults: Faults, film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    faults.refused(film, "--device", "cuda:7", code=5)


@pytest.mark.usefixtures("needs_cuda")
def test_out_of_memory_on_a_gpu(faults: Faults, make_clip: MakeClip) -> None:
    """Row 25 on the real thing: another process holds nearly all of the memory."""
    import torch

    film = make_clip(faults.source / "film.mkv", frames=4, width=1280, height=720, fill=noisy)
    total = torch.cuda.get_device_properties(0).total_memory
    share = min(0.99, 600_000_000 / total)
    body = f"module.cuda.set_per_process_memory_fraction({share})"
    env: dict[str, Any] = injected(faults.source.parent / "inject", "torch", body)
    output = faults.target / "result.mkv"
    arguments = ["upscale", "--model", MODEL, "--device", "cuda", "--json", str(film), str(output)]
    ended = in_a_process(arguments, env={**os.environ, **env})
    assert ended.code in (0, 5), ended.err
    if ended.code == 0:
        assert ended.document["frames"] == 4
