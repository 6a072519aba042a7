"""Tiny stores of made texture, and configurations that train on them in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vsr.training.config import TrainConfig
from vsr.training.data import FrameStore

MakeStore = Callable[..., FrameStore]
MakeConfig = Callable[..., TrainConfig]


def texture(num_frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """(T, H, W, 3) uint8: waves of many directions and colours that move."""
    generator = np.random.default_rng(seed)
    t, y, x = np.mgrid[0:num_frames, 0:height, 0:width].astype(np.float64)
    picture = np.zeros((num_frames, height, width, 3))
    for _ in range(12):
        angle, period = generator.uniform(0, np.pi), generator.uniform(5, 20)
        phase = (x * np.cos(angle) + y * np.sin(angle) + 0.7 * t) * 2 * np.pi / period
        color = generator.uniform(0.3, 1.0, 3)
        picture += np.sin(phase + generator.uniform(0, 6))[..., None] * color
    return np.clip(np.rint(128 + 25 * picture), 0, 255).astype(np.uint8)


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Write a store by hand: shapes are (frames, height, width) of its clips."""

    def make(
        shapes: Sequence[tuple[int, int, int]] = ((6, 64, 72), (1, 96, 96), (1, 80, 90)),
        *,
        groups: Sequence[str] | None = None,
        bare_list: bool = False,
        folder: str = "store",
    ) -> FrameStore:
        path = tmp_path / folder
        path.mkdir()
        entries: list[dict[str, Any]] = []
        samples, offset = [], 0
        for number, shape in enumerate(shapes):
            frames = texture(*shape, seed=number)
            length, height, width = shape
            group = groups[number] if groups else "made"
            where = {"offset": offset, "frames": length, "height": height, "width": width}
            entries.append({"name": f"clip{number}", "group": group, **where})
            samples.append(frames.reshape(-1))
            offset += frames.size
        np.concatenate(samples).tofile(path / "frames.u8")
        document = entries if bare_list else {"version": 1, "fingerprint": "", "clips": entries}
        (path / "index.json").write_text(json.dumps(document))
        return FrameStore(path)

    return make


@pytest.fixture
def make_config() -> MakeConfig:
    """A network of a few thousand weights; sections given are laid over the defaults here."""

    def make(**sections: Any) -> TrainConfig:
        document: dict[str, Any] = {
            "model": {
                "id": "tiny-x2",
                "family": "flowprop",
                "params": {
                    "num_channels": 8,
                    "num_blocks": 1,
                    "direction": "forward",
                    "flow_channels": 4,
                    "flow_levels": 2,
                },
            },
            "data": {"scale": 2, "crop_px": 16, "num_frames": [2, 3], "batch": 2},
            "schedule": {"steps": 6},
            "precision": "fp32",
            "seed": 1,
        }
        for name, value in sections.items():
            if isinstance(value, dict):
                document[name] = {**document.get(name, {}), **value}
            else:
                document[name] = value
        return TrainConfig.model_validate(document)

    return make


@pytest.fixture(autouse=True)
def _process_settings() -> Iterator[None]:
    """Training seeds torch and flushes denormals; other tests shall not notice.

    One thread, because layers as small as here only wait for a second one.
    """
    state, num_threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
    torch.set_rng_state(state)
    torch.set_flush_denormal(False)
