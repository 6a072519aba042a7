"""How large a tile the memory has room for, measured on a small piece of the picture's size.

An estimate from above, so that a large still does not end the process: on a CPU, memory that runs
out often cannot be caught.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vsr.engine.memory import MIN_TILE_PX, TILE_STEP_PX
from vsr.models.upscaler import ModelSpec, Upscaler

_PIECE_PX = 64
_SMALL_PX = 512 * 512
"""Pictures up to this many pixels are not measured for."""
_HELD = 4
"""How many times the largest layer's input and output are held at once: what skips reach over,
scratch of the convolution, and one to spare."""
_PICTURE_BYTES = 3 * 4 * 6
"""Of a pixel of the result: three floats, in six copies on its way to codes."""
_SHARE = 0.6
"""Of free memory that is counted on."""


def free_memory(device: torch.device) -> int | None:
    """Bytes that may be taken on a device now; None where nobody knows."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    known = [n for n in (_from_meminfo(), _from_cgroup()) if n is not None]
    return min(known, default=None)


def _from_meminfo() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _from_cgroup() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        used = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return max(0, int(limit) - used) if limit.isdigit() else None


def choose_tile(
    model: Upscaler,
    spec: ModelSpec,
    *,
    height: int,
    width: int,
    device: torch.device,
    free_bytes: int | None,
) -> int | None:
    """Side of the tiles to cut a picture into.

    Args:
        model: on its device; called once on a piece of 64x64 pixels.
        spec: its description.
        height: of the source, pixels.
        width: likewise.
        device: where the model is.
        free_bytes: from `free_memory`.

    Returns:
        None for the whole picture: it is small, fits, may not be cut, or nothing is known.
    """
    if free_bytes is None or not spec.tileable or height * width <= _SMALL_PX:
        return None
    result = spec.scale**2 * height * width * _PICTURE_BYTES
    room = max(0.1 * free_bytes, _SHARE * free_bytes - result)
    seen = math.sqrt(room / bytes_per_pixel(model, spec, device))
    if seen >= max(height, width) or seen * seen >= height * width:
        return None
    side = int(seen) - 2 * spec.halo_px
    return max(MIN_TILE_PX, side // TILE_STEP_PX * TILE_STEP_PX)


def bytes_per_pixel(model: Upscaler, spec: ModelSpec, device: torch.device) -> float:
    """Memory that a model takes while it works, bytes for a pixel of the source."""
    side = max(_PIECE_PX, spec.min_size)
    largest = 0

    def note(_: nn.Module, given: tuple[Any, ...], made: object) -> None:
        nonlocal largest
        tensors = [t for t in (*given, made) if isinstance(t, Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    assert isinstance(model, nn.Module)
    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if not any(True for _ in module.children())
    ]
    try:
        with torch.inference_mode():
            frames_BTCHW = torch.zeros(1, 1, 3, side, side, device=device)
            state = tuple(t.to(device) for t in model.init_state(1, side, side))
            model.upscale(frames_BTCHW, state)
    finally:
        for hook in hooks:
            hook.remove()
    # A model without layers works on what it is given and what it makes.
    least = 4 * 3 * (1 + spec.scale**2)
    return _HELD * max(largest / side**2, least)
