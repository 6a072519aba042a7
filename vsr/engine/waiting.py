"""How torch's threads wait for each other on a CPU. Imports no torch: it has to come first."""

from __future__ import annotations

import os
import sys

_VARIABLE = "OMP_WAIT_POLICY"


def wait_passively() -> bool:
    """Let torch's CPU threads sleep while they wait, instead of spinning.

    By default they spin, for the case that nobody else wants the core. Here the decoder and the
    encoder do, and a thread that spins keeps its partner from finishing: two busy cores took 246 ms
    for what takes 0.2 ms. Call it before torch is imported; what the user has set is left alone.

    Returns:
        Whether threads will sleep, as far as this process can tell.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault(_VARIABLE, "PASSIVE")
    return os.environ.get(_VARIABLE, "").upper() == "PASSIVE"
