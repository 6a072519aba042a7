"""Pictures: found by name, read and written sample by sample, with all that their headers say."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media import picture_files as files
from vsr.color import complete
from vsr.errors import ConfigError, DecodeError, MediaError, OpenError, UnsupportedVideoError
from vsr.frame import Frame
from vsr.media.opening import ProbeLimits
from vsr.media.stills import find_sequence, find_target, parse_pattern, parse_rate
from vsr.media.stills_read import PictureReader, probe_sequence, read_still
from vsr.media.stills_write import encode_still, picture_settings

FORMATS = [
    ("png", "rgb24", 8, {}),
    ("png", "rgb48be", 16, {}),
    ("png", "gray", 8, {}),
    ("png", "gray16be", 16, {}),
    ("png", "rgba64be", 16, {}),
    ("tiff", "rgb24", 8, {}),
    ("tiff", "rgb48le", 16, {}),
    ("tiff", "gray16le", 16, {}),
    ("dpx", "rgb24", 8, {}),
    ("dpx", "gbrp10be", 10, {}),
    ("dpx", "gbrp10le", 10, {}),
    ("dpx", "gbrp12be", 12, {}),
    ("dpx", "rgb48be", 16, {}),
    ("dpx", "rgb48le", 16, {}),
    ("dpx", "gray", 8, {}),
    ("exr", "gbrpf32le", 32, {}),
    ("exr", "gbrpf32le", 16, {"format": "half"}),
    ("exr", "grayf32le", 16, {"format": "half", "compression": "zip16"}),
    ("exr", "gbrapf32le", 32, {"compression": "zip1"}),
]


def picture(codec: str, pixel_format: str, bits: int) -> np.ndarray[Any, Any]:
    """31x23 samples of all sizes; floats from -2 to 90 000 or, for half, to 60 000."""
    channels = 4 if "a" in pixel_format.removeprefix("gray") else 1 if "gray" in pixel_format else 3
    if codec != "exr":
        return files.pattern(3, 23, 31, bits, channels)
    rng = np.random.default_rng(4)
    values = np.exp(rng.uniform(-8, 11, (23, 31, channels))) * rng.choice(
        [1, 1, -1e-3], (23, 31, 1)
    )
    if bits == 16:
        values = values.astype(np.float16)
    samples: np.ndarray[Any, Any] = values.astype(np.float32)
    return samples


def write_again(path: Path) -> bytes:
    """Read a picture and write it in the same size."""
    still = read_still(path)
    sequence = find_sequence(path.parent)
    assert sequence is not None
    info = probe_sequence(path.parent, sequence).video
    color, _ = complete(info.color, info.width, info.height, info.layout)
    settings = picture_settings(
        still.kind, info=info, color=color, width=info.width, height=info.height, threads=1
    )
    frame = Frame(
        planes=still.frame.planes,
        layout=settings.layout,
        color=color,
        pts=0,
        side_data=still.frame.side_data,
    )
    return encode_still(frame, settings)


@pytest.mark.parametrize(("codec", "pixel_format", "bits", "options"), FORMATS)
def test_samples_and_depth_pass_unchanged(
    tmp_path: Path, codec: str, pixel_format: str, bits: int, options: dict[str, str]
) -> None:
    samples = picture(codec, pixel_format, bits)
    path = tmp_path / f"p.0001.{codec}"
    path.write_bytes(files.encode(codec, samples, pixel_format, **options))
    frame = read_still(path).frame
    assert frame.layout.bits == bits
    planes = [
        samples[..., k]
        for k in ((1, 2, 0, 3)[: samples.shape[2]] if samples.shape[2] > 1 else (0,))
    ]
    for found, expected in zip(frame.planes, planes, strict=True):
        np.testing.assert_array_equal(found.astype(np.float64), expected.astype(np.float64))
    name, again = files.decode(codec, write_again(path))
    # Which byte comes first is how a file is written, and the writer's own choice.
    assert name[:-2] == files.decode(codec, path.read_bytes())[0][:-2]
    np.testing.assert_array_equal(again.astype(np.float64), samples.astype(np.float64))


def test_png_text_profile_and_colour_chunks_are_kept(tmp_path: Path) -> None:
    chunks = [
        files.png_chunk(b"gAMA", struct.pack(">I", 45455)),
        files.png_chunk(b"pHYs", struct.pack(">IIB", 2, 1, 0)),
        files.png_chunk(b"tEXt", b"Author\0lab"),
        files.png_chunk(b"iTXt", b"Title\0\0\0\0\0\xc3\xbc"),
        files.png_chunk(b"iCCP", b"p\0\0" + b"x\x9c\x03\x00\x00\x00\x00\x01"),
    ]
    plain = files.encode("png", files.pattern(0, 8, 8, 16), "rgb48be")
    bare = plain[:33] + plain[plain.index(b"IDAT") - 4 :]
    path = tmp_path / "a.1.png"
    path.write_bytes(files.png_with(bare, *chunks))
    again = write_again(path)
    assert all(chunk in again for chunk in chunks)
    assert again.count(b"gAMA") == again.count(b"pHYs") == 1
    path.write_bytes(bare)
    again = write_again(path)
    assert not [name for name in (b"gAMA", b"cICP", b"pHYs", b"sRGB") if name in again]


@pytest.mark.parametrize("pixel_format", ["gbrp10be", "rgb24"])
def test_dpx_film_and_television_headers_are_kept(tmp_path: Path, pixel_format: str) -> None:
    bits = 10 if pixel_format == "gbrp10be" else 8
    samples = files.pattern(0, 8, 12, bits)
    data = files.dpx_with_headers(files.encode("dpx", files.pattern(0, 8, 12, 10), "gbrp10be"))
    path = tmp_path / "a.1.dpx"
    path.write_bytes(data)
    still = read_still(path)
    assert still.is_log
    if bits == 8:
        # FFmpeg writes 8 bits as little-endian files: every number of the header turns round.
        info = probe_sequence(tmp_path, find_sequence(tmp_path))  # type: ignore[arg-type]
        color, _ = complete(info.video.color, 12, 8, still.frame.layout)
        eight = read_eight(tmp_path / "eight.1.dpx", samples)
        settings = picture_settings("dpx", info=eight, color=color, width=12, height=8, threads=1)
        frame = Frame(
            planes=tuple(samples[..., k].astype(np.uint8) for k in (1, 2, 0)),
            layout=settings.layout, color=color, pts=0, side_data=still.frame.side_data,
        )  # fmt: skip
        again, order = encode_still(frame, settings), "<"
        assert again[:4] == b"XPDS"
    else:
        again, order = write_again(path), ">"
    assert again[160:172] == b"scanner 5000"
    assert again[801:803] == b"\x01\x01"
    assert again[1664:1682] == b"EK0123456789ABCDEF"
    assert struct.unpack_from(f"{order}f", again, 1724) == (24.0,)
    assert struct.unpack_from(f"{order}I", again, 1920) == (0x01020304,)
    assert again[2048:2060] == b"lab notes 12"
    assert struct.unpack_from(f"{order}I", again, 16)[0] == len(again)
    assert struct.unpack_from(f"{order}I", again, 4) == struct.unpack_from(f"{order}I", again, 808)
    np.testing.assert_array_equal(files.decode("dpx", again)[1], samples)


def read_eight(path: Path, samples: np.ndarray[Any, Any]) -> Any:
    folder = path.parent / "eight"
    folder.mkdir()
    (folder / path.name).write_bytes(files.encode("dpx", samples, "rgb24"))
    sequence = find_sequence(folder)
    assert sequence is not None
    return probe_sequence(folder, sequence).video


def test_the_timecode_of_a_dpx_is_a_tag_of_the_film(tmp_path: Path) -> None:
    data = files.encode("dpx", files.pattern(0, 8, 12, 10), "gbrp10be")
    (tmp_path / "a.1.dpx").write_bytes(files.dpx_with_headers(data, timecode=0x10203015))
    sequence = find_sequence(tmp_path)
    assert sequence is not None
    assert probe_sequence(tmp_path, sequence).video.metadata == {"timecode": "10:20:30:15"}


@pytest.mark.parametrize("height", [16, 17, 40])
def test_exr_attributes_are_kept(tmp_path: Path, height: int) -> None:
    samples = np.random.default_rng(1).normal(0.5, 1, (height, 20, 3)).astype(np.float32)
    plain = files.encode("exr", samples, "gbrpf32le", compression="zip1")
    value = struct.pack("<8f", *range(8))
    name = b"aNameOfMoreThanThirtyOneCharacters"
    data = files.exr_with(plain, b"chromaticities", b"chromaticities", value, lines=height)
    path = tmp_path / "a.1.exr"
    path.write_bytes(files.exr_with(data, name, b"string", b"film", lines=height))
    again = write_again(path)
    assert b"chromaticities\0chromaticities\0" + struct.pack("<i", 32) + value in again
    assert name + b"\0string\0\x04\0\0\0film" in again
    assert struct.unpack_from("<I", again, 4)[0] & 0x400
    assert again.count(b"compression\0") == 2
    np.testing.assert_array_equal(files.decode("exr", again)[1], samples)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.%05d.dpx", "a.00042.dpx"),
        ("a.%d.dpx", "a.42.dpx"),
        ("a.####.PNG", "a.0042.PNG"),
        ("%03d.exr", "042.exr"),
        ("a#_v2.tif", "a42_v2.tif"),
        ("a.dpx", None),
        ("a.%05d.mkv", None),
        ("a.%05d.%03d.png", None),
        ("a.%s.png", None),
    ],
)
def test_patterns(tmp_path: Path, name: str, expected: str | None) -> None:
    names = parse_pattern(tmp_path / name)
    assert (names and names.of(42)) == expected


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.%03d.png"
    path.write_bytes(b"x")
    assert parse_pattern(path) is None
    assert find_sequence(path) is None


@pytest.mark.parametrize(
    ("found", "first", "count", "third"),
    [
        ([f"s.{n:04d}.png" for n in range(999, 1003)], 999, 4, "s.1001.png"),
        ([f"s{n}.png" for n in range(8, 13)], 8, 5, "s10.png"),
        ([f"shot12_{n:03d}_v7.TIF" for n in range(4)], 0, 4, "shot12_002_v7.TIF"),
        ([f"{n:06d}.dpx" for n in range(86400, 86403)], 86400, 3, "086402.dpx"),
        (["one.0007.png"], 7, 1, "one.0009.png"),
    ],
)
def test_a_folder_is_read_by_its_numbers(
    tmp_path: Path, found: list[str], first: int, count: int, third: str
) -> None:
    for name in [*found, ".hidden.0001.png", "notes.txt"]:
        (tmp_path / name).write_bytes(b"x")
    sequence = find_sequence(tmp_path)
    assert sequence is not None
    assert (sequence.first, sequence.count) == (first, count)
    assert sequence.path(2).name == third
    assert sequence.num_other_files == 1
    assert [path.name for path in sequence.paths()] == found


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["a.1.png", "a.2.png", "a.4.png"], r"a\.3\.png is missing"),
        (["a.1.png", "a.2.png", "a.3.tif"], r"a\.3\.tif is not named like a\.1\.png"),
        (["a.1.png", "a.2.png", "b.3.png"], r"b\.3\.png is not named like"),
        (["a.01.png", "a.1.png", "a.2.png"], "is not named like"),
        (["a.png"], r"a\.png has no number"),
        (["a.txt"], "no picture in the folder"),
        ([], "no picture in the folder"),
    ],
)
def test_what_is_no_one_sequence_is_refused_by_name(
    tmp_path: Path, names: list[str], match: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MediaError, match=match):
        find_sequence(tmp_path)


def test_a_pattern_leaves_other_pictures_alone(tmp_path: Path) -> None:
    for name in ("a.0001.png", "a.0002.png", "b.0001.png", "a.0003.tif"):
        (tmp_path / name).write_bytes(b"x")
    sequence = find_sequence(tmp_path / "a.%04d.png", frame_rate=Fraction(25))
    assert sequence is not None
    assert (sequence.count, sequence.num_other_files) == (2, 2)
    assert sequence.frame_rate == 25
    with pytest.raises(OpenError, match="No file is called"):
        find_sequence(tmp_path / "c.%04d.png")


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("24", Fraction(24)),
        ("23.976", Fraction(24000, 1001)),
        ("29.97", Fraction(30000, 1001)),
        ("24000/1001", Fraction(24000, 1001)),
        ("12.5", Fraction(25, 2)),
        ("16", Fraction(16)),
    ],
)
def test_rates(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "-1", "fast", "1/0", "5000", ""])
def test_what_is_no_rate(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_rate(text)


def test_a_sequence_reads_like_a_video(tmp_path: Path) -> None:
    files.write_sequence(tmp_path, "a.%04d.png", "png", "rgb48be", 16, 9, first=100)
    sequence = find_sequence(tmp_path)
    assert sequence is not None
    info = probe_sequence(tmp_path, sequence)
    assert (info.video.time_base, info.video.num_frames) == (Fraction(1, 24), 9)
    assert "24 a second was taken" in info.warnings[0]
    for threads in (1, 3):
        with PictureReader(sequence, info=info.video, threads=threads) as reader:
            frames = list(reader)
        assert [frame.pts for frame in frames] == list(range(9))
        for frame in frames:
            expected = files.pattern(frame.pts, 24, 32, 16)
            np.testing.assert_array_equal(frame.planes[2], expected[..., 0])
    with PictureReader(sequence, info=info.video, start_pts=3, end_pts=6) as reader:
        assert [frame.pts for frame in reader] == [3, 4, 5]


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        (("rgb48be", 16, (24, 34)), r"a\.4\.png is 34x24, the first 32x24"),
        (("rgb24", 8, (24, 32)), r"a\.4\.png is rgb24, the first rgb48"),
        (("gray16be", 16, (24, 32)), r"a\.4\.png is gray16, the first rgb48"),
    ],
)
def test_the_first_other_picture_is_named(tmp_path: Path, changed: Any, match: str) -> None:
    files.write_sequence(tmp_path, "a.%d.png", "png", "rgb48be", 16, 3)
    pixel_format, bits, size = changed
    files.write_sequence(tmp_path, "a.%d.png", "png", pixel_format, bits, 2, first=4, size=size)
    sequence = find_sequence(tmp_path)
    assert sequence is not None
    info = probe_sequence(tmp_path, sequence).video
    with PictureReader(sequence, info=info, threads=2) as reader:
        frames = iter(reader)
        assert [next(frames).pts for _ in range(3)] == [0, 1, 2]
        with pytest.raises(UnsupportedVideoError, match=match):
            next(frames)


def good_png() -> bytes:
    return files.encode("png", files.pattern(0, 24, 32, 8), "rgb24")


@pytest.mark.parametrize(
    ("name", "data", "error", "match"),
    [
        ("a.png", b"", OpenError, "is empty"),
        ("a.png", b"GIF89a" + bytes(60), OpenError, "does not hold a PNG picture"),
        ("a.dpx", good_png(), OpenError, "does not hold a DPX picture"),
        ("a.jpg", good_png(), OpenError, "not called like a picture"),
        ("a.png", good_png()[:200], DecodeError, "could not be decoded"),
        ("a.png", good_png()[:60] + b"\xff" + good_png()[61:], DecodeError, "could not be decoded"),
        ("a.exr", b"v/1\x01\x02\x10\0\0" + bytes(40), UnsupportedVideoError, "several parts"),
        ("a.exr", b"v/1\x01\x02\0\0\0name\0type", DecodeError, "header is broken"),
        ("a.dpx", b"SDPX" + bytes(100), DecodeError, "header is broken"),
        ("a.tif", b"II*\0\xff\xff\xff\x7f", DecodeError, "header is broken"),
    ],
)
def test_bad_files_are_refused_in_one_sentence(
    tmp_path: Path, name: str, data: bytes, error: type[Exception], match: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(error, match=match) as caught:
        read_still(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compression", ["none", "rle", "zip1", "zip16"])
@pytest.mark.parametrize("kept", [0.4, 0.9, -1])
def test_a_cut_off_exr_is_no_picture(tmp_path: Path, compression: str, kept: float) -> None:
    samples = np.linspace(0, 1, 40 * 20 * 3, dtype=np.float32).reshape(40, 20, 3)
    data = files.encode("exr", samples, "gbrpf32le", compression=compression)
    path = tmp_path / "a.exr"
    path.write_bytes(data)
    read_still(path)
    path.write_bytes(data[: int(len(data) * kept) if kept > 0 else -1])
    with pytest.raises(DecodeError, match="cut off"):
        read_still(path)


def test_a_damaged_exr_is_no_picture(tmp_path: Path) -> None:
    samples = np.zeros((40, 20, 3), np.float32)
    data = bytearray(files.encode("exr", samples, "gbrpf32le", compression="zip16"))
    data[-12] ^= 0xFF
    path = tmp_path / "a.exr"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=r"a\.exr could not be decoded"):
        read_still(path)


def test_no_other_file_is_opened(tmp_path: Path) -> None:
    fifo = tmp_path / "a.png"
    os.mkfifo(fifo)
    with pytest.raises(OpenError, match="not a regular file"):
        read_still(fifo)
    for index, name in enumerate(("http:x.png", "-x.png", "concat:y.png", "%03d.png")):
        path = tmp_path / name
        path.write_bytes(files.encode("png", files.pattern(index, 24, 32, 8), "rgb24"))
        np.testing.assert_array_equal(
            read_still(path).frame.planes[2], files.pattern(index, 24, 32, 8)[..., 0]
        )


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(good_png())
    with pytest.raises(DecodeError):
        read_still(path, limits=ProbeLimits(max_pixels=32 * 23))
    path.write_bytes(good_png() + bytes(100))
    with path.open("r+b") as file:
        file.truncate((64 << 20) + 16 * 100 + 1)
    with pytest.raises(UnsupportedVideoError, match="more than the"):
        read_still(path, limits=ProbeLimits(max_pixels=100))


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    samples = np.ones((8, 8, 3), np.float32)
    samples[3, 3, 1] = np.nan
    path = tmp_path / "a.exr"
    path.write_bytes(files.encode("exr", samples, "gbrpf32le"))
    with pytest.raises(UnsupportedVideoError, match="infinite or no number"):
        read_still(path)


def test_targets(tmp_path: Path) -> None:
    files.write_sequence(tmp_path / "in", "a.%04d.png", "png", "rgb24", 8, 2, first=7)
    sequence = find_sequence(tmp_path / "in")
    assert sequence is not None
    kept = find_target(tmp_path / "out", sequence)
    assert kept is not None
    assert [kept.name(k, k) for k in (0, 1)] == ["a.0007.png", "a.0008.png"]
    renamed = find_target(tmp_path / "b_####.dpx", sequence)
    assert renamed is not None
    assert (renamed.kind, renamed.name(0, 1)) == ("dpx", "b_0008.dpx")
    counted = find_target(tmp_path / "f.%06d.exr", None)
    assert counted is not None
    assert [counted.name(0, 512), counted.name(1, 1024)] == ["f.000001.exr", "f.000002.exr"]
    assert find_target(tmp_path / "film.mkv", sequence) is None
    with pytest.raises(ConfigError, match="what kind of pictures"):
        find_target(tmp_path, None)


@pytest.mark.parametrize("name", ["x" * 300 + ".mkv", "x" * 300 + "%d.png", "a\0b.mkv"])
def test_names_that_cannot_be_looked_up_are_no_sequences(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    assert find_target(path, None) is None or path.name.endswith("%d.png")
    if "%" in name:
        with pytest.raises(OpenError, match="No file is called"):
            find_sequence(path)
    else:
        assert find_sequence(path) is None
