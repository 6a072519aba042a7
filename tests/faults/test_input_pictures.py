"""Rows 14 to 17: fields, shapes, sample formats and light."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.faults.promise import Faults, MakeClip, quick_only
from tests.pipeline.test_interlace import bars, fill, waves
from vsr.media.probe import probe


def telecined(frame: Any, index: int) -> None:
    """Film at 24 pictures a second in fields at 60, by a 3:2 pulldown."""
    group, place = divmod(index, 5)
    top, bottom = ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3))[place]
    picture = waves(4 * group + top).copy()
    picture[1::2] = waves(4 * group + bottom)[1::2]
    for number, plane in enumerate(frame.planes):
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if number == 0:
            rows[:, :64] = picture
        plane.update(rows.tobytes())


FIELDS: dict[str, tuple[Callable[[Any, int], None], str | None, str]] = {
    "flagged tff": (fill("tff", waves), "tff", "bwdif"),
    "flagged bff": (fill("bff", waves), "bff", "bwdif"),
    "unflagged": (fill("tff", bars), None, "bwdif"),
    "mixed": (fill("mixed", waves), None, "bwdif"),
    "telecined": (telecined, None, "bwdif"),
    "progressive": (fill(None, waves), None, "none"),
}


@pytest.mark.fault(row=14, injected="fields drawn half a frame apart; x264's tff and bff")
@pytest.mark.parametrize("kind", quick_only(["unflagged", "telecined"], FIELDS))
def test_fields(faults: Faults, make_clip: MakeClip, kind: str) -> None:
    draw, flag, action = FIELDS[kind]
    parameters = f"{flag}=1:log-level=none" if flag else "log-level=none"
    film = make_clip(
        faults.source / "film.mkv",
        height=64,
        frames=30,
        fill=draw,
        codec_options={"x264-params": parameters, "crf": "8"},
    )
    document = faults.continued(film, num_frames=30)
    assert document["interlace"]["action"] == action
    said = " ".join(str(entry.get("note", "")) for entry in document["plan"])
    assert kind != "telecined" or "ivtc" in said
    assert action == "none" or "nterlace" in said or "ivtc" in said
    faults.tell(f"{action}, and said")


SHAPES: dict[str, dict[str, Any]] = {
    "63x47": {"codec": "ffv1", "width": 63, "height": 47},
    "1x1": {"codec": "ffv1", "width": 1, "height": 1, "pixel_format": "yuv444p"},
    "3x257": {"codec": "ffv1", "width": 3, "height": 257, "pixel_format": "yuv444p"},
    "16384x16": {"codec": "ffv1", "width": 16_384, "height": 16, "frames": 2},
    "pixels 16:11": {"sar": Fraction(16, 11)},
    "turned 90": {"rotation": 90},
    "turned 180": {"rotation": 180},
    "turned 270": {"rotation": 270},
}


def shown(path: Path) -> tuple[Fraction, int]:
    """Width by height as displayed before turning, and by how much it is turned."""
    video = probe(path).video
    return Fraction(video.width, video.height) * video.sample_aspect_ratio, video.rotation


@pytest.mark.fault(row=15, injected="films of odd sizes, pixel shapes and turns")
@pytest.mark.parametrize("suffix", quick_only([".mkv"], [".mkv", ".mp4"]))
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(faults: Faults, make_clip: MakeClip, shape: str, suffix: str) -> None:
    options = {"frames": 3, **SHAPES[shape]}
    film = make_clip(
        faults.source / ("film.mp4" if "rotation" in options else "film.mkv"), **options
    )
    document = faults.continued(
        film, "--codec", "ffv1", num_frames=options["frames"], suffix=suffix
    )
    before, after = shown(film), shown(faults.target / f"result{suffix}")
    assert after[1] == before[1]
    assert abs(after[0] - before[0]) <= before[0] / 1000
    faults.tell(f"{document['width']}x{document['height']}")


@pytest.mark.fault(row=15, injected="display matrices that mirror")
@pytest.mark.parametrize("flip", [{"hflip": True}, {"vflip": True}])
def test_mirrored(faults: Faults, make_clip: MakeClip, flip: dict[str, bool]) -> None:
    plain = make_clip(faults.source / "plain.mp4", frames=3)
    film = faults.source / "film.mp4"
    with av.open(str(plain)) as reader, av.open(str(film), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0], opaque=True)
        stream.set_display_rotation(0, **flip)
        for packet in reader.demux(video=0):
            if packet.size:
                packet.stream = stream
                writer.mux(packet)
    faults.continued(film, num_frames=3, suffix=".mp4")
    before, after = (probe(p).video for p in (film, faults.target / "result.mp4"))
    assert before.display_matrix is not None
    assert before.display_matrix == after.display_matrix


FORMATS: dict[str, dict[str, Any]] = {
    "yuv420p": {},
    "yuv420p10le": {},
    "yuv422p12le": {},
    "yuv444p16le": {},
    "yuv411p": {},
    "yuv444p": {},
    "gray": {},
    "gray16le": {},
    "yuva420p": {},
    "bgra": {},
    "gbrp": {"codec": "libx264rgb", "pixel_format": "rgb24", "codec_options": {"qp": "0"}},
    "full range": {"pixel_format": "yuv420p", "full_range": True, "color": (1, 1, 1, 2)},
    "untagged": {"pixel_format": "yuv420p", "color": (2, 2, 2, 0)},
}


def planes(path: Path, form: str) -> list[np.ndarray]:
    """The first picture's planes in one format, so that two films can be compared."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        picture = frame if frame.format.name == form else frame.reformat(format=form)
        rows = []
        for number, plane in enumerate(picture.planes):
            bits = picture.format.components[number].bits
            memory: Any = plane
            view = np.frombuffer(memory, "<u2" if bits > 8 else np.uint8)
            wide = plane.line_size // view.itemsize
            rows.append(view.reshape(plane.height, wide)[:, : plane.width].astype(int))
        return rows


@pytest.mark.fault(row=16, injected="one film in each sample format, through the run at scale 1")
@pytest.mark.parametrize(
    "form", quick_only(["yuv420p", "yuv422p12le", "yuv411p", "gray16le", "bgra"], FORMATS)
)
def test_sample_formats(faults: Faults, make_clip: MakeClip, form: str) -> None:
    options = {"codec": "ffv1", "pixel_format": form, "frames": 3, **FORMATS[form]}
    film = make_clip(faults.source / "film.mkv", **options)
    flags = ("--model", "bicubic-x1", "--scale", "1", "--codec", "ffv1")
    document = faults.continued(film, *flags, num_frames=3)
    result = faults.target / "result.mkv"
    before, after = probe(film).video, probe(result).video
    assert after.layout.bits >= before.layout.bits
    assert after.color.full_range == before.color.full_range or before.layout.is_rgb
    with av.open(str(film)) as container:
        own = str(container.streams.video[0].codec_context.pix_fmt)
    # Packed formats come back in planes of the same bits; alpha is left out, and said to be.
    compared = {"bgra": "gbrp", "rgb24": "gbrp", "bgr24": "gbrp", "yuva420p": "yuv420p"}
    if before.layout.has_alpha:
        assert any("Lost" in str(e.get("note")) and "alpha" in str(e) for e in document["plan"])
    name = compared.get(own, own)
    pairs = zip(planes(film, name), planes(result, name), strict=True)
    errors = [int(np.abs(a - b).max()) for a, b in pairs]
    # Chroma of fewer samples passes two filters on the way: within a code of 8 bits.
    is_whole = before.layout.is_rgb or not (before.layout.log2_chroma_w)
    bounds = [1, *[1 if is_whole else 1 << (before.layout.bits - 8)] * 2]
    assert all(error <= bound for error, bound in zip(errors, bounds, strict=False)), errors
    kept = "" if not before.layout.has_alpha else ", alpha reported lost"
    faults.tell(f"{own} as {after.pixel_format}, furthest off {errors} codes{kept}")


@pytest.mark.fault(row=16, injected="a palette in GIF")
def test_palette(faults: Faults, make_clip: MakeClip) -> None:
    film = make_clip(faults.source / "film.gif", codec="gif", pixel_format="bgr8", frames=4)
    flags = ("--model", "bicubic-x1", "--scale", "1", "--codec", "ffv1")
    document = faults.continued(film, *flags)
    result = faults.target / "result.mkv"
    pairs = zip(planes(film, "gbrp"), planes(result, "gbrp"), strict=True)
    error = max(int(np.abs(a - b).max()) for a, b in pairs)
    assert error <= 1
    faults.tell(f"furthest off {error} codes")
    assert document["frames"] == 4


MASTERING = (
    "log-level=none:pools=1:max-cll=1000,400:master-display="
    "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)
LIGHT: dict[str, tuple[tuple[int, int, int, int], str]] = {
    "HDR10": ((9, 16, 9, 1), MASTERING),
    "HLG": ((9, 18, 9, 1), "log-level=none:pools=1"),
}


@pytest.mark.fault(row=17, injected="x265 films with HDR10 metadata or HLG tags")
@pytest.mark.parametrize("codec", quick_only(["ffv1"], ["hevc", "ffv1"]))
@pytest.mark.parametrize("light", LIGHT)
def test_light(faults: Faults, make_clip: MakeClip, light: str, codec: str) -> None:
    color, parameters = LIGHT[light]
    film = make_clip(
        faults.source / "film.mkv",
        codec="libx265",
        pixel_format="yuv420p10le",
        height=64,
        color=color,
        frames=4,
        codec_options={"x265-params": parameters},
    )
    document = faults.continued(film, "--codec", codec, num_frames=4)
    before, after = probe(film).video, probe(faults.target / "result.mkv").video
    assert (after.color.primaries, after.color.transfer) == (
        before.color.primaries,
        before.color.transfer,
    )
    if before.mastering_display is None or codec == "hevc":
        assert after.mastering_display == before.mastering_display
        assert after.content_light == before.content_light
        faults.tell("kept")
    else:
        lost = [e["note"] for e in document["plan"] if str(e.get("note")).startswith("Lost: ")]
        kept = after.mastering_display == before.mastering_display
        assert kept or any("MASTERING_DISPLAY" in note for note in lost)
        faults.tell("kept" if kept else f"metadata reported lost, {len(lost)} entries")
