from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from vsr.engine import cores
from vsr.models.image.interpolation import Interpolation
from vsr.models.video.flowprop import FlowProp

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine of five cores; afterwards as it was."""
    before = torch.get_num_threads()
    monkeypatch.setattr(cores, "num_offered", lambda: 5)
    yield
    torch.set_num_threads(before)


def model() -> FlowProp:
    return FlowProp(num_channels=8, num_blocks=1, flow_channels=4)


def test_a_helper_gets_half_of_the_cores() -> None:
    network = model()
    cores.share_cores(network, CPU)
    assert network.helper is not None and torch.get_num_threads() == 3
    network.helper.shutdown()


def test_one_thread_is_not_shared() -> None:
    network = model()
    cores.share_cores(network, CPU, limit=1)
    assert network.helper is None and torch.get_num_threads() == 1


def test_who_cannot_share_takes_all() -> None:
    cores.share_cores(Interpolation(scale=2), CPU)
    assert torch.get_num_threads() == 5
    cores.share_cores(Interpolation(scale=2), CPU, limit=2)
    assert torch.get_num_threads() == 2


def test_a_gpu_is_left_alone() -> None:
    network, before = model(), torch.get_num_threads()
    cores.share_cores(network, torch.device("cuda"))
    assert network.helper is None and torch.get_num_threads() == before
