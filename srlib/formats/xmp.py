"""XMP packets: correct outdated values, merge and split packets that exceed a JPEG segment (XMP, part 3, 1.1.3.1).

Packets are edited as text, so that everything else stays as it was. All searches take linear time, whatever a file
holds.
"""

import hashlib
import re
import struct

LONGEST = 65_000
"""Bytes of a packet that one JPEG segment takes; more becomes extended XMP."""

_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_PART = 65_400
_MOST_ELEMENTS = 256
_XMLNS = re.compile(rb"\bxmlns:([\w.-]+)=(?:\"[^\"<]*\"|'[^'<]*')")
_GUID = re.compile(rb"xmpNote:HasExtendedXMP=[\"']([0-9A-Fa-f]{32})[\"']")
_GUID_ELEMENT = re.compile(rb"<xmpNote:HasExtendedXMP>([0-9A-Fa-f]{32})</xmpNote:HasExtendedXMP>")

# Properties that point at parts of the file which are not kept → what these parts are.
_POINTERS = {
    rb"(?:GCamera|Camera):(?:MotionPhoto\w*|MicroVideo\w*)": "the film of the motion photo",
    rb"(?:hdrgm|HDRGainMap):\w+": "the gain map for bright screens",
    rb"GDepth:\w+": "the depth map",
    rb"GImage:\w+": "the second image",
    rb"GAudio:\w+": "the sound",
}
_DIRECTORY = rb"\w*Container:Directory"


def as_utf8(xmp: bytes) -> bytes:
    """Return the packet in UTF-8; some programs write UTF-16 or UTF-32."""
    for encoding in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):  # the marks of UTF-16 begin those of UTF-32
        if xmp.startswith(("<".encode(encoding), "\ufeff".encode(encoding))):
            try:
                text = xmp.decode(encoding).removeprefix("\ufeff")
            except UnicodeError:
                return xmp
            return re.sub(r"<\?xml\b[^<>]*\?>", "", text).encode()
    return xmp


def resized(xmp: bytes, width: int, height: int) -> bytes:
    """Return the packet of an upright image of this size."""
    for name, value in (
        (rb"tiff:Orientation", 1),
        (rb"(?:tiff:ImageWidth|exif:PixelXDimension)", width),
        (rb"(?:tiff:ImageLength|exif:PixelYDimension)", height),
    ):
        xmp = re.sub(rb"(" + name + rb"(?:\s*=\s*[\"']|>))\d+", rb"\g<1>%d" % value, xmp)
    return xmp


def without_pointers(xmp: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Remove what points at films, gain maps and the like behind the image; they are not kept.

    Returns:
        The packet, and the names of the parts that it pointed at.
    """
    lost: list[str] = []
    for name, part in _POINTERS.items():
        xmp, attributes = re.subn(rb"\s" + name + rb"\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')", b"", xmp)
        xmp, elements = _without_elements(xmp, name)
        if attributes + elements:
            lost.append(part)
    xmp, directories = _without_elements(xmp, _DIRECTORY)
    if directories and not lost:
        lost.append("what follows the image in the file")
    return xmp, tuple(lost)


def _without_elements(xmp: bytes, name: bytes) -> tuple[bytes, int]:
    """Remove the elements of this name with their content; return the packet and the number of elements."""
    opening = re.compile(rb"<(" + name + rb")(?:\s[^<>]*)?>")
    for count in range(_MOST_ELEMENTS):
        match = opening.search(xmp)
        if match is None:
            return xmp, count
        end = match.end()
        if not match[0].endswith(b"/>"):
            end = xmp.find(b">", xmp.find(b"</" + match[1], end)) + 1
        if end < match.end():  # it is not closed
            return xmp, count
        xmp = xmp[: match.start()] + xmp[end:]
    return xmp, _MOST_ELEMENTS


def merged(xmp: bytes, parts: list[bytes]) -> bytes | None:
    """Merge a packet with the extended XMP of a JPEG.

    Args:
        xmp: Packet of the first segment.
        parts: Contents of the further segments: GUID, full length, offset, and a part of the second packet.

    Returns:
        One packet; None where a part is missing or the packets cannot be merged.
    """
    mark = _GUID.search(xmp) or _GUID_ELEMENT.search(xmp)
    if not mark:
        return None
    pieces: dict[int, bytes] = {}
    length = 0
    for part in parts:
        if len(part) >= 40 and part[:32].upper() == mark[1].upper():
            length, offset = struct.unpack_from(">II", part, 32)
            pieces[offset] = part[40:]
    extended = b"".join(pieces[offset] for offset in sorted(pieces))
    outer, inner = _body(xmp), _body(extended)
    if len(extended) != length or outer is None or inner is None:
        return None
    declared = {match[1] for match in _XMLNS.finditer(xmp, 0, outer[0])}
    missing = [match for match in _XMLNS.finditer(extended, 0, inner[0]) if match[1] not in declared]
    namespaces = b"".join(b" " + match[0] for match in missing)
    content = xmp[outer[0] : outer[1]] + extended[inner[0] : inner[1]]
    whole = xmp[: outer[0] - 1] + namespaces + b">" + content + xmp[outer[1] :]
    return _GUID_ELEMENT.sub(b"", _GUID.sub(b"", whole))


def _body(xmp: bytes) -> tuple[int, int] | None:
    """Return where the content of rdf:RDF begins and ends."""
    start, end = xmp.find(b">", xmp.find(b"<rdf:RDF")) + 1, xmp.rfind(b"</rdf:RDF")
    return (start, end) if b"<rdf:RDF" in xmp and 0 < start <= end else None


def split(xmp: bytes) -> tuple[bytes, bytes]:
    """Split a packet that is too long for a JPEG segment.

    Returns:
        A short packet that refers to the long one, and the long one as segments, each with marker and length.
    """
    body = re.sub(rb"<\?xpacket\b[^<>]*>", b"", xmp).strip()
    guid = hashlib.md5(body, usedforsecurity=False).hexdigest().upper().encode()
    first = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="http://ns.adobe.com/xmp/note/" '
        b'xmpNote:HasExtendedXMP="%s"/></rdf:RDF></x:xmpmeta>' % guid
    )
    segments = b""
    for offset in range(0, len(body), _PART):
        content = _EXTENDED + guid + struct.pack(">II", len(body), offset) + body[offset : offset + _PART]
        segments += b"\xff\xe1" + struct.pack(">H", 2 + len(content)) + content
    return first, segments
