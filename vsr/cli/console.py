"""What every command says the same way: how loud, where, and JSON.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

AnyCommand = TypeVar("AnyCommand", bound=click.Command)

_META_KEY = "vsr.verbosity"
_LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


class StderrHandler(logging.Handler):
    """Write records to whatever `sys.stderr` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print_line(f"vsr: {record.levelname.lower()}: {self.format(record)}", err=True)
        except OSError:
            self.handleError(record)


def verbosity() -> int:
    """-1 quiet, 0 normal, 1 verbose, 2 everything; as -q and -v were given."""
    context = click.get_current_context(silent=True)
    return int(context.meta.get(_META_KEY, 0)) if context else 0


def is_interactive() -> bool:
    """Whether bars and colour are wanted: stderr is a terminal and -q was not given."""
    return verbosity() >= 0 and sys.stderr.isatty()


def printable(text: str) -> str:
    """Text with everything that could move a terminal's cursor, or that it cannot show, escaped.

    Names and tags come from outside and may hold anything.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def print_line(line: str, *, err: bool = False) -> None:
    """Print one line, whatever is in it; on stdout unless `err`."""
    click.echo(printable(line), err=err)


def say(message: str) -> None:
    """Tell the user something on stderr, unless -q was given."""
    if verbosity() >= 0:
        print_line(message, err=True)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; numbers JSON cannot hold become null."""
    click.echo(json.dumps(_finite(document), indent=2, allow_nan=False))


def configure_logging(level: int) -> None:
    """Send the package's log to stderr.

    Args:
        level: as `verbosity`; 0 takes the level named by VSR_LOG, if any.
    """
    chosen = _LEVELS[max(-1, min(2, level))]
    if level == 0 and (named := os.environ.get("VSR_LOG")):
        known = logging.getLevelNamesMapping()
        if named.upper() not in known:
            names = ", ".join(name.lower() for name in known if name != "NOTSET")
            raise click.UsageError(f"VSR_LOG is {named!r}; it can be {names}")
        chosen = known[named.upper()]
    logger = logging.getLogger("vsr")
    logger.setLevel(chosen)
    if not any(isinstance(handler, StderrHandler) for handler in logger.handlers):
        logger.addHandler(StderrHandler())


def add_verbosity_options(command: AnyCommand) -> AnyCommand:
    """Give a command, and the commands in it, -v and -q; both count wherever they stand."""
    present = {option for param in command.params for option in param.opts}
    if not present & {"-v", "-q"}:
        command.params.append(
            click.Option(
                ["-v", "--verbose"],
                count=True,
                expose_value=False,
                callback=_louder,
                help="Say more; twice for everything.",
            )
        )
        command.params.append(
            click.Option(
                ["-q", "--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_quieter,
                help="Say nothing but errors.",
            )
        )
    if isinstance(command, click.Group):
        for child in command.commands.values():
            add_verbosity_options(child)
    return command


@contextmanager
def progress_counter(what: str, unit: str = " frames") -> Iterator[Callable[[int], None] | None]:
    """A counter, of frames unless told otherwise, on a terminal; nothing elsewhere."""
    if not is_interactive():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=what, unit=unit, leave=False) as bar:

        def draw(num_done: int) -> None:
            bar.update(num_done - bar.n)

        yield draw


def _louder(context: click.Context, _param: click.Parameter, count: int) -> None:
    if count:
        _set_verbosity(context, count)


def _quieter(context: click.Context, _param: click.Parameter, quiet: bool) -> None:
    if quiet:
        _set_verbosity(context, -1)


def _set_verbosity(context: click.Context, level: int) -> None:
    context.meta[_META_KEY] = level
    configure_logging(level)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
