"""Streams that the result's container takes only in another codec.

Each converter eats packets of one source stream and gives packets for one stream of the result,
with timestamps in `time_base`; the join places them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol, cast

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.subtitles.stream import SubtitleStream

from vsr.media.opening import AV_ERRORS, reason

_AAC_BITS_PER_CHANNEL = 128_000
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


class Converter(Protocol):
    """Packets of one source stream -> packets of one stream of the result."""

    target: Stream
    time_base: Fraction
    notes: list[str]

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]: ...

    def flush(self) -> Iterator[Packet[Stream]]: ...


class SubtitleConverter:
    """Text subtitles into another dialect, by FFmpeg's decoder and encoder.

    Args:
        output: container of the result, its header not written yet.
        source: stream of the source.
        codec: `mov_text` or `subrip`.
    """

    def __init__(self, output: OutputContainer, source: SubtitleStream, codec: str) -> None:
        decoder = source.codec_context
        # The text's style sheet is the decoder's, and is known once it is open.
        decoder.open(strict=False)
        target = cast(SubtitleStream, output.add_stream(codec))
        target.codec_context.subtitle_header = decoder.subtitle_header or b""
        target.codec_context.time_base = Fraction(1, 1000)
        target.time_base = Fraction(1, 1000)
        self.target: Stream = target
        self.time_base = _fraction(source.time_base)
        self.notes: list[str] = []
        self._decoder = decoder
        self._encoder = target.codec_context
        self._is_sequential = codec == "mov_text"
        self._last_end: int | None = None
        self._num_cut = 0

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """One cue in, one out; none for the empty samples that mp4 puts between cues."""
        subtitle = self._decoder.decode2(packet)
        if subtitle is None or len(subtitle) == 0 or packet.pts is None:
            return
        converted = self._encoder.encode_subtitle(subtitle)
        if converted.size == 0:
            return
        if self._is_sequential and self._last_end is not None and packet.pts < self._last_end:
            self._num_cut += 1
        converted.time_base = self.time_base
        converted.pts = packet.pts
        converted.dts = packet.pts
        converted.duration = packet.duration
        self._last_end = packet.pts + (packet.duration or 0)
        yield converted

    def flush(self) -> Iterator[Packet[Stream]]:
        """Nothing is held back; cues that mp4 cuts short are noted."""
        if self._num_cut:
            self.notes.append(
                f"{self._num_cut} subtitles overlapped the one before, which ends early: "
                "a text track of mp4 shows one at a time"
            )
        return iter(())


class AudioConverter:
    """Audio into AAC, for codecs that the container refuses.

    Args:
        output: container of the result, its header not written yet.
        source: stream of the source.
    """

    def __init__(self, output: OutputContainer, source: AudioStream) -> None:
        decoder = source.codec_context
        rate = min(_AAC_RATES, key=lambda r: (abs(r - decoder.sample_rate), -r))
        target = output.add_stream("aac", rate=rate)
        encoder = target.codec_context
        encoder.layout = decoder.layout.name
        encoder.bit_rate = _AAC_BITS_PER_CHANNEL * decoder.channels
        encoder.time_base = Fraction(1, rate)
        encoder.thread_count = 1
        encoder.flags |= Flags.bitexact
        self.target: Stream = target
        self.time_base = Fraction(1, rate)
        self.notes: list[str] = []
        self._source = source
        self._encoder = encoder
        self._resampler = AudioResampler("fltp", encoder.layout, rate, frame_size=1024)

    def convert(self, packet: Packet[Stream]) -> Iterator[Packet[Stream]]:
        """Decode, resample and encode what one packet holds; nothing, if it is damaged."""
        try:
            frames = self._source.codec_context.decode(packet)
        except AV_ERRORS as error:
            if not self.notes:
                self.notes.append(f"damaged sound was left out ({reason(error)})")
            return
        for frame in frames:
            yield from self._encode(frame)

    def flush(self) -> Iterator[Packet[Stream]]:
        """What decoder, resampler and encoder still hold."""
        for frame in self._source.codec_context.decode(None):
            yield from self._encode(frame)
        yield from self._encode(None)
        yield from self._timed(self._encoder.encode(None))

    def _encode(self, frame: av.AudioFrame | None) -> Iterator[Packet[Stream]]:
        for piece in self._resampler.resample(frame):
            yield from self._timed(self._encoder.encode(piece))

    def _timed(self, packets: list[Packet[AudioStream]]) -> Iterator[Packet[Stream]]:
        for packet in packets:
            packet.time_base = self.time_base
            yield cast("Packet[Stream]", packet)


def _fraction(value: Fraction | None) -> Fraction:
    """A time base of any version of av."""
    assert value is not None and value.denominator
    return Fraction(value.numerator, value.denominator)
