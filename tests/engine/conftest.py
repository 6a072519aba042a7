from __future__ import annotations

import pytest

from vsr.engine import runner
from vsr.engine.lanes import CpuLane


class _OnItsOwn(CpuLane):
    """As a GPU's: work that was handed over may still be under way."""

    num_in_flight = 2


@pytest.fixture(params=[CpuLane, _OnItsOwn], ids=["waits", "runs-on"])
def lane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> CpuLane:
    """Of all runners, by turns."""
    found: CpuLane = request.param()
    monkeypatch.setattr(runner, "make_lane", lambda _: found)
    return found
