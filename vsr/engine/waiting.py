"""How torch's threads wait for each other on a CPU. Imports no torch: it has to come first."""

from __future__ import annotations

import os
import sys

_POLICY = "OMP_WAIT_POLICY"
_SPIN_COUNT = "GOMP_SPINCOUNT"
_SPINS = "20000"


def wait_briefly() -> bool:
    """Let torch's CPU threads sleep when they wait for longer than a moment, instead of spinning.

    By default they spin, for the case that nobody else wants the core. Here the decoder and the
    encoder do, and a thread that spins keeps its partner from finishing: two busy cores took 246 ms
    for what takes 0.2 ms. Yet to sleep at once costs as much where waking takes long, as on virtual
    machines: on two such cores a run of flowprop-s took 1.4 times as long as with some tenths of a
    millisecond of spinning. That moment is for GNU's OpenMP, which torch's own builds use; others
    sleep at once. Call it before torch is imported; what the user has set is left alone.

    Returns:
        Whether threads will sleep, as far as this process can tell.
    """
    if "torch" not in sys.modules and _POLICY not in os.environ:
        os.environ[_POLICY] = "PASSIVE"
        os.environ.setdefault(_SPIN_COUNT, _SPINS)
    return os.environ.get(_POLICY, "").upper() == "PASSIVE"
