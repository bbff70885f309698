r"""EXIF data as bytes: made to fit an enlarged picture, and carried between TIFF files and the other formats.

EXIF is a TIFF without pixels: a header of 8 bytes (`II*\0` or `MM\0*`, offset of the first directory), directories of
12-byte entries (tag, type, count, value or its offset), each followed by the offset of the next (TIFF 6.0, section 2).
Nothing is written anew where a value can be changed in place: camera makers' notes hold offsets that would break.
"""

import struct
from dataclasses import dataclass

import numpy as np

ORIENTATION, WIDTH, HEIGHT, EXIF, GPS, INTEROPERABILITY = 0x0112, 0x0100, 0x0101, 0x8769, 0x8825, 0xA005
EXIF_WIDTH, EXIF_HEIGHT = 0xA002, 0xA003
SHORT, LONG, UNDEFINED = 3, 4, 7
# TIFF type -> bytes of a value, bytes that are swapped together
_TYPES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2), 9: (4, 4)}
_TYPES |= {10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4)}
# What a TIFF's first directory tells of the picture rather than of how its pixels lie: description, make, model,
# software, date, artist, host, rating, copyright, and the names that Windows gives.
_DESCRIPTIVE = {0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298}
_DESCRIPTIVE |= set(range(0x9C9B, 0x9CA0))
_MAX_ENTRIES = 4096


@dataclass(frozen=True)
class Entry:
    """A value of a directory: its tag, TIFF type, count and bytes; or, in `below`, a directory of its own."""

    tag: int
    type: int
    count: int
    value: bytes
    below: "tuple[Entry, ...] | None" = None


def adapted(exif: bytes, width: int, height: int) -> bytes | None:
    """EXIF data for pixels that were turned upright and enlarged: upright, of the new size, without the thumbnail.

    Args:
        exif: From `II` or `MM` on.
        width: Of the enlarged picture, in pixels.
        height: Of the enlarged picture, in pixels.

    Returns:
        The same bytes with these values changed in place; None for data that cannot be read.
    """
    content = bytearray(exif)
    try:
        order = _order(content)
        first = _directory(content, order, _unpack(content, order, "I", 4))
        below = [_unpack(content, order, "I", at + 8) for tag, at in first.items() if tag == EXIF]
        second = _directory(content, order, below[0]) if below else {}
        _set(content, order, first, ORIENTATION, 1)
        for directory, tag, size in (
            (first, WIDTH, width), (first, HEIGHT, height), (second, EXIF_WIDTH, width), (second, EXIF_HEIGHT, height),
        ):  # fmt: skip
            _set(content, order, directory, tag, size)
        start = _unpack(content, order, "I", 4)
        struct.pack_into(f"{order}I", content, start + 2 + 12 * _unpack(content, order, "H", start), 0)
    except (struct.error, ValueError):
        return None
    return bytes(content)


def from_tiff(content: bytes) -> bytes | None:
    """The EXIF data in a TIFF file: what its first directory tells of the picture, camera and place.

    Returns:
        EXIF from `II` or `MM` on; None where there is none, or the file is a BigTIFF.
    """
    try:
        order = _order(content)
        kept = tuple(e for e in entries(content) if e.tag in _DESCRIPTIVE or e.tag in (EXIF, GPS))
    except (struct.error, ValueError):
        return None
    if not kept:
        return None
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8)
    return head + written(kept, order, 8)


def for_tiff(exif: bytes, order: str) -> tuple[Entry, ...]:
    """The entries of EXIF data that belong into a TIFF's first directory, in byte order `order` (`<` or `>`)."""
    try:
        own = _order(exif)
        kept = tuple(e for e in entries(exif) if e.tag in _DESCRIPTIVE or e.tag in (EXIF, GPS))
    except (struct.error, ValueError):
        return ()
    return kept if own == order else tuple(map(_swapped, kept))


def entries(content: bytes) -> tuple[Entry, ...]:
    """The first directory of a TIFF or of EXIF data, and the directories below it.

    Raises:
        ValueError, struct.error: It is damaged.
    """
    order = _order(content)
    return _read(content, order, _unpack(content, order, "I", 4), (EXIF, GPS))


def written(directory: tuple[Entry, ...], order: str, offset: int) -> bytes:
    """A directory as bytes that stand at `offset` of the file, its values and the directories below it behind it."""
    directory = tuple(sorted(directory, key=lambda entry: entry.tag))
    end = offset + 2 + 12 * len(directory) + 4
    head, tail = struct.pack(f"{order}H", len(directory)), b""
    for entry in directory:
        value, kind, count = entry.value, entry.type, entry.count
        if entry.below is not None:
            tail += b"\0" * (len(tail) % 2)
            value, kind, count = struct.pack(f"{order}I", end + len(tail)), LONG, 1
            tail += written(entry.below, order, end + len(tail))
        elif len(value) > 4:
            tail += b"\0" * (len(tail) % 2)
            value, place = struct.pack(f"{order}I", end + len(tail)), value
            tail += place
        head += struct.pack(f"{order}HHI", entry.tag, kind, count) + value.ljust(4, b"\0")
    return head + struct.pack(f"{order}I", 0) + tail


def _order(content: bytes | bytearray) -> str:
    for mark, order in ((b"II*\0", "<"), (b"MM\0*", ">")):
        if content[:4] == mark:
            return order
    raise ValueError("neither II nor MM")


def _unpack(content: bytes | bytearray, order: str, kind: str, at: int) -> int:
    return int(struct.unpack_from(f"{order}{kind}", content, at)[0])


def _directory(content: bytes | bytearray, order: str, start: int) -> dict[int, int]:
    """Tag → where its entry stands."""
    count = _unpack(content, order, "H", start)
    if count > _MAX_ENTRIES or start + 2 + 12 * count + 4 > len(content):
        raise ValueError("a directory that does not fit")
    places = [start + 2 + 12 * index for index in range(count)]
    return {_unpack(content, order, "H", at): at for at in places}


def _read(content: bytes, order: str, start: int, pointers: tuple[int, ...]) -> tuple[Entry, ...]:
    found = []
    for tag, at in _directory(content, order, start).items():
        kind, count = struct.unpack_from(f"{order}HI", content, at + 2)
        if tag in pointers:
            below = _read(content, order, _unpack(content, order, "I", at + 8), (INTEROPERABILITY,) * (tag == EXIF))
            found.append(Entry(tag, LONG, 1, b"", below))
            continue
        if kind not in _TYPES:
            continue
        size = _TYPES[kind][0] * count
        place = at + 8 if size <= 4 else _unpack(content, order, "I", at + 8)
        if place + size > len(content):
            raise ValueError("a value that does not fit")
        found.append(Entry(tag, kind, count, bytes(content[place : place + size])))
    return tuple(found)


def _set(content: bytearray, order: str, directory: dict[int, int], tag: int, value: int) -> None:
    """Writes a number where the tag is there already."""
    if tag not in directory:
        return
    at = directory[tag]
    short = value < 2**16 and _unpack(content, order, "H", at + 2) == SHORT
    struct.pack_into(f"{order}HI", content, at + 2, SHORT if short else LONG, 1)
    struct.pack_into(f"{order}HH" if short else f"{order}I", content, at + 8, *([value, 0] if short else [value]))


def _swapped(entry: Entry) -> Entry:
    if entry.below is not None:
        return Entry(entry.tag, entry.type, entry.count, b"", tuple(map(_swapped, entry.below)))
    width = _TYPES[entry.type][1]
    value = np.frombuffer(entry.value, f"u{width}").byteswap().tobytes() if width > 1 else entry.value
    return Entry(entry.tag, entry.type, entry.count, value)
