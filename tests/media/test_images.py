"""Stills written by other programs, read and written here, and read by those programs again."""

from __future__ import annotations

import functools
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow
from PIL import ImageCms

from vsr.errors import DecodeError, MediaError, OpenError, UnsupportedVideoError
from vsr.frame import Frame
from vsr.media.image_tags import ImageKind
from vsr.media.images import encode_image, image_format, parse_image, prove_image, read_image

SIZE = (40, 24)
KINDS: tuple[ImageKind, ...] = ("png", "jpeg", "tiff", "webp")
SUFFIX = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "webp": ".webp"}
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"


@functools.cache
def icc_profile() -> bytes:
    """The same profile at every call: Little CMS writes the second of its making into it."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(mode: str = "RGB") -> Pillow.Image:
    y, x = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    channels = [4 * x + 20, 6 * y + 30, 2 * x + 3 * y, 255 - 3 * y][: len(mode)]
    pixels = np.stack(channels, axis=-1).astype(np.uint8)
    return Pillow.fromarray(pixels[..., 0] if mode == "L" else pixels, mode)


def exif_block(orientation: int = 6) -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker of things"
    exif[0x8298] = "(c) somebody"
    exif.get_ifd(0x8769).update({0xA002: SIZE[0], 0xA003: SIZE[1], 0x829A: 0.008})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    return exif


def save(path: Path, kind: ImageKind, mode: str = "RGB", **more: Any) -> Path:
    options: dict[str, Any] = {"icc_profile": icc_profile(), "exif": exif_block()}
    if kind in ("jpeg", "webp"):
        options |= {"quality": 95, "xmp": XMP}
    if kind != "webp":
        options["dpi"] = (300, 300)
    if kind == "webp":
        options |= {"lossless": True, "exact": True}
    picture(mode).save(path, kind.upper(), **(options | more))
    return path


def doubled(frame: Frame, layout: Any) -> Frame:
    """Twice as large by repetition; alpha and depth as asked."""
    planes = [np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in frame.planes]
    assert frame.layout == layout or len(planes) >= layout.num_planes
    return replace(frame, planes=tuple(planes[: layout.num_planes]), layout=layout)


def source_with_tags(folder: Path, kind: ImageKind) -> Path:
    """Pillow writes no EXIF directory into TIFF, so that file is ours, of Pillow's tags."""
    path = save(folder / "in.png", "png") if kind == "tiff" else folder / "in"
    if kind != "tiff":
        return save(path, kind)
    image = read_image(path)
    written = image_format(image, "tiff", width=SIZE[0], height=SIZE[1])
    path.with_suffix(".tif").write_bytes(encode_image(image.frame, written, image.tags))
    return path.with_suffix(".tif")


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_tags_reach_every_kind(source: ImageKind, target: ImageKind, tmp_path: Path) -> None:
    image = read_image(source_with_tags(tmp_path, source))
    width, height = 2 * SIZE[0], 2 * SIZE[1]
    written = image_format(image, target, width=width, height=height)
    green = np.full((height, width), 77, np.uint8)
    frame = replace(image.frame, planes=(green, green + 1, green + 2), layout=written.layout)
    data = encode_image(frame, written, image.tags)
    assert prove_image(tmp_path / "x", data, frame, written) is None
    with Pillow.open(io.BytesIO(data)) as opened:
        if target != "tiff":
            opened.load()
        # Of TIFF, Pillow gives the size as turned by the orientation.
        assert opened.size == ((height, width) if target == "tiff" else (width, height))
        assert opened.info["icc_profile"] == icc_profile()
        exif = opened.getexif()
        assert exif[0x0112] == 6
        assert exif[0x010F] == "Maker of things"
        inner = exif.get_ifd(0x8769)
        assert (inner[0xA002], inner[0xA003]) == (width, height)
        assert float(inner[0x829A]) == pytest.approx(1 / 125)
        assert [float(n) for n in exif.get_ifd(0x8825)[2]] == [52, 31, 12]
        if source != "webp" and target != "webp":
            assert [round(float(n)) for n in opened.info["dpi"]] == [300, 300]
        if source in ("jpeg", "webp"):
            found = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp", "").encode()
            assert found == XMP


@pytest.mark.parametrize("kind", ["png", "tiff", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_samples_are_exact(kind: ImageKind, mode: str, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / f"in{SUFFIX[kind]}", kind, mode))
    expected = np.atleast_3d(np.asarray(picture(mode)))
    # Planes are green, blue, red and alpha; WebP makes colour of grey.
    order = (0,) if image.frame.layout.is_gray else (1, 2, 0, 3)[: image.frame.layout.num_planes]
    assert image.frame.layout.has_alpha == (mode == "RGBA")
    for plane, channel in zip(image.frame.planes, order, strict=True):
        wanted = expected[..., 0 if mode == "L" else channel]
        np.testing.assert_array_equal(np.asarray(plane), wanted)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_stay(kind: ImageKind, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 65536, (24, 40, 3), dtype=np.uint16)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, pixels, photometric="rgb")
    image = read_image(path)
    written = image_format(image, kind, width=80, height=48)
    frame = doubled(image.frame, written.layout)
    data = encode_image(frame, written, image.tags)
    assert prove_image(path, data, frame, written) is None
    green, blue, red = parse_image(path, data).frame.planes
    again = np.stack((red, green, blue), axis=-1)
    np.testing.assert_array_equal(again[::2, ::2], pixels)
    assert not written.losses


def test_losses_are_named(tmp_path: Path) -> None:
    pixels = np.zeros((24, 40, 4), np.uint16)
    path = tmp_path / "in.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    losses = image_format(read_image(path), "jpeg", width=80, height=48).losses
    assert any("alpha" in loss for loss in losses) and any("16-bit" in loss for loss in losses)
    texted = Pillow.new("RGB", SIZE)
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("Title", "A name")
    texted.save(tmp_path / "text.png", pnginfo=text)
    image = read_image(tmp_path / "text.png")
    assert "tEXt" in image_format(image, "webp", width=80, height=48).losses[0]
    assert not image_format(image, "png", width=80, height=48).losses


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_files_are_refused(kind: ImageKind, tmp_path: Path) -> None:
    path = tmp_path / "in.png"
    noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Pillow.fromarray(noise).save(path, kind.upper())
    data = path.read_bytes()
    for share in (0.02, 0.3, 0.9):
        with pytest.raises(MediaError):
            parse_image(path, data[: int(len(data) * share)])


def test_what_is_no_still_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpenError, match="no picture"):
        parse_image(tmp_path / "a.png", b"<html>not found</html>")
    with pytest.raises(OpenError, match="empty"):
        parse_image(tmp_path / "a.png", b"")
    inks = tmp_path / "inks.jpg"
    Pillow.new("CMYK", SIZE).save(inks)
    with pytest.raises(UnsupportedVideoError, match="inks"):
        read_image(inks)
    moving = tmp_path / "moving.webp"
    other = picture("RGB").transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    picture("RGB").save(moving, save_all=True, append_images=[other])
    with pytest.raises(UnsupportedVideoError, match="animation"):
        read_image(moving)


def test_tags_that_point_outside_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "in.jpg", "jpeg")
    data = path.read_bytes()
    at = data.index(b"Exif\0\0") + 6
    broken = data[: at + 4] + b"\xff\xff\xff\x7f" + data[at + 8 :]
    broken = data[: at + 4] + b"\x7f\xff\xff\xff" + data[at + 8 :] if data[at] == 77 else broken
    with pytest.raises(DecodeError, match="broken"):
        parse_image(path, broken)


def test_webp_ends_where_it_ends(tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "in.png", "png"))
    with pytest.raises(UnsupportedVideoError, match="16383"):
        image_format(image, "webp", width=20000, height=100)
