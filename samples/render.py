"""Render the sample clips: a street and a notice board, with sound, subtitles and chapters.

    python samples/render.py [--out DIR]

writes `city_gt.mp4` (1280x720, the truth) and `city_180p.mp4` (320x180, what is to be enlarged).
Everything is drawn and synthesised here from fixed seeds; nothing is downloaded. The same versions
of numpy, OpenCV, torch and PyAV give the same files.

The input is MATLAB's antialiased bicubic of the truth before encoding, so that its detail is folded
into the pixels as in any published test set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from scenes import CUT_FRAME, FRAME_RATE, HEIGHT, NUM_FRAMES, WIDTH, frames
from textures import Grid

SCALE = 4
SAMPLE_RATE = 48_000

CUES = (
    (0.3, 1.9, "The number seven is on time."),
    (2.0, 3.1, "Books on the left, copper on the right."),
    (3.3, 4.2, "Somebody is looking for a cat."),
    (4.3, 4.9, "And there is coffee."),
)
CHAPTERS = ((0, CUT_FRAME, "The street"), (CUT_FRAME, NUM_FRAMES, "The notice board"))


def bicubic_quarter(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """MATLAB's `imresize(picture, 1/4)`: antialiased bicubic, a = -0.5, symmetric borders."""
    margin = 4 * SCALE
    padded = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), mode="symmetric")
    planes = torch.from_numpy(padded).permute(2, 0, 1)[None].double()
    size = (padded.shape[0] // SCALE, padded.shape[1] // SCALE)
    small = torch.nn.functional.interpolate(planes, size=size, mode="bicubic", antialias=True)
    inner = small[0, :, 4:-4, 4:-4].permute(1, 2, 0).numpy()
    return np.clip(np.floor(inner + 0.5), 0, 255).astype(np.uint8)


def street_sound(num_samples: int) -> Grid:
    """The street: wind, a tram that passes from left to right, two strokes of its bell."""
    rng = np.random.default_rng(7)
    t = np.arange(num_samples) / SAMPLE_RATE
    wind = np.convolve(rng.standard_normal(num_samples), np.hanning(160) / 80, "same")
    rumble = np.sin(2 * np.pi * 58 * t + 3 * np.sin(2 * np.pi * 7 * t)) * np.exp(-((t - 1.6) ** 2))
    bell = sum(
        np.sin(2 * np.pi * tone * (t - at)) * np.exp(-5 * (t - at)) * (t >= at)
        for at in (0.7, 1.1)
        for tone in (1318.5, 2217.5)
    )
    right = np.clip(t / 3.2, 0, 1)
    sides = [wind * 0.12 + (0.3 * rumble + 0.16 * bell) * gain for gain in (1 - right, right)]
    return np.stack(sides).astype(np.float32)


def piano(num_samples: int) -> Grid:
    """The second track: a slow broken chord."""
    t = np.arange(num_samples) / SAMPLE_RATE
    tune = np.zeros(num_samples)
    for index, note in enumerate((57, 64, 69, 72, 76, 72, 69, 64, 53, 60, 65, 69, 72, 69, 65, 60)):
        start = 0.3 * index
        age = np.clip(t - start, 0, None)
        tone = 440 * 2 ** ((note - 69) / 12)
        partials = sum(np.sin(2 * np.pi * tone * k * age) / k**2 for k in (1, 2, 3))
        tune += 0.16 * partials * np.exp(-3 * age) * (t >= start)
    return np.stack([tune, tune]).astype(np.float32)


def add_video(output: OutputContainer, width: int, height: int, crf: int) -> VideoStream:
    """An H.264 stream whose bytes do not depend on the machine's number of cores."""
    # Without it, x264's bytes differ from run to run at a height that 16 does not divide.
    options = {"crf": str(crf), "preset": "slower", "x264-params": "cpu-independent=1"}
    stream = output.add_stream("libx264", rate=FRAME_RATE, options=options)
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.codec_context.time_base = Fraction(1, FRAME_RATE)
    stream.codec_context.thread_count = 1
    # BT.709 throughout, in limited range.
    stream.codec_context.color_primaries = stream.codec_context.color_trc = 1
    stream.codec_context.colorspace = stream.codec_context.color_range = 1
    return stream


def video_packets(
    stream: VideoStream, pictures: list[NDArray[np.uint8]]
) -> Iterator[Packet[Stream]]:
    """Encode BGR pictures."""
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="bgr24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = index, Fraction(1, FRAME_RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def add_audio(output: OutputContainer, language: str, title: str, bit_rate: int) -> AudioStream:
    """A stereo AAC stream."""
    stream = output.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
    stream.bit_rate = bit_rate
    stream.metadata.update({"language": language, "title": title})
    return stream


def audio_packets(stream: AudioStream, sound: Grid) -> Iterator[Packet[Stream]]:
    """Encode (2, samples) float sound."""
    for start in range(0, sound.shape[1], 1024):
        block = np.ascontiguousarray(sound[:, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def subtitle_packets(stream: Stream) -> Iterator[Packet[Stream]]:
    """3GPP timed text: two bytes of length, then UTF-8."""
    for start, end, text in CUES:
        data = text.encode()
        packet = Packet(len(data).to_bytes(2, "big") + data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = round(start * 1000)
        packet.duration = round((end - start) * 1000)
        yield packet


def mux(output: OutputContainer, packets: list[Packet[Stream]]) -> None:
    """Write packets of all streams in the order in which they are needed."""
    packets.sort(key=lambda packet: (packet.dts or 0) * (packet.time_base or Fraction(1)))
    for packet in packets:
        output.mux(packet)


def write_truth(path: Path, pictures: list[NDArray[np.uint8]], crf: int) -> None:
    """Write the ground truth: picture only."""
    with av.open(
        str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}
    ) as output:
        output.metadata["title"] = "Street and notice board, ground truth"
        stream = add_video(output, WIDTH, HEIGHT, crf)
        mux(output, list(video_packets(stream, pictures)))


def write_input(path: Path, pictures: list[NDArray[np.uint8]], crf: int) -> None:
    """Write the small clip with everything a film carries."""
    num_samples = NUM_FRAMES * SAMPLE_RATE // FRAME_RATE
    with av.open(
        str(path), "w", options={"fflags": "+bitexact", "movflags": "+faststart"}
    ) as output:
        output.metadata["title"] = "Street and notice board"
        output.set_chapters(
            [
                {
                    "id": index + 1,
                    "start": start,
                    "end": end,
                    "time_base": Fraction(1, FRAME_RATE),
                    "metadata": {"title": title},
                }
                for index, (start, end, title) in enumerate(CHAPTERS)
            ]
        )
        video = add_video(output, WIDTH // SCALE, HEIGHT // SCALE, crf)
        street_track = add_audio(output, "eng", "Street", 96_000)
        piano_track = add_audio(output, "und", "Piano", 64_000)
        text = output.add_mux_stream("mov_text")
        text.metadata.update({"language": "eng", "title": "English"})
        packets = list(video_packets(video, pictures))
        packets += audio_packets(street_track, street_sound(num_samples))
        packets += audio_packets(piano_track, piano(num_samples))
        packets += subtitle_packets(text)
        mux(output, packets)


def main() -> None:
    """Render both clips."""
    parser = argparse.ArgumentParser(description="Render the sample clips.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--truth-crf", type=int, default=23)
    parser.add_argument("--input-crf", type=int, default=13)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pictures = list(frames())
    write_truth(arguments.out / "city_gt.mp4", pictures, arguments.truth_crf)
    small = [bicubic_quarter(picture) for picture in pictures]
    write_input(arguments.out / "city_180p.mp4", small, arguments.input_crf)
    for path in sorted(arguments.out.glob("city_*.mp4")):
        print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
