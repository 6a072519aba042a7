"""Name devices: which one a run gets, and which class its bytes belong to."""

from __future__ import annotations

import platform

import torch

from vsr.errors import DeviceError


def resolve_device(name: str = "auto") -> torch.device:
    """Turn a user's word (`auto`, `cpu`, `cuda`, `cuda:1`) into a device that is there.

    Raises:
        DeviceError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(
            f"{name!r} is not the name of a device", hint="use auto, cpu, cuda or cuda:N"
        ) from error
    if device.type == "cpu":
        return torch.device("cpu")
    if device.type != "cuda":
        raise DeviceError(
            f"devices of type {device.type!r} are not supported", hint="use auto, cpu or cuda"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = device.index or 0
    if index >= count:
        raise DeviceError(
            f"device {name} was asked for, but {count or 'no'} CUDA device(s) can be used here",
            hint="use --device cpu, or install a torch build and driver with CUDA",
        )
    return torch.device("cuda", index)


def device_class(device: torch.device) -> str:
    """Name the class of devices on which equal plans give equal bytes.

    For a CPU its instruction set as torch uses it, for a GPU its name with the versions of CUDA
    and cuDNN.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        return f"{name}; CUDA {torch.version.cuda}; cuDNN {cudnn}"
    return f"cpu {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def prepare_device(device: torch.device) -> None:
    """Make a device compute the same bits in every run; changes settings of the process.

    On a GPU: convolution algorithms are neither tuned by timing nor taken from those that add in
    changing order, and float32 is float32, not TF32. A CPU needs nothing.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
