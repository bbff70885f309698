r"""EXIF data as bytes: adapt it to an upscaled image, and carry it between TIFF files and the other formats.

EXIF is a TIFF without pixels: a header of 8 bytes (`II*\0` or `MM\0*`, offset of the first directory), directories of
12-byte entries (tag, type, count, value or its offset), each followed by the offset of the next (TIFF 6.0, section 2).
Values are changed in place where possible: camera makers' notes hold offsets that would break.
"""

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

Order = Literal["<", ">"]


class Tag(IntEnum):
    """Tags that are read or changed here (EXIF 2.3, section 4.6; TIFF 6.0, section 8)."""

    IMAGE_WIDTH = 0x0100
    IMAGE_LENGTH = 0x0101
    IMAGE_DESCRIPTION = 0x010E
    MAKE = 0x010F
    MODEL = 0x0110
    ORIENTATION = 0x0112
    X_RESOLUTION = 0x011A
    RESOLUTION_UNIT = 0x0128
    SOFTWARE = 0x0131
    DATE_TIME = 0x0132
    ARTIST = 0x013B
    HOST_COMPUTER = 0x013C
    RATING = 0x4746
    RATING_PERCENT = 0x4749
    COPYRIGHT = 0x8298
    MAKER_NOTE = 0x927C
    EXIF = 0x8769
    GPS = 0x8825
    WINDOWS_TITLE = 0x9C9B
    WINDOWS_COMMENT = 0x9C9C
    WINDOWS_AUTHOR = 0x9C9D
    WINDOWS_KEYWORDS = 0x9C9E
    WINDOWS_SUBJECT = 0x9C9F
    PIXEL_X_DIMENSION = 0xA002
    PIXEL_Y_DIMENSION = 0xA003
    INTEROPERABILITY = 0xA005


class Type(IntEnum):
    """Types of a value (TIFF 6.0, section 2)."""

    BYTE = 1
    ASCII = 2
    SHORT = 3
    LONG = 4
    RATIONAL = 5
    SBYTE = 6
    UNDEFINED = 7
    SSHORT = 8
    SLONG = 9
    SRATIONAL = 10
    FLOAT = 11
    DOUBLE = 12
    IFD = 13


# type → bytes of a value, bytes that are swapped together
_SIZES: dict[int, tuple[int, int]] = {
    Type.BYTE: (1, 1),
    Type.ASCII: (1, 1),
    Type.SHORT: (2, 2),
    Type.LONG: (4, 4),
    Type.RATIONAL: (8, 4),
    Type.SBYTE: (1, 1),
    Type.UNDEFINED: (1, 1),
    Type.SSHORT: (2, 2),
    Type.SLONG: (4, 4),
    Type.SRATIONAL: (8, 4),
    Type.FLOAT: (4, 4),
    Type.DOUBLE: (8, 8),
    Type.IFD: (4, 4),
}
_NUMBERS: dict[int, str] = {
    Type.BYTE: "B",
    Type.SHORT: "H",
    Type.LONG: "I",
    Type.RATIONAL: "II",
    Type.SBYTE: "b",
    Type.UNDEFINED: "B",
    Type.SSHORT: "h",
    Type.SLONG: "i",
    Type.SRATIONAL: "ii",
    Type.FLOAT: "f",
    Type.DOUBLE: "d",
}
# Entries of a TIFF's first directory that describe the image, not how its pixels are stored.
DESCRIPTIVE = frozenset(
    {
        Tag.IMAGE_DESCRIPTION,
        Tag.MAKE,
        Tag.MODEL,
        Tag.SOFTWARE,
        Tag.DATE_TIME,
        Tag.ARTIST,
        Tag.HOST_COMPUTER,
        Tag.RATING,
        Tag.RATING_PERCENT,
        Tag.COPYRIGHT,
        Tag.WINDOWS_TITLE,
        Tag.WINDOWS_COMMENT,
        Tag.WINDOWS_AUTHOR,
        Tag.WINDOWS_KEYWORDS,
        Tag.WINDOWS_SUBJECT,
    }
)
_MAX_ENTRIES = 4096


@dataclass(frozen=True)
class Entry:
    """A value of a directory: its tag, TIFF type, count and bytes; or, in `below`, a directory of its own."""

    tag: int
    type: int
    count: int
    value: bytes
    below: "tuple[Entry, ...] | None" = None


def orientation(exif: bytes) -> int | None:
    """Return the orientation, 1 to 8, in whatever type of number it is stored; None where there is no valid one."""
    value = number(exif, Tag.ORIENTATION)
    return int(value) if value is not None and value in range(1, 9) else None


def number(exif: bytes, tag: int) -> float | None:
    """Return the first number of an entry of the first directory; None where there is none, or none that is finite."""
    try:
        order = _order(exif)
        places = _directory(exif, order, _unpack(exif, order, "I", 4))
        if tag not in places:
            return None
        at = places[tag]
        kind, count = struct.unpack_from(f"{order}HI", exif, at + 2)
        if kind not in _NUMBERS or count < 1:
            return None
        place = at + 8 if _SIZES[kind][0] * count <= 4 else _unpack(exif, order, "I", at + 8)
        values = struct.unpack_from(f"{order}{_NUMBERS[kind]}", exif, place)
        value = values[0] / values[1] if len(values) == 2 else float(values[0])
    except (struct.error, ValueError, ZeroDivisionError):
        return None
    return value if math.isfinite(value) else None


def adapted(exif: bytes, width: int, height: int) -> bytes | None:
    """Adapt EXIF data to pixels that were turned upright and resized: upright, of the new size, without a thumbnail.

    Args:
        exif: EXIF data from `II` or `MM` on. A missing pointer to the next directory is added.
        width: New width in pixels.
        height: New height in pixels.

    Returns:
        The same bytes with these values changed in place; None for data that cannot be read.
    """
    content = bytearray(exif)
    try:
        order = _order(content)
        start = _unpack(content, order, "I", 4)
        first = _directory(content, order, start)
        end = start + 2 + 12 * _unpack(content, order, "H", start)
        content += bytes(max(end + 4 - len(content), 0))
        _set(content, order, first, Tag.ORIENTATION, 1)
        _set(content, order, first, Tag.IMAGE_WIDTH, width)
        _set(content, order, first, Tag.IMAGE_LENGTH, height)
        struct.pack_into(f"{order}I", content, end, 0)  # no second directory, which holds the thumbnail
    except (struct.error, ValueError):
        return None
    if Tag.EXIF in first:
        try:
            second = _directory(content, order, _unpack(content, order, "I", first[Tag.EXIF] + 8))
            _set(content, order, second, Tag.PIXEL_X_DIMENSION, width)
            _set(content, order, second, Tag.PIXEL_Y_DIMENSION, height)
        except (struct.error, ValueError):
            pass  # a broken directory of details stays as it is; the rest is still useful
    return bytes(content)


def has_maker_note(exif: bytes) -> bool:
    """Return whether a camera's maker left data whose offsets hold only at their place in these bytes."""
    try:
        return any(below.tag == Tag.MAKER_NOTE for entry in entries(exif) for below in entry.below or ())
    except (struct.error, ValueError):
        return False


def from_tiff(content: bytes) -> bytes | None:
    """Return the EXIF data in a TIFF file: what its first directory says about the image, the camera and the place.

    Returns:
        EXIF data from `II` or `MM` on; None where there is none, where it is damaged, or in a BigTIFF.
    """
    try:
        order = _order(content)
        described = _described(content)
    except (struct.error, ValueError):
        return None
    if not described:
        return None
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return head + written(described, order, 8)


def for_tiff(exif: bytes, order: Order) -> tuple[Entry, ...]:
    """Return the entries of EXIF data that belong in a TIFF's first directory, in byte order `order`."""
    try:
        own = _order(exif)
        described = _described(exif)
    except (struct.error, ValueError):
        return ()
    return described if own == order else tuple(map(_swapped, described))


def _described(content: bytes) -> tuple[Entry, ...]:
    return tuple(
        entry
        for entry in entries(content)
        if entry.tag in {*DESCRIPTIVE, Tag.EXIF, Tag.GPS}
        and not (entry.tag == Tag.IMAGE_DESCRIPTION and describes_pixels(entry.value))
    )


def describes_pixels(description: bytes) -> bool:
    """Return whether a program's own text in ImageDescription tells how the pixels of the file are stored."""
    return description.startswith((b"ImageJ=", b'{"shape":')) or b"<OME" in description[:4096]


def entries(content: bytes) -> tuple[Entry, ...]:
    """Return the first directory of a TIFF or of EXIF data, with the directories below it.

    A value that lies outside the data is left out, as is a directory below that cannot be read.

    Raises:
        ValueError, struct.error: The first directory is damaged.
    """
    order = _order(content)
    return _read(content, order, _unpack(content, order, "I", 4), (Tag.EXIF, Tag.GPS))


def written(directory: tuple[Entry, ...], order: Order, offset: int) -> bytes:
    """Encode a directory that will lie at `offset`, followed by its values and the directories below it."""
    directory = tuple(sorted(directory, key=lambda entry: entry.tag))
    end = offset + 2 + 12 * len(directory) + 4
    head, tail = struct.pack(f"{order}H", len(directory)), b""
    for entry in directory:
        value, kind, count = entry.value, entry.type, entry.count
        if entry.below is not None:
            tail += b"\0" * (len(tail) % 2)
            value, kind, count = struct.pack(f"{order}I", end + len(tail)), Type.LONG, 1
            tail += written(entry.below, order, end + len(tail))
        elif len(value) > 4:
            tail += b"\0" * (len(tail) % 2)
            value, place = struct.pack(f"{order}I", end + len(tail)), value
            tail += place
        head += struct.pack(f"{order}HHI", entry.tag, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(f"{order}I", 0) + tail


def _order(content: bytes | bytearray) -> Order:
    if content[:4] == b"II*\0":
        return "<"
    if content[:4] == b"MM\0*":
        return ">"
    raise ValueError("neither II nor MM")


def _unpack(content: bytes | bytearray, order: Order, kind: str, at: int) -> int:
    return int(struct.unpack_from(f"{order}{kind}", content, at)[0])


def _directory(content: bytes | bytearray, order: Order, start: int) -> dict[int, int]:
    """Map each tag of a directory to the place of its entry."""
    count = _unpack(content, order, "H", start)
    if count > _MAX_ENTRIES or start + 2 + 12 * count > len(content):
        raise ValueError("a directory that does not fit")
    places = [start + 2 + 12 * index for index in range(count)]
    return {_unpack(content, order, "H", at): at for at in places}


def _read(content: bytes, order: Order, start: int, pointers: tuple[int, ...]) -> tuple[Entry, ...]:
    directory = []
    bytes_left = len(content)
    for tag, at in _directory(content, order, start).items():
        kind, count = struct.unpack_from(f"{order}HI", content, at + 2)
        if tag in pointers:
            inner = (Tag.INTEROPERABILITY,) if tag == Tag.EXIF else ()
            try:
                below = _read(content, order, _unpack(content, order, "I", at + 8), inner)
            except (struct.error, ValueError):
                continue
            directory.append(Entry(tag, Type.LONG, 1, b"", below))
            continue
        if kind not in _SIZES:
            continue
        size = _SIZES[kind][0] * count
        place = at + 8 if size <= 4 else _unpack(content, order, "I", at + 8)
        if place + size <= len(content):
            bytes_left -= size
            if bytes_left < 0:  # each entry is small, and all point at the same large value
                raise ValueError("values that overlap")
            directory.append(Entry(tag, kind, count, bytes(content[place : place + size])))
    return tuple(directory)


def _set(content: bytearray, order: Order, directory: dict[int, int], tag: int, value: int) -> None:
    """Change a number where the directory has the tag."""
    if tag not in directory:
        return
    at = directory[tag]
    if value < 2**16 and _unpack(content, order, "H", at + 2) == Type.SHORT:
        struct.pack_into(f"{order}HIHH", content, at + 2, Type.SHORT, 1, value, 0)
    else:
        struct.pack_into(f"{order}HII", content, at + 2, Type.LONG, 1, value)


def _swapped(entry: Entry) -> Entry:
    if entry.below is not None:
        return Entry(entry.tag, entry.type, entry.count, b"", tuple(map(_swapped, entry.below)))
    width = _SIZES[entry.type][1]
    value = np.frombuffer(entry.value, f"u{width}").byteswap().tobytes() if width > 1 else entry.value
    return Entry(entry.tag, entry.type, entry.count, value)
