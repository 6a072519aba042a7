"""Memory that ran out: know it again by its error, and the next smaller piece of work.

Loads no torch, because the process that only hands out work asks these questions as well.
"""

from __future__ import annotations

import errno

from vsr.errors import DeviceMemoryError, VsrError

MIN_TILE_PX = 64
"""Below this a tile is mostly halo."""
TILE_STEP_PX = 16

_WORDS = (
    "out of memory",  # CUDA
    "not enough memory",  # torch on Windows
    "can't allocate memory",  # torch's CPU allocator, 2.6 to 2.15
    "cannot allocate memory",  # the C library
    "insufficient memory",  # OpenCV
    "failed to allocate",
    "unable to allocate",  # numpy
    "alloc_failed",  # cuDNN and cuBLAS
    "bad_alloc",
)


def says_out_of_memory(text: str) -> bool:
    """Whether what a library said means that memory ran out."""
    text = text.lower()
    return any(word in text for word in _WORDS)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, means that memory ran out.

    Those of torch on a CPU are plain `RuntimeError`s, known only by their words; CUDA's is a
    subclass of it. PyAV's and numpy's are `MemoryError`s. OpenCV's derives from `Exception`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, MemoryError | DeviceMemoryError):
            return True
        if isinstance(error, OSError):
            if error.errno == errno.ENOMEM:
                return True
        elif _tells_by_words(error) and says_out_of_memory(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_device_failure(error: BaseException) -> bool:
    """Whether the device or its driver failed, as torch tells of it: by words alone."""
    words = ("CUDA error", "cuDNN error", "cuBLAS error", "CUBLAS_STATUS", "CUDNN_STATUS")
    is_ours = isinstance(error, VsrError)
    return not is_ours and isinstance(error, RuntimeError) and any(w in str(error) for w in words)


def _tells_by_words(error: BaseException) -> bool:
    return isinstance(error, RuntimeError | ImportError) or type(error).__module__.startswith("cv2")


def smaller_tile(height: int, width: int, tile_px: int | None) -> int | None:
    """Side of the tiles to try after memory ran out.

    Args:
        height: of the source's pictures, pixels.
        width: likewise.
        tile_px: side of the tiles it ran out with; None for whole pictures.

    Returns:
        About half of it, a multiple of 16 and not under 64; None when nothing smaller is left.
    """
    whole = max(height, width)
    now = whole if tile_px is None else min(tile_px, whole)
    if now <= MIN_TILE_PX:
        return None
    half = -(-now // 2)
    rounded = -(-half // TILE_STEP_PX) * TILE_STEP_PX
    return max(MIN_TILE_PX, min(rounded, now - 1))
