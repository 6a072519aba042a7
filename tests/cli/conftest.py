"""For the tests of the command line."""

from __future__ import annotations

import pytest

from vsr.pipeline import upscale as upscale_module
from vsr.pipeline.workers import LocalWorkers


@pytest.fixture
def isolated() -> None:
    """Ask for this to have segments made in processes of their own, as everybody else has."""


@pytest.fixture(autouse=True)
def _work_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves the seconds in which a child imports torch; the bytes are the same."""
    if "isolated" not in request.fixturenames:
        monkeypatch.setattr(upscale_module, "open_workers", lambda _: LocalWorkers())
