"""What means that memory ran out, in the words of every library, and what to try next."""

from __future__ import annotations

import errno

import cv2
import numpy as np
import pytest
import torch

from vsr.engine.memory import MIN_TILE_PX, is_out_of_memory, smaller_tile
from vsr.errors import DeviceError, DeviceMemoryError


def error_of_cpu_allocator() -> RuntimeError:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    return caught.value


def error_of_numpy() -> MemoryError:
    with pytest.raises(MemoryError) as caught:
        np.empty(1 << 50)
    return caught.value


def error_of_opencv() -> Exception:
    thin = np.zeros((1, 1), np.uint8)
    with pytest.raises(cv2.error) as caught:
        cv2.resize(thin, (1 << 26, 1 << 26))
    return caught.value


def test_what_the_libraries_raise_here() -> None:
    assert is_out_of_memory(error_of_cpu_allocator())
    assert is_out_of_memory(error_of_numpy())
    assert is_out_of_memory(error_of_opencv())


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:73] . DefaultCPUAllocator: not enough memory"),
        RuntimeError("std::bad_alloc"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        DeviceMemoryError("the smallest tile did not fit"),
    ],
)
def test_the_words_of_other_machines(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
        DeviceError("no CUDA device"),
    ],
)
def test_what_is_something_else(error: Exception | None) -> None:
    assert not is_out_of_memory(error)


def test_the_cause_counts_and_a_circle_of_causes_ends() -> None:
    outer = DeviceError("a segment failed")
    outer.__cause__ = error_of_cpu_allocator()
    assert is_out_of_memory(outer)
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840), (65, 30), (100, 100)])
def test_tiles_shrink_by_half_down_to_the_floor(size: tuple[int, int]) -> None:
    tiles = []
    tile = smaller_tile(*size, None)
    while tile is not None:
        tiles.append(tile)
        assert tile < max(size) and tile >= MIN_TILE_PX
        tile = smaller_tile(*size, tile)
    assert tiles == sorted(set(tiles), reverse=True)
    assert tiles[-1] == MIN_TILE_PX
    assert tiles[0] <= max(MIN_TILE_PX, max(size) / 2 + 16)


def test_small_pictures_have_no_smaller_tile() -> None:
    assert smaller_tile(64, 40, None) is None
    assert smaller_tile(1080, 1920, MIN_TILE_PX) is None
    assert smaller_tile(48, 48, 512) is None
