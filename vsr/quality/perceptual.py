"""LPIPS against the ground truth, where the network it rests on is at hand.

Zhang et al., 2018, by torchmetrics. Its heads come with torchmetrics; the AlexNet below them is a
download whose licence lets nobody ship it, so it is taken from where torchvision keeps its own, and
nothing is ever fetched.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_FILE = "alexnet-owt-7be5be79.pth"
_SHA256_BEGINS = "7be5be79"
"""As torchvision publishes it: in the name."""
MIN_PX = 64


class Lpips:
    """How unlike two pictures are to a network that learned what people see; 0 is alike.

    Raises:
        ValueError: the network is not there, or is another.
    """

    def __init__(self) -> None:
        path = backbone_path()
        if not path.is_file():
            raise ValueError(
                f"AlexNet, which may not be shipped with vsr, is not here; put {_FILE} of "
                f"torchvision into {path.parent}"
            )
        try:
            import torchvision  # noqa: F401
            from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity
        except ImportError as error:
            raise ValueError(
                "torchmetrics and torchvision are not both installed; "
                "pip install 'vsr[metrics,zoo]' brings them"
            ) from error
        if not _sha256(path).startswith(_SHA256_BEGINS):
            raise ValueError(f"{path} is not the file of torchvision: its sha256 is another")
        self._metric: Any = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)

    def score(self, result_3HW: NDArray[np.float32], truth_3HW: NDArray[np.float32]) -> float:
        """Of one frame; RGB from black 0 to white 1, clamped here.

        Raises:
            ValueError: the pictures are too small.
        """
        if min(result_3HW.shape[1:]) < MIN_PX:
            raise ValueError(f"it needs pictures of {MIN_PX} pixels each way")
        one, two = (torch.from_numpy(p).clamp(0, 1)[None] for p in (result_3HW, truth_3HW))
        with torch.no_grad():
            value = float(self._metric(one, two))
        self._metric.reset()
        return value


def backbone_path() -> Path:
    """Where torchvision keeps the network."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _FILE


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
