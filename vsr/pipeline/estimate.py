"""How long a run will take and how much disk it will need, guessed from a small piece of the film.

The middle of a few frames is decoded, enlarged by the model itself and encoded as the run would
do it; time per pixel and bits per pixel are then stretched to the whole film, and what comes once,
the start of PyTorch and of the model, is added. Small pictures cost more per pixel than large ones,
so the guess errs on the long side, by up to twice.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from vsr.frame import Frame
from vsr.media.encoder import SegmentEncoder
from vsr.media.probe import MediaInfo
from vsr.media.reader import FrameReader
from vsr.media.y4m import Y4mWriter
from vsr.pipeline.container import RAW
from vsr.pipeline.planning import Outline, decoder_threads

logger = logging.getLogger(__name__)

_PIECE = (192, 128)
_MAX_FRAMES = 24
_CORES_SHARED = 2
"""Stages that compute at the same time on a CPU: a machine with fewer cores runs them in turn."""


class Estimate(BaseModel):
    """A guess."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float | None
    """From start to final name; None when the length of the film is unknown."""
    start_seconds: float
    """Of these, what comes once however long the film is."""
    result_bytes: int | None
    disk_bytes: int | None
    """Needed at the fullest moment: the encoded pictures and the result both lie on the disk."""
    free_bytes: int | None
    """On the disk of the result; None when the system does not say."""
    how: str
    """What was measured."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What a piece of the film cost."""

    num_frames: int
    start_s: float
    """Once: PyTorch, as far as this process had not loaded it, and the model."""
    decode_s: float
    """Per whole frame of the source."""
    infer_s: float
    """Per whole frame."""
    encode_s: float
    """Per whole frame of the result."""
    frame_bytes: float
    """Of one encoded frame of the result."""
    piece: tuple[int, int]


def estimate(source: Path, output: Path, info: MediaInfo, known: Outline) -> Estimate:
    """Guess time and disk space of a run.

    Args:
        source: the film.
        output: where the result goes; its folder's disk is looked at.
        info: of the source.
        known: what the run was decided to be.

    Raises:
        VsrError: the piece could not be decoded, enlarged or encoded.
    """
    sample = _measure(source, info, known)
    num_frames = count_frames(info)
    free = free_bytes(output.absolute().parent)
    how = (
        f"{sample.num_frames} frames, {sample.piece[0]}x{sample.piece[1]} of each, "
        "run through model and encoder, and stretched to the film; right within a factor of two"
    )
    if num_frames is None:
        how += "; the source does not say how long it is"
        return Estimate(
            seconds=None,
            start_seconds=round(sample.start_s, 3),
            result_bytes=None,
            disk_bytes=None,
            free_bytes=free,
            how=how,
        )
    pixels = info.video.width * info.video.height
    growth = known.encoder.width * known.encoder.height / pixels
    cores = os.cpu_count() or 1
    stages = (sample.decode_s, sample.infer_s, sample.encode_s)
    per_frame = max(*stages, sum(stages) / min(cores, _CORES_SHARED))
    # One pass before for times and cuts, one after over both files for the check.
    passes = sample.decode_s * (2 + growth)
    video = round(num_frames * sample.frame_bytes)
    others = 0 if known.container == RAW else other_bytes(info)
    needed = video if known.container == RAW else 2 * video + others
    return Estimate(
        seconds=round(sample.start_s + num_frames * (per_frame + passes), 3),
        start_seconds=round(sample.start_s, 3),
        result_bytes=video + others,
        disk_bytes=needed,
        free_bytes=free,
        how=how,
    )


def free_bytes(folder: Path) -> int | None:
    """Bytes that may still be written to the disk of a folder; None when nobody says."""
    try:
        found = os.statvfs(folder)
    except (AttributeError, OSError) as error:
        logger.debug("free space of %s is unknown: %s", folder, error)
        return None
    return found.f_bavail * found.f_frsize


def count_frames(info: MediaInfo) -> int | None:
    """How many the film has, as its container says or as its length and rate tell; else None."""
    video = info.video
    if video.num_frames is not None:
        return video.num_frames
    seconds = video.duration_s or info.duration_s
    if seconds is None or video.frame_rate is None:
        return None
    return max(1, round(seconds * video.frame_rate))


def other_bytes(info: MediaInfo) -> int:
    """Sound and the like, which are copied: by bit rate, as far as it is known."""
    duration = info.duration_s or 0
    audio = sum((s.bit_rate or 0) * duration / 8 for s in info.streams if s.kind == "audio")
    return round(audio) + sum(held.size_bytes for held in info.attachments)


def _measure(source: Path, info: MediaInfo, known: Outline) -> _Sample:
    """Decode, enlarge and encode the middle of the first frames."""
    begun = time.perf_counter()
    import torch

    from vsr.engine.device import prepare_device
    from vsr.engine.runner import Runner
    from vsr.models.checkpoint import load_upscaler, resolve_spec

    video, name = info.video, known.model.file or known.model.id
    device = torch.device(known.compute.device)
    prepare_device(device)
    spec = resolve_spec(name)
    dtype: torch.dtype = getattr(torch, known.compute.dtype)
    wanted = min(_MAX_FRAMES, max(8, spec.chunk + spec.context))
    start_s = time.perf_counter() - begun
    started = time.perf_counter()
    with FrameReader(source, info=video, threads=decoder_threads(video.height)) as reader:
        frames = list(islice(reader, wanted))
    decode_s = (time.perf_counter() - started) / len(frames)
    pieces = [_crop(frame) for frame in frames]
    scale = known.model.scale
    width, height = pieces[0].width * scale, pieces[0].height * scale
    encoder = known.encoder.model_copy(update={"width": width, "height": height})
    begun = time.perf_counter()
    upscaler = load_upscaler(name, device=device, dtype=dtype)
    start_s += time.perf_counter() - begun
    runner = Runner(
        upscaler,
        spec,
        device=device,
        layout_in=video.layout,
        color_in=known.color_in,
        layout_out=encoder.layout,
        color_out=encoder.color,
    )

    def enlarge() -> tuple[float, list[Frame]]:
        begun = time.perf_counter()
        runner.start_shot()
        done = [result for piece in pieces for result in runner.push(piece)]
        done += runner.finish_shot()
        return time.perf_counter() - begun, done

    first_s, _ = enlarge()
    infer_s, results = enlarge()
    begun = time.perf_counter()
    num_bytes = _encode(results, known)
    encode_s = time.perf_counter() - begun
    count = len(pieces)
    in_share = video.width * video.height / (pieces[0].width * pieces[0].height)
    out_share = known.encoder.width * known.encoder.height / (width * height)
    return _Sample(
        num_frames=count,
        start_s=start_s + max(0.0, first_s - infer_s),
        decode_s=decode_s,
        infer_s=infer_s / count * in_share,
        encode_s=encode_s / count * out_share,
        frame_bytes=num_bytes / count * out_share,
        piece=(pieces[0].width, pieces[0].height),
    )


def _encode(results: list[Frame], known: Outline) -> int:
    """Bytes that the frames take as the run would encode them."""
    width, height = results[0].width, results[0].height
    settings = known.encoder.model_copy(update={"width": width, "height": height})
    with tempfile.TemporaryDirectory(prefix="vsr-estimate-") as folder:
        path = Path(folder) / "piece.mkv"
        if known.container == RAW:
            with path.open("wb") as file:
                writer = Y4mWriter(file, settings)
                for frame in results:
                    writer.encode(frame)
                return writer.close().num_bytes
        with SegmentEncoder(path, settings) as encoder:
            for frame in results:
                encoder.encode(frame)
            return encoder.close().num_bytes


def _crop(frame: Frame) -> Frame:
    """The middle of a frame, as views of its planes; small frames stay whole."""
    layout = frame.layout
    width, height = min(_PIECE[0], frame.width), min(_PIECE[1], frame.height)
    left = (frame.width - width) // 2 // 4 * 4
    top = (frame.height - height) // 2 // 4 * 4
    planes = []
    for index, plane in enumerate(frame.planes):
        is_chroma = not layout.is_rgb and not layout.is_gray and index in (1, 2)
        across = layout.log2_chroma_w if is_chroma else 0
        down = layout.log2_chroma_h if is_chroma else 0
        rows, columns = layout.plane_size(index, width, height)
        y, x = top >> down, left >> across
        planes.append(plane[y : y + rows, x : x + columns])
    return replace(frame, planes=tuple(planes))
