"""Marks of the fault tests, the guard against hangs, and what they tell the page of outcomes."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType

import pytest

pytest.register_assert_rewrite("tests.faults.promise")

from tests.faults.promise import Faults  # noqa: E402 - after its asserts are made to speak
from tests.faults.table import PAGE, ROWS, Case, missing, render  # noqa: E402

MAX_SECONDS = 170
"""Longer than any test that is not marked slow takes; a hang ends here, with a traceback."""
_OUTCOMES: pytest.StashKey[list[str]] = pytest.StashKey()
_cases: list[Case] = []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test that injects a fault is one of `-m faults`; all but the slow ones always run."""
    for item in items:
        if item.get_closest_marker("fault") is None:
            continue
        item.add_marker(pytest.mark.faults)
        if item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.quick)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep what each test told of its rows."""
    report = yield
    is_result = report.when == "call" or (report.when == "setup" and not report.passed)
    for mark in item.iter_markers("fault") if is_result else ():
        assert mark.kwargs["row"] in ROWS, f"{item.nodeid} names a row that is not there"
        name, _, parameters = item.name.partition("[")
        told: list[str] = item.stash[_OUTCOMES] if _OUTCOMES in item.stash else []  # noqa: SIM401
        _cases.append(
            Case(
                row=mark.kwargs["row"],
                injected=mark.kwargs["injected"],
                test=f"{item.path.stem}::{name}",
                parameters=parameters.removesuffix("]"),
                outcomes=tuple(told),
                result=report.outcome,
            )
        )
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the page, if every row passed in this run."""
    if not session.config.getoption("--write-faults"):
        return
    if missing(_cases):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
        return
    PAGE.write_text(render(sorted(_cases, key=lambda case: case.row)), encoding="utf-8")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say whether the page was written."""
    if config.getoption("--write-faults"):
        bad = missing(_cases)
        said = f"not written: rows {bad} did not all pass" if bad else "written"
        terminalreporter.write_line(f"{PAGE.name} was {said}")


@pytest.fixture(autouse=True)
def _no_hang(request: pytest.FixtureRequest) -> Iterator[None]:
    """End a test that hangs, whatever it waits for."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError("the test hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    is_slow = request.node.get_closest_marker("slow") is not None
    signal.alarm(MAX_SECONDS * (10 if is_slow else 1))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def faults(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Faults:
    """Runs the program in folders of its own, and asserts and records what became of it."""
    return _faults(request, tmp_path, monkeypatch, capfd)


@pytest.fixture
def open_faults(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Iterator[Faults]:
    """The same in folders that every user may enter and write to, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="vsr-faults-"))
    folder.chmod(0o755)
    faults = _faults(request, folder, monkeypatch, capfd)
    for each in (faults.source, faults.target, faults.scratch):
        each.chmod(0o777)
    yield faults
    shutil.rmtree(folder)


def _faults(
    request: pytest.FixtureRequest,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Faults:
    faults = Faults(folder, capfd, request.node.stash.setdefault(_OUTCOMES, []))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", os.fspath(faults.scratch))
    return faults
