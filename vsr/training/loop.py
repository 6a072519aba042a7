"""The training loop: one network, one device, a schedule in wall-clock time."""

from __future__ import annotations

import logging
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from vsr.errors import CheckpointError, JobCancelledError, OutputError
from vsr.training.classsr import stage_share
from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore
from vsr.training.generative import BETAS, GenerativeObjective
from vsr.training.networks import build
from vsr.training.resident import make_sampler
from vsr.training.starting import initialise
from vsr.training.step import (
    KEEP,
    READ_EVERY,
    DeviceStep,
    Ema,
    load_optimizer,
    make_optimizer,
    set_rate,
)
from vsr.training.stills import Objective
from vsr.training.task import Drawn, Task
from vsr.training.throughput import Speed, matmul_rate, step_flops

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; what a bar or a log shows."""

    step: int
    elapsed_s: float
    fraction: float
    """Done part of the schedule, 0 to 1."""
    loss: float
    """Exponential mean."""
    lr: float
    source_px_per_s: float
    tflops: float = 0.0
    """10^12 operations of the model per second, see `throughput.step_flops`; 0 where unknown."""


class Trainer:
    """State of a run. Everything that a later step depends on is in `state_dict`.

    Args:
        config: what to train.
        store: what to train on.
        folder: where checkpoints and scalars go.
        device: where to compute.
    """

    def __init__(
        self, config: TrainConfig, store: FrameStore, folder: Path, device: torch.device
    ) -> None:
        self.config, self.folder, self.device = config, folder, device
        torch.manual_seed(config.seed)
        network = build(config)
        initialise(network, config)
        self.network = network.to(device).train()
        _to_channels_last(self.network)
        self.ema = Ema(self.network, config.optimizer.ema)
        self.sampler = make_sampler(config, store, device)
        self.objective: Objective | GenerativeObjective = (
            GenerativeObjective(config, device)
            if config.model.family == "generator"
            else Objective(config, device)
        )
        self.task = Task(config, self.network, self.sampler, self.objective, device)
        device_step = _on_device(self.task)
        flow = [p for n, p in self.network.named_parameters() if n.startswith("flow.")]
        rest = [p for n, p in self.network.named_parameters() if not n.startswith("flow.")]
        groups: list[dict[str, Any]] = [{"params": rest, "ratio": 1.0}]
        if flow:
            groups.append({"params": flow, "ratio": config.optimizer.flow_lr_ratio})
        self.optimizer = make_optimizer(
            groups,
            lr=config.optimizer.lr,
            betas=BETAS if config.model.family == "generator" else (0.9, 0.99),
            device_step=device_step,
        )
        self.device_step: DeviceStep | None = None
        if device_step:
            self.device_step = DeviceStep(
                self.network,
                self.ema,
                self.optimizer,
                config.optimizer.clip_norm,
                lambda drawn: self.task.loss(drawn, self.fraction),
            )
        self.step = 0
        self.elapsed_s = 0.0
        self.loss = math.nan
        self._speed = Speed(READ_EVERY)
        # Now, for the counter would hear of other networks that learn in other threads.
        self._flops = step_flops(self.network, config)

    # -- schedule -----------------------------------------------------------------------------

    @property
    def fraction(self) -> float:
        schedule = self.config.schedule
        if schedule.steps is not None:
            return min(1.0, self.step / schedule.steps)
        return min(1.0, self.elapsed_s / (60 * schedule.minutes))

    def _set_rates(self) -> float:
        options, done = self.config.optimizer, self.fraction
        warm = min(1.0, (done + 1e-3) / options.warmup) if options.warmup else 1.0
        turn = math.pi * stage_share(self.network, done)
        lr = options.lr * warm * (0.5 + 0.5 * math.cos(turn)) + 1e-7
        for group in self.optimizer.param_groups:
            set_rate(group, lr * group["ratio"])
        for group in self.optimizer.param_groups[1:]:
            # Without gradients a frozen network costs no backward pass and keeps its weights.
            for parameter in group["params"]:
                parameter.requires_grad_(self._flow_learns())
        return lr

    def _flow_learns(self) -> bool:
        """Whether there is a flow network within another one, and it is trained along by now."""
        frozen = self.config.optimizer.flow_frozen
        is_inner = len(self.optimizer.param_groups) > 1
        return is_inner and frozen < 1.0 and self.fraction >= frozen

    def _num_frames(self) -> int:
        parts = self.config.data.num_frames
        return parts[min(len(parts) - 1, int(self.fraction * len(parts)))]

    # -- one step -----------------------------------------------------------------------------

    def train_step(self) -> Progress:
        """Draw, compute, update."""
        flops = self._flops[self._num_frames()]
        started = time.monotonic()
        lr = self._set_rates()
        pixels = self._step_by_hand() if self.device_step is None else self._step_on_device()
        self.step += 1
        seconds = time.monotonic() - started
        self.elapsed_s += seconds
        px_per_s, flops_per_s = self._speed.over(
            pixels, flops, seconds, whole=self.device_step is None
        )
        return Progress(
            self.step,
            self.elapsed_s,
            self.fraction,
            self.loss,
            lr,
            px_per_s,
            flops_per_s / 1e12,
        )

    @property
    def tflops(self) -> float:
        """10^12 operations of the model per second since the run was started or resumed."""
        return self._speed.flops / max(self._speed.seconds, 1e-9) / 1e12

    @property
    def matmul_tflops(self) -> float:
        """What the device reaches multiplying matrices in the precision of the run."""
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        return matmul_rate(self.device, dtype) / 1e12

    def _draw(self) -> Drawn:
        weight = self.config.optimizer.flow_loss_weight
        with_pairs = bool(weight) and self._flow_learns()
        return self.task.draw(self._num_frames(), with_pairs=with_pairs)

    def _step_by_hand(self) -> int:
        """The host looks at the gradient before it updates; gives the pixels learned from."""
        drawn = self._draw()
        loss = self.task.loss(drawn, self.fraction)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optimizer.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.ema.update(self.network)
            self.objective.after_step()
        else:
            log.warning("step %d: gradient is not finite, step left out", self.step)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else KEEP * self.loss + (1 - KEEP) * value
        return drawn.num_pixels

    def _step_on_device(self) -> int:
        assert self.device_step is not None
        drawn, loss = self.device_step(self._draw, self._flow_learns())
        if loss is not None:
            self.loss = loss
        return drawn.num_pixels

    def settle(self) -> None:
        """Wait for steps that are under way; the loss is theirs then."""
        if self.device_step is not None and self.step:
            self.loss = self.device_step.read()

    # -- what is on disk ----------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint beside the old one, then rename.

        Raises:
            OutputError: it cannot be written; the old one stands.
        """
        path = self.folder / CHECKPOINT
        temporary = self.folder / (CHECKPOINT + ".part")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(self.state_dict(), temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch's own writer raises the latter
            raise OutputError(f"the checkpoint {path} cannot be written: {error}") from error

    def state_dict(self) -> dict[str, Any]:
        """Everything a later step depends on."""
        self.settle()
        return {
            "config": self.config.model_dump(mode="json"),
            "network": self.network.state_dict(),
            "ema": self.ema.module.state_dict(),
            "ema_steps": self.ema.steps,
            "optimizer": self.optimizer.state_dict(),
            "sampler": [generator.get_state() for generator in self.sampler.generators],
            "torch": torch.get_rng_state(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "loss": self.loss,
            "objective": self.objective.state_dict(),
        }

    def resume(self) -> None:
        """Go on from the checkpoint in the folder.

        Raises:
            CheckpointError: there is none, or it is of another configuration.
        """
        path = self.folder / CHECKPOINT
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            model = state["config"]["model"]
        except FileNotFoundError as error:
            raise CheckpointError(
                f"there is no checkpoint in {self.folder} to resume from",
                hint="start without --resume, or name the folder of the run",
            ) from error
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, LookupError) as error:
            raise CheckpointError(
                f"cannot resume from {path}: it is damaged or not ours"
            ) from error
        if model != self.config.model_dump(mode="json")["model"]:
            raise CheckpointError(f"{path} holds another network than the configuration names")
        if len(state["sampler"]) != len(self.sampler.generators):
            raise CheckpointError(
                f"{path} is of a run that cut its batches on another kind of device",
                hint="resume it there, or set [data] resident as it was",
            )
        self.network.load_state_dict(state["network"])
        self.ema.module.load_state_dict(state["ema"])
        self.ema.steps = state["ema_steps"]
        load_optimizer(self.optimizer, state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        for generator, drawn in zip(self.sampler.generators, state["sampler"], strict=True):
            generator.set_state(drawn.cpu())
        torch.set_rng_state(state["torch"].cpu())
        self.step, self.elapsed_s, self.loss = state["step"], state["elapsed_s"], state["loss"]
        if self.device_step is not None:
            self.device_step.restore(self.loss)


def _on_device(task: Task) -> bool:
    """Whether the host stays out of the steps; said where it was expected to and cannot."""
    wanted = task.config.schedule.graph
    if not (task.device.type == "cuda" if wanted is None else wanted):
        return False
    if task.hindrance is not None:
        log.warning("steps run one operation at a time: %s", task.hindrance)
        return False
    return True


def _to_channels_last(network: nn.Module) -> None:
    # What torch declares for this overload changes from version to version.
    cast(Any, network).to(memory_format=torch.channels_last)


@contextmanager
def _scalars(folder: Path) -> Iterator[Callable[[Progress], None]]:
    """TensorBoard scalars where the extra is installed; nothing, and said so, where it is not."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning("tensorboard is not installed: no scalars (pip install 'vsr[train]')")
        yield lambda progress: None
        return
    writer = SummaryWriter(str(folder))

    def write(progress: Progress) -> None:
        for key, value in asdict(progress).items():
            if key not in ("step", "elapsed_s"):
                writer.add_scalar(key, value, progress.step)

    try:
        yield write
    finally:
        writer.close()


def train(
    config: TrainConfig,
    store: FrameStore,
    folder: Path,
    *,
    device: torch.device,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> nn.Module:
    """Run the schedule to its end and return the mean weights.

    Args:
        config: what to train.
        store: what to train on.
        folder: where checkpoints and scalars go.
        device: where to compute.
        resume: go on from the checkpoint in `folder`.
        progress: called after every step.

    Raises:
        CheckpointError: see `Trainer.resume`.
    """
    trainer = Trainer(config, store, folder, device)
    if resume:
        trainer.resume()
    return run(trainer, progress=progress)


def run(trainer: Trainer, *, progress: Callable[[Progress], None] | None = None) -> nn.Module:
    """Run what is left of a trainer's schedule and return the mean weights.

    Args:
        trainer: fresh or resumed.
        progress: called after every step. KeyboardInterrupt, SystemExit and JobCancelledError that
            it raises end the run with a checkpoint from which it goes on as if never stopped.
    """
    saved_s = trainer.elapsed_s
    with _scalars(trainer.folder) as write:
        while trainer.fraction < 1.0:
            state = trainer.train_step()
            try:
                if progress is not None:
                    progress(state)
            except (KeyboardInterrupt, SystemExit, JobCancelledError):
                trainer.save()
                raise
            if state.step % 50 == 0:
                write(state)
            if trainer.elapsed_s - saved_s > 60 * trainer.config.schedule.checkpoint_minutes:
                trainer.save()
                saved_s = trainer.elapsed_s
        trainer.save()
    return trainer.ema.module
