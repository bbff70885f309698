"""Read JPEG by its markers (ITU-T T.81, JFIF, Exif, Adobe's XMP specification part 3).

Pillow, which decodes, gets the file without metadata: odd EXIF data or further images behind the first cannot keep the
pixels from being read.
"""

import io
import re
import struct
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from PIL import Image as Pillow

from srlib.formats import exif as exif_data
from srlib.formats import xmp as xmp_data
from srlib.formats.header import DamagedError, Header, Raster, UnsupportedError, check_pixels
from srlib.formats.inks import cmyk_to_srgb
from srlib.formats.metadata import Metadata, orientation_of, plausible_dpi

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP13, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xEF, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # start of frame; the others are tables
_HUFFMAN_DCT = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive
_ARITHMETIC_DCT = {0xC9, 0xCA}
_EXIF, _XMP, _MORE_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _MULTI_PICTURE, _PHOTOSHOP = b"ICC_PROFILE\0", b"MPF\0", b"Photoshop 3.0\0"
_WITHOUT_CONTENT = (b"JFXX\0", b"Ducky")  # a thumbnail, and the settings of an encoder
_FURTHER_IMAGES = "further images in the file (such as a preview or a gain map)"
_MARGIN = 16  # bytes behind the image that are no content
_NAME = re.compile(rb"[ -~]{2,40}")
_DEFAULT_DPI = (72.0, 72.0)  # what EXIF assumes where it gives no resolution


@dataclass
class _Layout:
    """What the segments of a JPEG declare."""

    width: int = 0
    height: int = 0
    components: int = 0
    plain: list[bytes | memoryview] = field(default_factory=lambda: [b"\xff\xd8"])
    exif: list[bytes] = field(default_factory=list)
    xmp: bytes = b""
    more_xmp: list[bytes] = field(default_factory=list)
    profile: dict[int, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    lost: list[str] = field(default_factory=list)


def open_jpeg(content: bytes) -> Header:
    """Read the segments of a JPEG up to its pixels.

    Raises:
        DamagedError: The markers are wrong, or there is no frame.
        TooLargeError: Too many pixels.
        UnsupportedError: Lossless or hierarchical coding, 12 bits, or an unusual number of channels.
    """
    layout = _Layout()
    view, at = memoryview(content), 2
    while True:
        at = content.find(b"\xff", at)
        if at < 0 or at + 4 > len(view):
            raise DamagedError("ends before its pixels")
        marker = view[at + 1]
        if marker in (0x00, 0x01, 0xFF, _SOI) or 0xD0 <= marker <= 0xD7:  # filler, or without content
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _EOI:
            raise DamagedError("holds no pixels")
        size = int.from_bytes(view[at + 2 : at + 4], "big")
        if size < 2 or at + 2 + size > len(view):
            raise DamagedError(f"a segment at byte {at} extends beyond the end of the file")
        if marker == _SOS:
            layout.plain.append(view[at:])
            _look_behind(layout, content, at)
            break
        _take(layout, marker, view[at : at + 2 + size])
        at += 2 + size
    if not layout.components:
        raise DamagedError("declares no frame")
    metadata, notes = _metadata(layout)
    if layout.components == 4:
        notes += ("CMYK is converted to sRGB",)
    decode = partial(_decode, layout, metadata.icc)
    if layout.components == 4:
        metadata = Metadata(None, metadata.exif, metadata.xmp, metadata.dpi)
    return Header("jpeg", layout.width, layout.height, orientation_of(metadata), metadata, decode, notes)


def _take(layout: _Layout, marker: int, segment: memoryview) -> None:
    """Enter a segment into the layout; keep what decoding needs."""
    content = bytes(segment[4:])
    if not _APP0 <= marker <= _APP15 and marker != _COMMENT:
        layout.plain.append(segment)
        if marker in _FRAMES:
            _take_frame(layout, marker, content)
    elif (marker == _APP0 and content.startswith(b"JFIF\0")) or (marker == _APP14 and content.startswith(b"Adobe")):
        layout.plain.append(segment)
        if marker == _APP0 and len(content) >= 12:
            unit, x, y = struct.unpack_from(">BHH", content, 7)
            factor = {1: 1.0, 2: 2.54}.get(unit, 0.0)
            layout.dpi = layout.dpi or plausible_dpi(x * factor, y * factor)
    elif marker == _APP1 and content.startswith(_EXIF):
        _take_exif(layout, content.removeprefix(_EXIF))
    elif marker == _APP1 and content.startswith(_XMP):
        layout.lost += ["further XMP data"] if layout.xmp else []
        layout.xmp = layout.xmp or content.removeprefix(_XMP)
    elif marker == _APP1 and content.startswith(_MORE_XMP):
        layout.more_xmp.append(content.removeprefix(_MORE_XMP))
    elif marker == _APP2 and content.startswith(_ICC) and len(content) > len(_ICC) + 2:
        layout.profile[content[len(_ICC)]] = content[len(_ICC) + 2 :]
    elif marker == _APP2 and content.startswith(_MULTI_PICTURE):
        layout.lost.append(_FURTHER_IMAGES)
    elif marker == _APP13 and content.startswith(_PHOTOSHOP):
        layout.lost.append("IPTC and Photoshop data")
    elif marker == _COMMENT:
        layout.lost += ["the JPEG comment"] if content.strip(b"\0") else []
    elif not content.startswith(_WITHOUT_CONTENT):
        name = _NAME.match(content)
        layout.lost.append(f"APP{marker - _APP0} data" + (f" ({name[0].decode()})" if name else ""))


def _take_exif(layout: _Layout, content: bytes) -> None:
    """Enter EXIF data; what exceeds one segment goes on in the next, without a head of its own."""
    if layout.exif and content.startswith((b"II*\0", b"MM\0*")):
        layout.lost.append("further EXIF data")
    else:
        layout.exif.append(content)


def _look_behind(layout: _Layout, content: bytes, at: int) -> None:
    """Name what follows the pixels in the file, unless other segments or XMP name it."""
    end = content.find(b"\xff\xd9", at) + 2
    is_named = _FURTHER_IMAGES in layout.lost or xmp_data.without_pointers(layout.xmp)[1]
    if end > 1 and not is_named and len(content[end:].strip(b"\0\xff\r\n ")) > _MARGIN:
        layout.lost.append("what follows the image in the file (such as the film of a motion photo)")


def _take_frame(layout: _Layout, marker: int, content: bytes) -> None:
    if marker not in _HUFFMAN_DCT | _ARITHMETIC_DCT:
        raise UnsupportedError("lossless or hierarchical JPEG")
    if layout.components or len(content) < 6:
        raise DamagedError("wrong frame header")
    depth, height, width, components = struct.unpack_from(">BHHB", content)
    if depth != 8:
        raise UnsupportedError(f"JPEG of {depth} bits")
    if components not in (1, 3, 4):
        raise UnsupportedError(f"JPEG of {components} channels")
    if height == 0:
        raise UnsupportedError("JPEG that declares its height after the pixels")
    check_pixels(width, height)
    layout.width, layout.height, layout.components = width, height, components


def _metadata(layout: _Layout) -> tuple[Metadata, tuple[str, ...]]:
    lost = list(dict.fromkeys(layout.lost))
    xmp: bytes | None = layout.xmp or None
    if layout.more_xmp:
        merged = xmp_data.merged(layout.xmp, layout.more_xmp)
        xmp = merged or xmp
        lost += [] if merged else ["incomplete extended XMP data"]
    dpi = layout.dpi
    exif = b"".join(layout.exif)
    if dpi is None and exif:
        dpi = _exif_dpi(exif)
    profile = b"".join(layout.profile[number] for number in sorted(layout.profile))
    metadata = Metadata(profile or None, exif or None, xmp, dpi)
    notes = (f"not kept: {', '.join(lost)}",) if lost else ()
    return metadata, notes


def _exif_dpi(exif: bytes) -> tuple[float, float]:
    value = exif_data.number(exif, exif_data.Tag.X_RESOLUTION)
    unit = exif_data.number(exif, exif_data.Tag.RESOLUTION_UNIT)
    if value is None or unit is None:
        return _DEFAULT_DPI
    value *= 2.54 if unit == 3 else 1
    return plausible_dpi(value, value) or _DEFAULT_DPI


def _decode(layout: _Layout, profile: bytes | None) -> Raster:
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[layout.components]
    with Pillow.open(io.BytesIO(b"".join(layout.plain)), formats=["JPEG"]) as image:
        if image.mode != mode or image.size != (layout.width, layout.height):
            raise DamagedError(f"decoded as {image.mode} of {image.size}")
        pixels = np.asarray(image)
    if mode == "CMYK":
        return Raster(cmyk_to_srgb(pixels, profile))
    return Raster(pixels[..., None] if mode == "L" else pixels)
