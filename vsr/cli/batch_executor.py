"""`vsr batch run --executor`: who makes the clips."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vsr.errors import ConfigError

if TYPE_CHECKING:
    from vsr.batch.executor import Executor
    from vsr.batch.settings import Settings

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

_OF_RAY = ("address", "cpus", "gpus")
EXECUTOR_FLAGS = ("executor", *_OF_RAY)


def executor_options(function: AnyFunction) -> AnyFunction:
    """The options that say who makes the clips."""
    options = (
        click.option(
            "--executor",
            type=click.Choice(["local", "ray"]),
            default="local",
            help="On this machine, or on a Ray cluster with shared folders.",
            show_default=True,
        ),
        click.option("--address", metavar="HOST:PORT", help="Of Ray's head.  [default: found]"),
        click.option(
            "--cpus",
            type=click.FloatRange(0, min_open=True),
            help="Cores of a task on Ray.  [default: 4]",
        ),
        click.option(
            "--gpus", type=click.FloatRange(0), help="GPUs of a task on Ray.  [default: by device]"
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def several_gpus(flags: dict[str, Any]) -> tuple[int, ...]:
    """Take `cuda:0,1` out of the flags, which then say `cuda`: the numbers, or none."""
    found = re.fullmatch(r"cuda:(\d+(?:,\d+)+)", flags["device"] or "")
    if found is None:
        return ()
    flags["device"] = "cuda"
    return tuple(int(number) for number in found[1].split(","))


def refuse_stray(crew: dict[str, Any]) -> None:
    """Raise when something is asked of Ray that does not run.

    Raises:
        ConfigError: naming the flag.
    """
    if crew["gpu_numbers"]:
        if crew["executor"] == "ray":
            raise ConfigError("Ray chooses among GPUs itself", hint="use --device cuda")
        if crew["workers"] not in (None, len(crew["gpu_numbers"])):
            raise ConfigError(
                f"{crew['workers']} workers were asked for with {len(crew['gpu_numbers'])} devices",
                hint="leave --workers out: there is one for each device named",
            )
    stray = [name for name in _OF_RAY if crew[name] is not None]
    if stray and crew["executor"] != "ray":
        raise ConfigError(f"--{stray[0]} is for a Ray cluster", hint="add --executor ray")


def make_executor(crew: dict[str, Any], settings: Settings, out: Path) -> Executor:
    """Who is asked for; not at work before it is entered."""
    if crew["executor"] == "local":
        from vsr.batch.processes import Processes

        gpus = crew["gpu_numbers"]
        return Processes(len(gpus) or crew["workers"] or 1, gpus)
    from vsr.batch.ray_cluster import Wants
    from vsr.batch.ray_tasks import RayTasks

    wants = Wants(
        address=crew["address"],
        workers=crew["workers"],
        cpus=crew["cpus"],
        gpus=crew["gpus"],
        device=settings.config.device,
    )
    return RayTasks(wants, settings.source, out)
