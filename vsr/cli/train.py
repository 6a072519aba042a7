"""`vsr train CONFIG...`: train networks, or go on with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vsr.cli.console import is_interactive, print_json, say
from vsr.cli.train_progress import Stop, bars
from vsr.errors import ConfigError, OutputError, OutputExistsError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vsr.training.config import TrainConfig
    from vsr.training.data import FrameStore
    from vsr.training.loop import Progress, Trainer
    from vsr.training.validation import Checks


@click.command("train", short_help="Train a network from a configuration file.")
@click.argument("configs", metavar="CONFIG...", nargs=-1, required=True)
@click.option(
    "--data",
    envvar="VSR_DATA",
    type=click.Path(path_type=Path),
    help="Folder of videos and pictures; its folder `train`, if there is one.  [env: VSR_DATA]",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Where decoded data is kept between runs.  [default: in VSR_HOME or ~/.cache/vsr]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the run, or of a folder for each of several.  [default: runs/ID]",
)
@click.option("--device", default="auto", envvar="VSR_DEVICE", show_default=True)
@click.option(
    "--plan-minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Length of the schedule, in place of the configuration's.",
)
@click.option(
    "--degraded-copies",
    type=click.IntRange(min=0),
    help="Degrade every clip so often before the run and keep that with the data; "
    "0 degrades while it runs.",
)
@click.option("--prepare-only", is_flag=True, help="Decode and degrade the data, train nothing.")
@click.option("--resume", is_flag=True, help="Go on with the run that is in --out.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to compute with.")
@click.option("--seed", type=click.IntRange(min=0), help="In place of the configuration's.")
@click.option("--overwrite", is_flag=True, help="Start anew where a run is in --out already.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
def command(
    configs: tuple[str, ...],
    data: Path | None,
    store: Path | None,
    out: Path | None,
    device: str,
    plan_minutes: float | None,
    degraded_copies: int | None,
    prepare_only: bool,
    resume: bool,
    threads: int | None,
    seed: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train the network that CONFIG describes: a TOML file or the name of a packaged one.

    Data is decoded, and degraded where that is asked for, once and kept; the clock starts after
    that. Several CONFIGs are trained at once, side by side on one device. ^C saves checkpoints
    from which --resume goes on. At the end stand OUT/ID.safetensors, which --model takes, and
    OUT/ID.toml, which says how it came about.
    """
    from vsr.training.config import find_train_config, load_train_config, override

    settings = [
        override(
            load_train_config(find_train_config(config)),
            minutes=plan_minutes,
            seed=seed,
            degraded_copies=degraded_copies,
        )
        for config in configs
    ]
    folders = _folders([each.model.id for each in settings], out)
    for folder in folders if not prepare_only else ():
        _prepare_folder(folder, resume=resume, overwrite=overwrite)
    # After the flags are known to be right: this import is the slow one.
    import torch

    from vsr.engine.device import resolve_device

    where = resolve_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    # A young network's activations reach numbers so small that a CPU slows down on them.
    torch.set_flush_denormal(True)
    frames = open_store(data, store)
    if prepare_only:
        for each in settings:
            _training_part(frames, each)
        click.echo(f"{frames.folder}: {len(frames.clips)} clips and pictures, ready to train on")
        return
    runs = [
        _begin(each, frames, folder, where, resume=resume)
        for each, folder in zip(settings, folders, strict=True)
    ]
    ended = _train(runs)
    documents = [
        _finish(run, network, as_json=as_json)
        for run, network in zip(runs, ended, strict=True)
        if not isinstance(network, BaseException)
    ]
    failed = [error for error in ended if isinstance(error, BaseException)]
    for error in failed[1:]:
        say(str(error))
    if failed:
        raise failed[0]
    if as_json:
        print_json(documents[0] if len(documents) == 1 else {"runs": documents})


@dataclass(frozen=True, slots=True)
class _Run:
    """One network on its way."""

    trainer: Trainer
    frames: FrameStore
    checks: Checks | None


def _folders(ids: list[str], out: Path | None) -> list[Path]:
    """Where each run goes.

    Raises:
        ConfigError: two of them would go to one place.
    """
    if len(set(ids)) < len(ids):
        raise ConfigError(
            f"two of the configurations train {next(i for i in ids if ids.count(i) > 1)}",
            hint="give each network an id of its own under [model]",
        )
    if out is not None and len(ids) == 1:
        return [out]
    return [(Path("runs") if out is None else out) / each for each in ids]


def _training_part(store: FrameStore, settings: TrainConfig) -> tuple[FrameStore, Checks | None]:
    """What is trained on, degraded ahead where that is wanted, and what is kept for validation."""
    from vsr.training.degraded import prepare_pairs
    from vsr.training.validation import Checks, Validation, hold_out

    share, checks, frames = settings.validation.share, None, store
    if share:
        frames, held = hold_out(store, share)
        checks = Checks(Validation(held, settings.data.scale, settings.data.degradation), settings)
    with _counting("degrad", "clips", frames.folder) as tell:
        prepare_pairs(frames, settings, progress=tell)
    return frames, checks


def _begin(
    settings: TrainConfig,
    store: FrameStore,
    folder: Path,
    device: torch.device,
    *,
    resume: bool,
) -> _Run:
    from vsr.training.loop import Trainer

    frames, checks = _training_part(store, settings)
    trainer = Trainer(settings, frames, folder, device)
    if resume:
        trainer.resume()
    say(
        f"{settings.model.id} on {device}: {len(frames.videos)} clips and "
        f"{len(frames.photos)} pictures, into {folder}"
    )
    if checks is not None:
        say(checks.before(trainer.ema.module))
    return _Run(trainer, frames, checks)


def _train(runs: list[_Run]) -> list[nn.Module | BaseException]:
    """Run to the end, or until stopped; several side by side, so that one's error ends it alone."""
    from vsr.training.loop import run
    from vsr.training.together import run_together

    with Stop() as stop, bars([each.trainer.config.model.id for each in runs]) as shows:

        def watch(one: _Run, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
            def after_step(progress: Progress) -> None:
                show(progress)
                stop.check(progress)
                network = one.trainer.ema.module
                told = None if one.checks is None else one.checks.early(progress, network)
                if told is not None:
                    say(told)

            return after_step

        watched = [watch(one, show) for one, show in zip(runs, shows, strict=True)]
        if len(runs) == 1:
            return [run(runs[0].trainer, progress=watched[0])]
        return run_together([one.trainer for one in runs], watched)


def _finish(run: _Run, network: nn.Module, *, as_json: bool) -> dict[str, Any]:
    """Score and write the result; what --json says of it."""
    from vsr.training.export import export

    trainer, checks = run.trainer, run.checks
    if checks is not None:
        say(checks.after(network))
    result = export(network, trainer, run.frames)
    scores = {} if checks is None else {"validation": checks.scores}
    rates = {"tflops": trainer.tflops, "matmul_tflops": trainer.matmul_tflops}
    if not as_json:
        click.echo(
            f"{result.weights}: {result.steps} steps, {result.minutes:.1f} minutes, "
            f"loss {result.loss:.5f}"
        )
        if trainer.tflops:
            say(
                f"{trainer.tflops:.3g} TFLOP/s, {trainer.tflops / trainer.matmul_tflops:.1%} of "
                f"the {trainer.matmul_tflops:.3g} that a matmul reaches on {trainer.device}"
            )
    return result.describe() | scores | rates


def _prepare_folder(folder: Path, *, resume: bool, overwrite: bool) -> None:
    """Make the run's folder, or say now why it cannot be one.

    Raises:
        OutputExistsError: another run is in it.
        OutputError: it cannot be made.
    """
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists() and not resume and not overwrite:
        raise OutputExistsError(
            f"{folder} holds a run already",
            hint="go on with --resume, start anew with --overwrite, or name another --out",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error


def open_store(data: Path | None, store: Path | None) -> FrameStore:
    """Decoded training data, decoded now where that has not been done.

    Raises:
        ConfigError: neither data nor a store was named, or there is nothing usable in it.
    """
    from vsr.training.data import FrameStore
    from vsr.training.prepare import build_store, default_store

    if data is None:
        if store is None:
            raise ConfigError("no training data was named", hint="use --data or set VSR_DATA")
        return FrameStore(store)
    # Test material often lies beside the training material and must never be trained on.
    folder = data / "train" if (data / "train").is_dir() else data
    target = default_store(folder) if store is None else store
    with _counting("decod", "files", target) as tell:
        return build_store(folder, target, progress=tell)


@contextmanager
def _counting(verb: str, what: str, target: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar over what is worked on, or one line where stderr is no terminal; without its e."""
    if not is_interactive():

        def tell(done: int, total: int) -> None:
            if done == 0:
                say(f"{verb}ing {total} {what} into {target}")

        yield tell
        return
    from tqdm import tqdm

    bar: Any = None

    def draw(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=f"{verb}e", unit=f" {what}", leave=False)
        bar.update(done - bar.n)

    try:
        yield draw
    finally:
        if bar is not None:
            bar.close()
