"""What tests of several rooms share: tiny clips made on the spot, real media, the GPU.

Clips are written by plain av calls, never through vsr, so that reader and writer cannot err alike.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from av.container.core import Chapter

MakeClip = Callable[..., Path]
SUBTITLES = ((0, 200, "First line"), (200, 200, "Zweite Zeile: äöü"))
"""(pts, duration, text) in milliseconds."""


def _texture(index: int, rows: int, columns: int, plane: int, top: int) -> np.ndarray:
    """A moving pattern that fills codes 0..top; chroma stays near its middle."""
    y, x = np.mgrid[0:rows, 0:columns]
    wave = np.sin((x + 2 * index) / 5.0) * np.cos((y - index) / 4.0)
    gain = 0.45 if plane == 0 else 0.2
    return np.asarray(np.rint((0.5 + gain * wave) * top))


def _fill(frame: av.VideoFrame, index: int) -> None:
    """Write the pattern into every component, in place, whatever the layout."""
    components = frame.format.components
    for number, plane in enumerate(frame.planes):
        here = [c for c in components if c.plane == number]
        if not here:
            continue
        bits = here[0].bits
        wide = bits > 8
        row = np.zeros((plane.height, plane.line_size), np.uint8)
        view = row.view(">u2" if frame.format.is_big_endian else "<u2") if wide else row
        # MSB-aligned formats (p010 and friends) keep their bits at the top of the word.
        shift = 16 - bits if frame.format.name.startswith(("p0", "p2", "p4")) else 0
        pattern = _texture(index, plane.height, view.shape[1], number, (1 << bits) - 1)
        view[:] = pattern.astype(np.int64) << shift
        plane.update(row.tobytes())


def _jpeg() -> bytes:
    """A small JPEG picture."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 32, 32, "yuvj420p"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(32, 32, "yuvj420p")
    _fill(frame, 3)
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def _add_video(output: Any, options: dict[str, Any]) -> Any:
    stream = output.add_stream(options["codec"], rate=options["rate"])
    stream.width, stream.height = options["width"], options["height"]
    stream.pix_fmt = options["pixel_format"]
    context = stream.codec_context
    context.time_base = options["time_base"]
    context.gop_size = options["gop"]
    if options["codec"] in ("libx264", "libx265", "mpeg2video", "mpeg4"):
        context.max_b_frames = options["bframes"]
    if options["sar"] is not None:
        context.sample_aspect_ratio = options["sar"]
    if options["color"] is not None:
        primaries, transfer, matrix, color_range = options["color"]
        context.color_primaries, context.color_trc = primaries, transfer
        context.colorspace, context.color_range = matrix, color_range
    if options["full_range"]:
        context.color_range = 2
    if options["rotation"]:
        stream.set_display_rotation(options["rotation"])
    quiet = {"libx265": {"x265-params": "log-level=none:pools=1"}, "libsvtav1": {"preset": "12"}}
    context.options = {**quiet.get(options["codec"], {}), **(options["codec_options"] or {})}
    context.thread_count = 1
    return stream


def _add_audio(output: Any, codec: str, number: int, seconds: float) -> list[Any]:
    """A tone as packets; returns them unmuxed."""
    stream = output.add_stream(codec, rate=48000, layout="stereo")
    stream.metadata["language"] = ("eng", "deu", "fra")[number % 3]
    stream.metadata["title"] = f"Track {number + 1}"
    packets: list[Any] = []
    for start in range(0, int(seconds * 48000), 1024):
        tone = np.sin(np.arange(start, start + 1024) * (0.05 + 0.02 * number))
        samples = np.tile((0.3 * tone).astype(np.float32), (2, 1))
        name = "fltp" if codec in ("aac", "ac3") else "s16"
        if name == "s16":
            samples = (samples.T.reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), name, "stereo")
        frame.sample_rate, frame.pts = 48000, start
        packets += stream.encode(frame)
    packets += stream.encode(None)
    return packets


def _add_subtitles(output: Any, codec: str) -> list[Any]:
    stream = output.add_mux_stream(codec)
    stream.time_base = Fraction(1, 1000)
    stream.metadata["language"] = "eng"
    packets = []
    for pts, duration, text in SUBTITLES:
        data = text.encode()
        packet = av.Packet(len(data).to_bytes(2, "big") + data if codec == "mov_text" else data)
        packet.pts = packet.dts = pts
        packet.duration, packet.time_base, packet.stream = duration, Fraction(1, 1000), stream
        packets.append(packet)
    return packets


_DEFAULTS: dict[str, Any] = {
    "codec": "libx264",
    "width": 64,
    "height": 48,
    "frames": 12,
    "rate": Fraction(25),
    "time_base": None,
    "pts": None,
    "start": 0,
    "pixel_format": "yuv420p",
    "bframes": 0,
    "gop": 250,
    "sar": None,
    "color": None,
    "full_range": False,
    "rotation": 0,
    "codec_options": None,
    "container": None,
    "container_options": None,
    "audio": (),
    "subtitles": None,
    "chapters": 0,
    "cover_art": False,
    "attachment": None,
    "metadata": None,
    "title": None,
    "fill": None,
    "video": True,
    "truncate": None,
}


def _write(path: Path, options: dict[str, Any]) -> None:
    rate = Fraction(options["rate"])
    options["time_base"] = options["time_base"] or 1 / rate
    step = int(1 / rate / options["time_base"])
    pts: Sequence[int] = options["pts"] or [
        options["start"] + step * index for index in range(options["frames"])
    ]
    with av.open(
        str(path), "w", format=options["container"], options=options["container_options"] or {}
    ) as output:
        output.metadata.update(options["metadata"] or {})
        stream = _add_video(output, options) if options["video"] else None
        seconds = float((pts[-1] + step) * options["time_base"])
        waiting = [
            packet
            for number, codec in enumerate(options["audio"])
            for packet in _add_audio(output, codec, number, seconds)
        ]
        if options["subtitles"]:
            waiting += _add_subtitles(output, options["subtitles"])
        if options["attachment"]:
            output.add_attachment(options["attachment"], "text/plain", b"attached bytes")
        cover = _add_cover(output, path) if options["cover_art"] else None
        if options["chapters"]:
            output.set_chapters(_chapters(options["chapters"], seconds))
        if stream is not None:
            stream.metadata["title"] = options["title"] or "Film"
            for index, value in enumerate(pts):
                frame = av.VideoFrame(options["width"], options["height"], options["pixel_format"])
                (options["fill"] or _fill)(frame, index)
                frame.pts, frame.time_base = value, options["time_base"]
                waiting += stream.encode(frame)
            waiting += stream.encode(None)
        waiting.sort(key=lambda p: (p.dts if p.dts is not None else p.pts) * p.time_base)
        if cover is not None:
            waiting.insert(0, cover)
        for packet in waiting:
            output.mux(packet)


def _add_cover(output: Any, path: Path) -> Any:
    """Matroska keeps a cover as an attachment, MP4 as a video stream of one packet."""
    data = _jpeg()
    if path.suffix == ".mkv":
        output.add_attachment("cover.jpg", "image/jpeg", data)
        return None
    stream = output.add_stream("mjpeg", rate=25)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    packet = av.Packet(data)
    packet.pts = packet.dts = 0
    packet.time_base, packet.stream = Fraction(1, 25), stream
    packet.is_keyframe = True
    return packet


def _chapters(count: int, seconds: float) -> list[Chapter]:
    edges = [round(1000 * seconds * index / count) for index in range(count + 1)]
    return [
        {
            "id": index + 1,
            "start": edges[index],
            "end": edges[index + 1],
            "time_base": Fraction(1, 1000),
            "metadata": {"title": f"Chapter {index + 1}"},
        }
        for index in range(count)
    ]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `tests/faults`, whose own conftest is read too late for that."""
    parser.addoption(
        "--write-faults", action="store_true", help="with -m faults: write tests/faults/README.md"
    )


@pytest.fixture(scope="session", autouse=True)
def _interrupts_arrive() -> None:
    """A shell's background jobs ignore SIGINT, and a test that interrupts itself would hang."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """A function `make_clip(path, **options) -> path` that writes a tiny clip.

    Options, each with a default: codec (an encoder's name), width, height, frames, rate, time_base,
    pts (explicit list: variable frame rate), start (first pts), pixel_format, bframes, gop, sar,
    color (primaries, transfer, matrix, range), full_range, rotation, codec_options, container
    (format name when the suffix does not tell), container_options, audio (list of encoders),
    subtitles (`subrip` or `mov_text`), chapters (how many), cover_art, attachment (file name),
    metadata, title, fill (function of frame and index that draws), video (False for none),
    truncate (share of the bytes kept).
    """

    def make(path: Path, **options: Any) -> Path:
        unknown = set(options) - set(_DEFAULTS)
        assert not unknown, f"make_clip has no options {sorted(unknown)}"
        merged = {**_DEFAULTS, **options}
        _write(path, merged)
        if merged["truncate"] is not None:
            os.truncate(path, int(path.stat().st_size * merged["truncate"]))
        return path

    return make


@pytest.fixture(scope="session")
def media_dir() -> Path:
    """Folder of real, awkward files, named by the environment variable VSR_MEDIA."""
    folder = os.environ.get("VSR_MEDIA")
    if not folder:
        pytest.skip("VSR_MEDIA does not name a folder of real media")
    return Path(folder)


@pytest.fixture(scope="session")
def needs_cuda() -> None:
    """Skip without a CUDA device; fail instead when VSR_REQUIRE_CUDA=1."""
    import torch

    if torch.cuda.is_available():
        return
    if os.environ.get("VSR_REQUIRE_CUDA") == "1":
        pytest.fail("VSR_REQUIRE_CUDA=1, but there is no CUDA device")
    pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def jpeg_bytes() -> bytes:
    """A small JPEG picture."""
    return _jpeg()
