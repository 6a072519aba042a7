"""Pictures leave memory as soon as nobody holds them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from vsr.media.reader import FrameReader


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_no_picture_waits_for_the_garbage_collector(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    # A picture in a cycle with something else of av's would be held until a full collection: at
    # 480p, hundreds of megabytes in a few minutes.
    clip = make_clip(tmp_path / "a.mkv", frames=12)
    with FrameReader(clip) as reader:
        num_frames = sum(1 for _ in reader)
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    held = [item for item in gc.garbage if isinstance(item, av.VideoFrame)]
    assert num_frames == 12
    assert not held
