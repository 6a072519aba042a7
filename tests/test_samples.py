"""The committed clips are what their script renders, and hold what the tour needs."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import render
import scenes
from vsr.models.image.interpolation import imresize

SAMPLES = Path(render.__file__).parent
TRUTH, INPUT = SAMPLES / "city_gt.mp4", SAMPLES / "city_180p.mp4"


def pictures(path: Path, num_frames: int | None = None) -> list[NDArray[np.uint8]]:
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            found.append(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8))
            if len(found) == num_frames:
                break
    return found


def test_clips_are_small() -> None:
    assert TRUTH.stat().st_size + INPUT.stat().st_size < 3_000_000


@pytest.mark.parametrize(("path", "size"), [(TRUTH, (1280, 720)), (INPUT, (320, 180))])
def test_frames_and_times(path: Path, size: tuple[int, int]) -> None:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == size
        assert stream.average_rate == scenes.FRAME_RATE
        times = [
            (frame.pts or 0) * (frame.time_base or Fraction(0))
            for frame in container.decode(video=0)
        ]
    assert times == [Fraction(index, scenes.FRAME_RATE) for index in range(scenes.NUM_FRAMES)]


def test_input_carries_what_a_film_carries() -> None:
    with av.open(str(INPUT)) as container:
        audio = container.streams.audio
        assert [stream.codec_context.name for stream in audio] == ["aac", "aac"]
        assert [stream.codec_context.layout.name for stream in audio] == ["stereo", "stereo"]
        assert [stream.metadata["name"] for stream in audio] == ["Street", "Piano"]
        (text,) = container.streams.subtitles
        assert (text.codec_context.name, text.metadata["language"]) == ("mov_text", "eng")
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == ["The street", "The notice board"]
        cues = [bytes(packet)[2:].decode() for packet in container.demux(text) if packet.size > 2]
    assert cues == [cue[2] for cue in render.CUES]


def test_tracks_are_audible_and_do_not_clip() -> None:
    for index in (0, 1):
        with av.open(str(INPUT)) as container:
            blocks = [frame.to_ndarray() for frame in container.decode(audio=index)]
        sound = np.concatenate(blocks, axis=1)
        assert 0.1 < float(np.abs(sound).max()) < 1.0


def test_there_is_one_hard_cut() -> None:
    small = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in pictures(INPUT)]
    change = [float(cv2.absdiff(a, b).mean()) for a, b in zip(small[1:], small[:-1], strict=True)]
    order = np.argsort(change)[::-1]
    assert order[0] + 1 == scenes.CUT_FRAME
    assert change[order[0]] > 4 * change[order[1]]


def test_input_is_matlab_bicubic_of_the_truth() -> None:
    truth = pictures(TRUTH, 1)[0]
    small = torch.from_numpy(truth.copy()).permute(2, 0, 1)[None].double()
    expected = imresize(small, scale=0.25)[0].permute(1, 2, 0).numpy().clip(0, 255)
    ours = render.bicubic_quarter(truth).astype(float)
    assert np.abs(ours - expected).max() <= 0.5 + 1e-6
    # What is left is the two encodings.
    assert cv2.PSNR(pictures(INPUT, 1)[0], render.bicubic_quarter(truth)) > 33


def test_script_renders_the_committed_truth() -> None:
    first = next(scenes.frames())
    assert cv2.PSNR(first, pictures(TRUTH, 1)[0]) > 33


def test_nothing_is_random() -> None:
    assert np.array_equal(scenes.tram(), scenes.tram())
    sound = render.street_sound(1000)
    assert np.array_equal(sound, render.street_sound(1000))
