"""The shell around the subcommands: instant help, one sentence per error, stable exit codes."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import vsr
from vsr import errors
from vsr.cli import main
from vsr.cli.console import configure_logging, print_json

ROOT = Path(vsr.__file__).parent.parent
HEAVY = ("torch", "av", "numpy", "cv2", "kornia", "pydantic", "safetensors", "jinja2", "tqdm")


def in_a_process(
    code: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Make `vsr probe` call the function given."""
    kept = dict(main.cli.commands)

    def replace(function: Callable[[], Any]) -> None:
        main.cli.commands["probe"] = click.Command("probe", callback=function)

    yield replace
    main.cli.commands.clear()
    main.cli.commands.update(kept)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"], []])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    done = in_a_process(
        "import sys, json\n"
        "from vsr.cli.main import run\n"
        "code = run(sys.argv[1:])\n"
        f"print(json.dumps([code, [n for n in {HEAVY!r} if n in sys.modules]]))",
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    code, loaded = json.loads(done.stdout.splitlines()[-1])
    assert loaded == []
    assert code == (0 if arguments else 2)


def test_import_vsr_loads_nothing_heavy() -> None:
    done = in_a_process(
        "import sys, vsr\n"
        f"print([n for n in {HEAVY!r} if n in sys.modules])\n"
        "print(vsr.errors.VsrError.__name__)"
    )
    assert done.stdout.split("\n")[:2] == ["[]", "VsrError"]


def test_public_names_have_a_home() -> None:
    homes = vsr._HOMES
    assert set(homes) | {"__version__", "errors"} == set(vsr.__all__)
    for name, home in homes.items():
        assert importlib.util.find_spec(home) is not None, name
    with pytest.raises(AttributeError, match="'nonsense'"):
        vsr.nonsense  # noqa: B018 - the attribute access is the test


def test_help_names_every_command() -> None:
    done = in_a_process("from vsr.cli.main import main; main()", "--help")
    listed = re.findall(r"^  (\w+)  ", done.stdout.split("Commands:")[1], re.MULTILINE)
    assert listed == list(main.COMMANDS)


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_every_command_shows_its_own_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: vsr {name} ")
    assert "--quiet" in shown


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_subcommand_help_is_light(name: str) -> None:
    done = in_a_process(
        "import sys\n"
        "from vsr.cli.main import run\n"
        "run(sys.argv[1:])\n"
        "print([n for n in ('torch', 'av', 'cv2') if n in sys.modules])",
        name,
        "--help",
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_misspelt_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["upscal", "in", "out"]) == 2
    assert "No such command 'upscal'. Did you mean 'upscale'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CheckFailedError("frames differ"), 1),
        (errors.ConfigError("unknown key 'x'", hint="did you mean 'y'?"), 2),
        (errors.OpenError("'a.mp4' is a directory"), 3),
        (errors.UnknownModelError("no model 'x'"), 4),
        (errors.DeviceError("no CUDA device"), 5),
        (errors.OutputExistsError("'b.mp4' is there already"), 6),
        (errors.JobCancelledError("stopped"), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_error_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    command: Callable[[Callable[[], Any]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    command(fail)
    assert main.run(["probe"]) == code
    captured = capsys.readouterr()
    text = str(error) or "interrupted"
    # click ends the line that ^C was typed on.
    assert captured.err.lstrip("\n") == f"vsr: {text}\n"
    assert captured.out == ""


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("oops"), errors.ShapeError("5 is not 4"), EOFError("end")]
)
def test_our_bug_leaves_a_report(
    error: Exception,
    command: Callable[[Callable[[], Any]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail() -> None:
        raise error

    command(fail)
    assert main.run(["probe"]) == 70
    (report,) = tmp_path.iterdir()
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert str(report) in shown
    assert "Traceback" not in shown
    written = report.read_text()
    assert f"vsr {vsr.__version__}" in written
    assert "arguments: ['probe']" in written
    assert f"{type(error).__name__}: {error}" in written


def test_broken_pipe_is_quiet() -> None:
    code = (
        "import click\n"
        "from vsr.cli import main\n"
        "def shout():\n"
        "    for _ in range(100000): click.echo('x' * 80)\n"
        "main.cli.commands['probe'] = click.Command('probe', callback=shout)\n"
        "main.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, "probe"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_termination_unwinds_and_says_143(tmp_path: Path) -> None:
    code = (
        "import click, pathlib, sys, time\n"
        "from vsr.cli import main\n"
        "def wait():\n"
        "    try:\n"
        "        click.echo('ready'); time.sleep(60)\n"
        "    finally:\n"
        f"        pathlib.Path({str(tmp_path / 'unwound')!r}).touch()\n"
        "main.cli.commands['probe'] = click.Command('probe', callback=wait)\n"
        "main.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code, "probe"], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143
    assert (tmp_path / "unwound").exists()


@pytest.mark.parametrize(
    ("arguments", "environment", "level"),
    [
        (["probe"], {}, logging.WARNING),
        (["-v", "probe"], {}, logging.INFO),
        (["-vv", "probe"], {}, logging.DEBUG),
        (["-q", "probe"], {"VSR_LOG": "debug"}, logging.ERROR),
        (["probe"], {"VSR_LOG": "debug"}, logging.DEBUG),
    ],
)
def test_loudness(
    arguments: list[str],
    environment: dict[str, str],
    level: int,
    command: Callable[[Callable[[], Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VSR_LOG", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    seen: list[int] = []
    command(lambda: seen.append(logging.getLogger("vsr").level))
    assert main.run(arguments) == 0
    assert seen == [level]
    configure_logging(0)


def test_misspelt_log_level_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VSR_LOG", "loud")
    assert main.run(["probe"]) == 2
    assert "VSR_LOG is 'loud'" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    done = in_a_process("from vsr.cli.main import main; main()", _VSR_COMPLETE=f"{shell}_source")
    if shell == "bash" and not done.stdout:
        pytest.skip(f"bash is missing or too old here: {done.stderr.strip()}")
    assert "_VSR_COMPLETE" in done.stdout


def test_completion_offers_commands_without_importing_them() -> None:
    done = in_a_process(
        "from vsr.cli.main import main; main()",
        _VSR_COMPLETE="bash_complete",
        COMP_WORDS="vsr p",
        COMP_CWORD="1",
    )
    assert done.stdout == "plain,probe\n"


def test_print_json_writes_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"psnr": float("inf"), "rows": [{"x": float("nan"), "y": 1.5}], "é": None})
    assert json.loads(capsys.readouterr().out) == {
        "psnr": None,
        "rows": [{"x": None, "y": 1.5}],
        "é": None,
    }
