"""How a CPU's cores are shared between the threads of a model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch

from vsr.models.ahead import UsesHelper
from vsr.models.upscaler import Upscaler


@cache
def num_offered() -> int:
    """Threads that torch takes of its own accord; asked before anything else changes it."""
    return torch.get_num_threads()


def share_cores(model: Upscaler, device: torch.device, limit: int | None = None) -> None:
    """Settle how many threads compute, and give a model a helper where it can use one.

    A model with a helper has two threads that compute at a time, so that each gets one half of the
    cores. The result's bytes do not depend on it.

    Args:
        model: on its way to the device.
        device: where it runs; on a GPU nothing is changed.
        limit: of the threads, where memory ran out with more of them.
    """
    if device.type != "cpu":
        return
    count = min(num_offered(), limit or num_offered())
    if count > 1 and isinstance(model, UsesHelper):
        model.helper = ThreadPoolExecutor(1, thread_name_prefix="vsr-helper")
        count = (count + 1) // 2
    torch.set_num_threads(count)
