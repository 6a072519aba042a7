"""`vsr train CONFIG`: train a network, or go on with one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import click

from vsr.cli.console import is_interactive, print_json, say
from vsr.errors import ConfigError, JobCancelledError, OutputError, OutputExistsError

if TYPE_CHECKING:
    from vsr.training.data import FrameStore
    from vsr.training.loop import Progress

PERCENT_PER_LINE = 10
"""Where stderr is no terminal, one line is said each time so much more is done."""
EXIT_TERMINATED = 143


@click.command("train", short_help="Train a network from a configuration file.")
@click.argument("config", metavar="CONFIG")
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
    "--out", type=click.Path(path_type=Path), help="Folder of the run.  [default: runs/ID]"
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
    config: str,
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
    that. ^C saves a checkpoint from which --resume goes on. At the end stand OUT/ID.safetensors,
    which --model takes, and OUT/ID.toml, which says how it came about.
    """
    from vsr.training.config import find_train_config, load_train_config, override

    settings = override(
        load_train_config(find_train_config(config)),
        minutes=plan_minutes,
        seed=seed,
        degraded_copies=degraded_copies,
    )
    folder = Path("runs") / settings.model.id if out is None else out
    if not prepare_only:
        _prepare_folder(folder, resume=resume, overwrite=overwrite)
    # After the flags are known to be right: this import is the slow one.
    import torch

    from vsr.engine.device import resolve_device
    from vsr.training.degraded import prepare_pairs
    from vsr.training.export import export
    from vsr.training.loop import Trainer, run
    from vsr.training.validation import Checks, Validation, hold_out

    where = resolve_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    # A young network's activations reach numbers so small that a CPU slows down on them.
    torch.set_flush_denormal(True)
    frames = open_store(data, store)
    share, checks = settings.validation.share, None
    if share:
        frames, held = hold_out(frames, share)
        checks = Checks(Validation(held, settings.data.scale, settings.data.degradation), settings)
    with _counting("degrad", "clips", frames.folder) as tell:
        prepare_pairs(frames, settings, progress=tell)
    if prepare_only:
        click.echo(f"{frames.folder}: {len(frames.clips)} clips and pictures, ready to train on")
        return
    trainer = Trainer(settings, frames, folder, where)
    if resume:
        trainer.resume()
    say(
        f"{settings.model.id} on {where}: {len(frames.videos)} clips and "
        f"{len(frames.photos)} pictures, into {folder}"
    )
    if checks is not None:
        say(checks.before(trainer.ema.module))
    with _Stop() as stop, _progress() as show:

        def after_step(progress: Progress) -> None:
            show(progress)
            stop.check(progress)
            told = None if checks is None else checks.early(progress, trainer.ema.module)
            if told is not None:
                say(told)

        network = run(trainer, progress=after_step)
    if checks is not None:
        say(checks.after(network))
    result = export(network, trainer, frames)
    if as_json:
        scores = {} if checks is None else {"validation": checks.scores}
        rates = {"tflops": trainer.tflops, "matmul_tflops": trainer.matmul_tflops}
        print_json(result.describe() | scores | rates)
    else:
        click.echo(
            f"{result.weights}: {result.steps} steps, {result.minutes:.1f} minutes, "
            f"loss {result.loss:.5f}"
        )
        if trainer.tflops:
            say(
                f"{trainer.tflops:.3g} TFLOP/s, {trainer.tflops / trainer.matmul_tflops:.1%} of "
                f"the {trainer.matmul_tflops:.3g} that a matmul reaches on {where}"
            )


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


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal, a line now and then elsewhere, nothing with -q."""
    if not is_interactive():
        yield _Lines()
        return
    from tqdm import tqdm

    bar = tqdm(
        total=100.0,
        bar_format="train: {percentage:3.0f}%|{bar}| {desc}",
        mininterval=0.5,
    )

    def draw(progress: Progress) -> None:
        bar.set_description_str(_describe(progress), refresh=False)
        bar.update(100 * progress.fraction - bar.n)

    try:
        yield draw
    finally:
        bar.close()


class _Lines:
    """Say how far the training is, every `PERCENT_PER_LINE` percent."""

    def __init__(self) -> None:
        self._next_percent: int | None = None

    def __call__(self, progress: Progress) -> None:
        percent = int(100 * progress.fraction)
        if self._next_percent is None:
            # A resumed run starts in the middle.
            self._next_percent = percent - percent % PERCENT_PER_LINE + PERCENT_PER_LINE
        if percent >= self._next_percent:
            self._next_percent = percent - percent % PERCENT_PER_LINE + PERCENT_PER_LINE
            say(f"{percent:3d} %  {_describe(progress)}")


def _describe(progress: Progress) -> str:
    """Step, loss, throughput and time left, as a bar or a line says it."""
    left_s = 0.0
    if progress.fraction > 0:
        left_s = progress.elapsed_s * (1 - progress.fraction) / progress.fraction
    hours, seconds = divmod(round(left_s), 3600)
    left = f"{hours}:{seconds // 60:02d}:{seconds % 60:02d}"
    return (
        f"step {progress.step}  loss {progress.loss:.5f}  "
        f"{progress.source_px_per_s / 1e3:.1f} kpx/s  "
        + (f"{progress.tflops:.3g} TFLOP/s  " if progress.tflops else "")
        + f"{left} left"
    )


class _Stop:
    """Holds the first ^C or SIGTERM back until a step ends, so that a checkpoint is of whole steps.

    The second one acts at once.
    """

    def __init__(self) -> None:
        self._caught: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._caught = number
        self._restore()

    def check(self, progress: Progress) -> None:
        """Raise what was held back.

        Raises:
            JobCancelledError: ^C was typed.
            SystemExit: the process was told to end.
        """
        if self._caught == signal.SIGTERM:
            raise SystemExit(EXIT_TERMINATED)
        if self._caught is not None:
            raise JobCancelledError(
                f"stopped after step {progress.step}, checkpoint saved", hint="go on with --resume"
            )
