"""What a still says besides its samples: read from any of four kinds, put into any of them.

The colour profile, EXIF, XMP and resolution have a place in PNG, JPEG, TIFF and WebP alike, but for
WebP's resolution, which is EXIF's. What only one kind knows goes from that kind to the same.
Orientation is part of EXIF: pictures stay as they are stored, and so does the tag.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.media import exif
from vsr.media.stills_headers import png_chunks, read_header

ImageKind = Literal["png", "jpeg", "tiff", "webp"]

_XMP_JPEG = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_PNG = b"XML:com.adobe.xmp\0\0\0\0\0"
_ICC_JPEG = b"ICC_PROFILE\0"
_EXIF_JPEG = b"Exif\0\0"
_MAX_SEGMENT = 65533
_MAX_PROFILE = 64 << 20
_METRE_IN = Fraction(10000, 254)
"""Inches in a metre."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTags:
    """The tags of one still."""

    kind: ImageKind
    icc: bytes = b""
    """Colour profile."""
    exif: bytes = b""
    """A TIFF structure, without the name that JPEG puts before it."""
    xmp: bytes = b""
    density: tuple[Fraction, Fraction] | None = None
    """Pixels an inch, across and down."""
    own: bytes = b""
    """Chunks of PNG, or segments of JPEG, that no other kind has a place for."""
    own_names: tuple[str, ...] = ()
    """What these are called."""
    losses: tuple[str, ...] = ()
    """What no result will have."""


def read_tags(kind: ImageKind, data: bytes) -> ImageTags:
    """Read the tags of a whole picture file.

    Raises:
        DecodeError: its structure is broken or cut off.
        UnsupportedVideoError: an animation, or a JPEG of inks.
    """
    try:
        reader = {"png": _read_png, "jpeg": _read_jpeg, "tiff": _read_tiff, "webp": _read_webp}
        tags = reader[kind](data)
        if tags.exif:
            exif.read_tree(tags.exif)
        return tags
    except (struct.error, zlib.error, IndexError, KeyError, ValueError) as error:
        if isinstance(error, UnsupportedVideoError):
            raise
        raise DecodeError(f"its {kind} structure is broken ({error})") from error


def put_tags(kind: ImageKind, encoded: bytes, tags: ImageTags, *, size: tuple[int, int]) -> bytes:
    """A picture file with the tags of its source.

    Args:
        kind: of the file.
        encoded: the file without tags.
        tags: of the source.
        size: (width, height) of the file's picture, pixels, for EXIF that gives one.
    """
    block = exif.with_size(tags.exif, *size) if tags.exif else b""
    if kind == "png":
        return _put_png(encoded, tags, block)
    if kind == "jpeg":
        return _put_jpeg(encoded, tags, block)
    if kind == "webp":
        return _put_webp(encoded, tags, block, size)
    tree = exif.described(exif.read_tree(block)) if block else exif.Tree()
    return exif.insert_tags(encoded, tree, icc=tags.icc, xmp=tags.xmp, density=tags.density)


def tag_losses(tags: ImageTags, kind: ImageKind) -> tuple[str, ...]:
    """What of a source's tags a result of some kind has no place for, in words."""
    losses = list(tags.losses)
    if kind != tags.kind and tags.own_names:
        names = ", ".join(dict.fromkeys(tags.own_names))
        losses.append(f"what only {tags.kind} files can say ({names})")
    if tags.exif and kind == "tiff":
        tree = exif.read_tree(tags.exif)
        losses += ["the EXIF thumbnail"] if tree.has_more else []
        losses += ["the camera maker's notes"] if exif.has_maker_note(tree) else []
    if kind == "webp" and tags.density is not None and not _has_density(tags.exif):
        losses.append("the resolution in pixels an inch")
    if kind == "jpeg":
        if len(tags.exif) + len(_EXIF_JPEG) > _MAX_SEGMENT:
            losses.append("EXIF, which is larger than a JPEG segment")
        if len(tags.xmp) + len(_XMP_JPEG) > _MAX_SEGMENT:
            losses.append("XMP, which is larger than a JPEG segment")
    return tuple(losses)


def _has_density(block: bytes) -> bool:
    return bool(block) and exif.density_of(exif.read_tree(block).main) is not None


# PNG -------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> ImageTags:
    carried = read_header("png", data).carried
    icc = block = xmp = own = b""
    density = None
    names = []
    for name, chunk in png_chunks(b"\0" * 8 + carried):
        body = chunk[8:-4]
        if name == b"iCCP":
            packed = body[body.index(b"\0") + 2 :]
            icc = zlib.decompressobj().decompress(packed, _MAX_PROFILE)
        elif name == b"eXIf":
            block = body
        elif name == b"iTXt" and body.startswith(_XMP_PNG):
            xmp = body[len(_XMP_PNG) :]
        elif name == b"pHYs" and body[8] == 1:
            x, y = struct.unpack(">II", body[:8])
            density = (x / _METRE_IN, y / _METRE_IN) if x and y else None
        else:
            own += chunk
            # sRGB is what every kind means that says nothing.
            names += [] if name == b"sRGB" else [name.decode("ascii")]
    return ImageTags(
        kind="png", icc=icc, exif=block, xmp=xmp, density=density, own=own, own_names=tuple(names)
    )


def _put_png(encoded: bytes, tags: ImageTags, block: bytes) -> bytes:
    added = tags.own if tags.kind == "png" else b""
    if tags.icc:
        added += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(tags.icc))
    if tags.density is not None:
        x, y = (round(value * _METRE_IN) for value in tags.density)
        added += _chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if block:
        added += _chunk(b"eXIf", block)
    if tags.xmp:
        added += _chunk(b"iTXt", _XMP_PNG + tags.xmp)
    result = encoded[:8]
    for name, chunk in png_chunks(encoded):
        # FFmpeg writes some from what it was told of colour and pixel shape; the source decides.
        if name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            result += chunk
        if name == b"IHDR":
            result += added
    return result


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


# JPEG ------------------------------------------------------------------------------------------

_SOI, _EOI, _SOS, _COM, _APP0 = 0xD8, 0xD9, 0xDA, 0xFE, 0xE0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _APP2, _APP13, _APP14 = 0xE1, 0xE2, 0xED, 0xEE


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and body of every segment before the samples."""
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            raise ValueError("a marker is missing")
        marker = data[at + 1]
        length = struct.unpack_from(">H", data, at + 2)[0]
        body = data[at + 4 : at + 2 + length]
        if len(body) != length - 2:
            raise ValueError("a segment is cut off")
        yield marker, body
        if marker == _SOS:
            return
        at += 2 + length


def _read_jpeg(data: bytes) -> ImageTags:
    # Decoders fill a cut-off picture with grey and do not say so.
    if b"\xff\xd9" not in data[-65536:]:
        raise ValueError("its end is missing")
    pieces: dict[int, bytes] = {}
    block = xmp = own = b""
    density = None
    names, losses = [], []
    for marker, body in _segments(data):
        if marker in _FRAMES and body[5] not in (1, 3):
            raise UnsupportedVideoError(
                f"it has {body[5]} channels, as for printing inks, expected grey or colour",
                hint="convert it to RGB first",
            )
        if marker == _APP1 and body.startswith(_EXIF_JPEG):
            block = body[len(_EXIF_JPEG) :]
        elif marker == _APP1 and body.startswith(_XMP_JPEG):
            xmp = body[len(_XMP_JPEG) :]
        elif marker == _APP2 and body.startswith(_ICC_JPEG):
            pieces[body[len(_ICC_JPEG)]] = body[len(_ICC_JPEG) + 2 :]
        elif marker == _APP0 and body.startswith(b"JFIF\0"):
            density = _jfif_density(body)
        elif marker in (_APP13, _COM):
            own += struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
            names.append("comment" if marker == _COM else "IPTC")
        elif _APP0 < marker <= 0xEF and marker != _APP14:
            losses.append(f"the JPEG segment APP{marker - _APP0}")
    return ImageTags(
        kind="jpeg",
        icc=b"".join(pieces[number] for number in sorted(pieces)),
        exif=block,
        xmp=xmp,
        density=density,
        own=own,
        own_names=tuple(names),
        losses=tuple(dict.fromkeys(losses)),
    )


def _jfif_density(body: bytes) -> tuple[Fraction, Fraction] | None:
    unit, x, y = struct.unpack_from(">BHH", body, 7)
    if unit not in (1, 2) or not x or not y:
        return None
    factor = Fraction(1) if unit == 1 else Fraction(254, 100)
    return x * factor, y * factor


def _put_jpeg(encoded: bytes, tags: ImageTags, block: bytes) -> bytes:
    result = b"\xff\xd8"
    x, y = (round(value) for value in tags.density or (Fraction(1), Fraction(1)))
    unit = 0 if tags.density is None else 1
    jfif = b"JFIF\0\x01\x01" + struct.pack(">BHH", unit, min(x, 65535), min(y, 65535)) + b"\0\0"
    bodies = [(_APP0, jfif)]
    if block and len(block) + len(_EXIF_JPEG) <= _MAX_SEGMENT:
        bodies.append((_APP1, _EXIF_JPEG + block))
    if tags.xmp and len(tags.xmp) + len(_XMP_JPEG) <= _MAX_SEGMENT:
        bodies.append((_APP1, _XMP_JPEG + tags.xmp))
    step = _MAX_SEGMENT - len(_ICC_JPEG) - 2
    pieces = [tags.icc[k : k + step] for k in range(0, len(tags.icc), step)]
    for number, piece in enumerate(pieces, start=1):
        bodies.append((_APP2, _ICC_JPEG + bytes((number, len(pieces))) + piece))
    for marker, body in bodies:
        result += struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
    result += tags.own if tags.kind == "jpeg" else b""
    at = 2
    for marker, body in _segments(encoded):
        # Nothing but its own JFIF header is left out.
        if marker != _APP0:
            return result + encoded[at:]
        at += 4 + len(body)
    raise AssertionError("the encoder wrote no picture")


# TIFF ------------------------------------------------------------------------------------------


def _read_tiff(data: bytes) -> ImageTags:
    tree = exif.read_tree(data)
    icc, xmp = (tree.main[t].data if t in tree.main else b"" for t in (exif.ICC, exif.XMP))
    losses = list(_tiff_losses(data))
    if exif.has_maker_note(tree):
        losses.append("the camera maker's notes")
    return ImageTags(
        kind="tiff",
        icc=icc,
        exif=exif.make_block(exif.described(tree)),
        xmp=xmp,
        density=exif.density_of(tree.main),
        losses=tuple(losses),
    )


def _tiff_losses(data: bytes) -> tuple[str, ...]:
    """What of a TIFF file's tags is not kept, in words."""
    tree = exif.read_tree(data)
    names = {33723: "IPTC", 34377: "Photoshop data"}
    lost = [name for tag, name in names.items() if tag in tree.main]
    lost += ["every page of a TIFF file but the first"] if tree.has_more else []
    return tuple(lost)


# WebP ------------------------------------------------------------------------------------------

_HAS_ICC, _HAS_ALPHA, _HAS_EXIF, _HAS_XMP, _IS_ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02


def _riff(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of every chunk."""
    end = 8 + struct.unpack_from("<I", data, 4)[0]
    if end > len(data):
        raise ValueError("its end is missing")
    at = 12
    while at + 8 <= end:
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > end:
            raise ValueError(f"chunk {name!r} is cut off")
        yield name, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _read_webp(data: bytes) -> ImageTags:
    chunks = dict(_riff(data))
    if chunks.get(b"VP8X", b"\0")[0] & _IS_ANIMATION:
        raise UnsupportedVideoError("it is an animation, of which only one picture would be kept")
    block = chunks.get(b"EXIF", b"").removeprefix(_EXIF_JPEG)
    return ImageTags(
        kind="webp",
        icc=chunks.get(b"ICCP", b""),
        exif=block,
        xmp=chunks.get(b"XMP ", b""),
        density=exif.density_of(exif.read_tree(block).main) if block else None,
    )


def _put_webp(encoded: bytes, tags: ImageTags, block: bytes, size: tuple[int, int]) -> bytes:
    chunks = dict(_riff(encoded))
    flags = chunks.pop(b"VP8X", b"\0")[0] & _HAS_ALPHA
    if b"VP8L" in chunks:
        # Bit 28 after the signature: whether alpha is used.
        flags |= _HAS_ALPHA if struct.unpack_from("<I", chunks[b"VP8L"], 1)[0] >> 28 & 1 else 0
    flags |= _HAS_ICC if tags.icc else 0
    flags |= _HAS_EXIF if block else 0
    flags |= _HAS_XMP if tags.xmp else 0
    head = struct.pack("<I", flags)
    head += b"".join(struct.pack("<I", side - 1)[:3] for side in size)
    ordered = [(b"VP8X", head)]
    ordered += [(b"ICCP", tags.icc)] if tags.icc else []
    ordered += [(name, body) for name, body in chunks.items() if name in _WEBP_PICTURE]
    ordered += [(b"EXIF", block)] if block else []
    ordered += [(b"XMP ", tags.xmp)] if tags.xmp else []
    body = b"WEBP" + b"".join(
        name + struct.pack("<I", len(part)) + part + b"\0" * (len(part) % 2)
        for name, part in ordered
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


_WEBP_PICTURE = (b"ALPH", b"VP8 ", b"VP8L")
