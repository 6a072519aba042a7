"""The training loop: one network, one device, a schedule in wall-clock time."""

from __future__ import annotations

import logging
import math
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.errors import CheckpointError, ConfigError, JobCancelledError, OutputError
from vsr.models import image_catalog
from vsr.models.flow import FlowNet
from vsr.models.image.per_frame import PerFrame
from vsr.models.image.stylegan import SmallGenerator
from vsr.models.video.flowprop import FlowProp
from vsr.training.alignment import flow_loss, pairs_loss
from vsr.training.classsr import stage_share
from vsr.training.config import TrainConfig
from vsr.training.data import Batch, FrameStore, Sampler
from vsr.training.degraded import prepare_pairs
from vsr.training.features import FeatureNet, degradation_loss
from vsr.training.generative import BETAS, GenerativeObjective
from vsr.training.resident import AnySampler, ResidentSampler
from vsr.training.sequences import SequenceLoss
from vsr.training.starting import initialise
from vsr.training.stills import Objective

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


def full_params(config: TrainConfig) -> dict[str, Any]:
    """Keyword arguments of the network's class, the scale of the data included."""
    params = dict(config.model.params)
    if config.model.family not in ("flow", "features", "generator"):
        params["scale"] = config.data.scale
    return params


def build(config: TrainConfig) -> nn.Module:
    """The network of a configuration, with random weights.

    Raises:
        ConfigError: its class knows no such parameter.
    """
    classes: dict[str, Callable[..., nn.Module]] = {
        "flowprop": FlowProp,
        "flow": FlowNet,
        "features": FeatureNet,
        "generator": SmallGenerator,
    }
    make = classes.get(config.model.family) or image_catalog.builder(config.model.family)
    try:
        return make(**full_params(config))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"[model.params] do not fit {config.model.family}: {error}") from error


class Ema:
    """Exponential mean of the weights; early steps count as if the mean had always run."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9.0))
        for mean, value in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        # Statistics of a batch normalisation are means already.
        for kept, statistic in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(statistic)


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
        self.sampler = _make_sampler(config, store, device)
        flow = [p for n, p in self.network.named_parameters() if n.startswith("flow.")]
        rest = [p for n, p in self.network.named_parameters() if not n.startswith("flow.")]
        self.optimizer = torch.optim.Adam(
            [{"params": rest, "ratio": 1.0}]
            + ([{"params": flow, "ratio": config.optimizer.flow_lr_ratio}] if flow else []),
            lr=config.optimizer.lr,
            betas=BETAS if config.model.family == "generator" else (0.9, 0.99),
        )
        self.objective: Objective | GenerativeObjective = (
            GenerativeObjective(config, device)
            if config.model.family == "generator"
            else Objective(config, device)
        )
        self.sequences = SequenceLoss(config, device)
        self.step = 0
        self.elapsed_s = 0.0
        self.loss = math.nan

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
            group["lr"] = lr * group["ratio"]
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
        started = time.monotonic()
        lr = self._set_rates()
        enabled = self.config.precision == "bf16"
        loss, pixels = self._loss(enabled)
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
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value
        self.step += 1
        seconds = time.monotonic() - started
        self.elapsed_s += seconds
        return Progress(self.step, self.elapsed_s, self.fraction, self.loss, lr, pixels / seconds)

    def _loss(self, bf16: bool) -> tuple[Tensor, int]:
        if isinstance(self.network, FlowNet):
            size = self.config.data.batch
            return flow_loss(self.network, self.sampler, size, self.device, bf16=bf16)
        carried = self.config.data.carried_frames if isinstance(self.network, FlowProp) else 0
        batch = self.sampler.draw(self.config.data.batch, self._num_frames() + carried)
        source = batch.source_BTCHW.to(self.device, non_blocking=True)
        target = batch.target_BTCHW.to(self.device, non_blocking=True)
        if isinstance(self.network, SmallGenerator):
            assert isinstance(self.objective, GenerativeObjective)
            # Pictures shrunk from larger ones: more is in them than in crops of that size.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = self.objective(self.network, source[:, 0])
            return loss, source[:, :, 0].numel()
        if isinstance(self.network, PerFrame):
            assert isinstance(self.objective, Objective)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                loss = self.objective(self.network, source[:, 0], target[:, 0], self.fraction)
            return loss, source[:, :, 0].numel()
        if isinstance(self.network, FeatureNet):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                return degradation_loss(self.network, target[:, 0]), target[:, :, 0].numel()
        assert isinstance(self.network, FlowProp)
        batch = Batch(source, target)
        loss = self.sequences(self.network, batch, self.sampler.host_generator, bf16=bf16)
        options = self.config.optimizer
        if options.flow_loss_weight and self._flow_learns():
            assert self.network.flow is not None
            pairs = pairs_loss(self.network.flow, self.sampler, options.flow_pairs, self.device)
            loss = loss + options.flow_loss_weight * pairs
        return loss, source[:, carried:, 0].numel()

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
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        for generator, drawn in zip(self.sampler.generators, state["sampler"], strict=True):
            generator.set_state(drawn.cpu())
        torch.set_rng_state(state["torch"].cpu())
        self.step, self.elapsed_s, self.loss = state["step"], state["elapsed_s"], state["loss"]


def _make_sampler(config: TrainConfig, store: FrameStore, device: torch.device) -> AnySampler:
    """What cuts batches: on the device where the store fits there, else on the host.

    The two draw differently, so that a run must be resumed on the kind of device it began on.
    """
    data = config.data
    pairs = prepare_pairs(store, config)
    resident = data.resident
    if resident is None:
        resident = ResidentSampler.fits(store, device, pairs)
    options: dict[str, Any] = {
        "scale": data.scale,
        "crop_px": data.crop_px,
        "photo_share": data.photo_share,
        "max_speed_px": data.max_speed_px,
        "degradation": data.degradation,
        "pairs": pairs,
        "seed": config.seed,
    }
    if resident:
        return ResidentSampler(store, device=device, **options)
    return Sampler(store, **options)


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
