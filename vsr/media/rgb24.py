"""Packed 8-bit RGB in and out through swscale, as most tools do it.

Here to be measured against (`vsr bench --naive`), not to be used: it loses depth, range and the
chroma's place, and copies every picture twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from vsr.errors import OutputError
from vsr.media.opening import AV_ERRORS, open_input
from vsr.media.settings import EncoderSettings, configure


def read_rgb24(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Every picture of a film's first video stream: (H, W, 3) uint8, RGB.

    Raises:
        OpenError, DecodeError: it cannot be read.
    """
    with open_input(path) as container:
        for frame in container.decode(container.streams.video[0]):
            yield cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24"))


class Rgb24Writer:
    """Encode packed RGB pictures into a file; a context manager.

    Args:
        path: to write.
        settings: codec, options and thread count, as a run would take them.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, settings: EncoderSettings) -> None:
        self._settings = settings
        try:
            self._container = av.open(f"file:{path.absolute()}", "w", format="matroska")
        except AV_ERRORS as error:
            raise OutputError(f"{path.name} cannot be created ({error})") from error
        stream: Any = self._container.add_stream(settings.codec, rate=settings.frame_rate)
        self._stream = cast(VideoStream, stream)
        configure(self._stream.codec_context, settings)
        self._num_frames = 0

    def write(self, picture_HW3: NDArray[np.uint8]) -> None:
        """Convert and encode the next picture: (H, W, 3) uint8, RGB."""
        frame = av.VideoFrame.from_ndarray(picture_HW3, format="rgb24")
        frame = frame.reformat(format=self._settings.pixel_format)
        frame.pts = self._num_frames
        frame.time_base = 1 / self._settings.frame_rate
        self._num_frames += 1
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
