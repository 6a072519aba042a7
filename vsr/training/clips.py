"""Folders of clips and stills, as test sets come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from vsr.errors import ConfigError, OpenError
from vsr.quality.metrics import round_to_8_bit

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".avi", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".mxf", ".ts", ".webm", ".y4m"}
)


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a test set, or one still of a set of stills."""

    name: str
    files: tuple[Path, ...]
    """Its frames in order, or one video file."""
    is_video: bool

    def pictures(self) -> Iterator[Tensor]:
        """The frames in order: (3, H, W) float32 RGB in [0, 1], whole 8-bit codes.

        Raises:
            OpenError: a picture cannot be read.
            MediaError: a video file cannot be decoded.
        """
        for file in self.files:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                yield from _decode_video(file)
            else:
                yield read_image(file)


def find_clips(path: Path) -> list[Clip]:
    """What there is to score in a folder, ordered by name.

    Args:
        path: a folder of folders of frames and of video files (a test set of clips), a folder of
            pictures (a set of stills), or one video file. Hidden files and files of other kinds
            are passed over.

    Raises:
        OpenError: it is not there, or holds nothing to score.
        ConfigError: it holds clips and stills at once, or two clips of one name.
    """
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return [Clip(path.stem, (path,), is_video=True)]
    if not path.is_dir():
        raise OpenError(f"There is no folder {path}", hint="give a folder of clips or of stills")
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    stills = [Clip(entry.stem, (entry,), is_video=False) for entry in entries if _is_image(entry)]
    clips = []
    for entry in entries:
        if entry.is_dir():
            frames = tuple(sorted(file for file in entry.iterdir() if _is_image(file)))
            if frames:
                clips.append(Clip(entry.name, frames, is_video=True))
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            clips.append(Clip(entry.stem, (entry,), is_video=True))
    if clips and stills:
        raise ConfigError(
            f"{path} holds both stills and clips", hint="score them as two sets, from two folders"
        )
    found = clips or stills
    if not found:
        raise OpenError(f"{path} holds no pictures, no folders of frames and no video files")
    names = [clip.name for clip in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path} holds two things called '{name}'")
    return found


def read_image(path: Path) -> Tensor:
    """Read a picture of any size: (3, H, W) float32 RGB in [0, 1], 8-bit codes, alpha ignored.

    Raises:
        OpenError: it cannot be read.
    """
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise OpenError(f"The picture {path} cannot be read: {error.strerror}") from error
    # Not by name: OpenCV's own file reading cannot cope with every name on every system.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(data, flags) if data.size else None
    if pixels is None:
        raise OpenError(f"{path} is not a picture that can be decoded")
    rgb_HWC = np.ascontiguousarray(pixels[..., ::-1])
    return torch.from_numpy(rgb_HWC).permute(2, 0, 1).float() / 255.0


def _decode_video(path: Path) -> Iterator[Tensor]:
    # Scoring folders of frames needs neither FFmpeg nor colour conversion.
    from vsr.color import complete, planes_to_rgb
    from vsr.media.reader import FrameReader

    with FrameReader(path) as reader:
        info = reader.info
        color, _ = complete(info.color, info.width, info.height, info.layout)
        for frame in reader:
            planes = [torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in frame.planes]
            yield round_to_8_bit(planes_to_rgb(planes, frame.layout, color)[0])


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
