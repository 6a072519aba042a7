"""EXIF: the tags of a still as a small TIFF structure, read, made and put into TIFF files.

Nothing here trusts an offset: what does not lie inside the data is refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 1, 7: 1, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8}
"""Bytes of a number, by type; rationals are two numbers of four."""
_PER_VALUE = {5: 2, 10: 2}
_MAX_ENTRIES = 4096

EXIF_IFD, GPS_IFD = 34665, 34853
ICC, XMP = 34675, 700
ORIENTATION = 274
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_MAKER_NOTE = 37500
_DESCRIPTION = 270
_SIZE_TAGS = {0xA002: 0, 0xA003: 1}
"""Width and height of the picture, in the EXIF directory."""
_TEXTS = frozenset((269, 270, 271, 272, 306, 315, 33432))
"""Document, description, maker, model, date, artist, copyright."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tag's value, its numbers in little-endian order."""

    type: int
    count: int
    data: bytes


Directory = dict[int, Entry]


@dataclass(slots=True)
class Tree:
    """The directories of one picture."""

    main: Directory = field(default_factory=dict)
    exif: Directory = field(default_factory=dict)
    gps: Directory = field(default_factory=dict)
    has_more: bool = False
    """Another directory follows: a thumbnail in EXIF, a page in TIFF."""


def read_tree(data: bytes) -> Tree:
    """Read a TIFF structure: an EXIF block or the head of a TIFF file.

    Raises:
        ValueError, struct.error: it is broken.
    """
    if data[:4] not in (b"II*\0", b"MM\0*"):
        raise ValueError("the tags do not begin like TIFF")
    order = "<" if data[:2] == b"II" else ">"
    main, following = _read_directory(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
    tree = Tree(main=main, has_more=bool(following))
    for tag, directory in ((EXIF_IFD, tree.exif), (GPS_IFD, tree.gps)):
        if tag in main and len(main[tag].data) == 4:
            found, _ = _read_directory(data, order, struct.unpack("<I", main.pop(tag).data)[0])
            directory |= found
    return tree


def _read_directory(data: bytes, order: str, at: int) -> tuple[Directory, int]:
    directory: Directory = {}
    for tag, kind, count, where in _entries(data, order, at):
        size = count * _SIZES[kind] * _PER_VALUE.get(kind, 1)
        if where + size > len(data):
            raise ValueError(f"tag {tag} lies outside the data")
        value = data[where : where + size]
        directory[tag] = Entry(kind, count, value if order == "<" else _swap(value, _SIZES[kind]))
    count = struct.unpack_from(f"{order}H", data, at)[0]
    return directory, struct.unpack_from(f"{order}I", data.ljust(at + 6 + 12 * count, b"\0"),
                                         at + 2 + 12 * count)[0]  # fmt: skip


def _entries(data: bytes, order: str, at: int) -> Iterator[tuple[int, int, int, int]]:
    """(tag, type, count, where its value lies) of a directory's entries of known types."""
    count = struct.unpack_from(f"{order}H", data, at)[0]
    if count > _MAX_ENTRIES:
        raise ValueError(f"a directory of {count} tags")
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", data, entry)
        if kind not in _SIZES:
            continue
        is_inside = number * _SIZES[kind] * _PER_VALUE.get(kind, 1) <= 4
        where = entry + 8 if is_inside else struct.unpack_from(f"{order}I", data, entry + 8)[0]
        yield tag, kind, number, where


def _swap(value: bytes, size: int) -> bytes:
    return b"".join(value[k : k + size][::-1] for k in range(0, len(value), size))


def make_block(tree: Tree) -> bytes:
    """An EXIF block of these directories; empty where there is nothing in them."""
    if not (tree.main or tree.exif or tree.gps):
        return b""
    return b"II*\0" + struct.pack("<I", 8) + _write_tree(tree, 8)


def _write_tree(tree: Tree, at: int) -> bytes:
    """Bytes of the directories, the main one first, to lie at offset `at`."""
    main = dict(tree.main)
    subs = [(tag, d) for tag, d in ((EXIF_IFD, tree.exif), (GPS_IFD, tree.gps)) if d]
    for tag, _ in subs:
        main[tag] = Entry(4, 1, bytes(4))
    end = at + len(_write_directory(main, at))
    rest = b""
    for tag, directory in subs:
        main[tag] = Entry(4, 1, struct.pack("<I", end + len(rest)))
        rest += _write_directory(directory, end + len(rest))
    return _write_directory(main, at) + rest


def _write_directory(directory: Mapping[int, Entry], at: int) -> bytes:
    head = struct.pack("<H", len(directory))
    values = b""
    start = at + 2 + 12 * len(directory) + 4
    for tag in sorted(directory):
        entry = directory[tag]
        head += struct.pack("<HHI", tag, entry.type, entry.count)
        if len(entry.data) <= 4:
            head += entry.data.ljust(4, b"\0")
        else:
            head += struct.pack("<I", start + len(values))
            values += entry.data + b"\0" * (len(entry.data) % 2)
    return head + bytes(4) + values


def with_size(block: bytes, width: int, height: int) -> bytes:
    """An EXIF block that gives another size of the picture, where it gives one; else as it was.

    Changed in place, because a maker's notes may point to where they lie.

    Raises:
        ValueError, struct.error: it is broken.
    """
    order = "<" if block[:2] == b"II" else ">"
    changed = bytearray(block)
    first = struct.unpack_from(f"{order}I", block, 4)[0]
    for tag, _, _, where in _entries(block, order, first):
        if tag != EXIF_IFD:
            continue
        at = struct.unpack_from(f"{order}I", block, where)[0]
        for name, kind, _, place in _entries(block, order, at):
            if name in _SIZE_TAGS and kind in (3, 4):
                value = (width, height)[_SIZE_TAGS[name]]
                struct.pack_into(f"{order}{'H' if kind == 3 else 'I'}", changed, place, value)
    return bytes(changed)


def density_of(directory: Directory) -> tuple[Fraction, Fraction] | None:
    """Pixels an inch, across and down; None where none are given."""
    unit = directory.get(_RESOLUTION_UNIT)
    number = 2 if unit is None else int.from_bytes(unit.data[:2], "little")
    pair = [directory.get(tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    found = []
    for entry in pair:
        if entry is None or entry.type != 5 or len(entry.data) != 8 or number not in (2, 3):
            return None
        above, below = struct.unpack("<II", entry.data)
        if not above or not below:
            return None
        found.append(Fraction(above, below) * (Fraction(254, 100) if number == 3 else 1))
    return found[0], found[1]


def described(tree: Tree) -> Tree:
    """Of a TIFF file's directories, what describes the picture and not the file."""
    kept = _TEXTS | {ORIENTATION}
    return Tree(
        main={tag: entry for tag, entry in tree.main.items() if tag in kept},
        exif={tag: entry for tag, entry in tree.exif.items() if tag != _MAKER_NOTE},
        gps=tree.gps,
    )


def with_description(block: bytes, text: str) -> bytes:
    """An EXIF block whose description begins with `text`, what it said before behind it.

    Notes that only a camera's maker can read are left out: they point to where they lay.

    Args:
        block: may be empty.
        text: in ASCII.

    Raises:
        ValueError, struct.error: it is broken.
    """
    tree = read_tree(block) if block else Tree()
    before = tree.main[_DESCRIPTION].data.rstrip(b"\0") if _DESCRIPTION in tree.main else b""
    said = text.encode("ascii") + (b"; " + before if before else b"") + b"\0"
    tree.main[_DESCRIPTION] = Entry(2, len(said), said)
    tree.exif.pop(_MAKER_NOTE, None)
    return make_block(tree)


def has_maker_note(tree: Tree) -> bool:
    """Whether there are notes in a form that only their maker knows."""
    return _MAKER_NOTE in tree.exif


def insert_tags(
    encoded: bytes,
    tree: Tree,
    *,
    icc: bytes,
    xmp: bytes,
    density: tuple[Fraction, Fraction] | None,
) -> bytes:
    """Give a TIFF file further tags.

    Args:
        encoded: a file of one directory, little-endian.
        tree: tags to add, as `described` gives them.
        icc: colour profile; empty for none.
        xmp: likewise.
        density: pixels an inch; None leaves what the file says.
    """
    file = read_tree(encoded)
    main = file.main | tree.main
    if icc:
        main[ICC] = Entry(7, len(icc), icc)
    if xmp:
        main[XMP] = Entry(1, len(xmp), xmp)
    if density is not None:
        for tag, value in zip((_X_RESOLUTION, _Y_RESOLUTION), density, strict=True):
            near = value.limit_denominator(10000)
            main[tag] = Entry(5, 1, struct.pack("<II", near.numerator, near.denominator))
        main[_RESOLUTION_UNIT] = Entry(3, 1, struct.pack("<H", 2))
    padded = encoded + b"\0" * (len(encoded) % 2)
    added = _write_tree(Tree(main=main, exif=tree.exif, gps=tree.gps), len(padded))
    return padded[:4] + struct.pack("<I", len(padded)) + padded[8:] + added
