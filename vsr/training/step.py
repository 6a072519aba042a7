"""A training step that never waits for the host, and the mean of the weights.

A small network's step is thousands of small operations, which a GPU finishes faster than a host
can name them. So all of it, from the forward pass to the mean of the weights, is recorded once as
a CUDA graph and then started by a single call. What the host used to decide is decided on the
device: whether a gradient is finite, and what the loss is on average.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from vsr.training.task import Drawn

log = logging.getLogger(__name__)

READ_EVERY = 10
"""Steps between two looks at the loss. One look is awaited at the next, so that the host never
runs further ahead than twice as many steps, and the device never idles for it."""
_WARM_UP = 3
"""Steps of a new shape before it is recorded: libraries choose algorithms and reserve memory."""
_CAPTURING = threading.Lock()
"""Recording begins with a wait for the device, for which no other step may be being recorded."""
KEEP = 0.98
"""Of the loss's exponential mean, per step."""


class Ema:
    """Exponential mean of the weights; early steps count as if the mean had always run."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take a step's weights in."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9.0))
        for mean, value in zip(self.module.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
        # Statistics of a batch normalisation are means already.
        for kept, statistic in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(statistic)

    @torch.no_grad()
    def update_on_device(self, module: nn.Module, steps: Tensor, counts: Tensor) -> None:
        """As `update`, decided by tensors.

        Args:
            module: whose weights to take in.
            steps: () float64, this one included.
            counts: () bool; False leaves everything as it is.
        """
        decay = (steps / (steps + 9.0)).clamp(max=self.decay)
        weight = torch.where(counts, 1 - decay, 0.0).float()
        means: list[Tensor] = list(self.module.parameters())
        values: list[Tensor] = list(module.parameters())
        ways = list(torch._foreach_sub(values, means))
        torch._foreach_mul_(ways, weight)
        torch._foreach_add_(means, ways)
        for kept, statistic in zip(self.module.buffers(), module.buffers(), strict=True):
            kept.copy_(torch.where(counts, statistic, kept))


class DeviceStep:
    """Forward pass, backward pass, clipping, update and mean in one go.

    Args:
        network: in training mode.
        ema: of its weights; its `steps` are up to date after `read` only.
        optimizer: see `make_optimizer`.
        clip_norm: largest norm of the gradient.
        loss: of what was drawn; the same operations whatever its contents.
    """

    def __init__(
        self,
        network: nn.Module,
        ema: Ema,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        loss: Callable[[Drawn], Tensor],
    ) -> None:
        self._network, self._ema, self._optimizer = network, ema, optimizer
        self._clip_norm, self._loss = clip_norm, loss
        self._device = next(network.parameters()).device
        self.captures = self._device.type == "cuda"
        """Whether steps are recorded; ends for good where that fails."""
        self._found_inf = torch.zeros((), device=self._device)
        # The optimiser looks for this name and leaves out the step where it is not 0.
        cast(Any, optimizer).found_inf = self._found_inf
        self._state = torch.zeros(3, dtype=torch.float64, device=self._device)
        """Mean loss, steps left out, steps of the mean."""
        self.restore(math.nan)
        self._shape: object = None
        self._num_warm = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Drawn | None = None
        self._side: torch.cuda.Stream | None = None
        self._reading: tuple[Tensor, torch.cuda.Event] | None = None
        self._calls = 0
        self._told_left_out = 0
        if self.captures:
            self._side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            # Shapes stay the same, so that trying out every algorithm pays.
            torch.backends.cudnn.benchmark = True

    def restore(self, loss: float) -> None:
        """Go on from a mean loss, and from the steps of the mean of the weights."""
        self._state.copy_(torch.tensor([loss, 0.0, float(self._ema.steps)]))
        self._told_left_out = 0

    def __call__(self, draw: Callable[[], Drawn], variant: object) -> tuple[Drawn, float | None]:
        """Do a step; it may still be under way on return.

        Args:
            draw: gives the contents.
            variant: what else, besides their shapes, decides over the operations.

        Returns:
            The contents, and now and then the mean loss of some steps ago.
        """
        drawn = draw()
        if self.captures:
            self._launch(drawn, variant)
        else:
            self._eagerly(drawn)
        self._calls += 1
        value = None
        if self._calls == 1:
            value = self.read()
        elif self._calls % READ_EVERY == 0:
            value = self._read_later()
        return drawn, value

    def read(self) -> float:
        """Wait for the device and give the mean loss; brings `Ema.steps` up to date."""
        return self._take(self._state.tolist())

    def _take(self, state: list[float]) -> float:
        loss, left_out, ema_steps = state
        if left_out > self._told_left_out:
            log.warning(
                "%d of the last steps left out: gradient is not finite",
                left_out - self._told_left_out,
            )
            self._told_left_out = int(left_out)
        self._ema.steps = int(ema_steps)
        return loss

    def _read_later(self) -> float | None:
        """What was asked for last time; the state of now is asked for."""
        if self._device.type != "cuda":
            return self.read()
        value = None
        if self._reading is None:
            memory = torch.empty(3, dtype=torch.float64, pin_memory=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._reading = memory, event
        else:
            memory, event = self._reading
            event.synchronize()
            value = self._take(memory.tolist())
        memory.copy_(self._state, non_blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return value

    def _eagerly(self, drawn: Drawn) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        self._body(drawn)

    def _body(self, drawn: Drawn) -> None:
        """Everything that is recorded: no number may come to the host."""
        loss = self._loss(drawn)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), self._clip_norm)
        with torch.no_grad():
            is_finite = torch.isfinite(norm)
            self._found_inf.copy_(~is_finite)
            self._optimizer.step()
            mean, left_out, steps = self._state.unbind()
            steps = steps + is_finite
            self._ema.update_on_device(self._network, steps, is_finite)
            value = loss.detach().double()
            mean = torch.where(mean.isnan(), value, KEEP * mean + (1 - KEEP) * value)
            self._state.copy_(torch.stack((mean, left_out + ~is_finite, steps)))

    def _launch(self, drawn: Drawn, variant: object) -> None:
        shape = variant, [(tensor.shape, tensor.dtype) for tensor in drawn.tensors()]
        if shape != self._shape:
            # Longer sequences, or the flow learns from now on.
            self._shape, self._num_warm = shape, 0
            self._forget()
        if self._graph is None and self._num_warm == _WARM_UP:
            self._capture(drawn)
        if self._graph is not None and self._inputs is not None:
            for place, tensor in zip(self._inputs.tensors(), drawn.tensors(), strict=True):
                place.copy_(tensor)
            self._graph.replay()
        elif not self.captures:
            self._eagerly(drawn)
        else:
            # A true step, on the stream that it will be recorded on.
            self._num_warm += 1
            assert self._side is not None
            here = torch.cuda.current_stream(self._device)
            self._side.wait_stream(here)
            with torch.cuda.stream(self._side):
                self._eagerly(drawn)
            here.wait_stream(self._side)

    def _forget(self) -> None:
        """Give back the graph and its memory, gradients included."""
        self._graph = self._inputs = None
        self._optimizer.zero_grad(set_to_none=True)

    def _capture(self, drawn: Drawn) -> None:
        """Record a step without doing it, or find out that it cannot be recorded."""
        self._forget()
        self._inputs = drawn.with_tensors(iter([t.clone() for t in drawn.tensors()]))
        graph = torch.cuda.CUDAGraph()
        here = torch.cuda.current_stream(self._device)
        try:
            # Of this thread alone: others may read their losses or free memory meanwhile.
            with (
                _CAPTURING,
                torch.cuda.graph(graph, stream=self._side, capture_error_mode="thread_local"),
            ):
                self._body(self._inputs)
        except RuntimeError as error:
            self.captures = False
            # Where recording fails at its very end, torch stays on the other stream.
            torch.cuda.set_stream(here)
            self._forget()
            torch.clear_autocast_cache()
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning(
                "the step cannot be recorded as a CUDA graph, so it runs one operation at a time "
                "(%s)",
                first,
            )
            return
        self._graph = graph


def make_optimizer(
    groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], device_step: bool
) -> torch.optim.Adam:
    """Adam over groups of parameters.

    Args:
        groups: `params`, and what a schedule wants to know of them.
        lr: of all.
        betas: of Adam.
        device_step: whether it is for a `DeviceStep`: rates and counts are tensors, and a step is
            left out where `found_inf` is not 0.
    """
    if not device_step:
        return torch.optim.Adam(groups, lr=lr, betas=betas)
    for group in groups:
        device = group["params"][0].device
        group["lr"] = torch.tensor(lr, dtype=torch.float32, device=device)
    optimizer = torch.optim.Adam(groups, lr=lr, betas=betas, fused=True, capturable=True)
    # Its first steps are not recorded on purpose; it would warn of that.
    cast(Any, optimizer)._warned_capturable_if_run_uncaptured = True
    return optimizer


def set_rate(group: dict[str, Any], lr: float) -> None:
    """Of one group, on the device where it lies there."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load moments and counts, whichever kind of step they come from.

    Args:
        optimizer: fresh; keeps its own options and the tensors of its rates.
        state: from `state_dict`.
    """
    own = [dict(group) for group in optimizer.param_groups]
    for saved, group in zip(state["param_groups"], own, strict=True):
        for key in ("fused", "capturable", "foreach"):
            saved[key] = group[key]
    optimizer.load_state_dict(state)
    for loaded, group in zip(optimizer.param_groups, own, strict=True):
        loaded["lr"] = group["lr"]
