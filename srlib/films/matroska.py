"""Damage of Matroska and WebM files that no decoder notices: checksums that do not match, and broken structure.

Matroska is a sequence of elements, each with an identifier, its size and its content (RFC 8794, RFC 9559). FFmpeg and
other writers begin the elements of the first level with a CRC-32 of the rest.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_CHECKSUM = b"\xbf\x84"
"""Identifier and size of a CRC-32, which is the first element inside of what it is of."""

_LONGEST_ID, _LONGEST_SIZE = 4, 8
_CHUNK = 2**20


@dataclass(frozen=True)
class _Element:
    """One element: where its content begins, and its length; None where the writer did not know it."""

    identifier: int
    start: int
    size: int | None


def damage(path: Path) -> list[str]:
    """Return what is damaged in a Matroska or WebM file, in the words of a message.

    An end that is missing is not named: the duration shows it.

    Args:
        path: The file; one of another kind is not looked at.

    Raises:
        OSError: It cannot be read.
    """
    sections = wrong = position = 0
    with path.open("rb") as file:
        length = file.seek(0, 2)
        while position < length:
            element = _element_at(file, position)
            if element is None or (position == 0 and element.identifier != _EBML):
                lost = [f"is damaged at byte {position:,}: frames, sound or subtitles may be missing"]
                return lost if position else []
            position = element.start
            if element.identifier == _SEGMENT:
                continue
            end = length + 1 if element.size is None else element.start + element.size
            expected = _checksum_at(file, element.start) if end <= length else None
            if expected is not None:
                sections += 1
                wrong += _crc32(file, element.start + len(_CHECKSUM) + 4, end) != expected
            elif element.identifier == _CLUSTER:
                continue  # its blocks follow
            position = end
    if not wrong:
        return []
    return [f"{wrong} of {sections} sections do not match their checksum: the file was damaged after it was written"]


def _element_at(file: BinaryIO, position: int) -> _Element | None:
    """Read the head of an element; None where there is none."""
    file.seek(position)
    head = file.read(_LONGEST_ID + _LONGEST_SIZE)
    id_length = _length(head[:1])
    size_length = _length(head[id_length : id_length + 1])
    if not id_length or id_length > _LONGEST_ID or not size_length:
        return None
    identifier = int.from_bytes(head[:id_length], "big")
    unknown = (1 << 7 * size_length) - 1
    size = int.from_bytes(head[id_length : id_length + size_length], "big") & unknown
    return _Element(identifier, position + id_length + size_length, None if size == unknown else size)


def _length(first: bytes) -> int:
    """Return the bytes of a number, which the leading zeros of its first byte tell; 0 where it is none."""
    return 9 - first[0].bit_length() if first and first[0] else 0


def _checksum_at(file: BinaryIO, position: int) -> int | None:
    file.seek(position)
    content = file.read(len(_CHECKSUM) + 4)
    is_there = len(content) == len(_CHECKSUM) + 4 and content.startswith(_CHECKSUM)
    return int.from_bytes(content[-4:], "little") if is_there else None


def _crc32(file: BinaryIO, start: int, end: int) -> int:
    file.seek(start)
    crc = 0
    while start < end and (chunk := file.read(min(_CHUNK, end - start))):
        crc, start = zlib.crc32(chunk, crc), start + len(chunk)
    return crc
