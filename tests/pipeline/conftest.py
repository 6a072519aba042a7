"""For the tests of one film's way."""

from __future__ import annotations

from typing import Any

import pytest

from vsr.pipeline import upscale as upscale_module
from vsr.pipeline.scan import Scan, scan
from vsr.pipeline.workers import LocalWorkers


def scan_here(*arguments: Any, pool: object = None, **wanted: Any) -> Scan:
    """In place of `scan_and_listen`, for tests that need nobody to listen in a child."""
    return scan(*arguments, **wanted)


@pytest.fixture
def isolated() -> None:
    """Ask for this to have segments made in processes of their own, as everybody else has."""


@pytest.fixture(autouse=True)
def _work_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds in which a child imports torch; the bytes are the same."""
    if "isolated" not in request.fixturenames:
        monkeypatch.setattr(upscale_module, "open_workers", lambda _: LocalWorkers())
