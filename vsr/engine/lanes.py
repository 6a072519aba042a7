"""Move planes to a device and back.

A lane hides where the work runs. On a CPU arrays are wrapped, nothing is copied and nothing waits.
On a GPU there are three streams: upload, compute and download, ordered by events; host buffers are
pinned, so copies overlap compute, and no call waits for the whole device.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsr.frame import Plane


class Download(Protocol):
    """Planes on their way back to the host."""

    def is_ready(self) -> bool: ...

    def wait(self) -> tuple[Plane, ...]:
        """The planes, each (h, w); blocks until they are there."""
        ...


class Lane(Protocol):
    """Where planes go, are worked on, and come back from."""

    num_in_flight: int
    """Downloads that may be under way before the caller should wait for the oldest."""

    def compute(self) -> AbstractContextManager[Any]:
        """Context in which everything that reads or makes device tensors has to run."""
        ...

    def upload(self, planes: Sequence[Plane]) -> tuple[Tensor, ...]:
        """(h, w) arrays -> (1, h, w) tensors of the same dtype, ready for use in `compute()`."""
        ...

    def download(self, planes: Sequence[Tensor]) -> Download:
        """Start to bring (1, h, w) tensors made in `compute()` back to the host."""
        ...


def make_lane(device: torch.device) -> Lane:
    """The lane of a device."""
    return CudaLane(device) if device.type == "cuda" else CpuLane()


class _Done:
    """A download that needed no copy."""

    def __init__(self, planes: Sequence[Tensor]) -> None:
        self._planes = planes

    def is_ready(self) -> bool:
        return True

    def wait(self) -> tuple[Plane, ...]:
        return tuple(plane[0].numpy() for plane in self._planes)


class CpuLane:
    """Planes are wrapped where they lie."""

    num_in_flight = 0

    def compute(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def upload(self, planes: Sequence[Plane]) -> tuple[Tensor, ...]:
        # torch refuses to promise not to write to a read-only array, so that one is copied.
        return tuple(
            torch.from_numpy(plane if plane.flags.writeable else plane.copy())[None]
            for plane in planes
        )

    def download(self, planes: Sequence[Tensor]) -> Download:
        return _Done(planes)


class _CudaDownload:
    def __init__(self, host_planes: Sequence[Tensor], arrived: torch.cuda.Event) -> None:
        self._host_planes = host_planes
        self._arrived = arrived

    def is_ready(self) -> bool:
        return bool(self._arrived.query())  # type: ignore[no-untyped-call]

    def wait(self) -> tuple[Plane, ...]:
        self._arrived.synchronize()
        # The arrays keep the pinned buffers alive; torch hands a buffer out again only after the
        # last array on it is gone, so the encoder may read it as late as it likes.
        return tuple(plane[0].numpy() for plane in self._host_planes)


class CudaLane:
    """Three streams of one GPU.

    Pinned buffers come from torch's caching host allocator, which also keeps a buffer until the
    copies recorded on it have passed. Device tensors used on a stream that did not make them are
    marked with `record_stream`, so that their memory is not given out again too early.
    """

    num_in_flight = 2

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._upload = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._compute = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._download = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def compute(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._compute)

    def upload(self, planes: Sequence[Plane]) -> tuple[Tensor, ...]:
        tensors = []
        with torch.cuda.stream(self._upload):
            for plane in planes:
                pinned = torch.empty(
                    (1, *plane.shape), dtype=_torch_dtype(plane.dtype), pin_memory=True
                )
                np.copyto(pinned[0].numpy(), plane)
                tensor = pinned.to(self._device, non_blocking=True)
                tensor.record_stream(self._compute)
                tensors.append(tensor)
        self._compute.wait_stream(self._upload)
        return tuple(tensors)

    def download(self, planes: Sequence[Tensor]) -> Download:
        self._download.wait_stream(self._compute)
        host_planes = []
        with torch.cuda.stream(self._download):
            for plane in planes:
                pinned = torch.empty(plane.shape, dtype=plane.dtype, pin_memory=True)
                pinned.copy_(plane, non_blocking=True)
                plane.record_stream(self._download)
                host_planes.append(pinned)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self._download)
        return _CudaDownload(host_planes, arrived)


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    empty: NDArray[Any] = np.empty(0, dtype)
    return torch.from_numpy(empty).dtype
