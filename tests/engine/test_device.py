"""Devices are found by name, and what is not there is refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from vsr.engine.device import device_class, resolve_device
from vsr.errors import DeviceError


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:99", "mps", "cpu:x"])
def test_absent_devices_are_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        resolve_device(name)
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_the_class_of_a_cpu_is_stable() -> None:
    assert device_class(torch.device("cpu")) == device_class(torch.device("cpu"))
    assert device_class(torch.device("cpu")).startswith("cpu ")
