"""Stills: one picture in one file, PNG, JPEG, TIFF or WebP, read and written with its tags."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from vsr.errors import DecodeError, EncodeError, OpenError, UnsupportedVideoError
from vsr.frame import (
    ChromaLocation,
    ColorSpec,
    Frame,
    Matrix,
    PlaneLayout,
    Primaries,
    Transfer,
    VideoInfo,
)
from vsr.media.formats import pixel_format, read_color, read_planes
from vsr.media.image_tags import ImageKind, ImageTags, put_tags, read_tags, tag_losses
from vsr.media.opening import AV_ERRORS, DEFAULT_LIMITS, ProbeLimits, reason
from vsr.media.settings import EncoderSettings
from vsr.media.stills_read import decode_picture, read_picture_file
from vsr.media.stills_write import encode_still, picture_settings

IMAGE_SUFFIXES: dict[str, ImageKind] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".webp": "webp",
}
"""Kinds of stills by lower-case suffix."""
MAX_SIDE_PX: dict[ImageKind, int] = {"jpeg": 65500, "webp": 16383}
"""Where a kind ends."""
DEFAULT_JPEG_QUALITY = 95
_LOSSLESS_WEBP = 101
"""OpenCV's word for it: any quality above 100."""
_MAGICS: dict[ImageKind, tuple[bytes, ...]] = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "jpeg": (b"\xff\xd8\xff",),
    "tiff": (b"II*\0", b"MM\0*"),
    "webp": (b"RIFF",),
}
_DECODERS: dict[ImageKind, str] = {"jpeg": "mjpeg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One still, decoded."""

    kind: ImageKind
    frame: Frame
    """As stored: an orientation in the tags is for who shows it."""
    info: VideoInfo
    """The same as of a video of one frame."""
    tags: ImageTags


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFormat:
    """How a still is written."""

    kind: ImageKind
    layout: PlaneLayout
    color: ColorSpec
    quality: int | None
    """1 to 100 for JPEG and WebP; None where it is lossless."""
    settings: EncoderSettings | None
    """Of FFmpeg's encoder, for PNG and TIFF."""
    losses: tuple[str, ...]

    @property
    def is_lossless(self) -> bool:
        return self.quality is None


def image_kind(path: Path) -> ImageKind | None:
    """The kind that a file's name says; None for other names."""
    return IMAGE_SUFFIXES.get(path.suffix.lower())


def read_image(path: Path, *, limits: ProbeLimits = DEFAULT_LIMITS) -> Image:
    """Decode one still with its tags.

    Args:
        path: a regular file; what its first bytes say counts, not its suffix.
        limits: what the file may ask of us.

    Raises:
        OpenError: not a readable regular file, or no picture of the four kinds.
        UnsupportedVideoError: beyond `limits`, an animation, or of floats or printing inks.
        DecodeError: damaged.
    """
    return parse_image(path, read_picture_file(path, limits), limits=limits)


def parse_image(path: Path, data: bytes, *, limits: ProbeLimits = DEFAULT_LIMITS) -> Image:
    """The same from a file's bytes; `path` is for messages."""
    kind = next((k for k, magics in _MAGICS.items() if data.startswith(magics)), None)
    if not data:
        raise OpenError(f"{path} is empty.", hint="copy it again")
    if kind is None or (kind == "webp" and data[8:12] != b"WEBP"):
        raise OpenError(
            f"{path} holds no picture that can be read.", hint="stills are PNG, JPEG, TIFF or WebP"
        )
    try:
        tags = read_tags(kind, data)
        decoded, aspect = decode_picture(_DECODERS.get(kind, kind), data, limits)
        plan = pixel_format(decoded.format.name)
        planes = read_planes(decoded, plan, VideoReformatter())
        layout = plan.layout
        if kind == "webp" and layout.has_alpha and int(planes[-1].min()) == 255:
            # Lossless WebP is decoded to alpha even where it has none.
            planes, layout = planes[:-1], replace(layout, has_alpha=False)
        color = _color(read_color(decoded, plan, kind), kind, layout)
    except AV_ERRORS as error:
        if isinstance(error, UnsupportedVideoError):
            said = error.message[:1].lower() + error.message[1:]
            raise UnsupportedVideoError(
                f"{path} cannot be read: {said}", hint=error.hint
            ) from error
        raise DecodeError(
            f"{path} could not be decoded: {reason(error)}.", hint="the file is damaged"
        ) from error
    if layout.is_float:
        raise UnsupportedVideoError(
            f"{path} holds floating-point samples, expected 8 or 16 bits.",
            hint="`vsr upscale` takes pictures of linear light, as a sequence",
        )
    frame = Frame(planes=planes, layout=layout, color=color, pts=0, duration=1, is_key=True)
    info = VideoInfo(
        stream_index=0,
        codec=kind,
        width=frame.width,
        height=frame.height,
        pixel_format=decoded.format.name,
        layout=layout,
        color=color,
        time_base=Fraction(1, 25),
        frame_rate=Fraction(25),
        num_frames=1,
        start_pts=0,
        duration_s=None,
        # JPEG's decoder reads a resolution as the shape of pixels.
        sample_aspect_ratio=aspect if kind != "jpeg" else Fraction(1),
        field_order="progressive",
    )
    return Image(kind=kind, frame=frame, info=info, tags=tags)


def _color(color: ColorSpec, kind: ImageKind, layout: PlaneLayout) -> ColorSpec:
    """How codes are read: luma and chroma as JFIF and WebP define them, whatever the size."""
    if layout.is_rgb or layout.is_gray:
        return replace(
            color,
            primaries=Primaries.BT709,
            transfer=Transfer.SRGB,
            matrix=Matrix.RGB if layout.is_rgb else Matrix.SMPTE170M,
            full_range=True,
        )
    return ColorSpec(
        primaries=Primaries.BT709,
        transfer=Transfer.SRGB,
        matrix=Matrix.SMPTE170M,
        full_range=kind == "jpeg",
        chroma_location=ChromaLocation.CENTER,
    )


def image_format(
    image: Image, kind: ImageKind, *, width: int, height: int, quality: int | None = None
) -> ImageFormat:
    """How to write the enlarged picture of a still: its depth and alpha where the kind has them.

    Args:
        image: the source.
        kind: of the result.
        width: of the result, pixels.
        height: of the result, pixels.
        quality: 1 to 100; None takes 95 for JPEG, and lossless for WebP. PNG and TIFF have none.

    Raises:
        UnsupportedVideoError: the kind ends below that size.
    """
    longest = MAX_SIDE_PX.get(kind)
    if longest is not None and max(width, height) > longest:
        raise UnsupportedVideoError(
            f"The result would be {width}x{height}, and {kind} ends at {longest} pixels a side.",
            hint="write png or tiff",
        )
    losses = list(tag_losses(image.tags, kind))
    source = image.frame.layout
    if kind in ("png", "tiff"):
        settings = picture_settings(
            "png" if kind == "png" else "tiff",
            info=image.info,
            color=image.frame.color,
            width=width,
            height=height,
            threads=1,
        )
        losses += settings.losses
        return ImageFormat(
            kind=kind, layout=settings.layout, color=settings.color, quality=None,
            settings=settings, losses=tuple(losses),
        )  # fmt: skip
    has_alpha = source.has_alpha and kind == "webp"
    is_gray = source.is_gray and kind == "jpeg"
    if source.has_alpha and not has_alpha:
        losses.append("alpha channel (the picture is made opaque)")
    if source.bits > 8:
        losses.append(f"{source.bits}-bit samples ({kind} has 8 bits)")
    if kind == "jpeg" and quality is None:
        quality = DEFAULT_JPEG_QUALITY
    layout = PlaneLayout(bits=8, is_rgb=not is_gray, is_gray=is_gray, has_alpha=has_alpha)
    color = replace(
        image.frame.color,
        matrix=Matrix.RGB if layout.is_rgb else Matrix.SMPTE170M,
        full_range=True,
        chroma_location=ChromaLocation.UNSPECIFIED,
    )
    return ImageFormat(
        kind=kind, layout=layout, color=color, quality=quality, settings=None, losses=tuple(losses)
    )


def encode_image(frame: Frame, written: ImageFormat, tags: ImageTags) -> bytes:
    """A whole picture file with the tags of its source.

    Args:
        frame: of the format's layout.
        written: from `image_format`.
        tags: of the source.

    Raises:
        EncodeError: the encoder failed.
    """
    assert frame.layout == written.layout, f"{frame.layout} is not {written.layout}"
    if written.settings is not None:
        encoded = encode_still(frame, written.settings)
    else:
        encoded = _encode_by_cv2(frame, written)
    return put_tags(written.kind, encoded, tags, size=(frame.width, frame.height))


def _encode_by_cv2(frame: Frame, written: ImageFormat) -> bytes:
    """JPEG, chroma not subsampled, or WebP."""
    pixels: NDArray[np.generic] = frame.planes[0]
    if written.layout.is_rgb:
        green, blue, red, *alpha = frame.planes
        pixels = np.stack((blue, green, red, *alpha), axis=-1)
    if written.kind == "jpeg":
        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, written.quality or DEFAULT_JPEG_QUALITY),
            *(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ]
    else:
        options = [cv2.IMWRITE_WEBP_QUALITY, written.quality or _LOSSLESS_WEBP]
    try:
        ok, data = cv2.imencode(f".{written.kind}", np.ascontiguousarray(pixels), options)
    except cv2.error as error:
        raise EncodeError(f"the {written.kind} encoder failed ({error})") from error
    if not ok:
        raise EncodeError(f"the {written.kind} encoder failed")
    return data.tobytes()


def prove_image(path: Path, data: bytes, frame: Frame, written: ImageFormat) -> str | None:
    """What is wrong with an encoded picture, read back; None where it shows what it should."""
    again = parse_image(path, data).frame
    if (again.width, again.height) != (frame.width, frame.height):
        return f"it is {again.width}x{again.height}, expected {frame.width}x{frame.height}"
    if not written.is_lossless:
        return None
    # Full opacity is not stored by WebP, and that is no loss.
    opaque = (1 << frame.layout.bits) - 1
    has_lost = again.layout.num_planes < frame.layout.num_planes
    if has_lost and int(frame.planes[-1].min()) != opaque:
        return "its alpha channel is missing"
    pairs = list(zip(again.planes, frame.planes, strict=False))
    if frame.layout.has_alpha and frame.layout.bits == 8 and written.kind == "webp":
        # WebP may change colours that nobody sees.
        shown = frame.planes[-1] > 0
        pairs = [(one * shown, other * shown) for one, other in pairs]
    same = all(np.array_equal(one, other) for one, other in pairs)
    return None if same else "its samples are not those that were encoded"
