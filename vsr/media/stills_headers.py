"""What a picture file says besides its samples, and how it is carried into the enlarged one.

FFmpeg's encoders write none of it: film and television headers of DPX (timecode, keycode, slate),
text and colour chunks of PNG (profiles too), attributes of OpenEXR. They are cut out of the source
file as bytes, travel with their frame as side data and are put into the result's file as they are.
Nothing here trusts a length: what does not add up is refused.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from vsr.errors import DecodeError, UnsupportedVideoError
from vsr.media import stills_exr as exr
from vsr.media.stills import Kind

MAGICS: dict[Kind, tuple[bytes, ...]] = {
    "png": (b"\x89PNG\r\n\x1a\n",),
    "tiff": (b"II*\0", b"MM\0*"),
    "dpx": (b"SDPX", b"XPDS"),
    "exr": (b"v/1\x01",),
}
"""First bytes of each kind."""

SIDE_DATA: dict[Kind, str] = {
    "png": "PNG_CHUNKS",
    "dpx": "DPX_HEADER",
    "exr": "EXR_ATTRIBUTES",
}
"""Kind of `SideData` that carries a picture's header, by the kind of file that can take it."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the bytes of a picture file tell besides what its decoder says."""

    carried: bytes = b""
    """To put into the result, by `carry_header`."""
    transfer: int | None = None
    """DPX: the transfer characteristic's code."""
    losses: tuple[str, ...] = field(default=())
    """What the file has that will not be in the result."""


def read_header(kind: Kind, data: bytes) -> Header:
    """Read what is carried along.

    Args:
        kind: of the file.
        data: the whole file, which begins with one of `MAGICS`.

    Raises:
        DecodeError: the file's structure is broken.
        UnsupportedVideoError: it holds what would be lost in silence.
    """
    try:
        if kind == "png":
            return Header(_png_carried(data))
        if kind == "dpx":
            return _read_dpx(data)
        if kind == "exr":
            carried, losses = exr.read(data)
            return Header(carried, None, losses)
        return _read_tiff(data)
    except (struct.error, zlib.error, KeyError, IndexError, ValueError) as error:
        if isinstance(error, UnsupportedVideoError):
            raise
        raise DecodeError(f"its {kind} header is broken ({error})") from error


def carry_header(kind: Kind, encoded: bytes, carried: bytes | None) -> bytes:
    """Put what was carried into an encoded picture file of the same kind.

    Args:
        kind: of both files.
        encoded: as FFmpeg's encoder made it.
        carried: `Header.carried` of the source; None when the source was of another kind. Empty
            is another thing: a PNG source without tags gives a PNG without tags.
    """
    if carried is None:
        return encoded
    if kind == "png":
        return _png_insert(encoded, carried)
    if kind == "dpx":
        return _dpx_insert(encoded, carried)
    if kind == "exr":
        return exr.insert(encoded, carried)
    return encoded


# PNG -------------------------------------------------------------------------------------------

_PNG_CARRIED = frozenset(
    (b"cHRM", b"gAMA", b"iCCP", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"pHYs", b"tIME", b"eXIf")
)
_PNG_TEXT = frozenset((b"tEXt", b"zTXt", b"iTXt"))
_PNG_START = 8


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and whole bytes of each chunk."""
    position = _PNG_START
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise ValueError(f"chunk {name!r} is cut off")
        yield name, data[position:end]
        if name == b"IEND":
            return
        position = end


def _png_carried(data: bytes) -> bytes:
    chunks = [(name, chunk) for name, chunk in png_chunks(data)]
    names = {name for name, _ in chunks}
    if b"acTL" in names:
        raise UnsupportedVideoError("it is an animation, of which only one picture would be kept")
    kept = [chunk for name, chunk in chunks if name in _PNG_CARRIED | _PNG_TEXT]
    return b"".join(kept)


def _png_insert(encoded: bytes, carried: bytes) -> bytes:
    result = encoded[:_PNG_START]
    for name, chunk in png_chunks(encoded):
        if name in _PNG_CARRIED | _PNG_TEXT:
            continue
        result += chunk
        if name == b"IHDR":
            result += carried
    return result


# DPX (SMPTE 268M) ------------------------------------------------------------------------------

_DPX_GENERIC, _DPX_ALL = 1664, 2048
_DPX_MAX_USER = 1 << 20
# Byte ranges of the generic headers that say something of the film and not of this file.
_DPX_KEPT = (
    (136, 660),  # date, creator, project, copyright
    (768, 770),  # orientation
    (784, 800),  # reference codes and quantities
    (801, 803),  # transfer, colorimetric
    (820, 852),  # description of the element
    (1432, 1620),  # source file name, date, input device and its serial number
)
_DPX_WORDS = ((784, 4), (1712, 6), (1920, 2), (1928, 10))
"""Where 32-bit numbers lie among the bytes kept: (offset, how many)."""
_DPX_SHORTS = ((768, 1),)


def _read_dpx(data: bytes) -> Header:
    order = ">" if data[:4] == b"SDPX" else "<"
    offset = struct.unpack_from(f"{order}I", data, 4)[0]
    elements = struct.unpack_from(f"{order}H", data, 770)[0]
    if elements != 1:
        raise UnsupportedVideoError(f"it holds {elements} image elements, of which one is read")
    user = struct.unpack_from(f"{order}I", data, 32)[0]
    losses = []
    user_end = _DPX_ALL
    if user not in (0, 0xFFFFFFFF) and offset >= _DPX_ALL + user:
        if user <= _DPX_MAX_USER:
            user_end += user
        else:
            losses.append("the DPX user data, which are larger than 1 MiB")
    head = data[: min(offset, user_end)]
    # Always big-endian on the way, whatever the source is.
    return Header(_swap_dpx(head) if order == "<" else head, data[801], tuple(losses))


def _swap_dpx(head: bytes) -> bytes:
    """Turn the byte order of the numbers among the bytes kept."""
    swapped = bytearray(head)
    for size, places in ((4, _DPX_WORDS), (2, _DPX_SHORTS)):
        for start, count in places:
            for at in range(start, start + count * size, size):
                if at + size <= len(head):
                    swapped[at : at + size] = head[at : at + size][::-1]
    return bytes(swapped)


def _dpx_insert(encoded: bytes, carried: bytes) -> bytes:
    order = ">" if encoded[:4] == b"SDPX" else "<"
    source = _swap_dpx(carried) if order == "<" else carried
    was = struct.unpack_from(f"{order}I", encoded, 4)[0]
    head = bytearray(encoded[:_DPX_GENERIC].ljust(_DPX_ALL, b"\xff"))
    for start, end in _DPX_KEPT:
        head[start:end] = source[start:end]
    if len(source) >= _DPX_ALL:
        head[_DPX_GENERIC:_DPX_ALL] = source[_DPX_GENERIC:_DPX_ALL]
    user = source[_DPX_ALL:]
    pixels = encoded[was:]
    # The samples start at a whole multiple of 4 bytes.
    head += user + b"\0" * (-len(user) % 4)
    industry = _DPX_ALL - _DPX_GENERIC
    for at, value in (
        (4, len(head)),
        (16, len(head) + len(pixels)),
        (24, _DPX_GENERIC),
        (28, industry),
        (32, len(user)),
        (808, len(head)),
    ):
        struct.pack_into(f"{order}I", head, at, value)
    return bytes(head) + pixels


# TIFF ------------------------------------------------------------------------------------------

_TIFF_STRUCTURAL = frozenset(
    (254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 282, 283, 284, 296, 305, 317,
     320, 322, 323, 324, 325, 338, 339, 340, 341, 530)
)  # fmt: skip
_TIFF_ORIENTATION = 274
_TIFF_NAMES = {
    269: "document name",
    270: "description",
    271: "scanner make",
    272: "scanner model",
    306: "date",
    315: "artist",
    700: "XMP",
    33432: "copyright",
    33723: "IPTC",
    34377: "Photoshop data",
    34665: "EXIF",
    34675: "ICC profile",
}


def _read_tiff(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    at = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, at)[0]
    tags = {
        struct.unpack_from(f"{order}H", data, at + 2 + 12 * k)[0]: at + 2 + 12 * k
        for k in range(count)
    }
    following = struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)[0]
    losses = []
    lost = sorted(set(tags) - _TIFF_STRUCTURAL)
    if _TIFF_ORIENTATION in tags:
        turn = struct.unpack_from(f"{order}H", data, tags[_TIFF_ORIENTATION] + 8)[0]
        if turn != 1:
            raise UnsupportedVideoError(f"it is stored turned or mirrored (orientation {turn})")
    if lost:
        losses.append(f"the TIFF tags {', '.join(_TIFF_NAMES.get(t, str(t)) for t in lost)}")
    if following:
        losses.append("every page of a TIFF file but the first")
    return Header(b"", None, tuple(losses))
