"""What is recorded, and what is drawn for it, asks the host for nothing; seen without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vsr.models.video.matches import Matches
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.loop import Trainer
from vsr.training.resident import ResidentSampler

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]
CPU = torch.device("cpu")
aten = torch.ops.aten

WAITS = {
    "_local_scalar_dense": "a number is brought to the host",
    "is_nonzero": "the host decides",
    "equal": "the host decides",
    "nonzero": "a shape hangs on numbers",
    "masked_select": "a shape hangs on numbers",
    "lift_fresh": "a tensor is made of the host's numbers",
    "multinomial": "it may look at its weights on the host",
    "linalg_inv": "the host learns whether it could",
}
"""Operations that cannot be recorded or have to be waited for."""


class Listener(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what a GPU would have to wait for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.heard: list[str] = []
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        name = func.overloadpacket.__name__
        if name in WAITS:
            self.heard.append(f"{name}: {WAITS[name]}")
        return func(*args, **(kwargs or {}))


@contextmanager
def listening() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def test_a_listener_hears() -> None:
    with listening() as listener:
        float(torch.rand(3)[0])
        _ = torch.tensor([1.0]) + 1
        torch.rand(3)[torch.rand(3) > 0.5]
    assert {heard.split(":")[0] for heard in listener.heard} >= {
        "_local_scalar_dense",
        "lift_fresh",
    }


STILLS: dict[str, dict[str, Any]] = {
    "edsr": {"num_channels": 8, "num_blocks": 1},
    "srvgg": {},
    "fsrcnn": {},
    "espcn": {},
    "lapsrn": {},
    "rrdb": {},
    "dbpn": {},
    "srcnn": {},
    "msrresnet": {},
}
FLOWPROP = {"num_channels": 8, "num_blocks": 1, "flow_channels": 4, "flow_levels": 2}
CASES: dict[str, dict[str, Any]] = {
    "forward": {},
    "both": {
        "model": {"params": {**FLOWPROP, "num_groups": 2, "num_rounds": 2, "tail_blocks": 1}},
        "data": {"carried_frames": 2},
        "optimizer": {"flow_frozen": 0.0, "flow_loss_weight": 0.5},
    },
    "cleaning": {
        "model": {"params": {**FLOWPROP, "cleaning_blocks": 1}},
        "loss": {"cleaning": 0.5},
    },
    "distilled": {"distill": {"teacher": "bicubic-x2"}},
    "flow": {"model": {"id": "f", "family": "flow", "params": {"num_channels": 4}}},
    **{
        name: {
            "model": {"id": name, "family": name, "params": params},
            "data": {"num_frames": [1]},
        }
        for name, params in STILLS.items()
    },
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_step_asks_for_nothing(
    make_store: MakeStore,
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    # Asked of a CPU alone.
    monkeypatch.setattr(Matches, "_is_repeated", lambda *_: False)
    sections = {"schedule": {"steps": 9, "graph": True}, "precision": "bf16", **CASES[name]}
    trainer = Trainer(make_config(**sections), make_store(), tmp_path, CPU)
    assert trainer.task.hindrance is None
    trainer.train_step()  # tables are made when they are first asked for
    step = trainer.device_step
    assert step is not None
    drawn = trainer._draw()
    with listening() as listener:
        step._eagerly(drawn)
    assert listener.count > 50
    assert listener.heard == []


@pytest.mark.parametrize("copies", [0, 1])
def test_a_batch_asks_for_nothing(
    make_store: MakeStore, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    from vsr.training.degraded import prepare_pairs

    store = make_store()
    config = make_config(data={"degraded_copies": copies})
    sampler = ResidentSampler(
        store, device=CPU, scale=2, crop_px=16, pairs=prepare_pairs(store, config)
    )
    # The one thing that the host decides, with numbers of its own.
    monkeypatch.setattr(sampler, "_num_photos", lambda batch: batch // 2)
    sampler.draw(4, 3)
    sampler.draw_flow(2)
    with listening() as listener:
        sampler.draw(4, 3)
        sampler.draw(2, 3)
        sampler.draw_flow(2)
    assert listener.count > 50
    assert listener.heard == []
