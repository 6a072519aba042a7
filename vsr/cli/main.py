"""The `vsr` command: finds the subcommand; what goes wrong becomes a sentence and a code.

Exit codes: 0 done; 1 the result failed its check; 2 usage or configuration; 3 the input; 4 the
model; 5 the device; 6 output or disk; 7 some of several failed; 129, 130 and 143 interrupted; 70
our own bug.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

import click

import vsr
from vsr.cli.console import add_verbosity_options, configure_logging, print_line
from vsr.cli.stopping import STOPPER, Stopped, exit_code
from vsr.errors import DeviceMemoryError, JobCancelledError, VsrError

COMMANDS = {
    "upscale": "Make a video larger: the same film, with detail recovered.",
    "batch": "Make all videos of a folder tree larger, over as many runs as it takes.",
    "image": "Make a still, or a folder of stills, larger.",
    "probe": "Say what a file holds.",
    "check": "Prove that a result is the same film as its source, only larger.",
    "report": "Show on one page how good a result is, and where to look.",
    "compare": "Lay the same moments of several films side by side.",
    "models": "List the networks and say what is known of them.",
    "train": "Train a network from a configuration file.",
    "eval": "Score networks by the published protocols.",
    "compress": "Make a trained network smaller, and say what that costs.",
    "bench": "Measure rates, efficiency and memory on this machine.",
}
"""Subcommand: what it does, as `vsr --help` says it. `vsr.cli.NAME` exports `command`."""

EXIT_BROKEN_PIPE = 141
EXIT_OUR_BUG = 70


class _PastClickError(Exception):
    """Carries past click an error that click would end the process for with a code of its own."""


class LazyGroup(click.Group):
    """A group that imports a subcommand only to run it or to show its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            command = import_module(f"vsr.cli.{cmd_name}").command
            self.commands[cmd_name] = add_verbosity_options(command)
        return self.commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            # Here, not at the top: only a misspelt name needs it.
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, EOFError, KeyboardInterrupt) as error:
            # click turns these into exit code 1 and into an interruption, and prints.
            raise _PastClickError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def shell_complete(
        self, ctx: click.Context, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        # Not Group's own, which would import every subcommand for its help text.
        return found + click.Command.shell_complete(self, ctx, incomplete)


@add_verbosity_options
@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vsr.__version__, prog_name="vsr")
def cli() -> None:
    """Video super-resolution: the same film comes out, only larger.

    Progress and messages go to stderr, results to stdout.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    Args:
        arguments: without the program's name; None takes the process's own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        configure_logging(0)
        code = cli.main(args=given, prog_name="vsr", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, click.Abort) as error:
        return _stopped(error)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except JobCancelledError as error:
        number = STOPPER.number
        return _complain(str(error), error.exit_code if number is None else exit_code(number))
    except VsrError as error:
        if error.exit_code == EXIT_OUR_BUG:
            return _crash(error, given)
        return _complain(str(error), error.exit_code)
    except _PastClickError as error:
        cause = error.__cause__
        if isinstance(cause, KeyboardInterrupt):
            return _stopped(cause)
        if isinstance(cause, BrokenPipeError):
            # Whoever read our output has seen enough; the last flush at exit must not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_BROKEN_PIPE
        return _crash(cause if isinstance(cause, Exception) else error, given)
    except Exception as error:  # noqa: BLE001 - the last resort: recorded in full, never hidden
        if _is_out_of_memory(error):
            return _complain(
                f"there is not enough memory ({error}); close other programs, or raise the limit",
                DeviceMemoryError.exit_code,
            )
        return _crash(error, given)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, also where that shows first: when a library is to be loaded."""
    from vsr.engine.memory import is_out_of_memory

    return is_out_of_memory(error) or (
        isinstance(error, ImportError) and "failed to map segment" in str(error)
    )


def main() -> NoReturn:
    """Entry point of the `vsr` program."""
    STOPPER.listen()
    sys.exit(run())


def _stopped(error: BaseException) -> int:
    """Say that the user's wish was heard, and what is kept."""
    # Of what a library made of our exception, only that it is an interrupt is left.
    number = error.number if isinstance(error, Stopped) else STOPPER.number or signal.SIGINT
    said = "; ".join(("interrupted", *getattr(error, "__notes__", ())))
    return _complain(said, exit_code(number))


def _complain(message: str, code: int) -> int:
    # A terminal that was closed cannot be told anything, and the code still counts.
    with suppress(OSError):
        print_line(f"vsr: {' '.join(message.split())}", err=True)
    return code


def _crash(error: Exception, arguments: Sequence[str]) -> int:
    """Write everything needed to find the bug to a file and ask for it."""
    try:
        where = str(_write_report(error, arguments))
    except OSError:
        traceback.print_exception(error)
        where = "the lines above"
    _complain(
        f"this is a bug of ours ({type(error).__name__}: {error}); please send {where} "
        "to the maintainers. It holds the command line, version numbers and where it happened",
        EXIT_OUR_BUG,
    )
    return EXIT_OUR_BUG


def _write_report(error: Exception, arguments: Sequence[str]) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    lines = [
        f"vsr {vsr.__version__}",
        f"python {platform.python_version()} on {platform.platform()}",
        *(f"{name} {_installed(name)}" for name in ("torch", "av", "numpy", "click", "pydantic")),
        f"arguments: {list(arguments)!r}",
        "",
        "".join(traceback.format_exception(error)),
    ]
    with tempfile.NamedTemporaryFile(
        "w",
        prefix=f"vsr-crash-{stamp}-",
        suffix=".txt",
        delete=False,
        encoding="utf-8",
        errors="backslashreplace",
    ) as file:
        file.write("\n".join(lines))
    return Path(file.name)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
