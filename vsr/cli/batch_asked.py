"""What `vsr batch plan` and `vsr batch run` are asked: places, filters, rules, wishes, policy."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from vsr.cli.choices import film_options, resolve, result_options

if TYPE_CHECKING:
    from vsr.batch.policy import Policy
    from vsr.batch.rules import Rule
    from vsr.batch.storage import Bucket, Source
    from vsr.batch.walk import Filters
    from vsr.config import UpscaleConfig

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_TARGET = "vsr.batch.target"
_FILTERS = ("include", "exclude", "min_size", "max_size")


def read_bytes(text: str) -> int:
    """Read an amount of data: `500000`, `20MB`, `1.5G`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", text.strip().upper())
    if found is None:
        raise click.BadParameter(f"{text!r} is no amount of data: expected 500000, 20MB or 1.5G")
    return round(float(found[1]) * _UNITS[found[2]])


class _Out(click.Path):
    """A folder, or a store: then the folder on this machine that goes with it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from vsr.batch.storage import is_url

        if not isinstance(value, str) or not is_url(value):
            return super().convert(value, param, ctx)
        if ctx is not None:
            ctx.meta[_TARGET] = value
        return home_of(value)


class _Src(click.Path):
    """A folder, or the address of a store as it is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from vsr.batch.storage import is_url

        is_store = isinstance(value, str) and is_url(value)
        return value if is_store else super().convert(value, param, ctx)


def home_of(url: str) -> Path:
    """Where on this machine the manifest lies of a batch whose results go to a store."""
    home = os.environ.get("VSR_HOME")
    root = Path(home) if home else Path.home() / ".cache" / "vsr"
    name = re.sub(r"[^\w.-]+", "-", url.partition("://")[2]).strip("-.")[:40]
    return root / "batch" / f"{name}-{hashlib.sha256(url.rstrip('/').encode()).hexdigest()[:12]}"


OUT = click.argument("out", metavar="OUT", type=_Out(readable=False, path_type=Path))
_SRC = click.argument("source", metavar="SRC", type=_Src(readable=False, path_type=Path))
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")


def tree_options(function: AnyFunction) -> AnyFunction:
    """What `plan` and `run` share: the two folders, which files are clips, how they are made."""
    options = (
        _SRC,
        OUT,
        click.option(
            "--include", metavar="GLOB", multiple=True, help="Clips are these.  [default: by name]"
        ),
        click.option(
            "--exclude", metavar="GLOB", multiple=True, help="Leave out these files and folders."
        ),
        click.option(
            "--min-size",
            type=read_bytes,
            metavar="N",
            help="Leave out smaller files, such as 20MB.",
        ),
        click.option("--max-size", type=read_bytes, metavar="N", help="Leave out larger files."),
        click.option(
            "--rules",
            metavar="FILE.toml",
            type=click.Path(readable=False, path_type=Path),
            help="What some clips get, by folder, height, interlacing or HDR.",
        ),
        film_options,
        result_options,
        click.option("--restart", is_flag=True, help="Make all clips anew."),
        click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing."),
        AS_JSON,
    )
    for option in reversed(options):
        function = option(function)
    return function


class Wishes(NamedTuple):
    """What is asked for on the command line; None for each that says nothing."""

    config: UpscaleConfig | None
    filters: Filters | None
    rules: tuple[Rule, ...] | None


def read_policy(flags: dict[str, Any]) -> Policy:
    """How the run is done, taken out of the flags."""
    from vsr.batch.policy import Policy, read_quiet_hours
    from vsr.batch.rules import read_priorities

    quiet = flags.pop("quiet_hours")
    return Policy(
        retries=flags.pop("retries"),
        min_free_bytes=flags.pop("min_free"),
        overwrite=flags.pop("overwrite"),
        priorities=read_priorities(flags.pop("priorities")),
        quiet=None if quiet is None else read_quiet_hours(quiet),
    )


def read_wishes(flags: dict[str, Any]) -> Wishes:
    """What the command line says of clips and results, taken out of the flags."""
    from click.core import ParameterSource

    from vsr.batch.rules import read_rules
    from vsr.batch.walk import Filters

    def is_given(names: list[str]) -> bool:
        sources = map(click.get_current_context().get_parameter_source, names)
        return ParameterSource.COMMANDLINE in sources

    include, exclude, min_size, max_size = (flags.pop(name) for name in _FILTERS)
    filters = Filters(include=include, exclude=exclude, min_bytes=min_size, max_bytes=max_size)
    file = flags.pop("rules")
    rules = None if file is None else read_rules(file)
    is_asked = is_given(list(flags))
    config = resolve(flags.pop("preset"), flags.pop("sets"), flags) if is_asked else None
    return Wishes(config, filters if is_given(list(_FILTERS)) else None, rules)


def read_places(source: Path | str, out: Path) -> tuple[Source, Bucket | None]:
    """Where the tree is, and where results go that do not stay in `out`.

    Raises:
        ConfigError: an address cannot be used.
    """
    from vsr.batch.storage import Bucket, place

    target = click.get_current_context().meta.get(_TARGET)
    wanted = source if isinstance(source, Path) else place(source, out)
    return wanted, None if target is None else Bucket.at(target, out, is_written=True)
