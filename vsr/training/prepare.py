"""Decode a folder of videos and pictures once, into the store that training draws from.

A video file counts as one shot, a picture as a photograph. Where a folder has an `index.json`, a
list of objects with `file`, `origin` and `licence`, these name the groups that sampling keeps in
balance and the sources that a card must attribute; elsewhere the folder's name stands for both.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vsr.color import complete, planes_to_rgb
from vsr.errors import ConfigError, MediaError, OpenError, OutputError
from vsr.media.damage import (
    KIND_CORRUPT_FRAME,
    KIND_CORRUPT_PACKET,
    KIND_DECODE_ERROR,
    KIND_DEMUX_ERROR,
    KIND_TRUNCATED,
)
from vsr.media.reader import FrameReader
from vsr.training.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from vsr.training.data import FRAMES, INDEX, FrameStore

log = logging.getLogger(__name__)

VERSION = 1
"""Of the store's format and of how its samples are made; a store of another version is not used."""
MAX_FRAMES = 300
"""Frames taken of one video file: 10 s of film fill a gigabyte or two."""

_DAMAGE = frozenset(
    {
        KIND_CORRUPT_FRAME,
        KIND_CORRUPT_PACKET,
        KIND_DECODE_ERROR,
        KIND_DEMUX_ERROR,
        KIND_TRUNCATED,
    }
)
_SERIES = re.compile(r"[\d\W_]+$")

OnFile = Callable[[int, int], None]
"""Called with the number of files done and of all files, first with 0 done."""


@dataclass(frozen=True, slots=True)
class _Source:
    """One file to decode."""

    path: Path
    name: str
    """Below the data folder, with `/`."""
    group: str
    origin: str
    licence: str


def default_store(data: Path) -> Path:
    """Where the store of a data folder lies unless told otherwise: in VSR_HOME or ~/.cache/vsr."""
    home = os.environ.get("VSR_HOME")
    cache = Path(home) if home else Path.home() / ".cache" / "vsr"
    resolved = data.resolve()
    digest = hashlib.sha256(os.fsencode(resolved)).hexdigest()
    return cache / "training" / f"{resolved.name or 'root'}-{digest[:12]}"


def build_store(data: Path, store: Path, progress: OnFile | None = None) -> FrameStore:
    """Decode a folder into a store, unless the store holds just that already.

    Damaged and interlaced videos are left out with a warning: concealed pictures and combs are
    nothing to learn from. Of long videos the first `MAX_FRAMES` frames are taken.

    Args:
        data: searched with all folders in it; hidden files and files of other kinds are passed
            over.
        store: folder to write; what is in it is replaced in one step when all is decoded.
        progress: see `OnFile`; not called when nothing has to be decoded.

    Returns:
        The store, opened.

    Raises:
        ConfigError: the folder is missing or holds nothing usable.
        OutputError: the store cannot be written.
    """
    sources = _find(data)
    fingerprint = _fingerprint(data, sources)
    if _is_current(store, fingerprint):
        return FrameStore(store)
    partial = store / f"{FRAMES}.{os.getpid()}.part"
    try:
        store.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                clips = _write_clips(file, sources, progress)
            if not clips:
                raise ConfigError(f"none of the {len(sources)} files in {data} could be used")
            partial.replace(store / FRAMES)
        finally:
            partial.unlink(missing_ok=True)
        # The index last: a store whose index does not fit its source files is made anew.
        document = {"version": VERSION, "fingerprint": fingerprint, "clips": clips}
        partial_index = store / f"{INDEX}.{os.getpid()}.part"
        partial_index.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        partial_index.replace(store / INDEX)
    except OSError as error:
        if isinstance(error, OutputError | MediaError):
            raise
        raise OutputError(
            f"the training store {store} cannot be written: {error.strerror or error}",
            hint="name another folder with --store, with room for the decoded pictures",
        ) from error
    return FrameStore(store)


def _find(data: Path) -> list[_Source]:
    """Every video and picture of a folder, ordered by name."""
    if not data.is_dir():
        raise ConfigError(f"there is no folder of training data at {data}")
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    paths = sorted(
        path
        for path in data.rglob("*")
        if path.suffix.lower() in known
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(data).parts)
    )
    if not paths:
        raise ConfigError(
            f"{data} holds no videos and no pictures", hint="give the folder that holds them"
        )
    facts = _read_facts(data, set(paths))
    sources = []
    for path in paths:
        relative = path.relative_to(data)
        parent = relative.parent.as_posix() if relative.parent.parts else data.resolve().name
        # Numbered files are one series, which must not outweigh the other files of its folder.
        series = _SERIES.sub("", path.stem)
        origin, licence = facts.get(path, (parent, ""))
        group = origin if path in facts else f"{parent}/{series}"
        sources.append(
            _Source(
                path=path, name=relative.as_posix(), group=group, origin=origin, licence=licence
            )
        )
    return sources


def _read_facts(data: Path, paths: set[Path]) -> dict[Path, tuple[str, str]]:
    """Origin and licence of the files that an `index.json` speaks of."""
    facts = {}
    for index in sorted(data.rglob("index.json")):
        try:
            entries = json.loads(index.read_text("utf-8"))
            named = [(Path(entry["file"]), entry) for entry in entries]
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s is no list of files and is not used: %r", index, error)
            continue
        for file, entry in named:
            # Paths may start some folders above: what exists below the index is meant.
            tails = (index.parent.joinpath(*file.parts[i:]) for i in range(len(file.parts)))
            path = next((tail for tail in tails if tail in paths), None)
            if path is not None and entry.get("origin"):
                facts[path] = (str(entry["origin"]), str(entry.get("licence", "")))
    return facts


def _fingerprint(data: Path, sources: list[_Source]) -> str:
    """Digest of what decides over the store: files by name, size and time, origins, format."""
    digest = hashlib.sha256(f"{VERSION} {MAX_FRAMES}".encode())
    for source in sources:
        status = source.path.stat()
        facts = [source.name, source.group, source.origin, source.licence]
        digest.update(json.dumps([*facts, status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()


def _is_current(store: Path, fingerprint: str) -> bool:
    try:
        document = json.loads((store / INDEX).read_text("utf-8"))
        clips = document["clips"]
        last = clips[-1]
        size = last["offset"] + last["frames"] * last["height"] * last["width"] * 3
        return bool(
            document["version"] == VERSION
            and document["fingerprint"] == fingerprint
            and (store / FRAMES).stat().st_size == size
        )
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _write_clips(
    file: BinaryIO, sources: list[_Source], progress: OnFile | None
) -> list[dict[str, Any]]:
    """Append every usable source to a file; their entries of the index."""
    clips = []
    for number, source in enumerate(sources):
        if progress is not None:
            progress(number, len(sources))
        offset = file.tell()
        shape: tuple[int, ...] = ()
        num_frames = 0
        try:
            for pixels_HWC in _pixels(source.path):
                shape = pixels_HWC.shape
                file.write(pixels_HWC.tobytes())
                num_frames += 1
        except MediaError as error:
            log.warning("%s is left out: %s", source.name, error)
            file.seek(offset)
            file.truncate()
            continue
        entry = {"name": source.name, "group": source.group, "offset": offset}
        entry |= {"frames": num_frames, "height": shape[0], "width": shape[1]}
        clips.append(entry | {"origin": source.origin, "licence": source.licence})
    if progress is not None:
        progress(len(sources), len(sources))
    return clips


def _pixels(path: Path) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a file: (H, W, 3) RGB, all of one size.

    Raises:
        MediaError: it cannot be decoded, or not without damage.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _video(path)
    else:
        yield _picture(path)


def _picture(path: Path) -> NDArray[np.uint8]:
    try:
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except OSError as error:
        raise OpenError(f"it cannot be read: {error.strerror}") from error
    # Not by name: OpenCV's own file reading cannot cope with every name on every system.
    bgr_HWC = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr_HWC is None:
        raise OpenError("it is not a picture that can be decoded")
    return np.ascontiguousarray(bgr_HWC[..., ::-1], dtype=np.uint8)


def _video(path: Path) -> Iterator[NDArray[np.uint8]]:
    with FrameReader(path) as reader:
        info = reader.info
        if info.is_interlaced:
            raise OpenError("it is interlaced", hint="deinterlace it first")
        color, _ = complete(info.color, info.width, info.height, info.layout)
        for number, frame in enumerate(reader):
            if number == MAX_FRAMES:
                log.warning("%s is long: its first %d frames are taken", path.name, MAX_FRAMES)
                break
            planes = [torch.from_numpy(np.ascontiguousarray(plane))[None] for plane in frame.planes]
            rgb_3HW = planes_to_rgb(planes, frame.layout, color)[0]
            codes_3HW = rgb_3HW.mul(255).round_().clamp_(0, 255).to(torch.uint8)
            yield codes_3HW.permute(1, 2, 0).contiguous().numpy()
        damage = [event for event in reader.events if event.kind in _DAMAGE]
    if damage:
        raise OpenError(f"it is damaged ({damage[0].kind})")
