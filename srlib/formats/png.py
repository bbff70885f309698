"""Read PNG by its declared layout (PNG, 3rd edition).

Decoders get a PNG of nothing but head, palette and pixels: odd text, profiles or EXIF data cannot keep the pixels from
being read. Pillow decodes; where kornia-rs is installed, it decodes plain 8-bit RGB, 2.5 times as fast. All checksums
are verified, which Pillow does not do.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image as Pillow

from srlib.arrays import Image, Pixels
from srlib.formats.header import DamagedError, Header, Raster, UnsupportedError, check_pixels
from srlib.formats.inks import from_palette
from srlib.formats.metadata import Metadata, orientation_of, plausible_dpi

try:
    from kornia_rs import io as kornia
except ModuleNotFoundError:  # not part of the light installation
    kornia = None  # type: ignore[assignment]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {_GRAY: (1, 2, 4, 8, 16), _RGB: (8, 16), _PALETTE: (1, 2, 4, 8), _GRAY_ALPHA: (8, 16), _RGB_ALPHA: (8, 16)}
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_KEPT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt"})
_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_XMP = b"XML:com.adobe.xmp"
_RAW_PROFILE = b"Raw profile type "  # metadata as hexadecimal text, a habit of ImageMagick
_PROFILES = frozenset(_RAW_PROFILE + name for name in (b"exif", b"APP1", b"xmp", b"icc", b"icm"))
# Without meaning for other pixels, or of an animation, which has a note of its own.
_MEANINGLESS = frozenset({b"sBIT", b"hIST", b"tIME", b"iDOT", b"fcTL", b"fdAT"})
_LARGEST_PROFILE = 2**26  # bytes of a text or profile after decompression
_INCH = 0.0254


class Chunk(NamedTuple):
    """A chunk: its type, its content, all of it, where it begins in the file, and whether its checksum is right."""

    type: bytes
    content: memoryview
    whole: memoryview
    start: int
    intact: bool


@dataclass
class _Layout:
    """What the chunks of a PNG declare."""

    width: int = 0
    height: int = 0
    depth: int = 0
    color: int = 0
    interlaced: int = 0
    palette: bytes = b""
    transparency: bytes | None = None
    data: list[memoryview] = field(default_factory=list)
    ancillary: list[tuple[bytes, bytes]] = field(default_factory=list)
    profile: bytes | None = None
    exif: bytes | None = None
    texts: dict[bytes, bytes] = field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    animated: bool = False
    ignored: list[str] = field(default_factory=list)
    lost: dict[str, None] = field(default_factory=dict)


def chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks of a PNG up to IEND.

    Raises:
        DamagedError: The file ends before IEND.
    """
    view, start = memoryview(content), len(SIGNATURE)
    while start + 12 <= len(view):
        size, kind = struct.unpack_from(">I4s", view, start)
        end = start + 8 + size
        if end + 4 > len(view):
            break
        intact = zlib.crc32(view[start + 4 : end]) == int.from_bytes(view[end : end + 4], "big")
        yield Chunk(kind, view[start + 8 : end], view[start : end + 4], start, intact)
        if kind == b"IEND":
            return
        start = end + 4
    raise DamagedError(f"ends after {len(view)} bytes without the closing chunk")


def encoded_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def open_png(content: bytes) -> Header:
    """Read the head of a PNG and check all of its chunks.

    Raises:
        DamagedError: A needed chunk is missing, wrong, or has a wrong checksum.
        TooLargeError: Too many pixels.
        UnsupportedError: An unknown chunk is needed.
    """
    layout = _Layout()
    for number, chunk in enumerate(chunks(content)):
        if number == 0 and chunk.type == b"CgBI":
            raise UnsupportedError("a PNG in Apple's CgBI variant")
        if number == 0 and chunk.type != b"IHDR":
            raise DamagedError("does not begin with IHDR")
        _take(layout, chunk)
    if not layout.data:
        raise DamagedError("holds no pixel data")
    if layout.color == _PALETTE and not layout.palette:
        raise DamagedError("holds no palette")
    metadata = _metadata(layout)
    notes = tuple(f"{what} of the PNG is damaged and was ignored" for what in layout.ignored)
    if content[chunk.start + len(chunk.whole) :].strip(b"\0\r\n "):
        layout.lost["what follows the image in the file"] = None
    if layout.lost:
        notes += (f"not kept: {', '.join(layout.lost)}",)
    if layout.animated:
        notes += ("only the first of several frames is used",)
    decode = partial(_decode, layout)
    return Header("png", layout.width, layout.height, orientation_of(metadata), metadata, decode, notes)


def _take(layout: _Layout, chunk: Chunk) -> None:
    """Enter a chunk into the layout."""
    name = chunk.type.decode("latin-1")
    if chunk.type[:1].isupper():
        if not chunk.intact and chunk.type == b"IEND":  # all pixels come before it, with checksums of their own
            layout.ignored.append("the IEND chunk")
        elif not chunk.intact:
            raise DamagedError(f"wrong checksum of the {name} chunk at byte {chunk.start}")
        _take_critical(layout, chunk, name)
        return
    try:
        if not chunk.intact:
            raise ValueError
        _take_ancillary(layout, chunk)
    except (ValueError, struct.error, zlib.error):
        layout.ignored.append(f"the {name} chunk")


def _take_critical(layout: _Layout, chunk: Chunk, name: str) -> None:
    if chunk.type == b"IHDR":
        if len(chunk.content) != 13 or layout.width:
            raise DamagedError("wrong IHDR chunk")
        width, height, depth, color, *methods = struct.unpack(">IIBBBBB", chunk.content)
        if depth not in _DEPTHS.get(color, ()) or methods[0] or methods[1] or methods[2] > 1:
            raise DamagedError(f"IHDR declares color type {color}, {depth} bits, methods {methods}")
        check_pixels(width, height)
        layout.width, layout.height, layout.depth, layout.color = width, height, depth, color
        layout.interlaced = methods[2]
    elif chunk.type == b"PLTE":
        if len(chunk.content) % 3 or not chunk.content:
            raise DamagedError("wrong length of the palette")
        layout.palette = bytes(chunk.content)
    elif chunk.type == b"IDAT":
        layout.data.append(chunk.whole)
    elif chunk.type not in _CRITICAL:
        raise UnsupportedError(f"a PNG with the chunk {name}")


def _take_ancillary(layout: _Layout, chunk: Chunk) -> None:
    content = bytes(chunk.content)
    if chunk.type == b"tRNS":
        needed = {_GRAY: 2, _RGB: 6}.get(layout.color)
        if (needed and len(content) < needed) or layout.color in (_GRAY_ALPHA, _RGB_ALPHA):
            raise ValueError
        layout.transparency = content
    elif chunk.type == b"iCCP":
        layout.profile = _inflate(content.partition(b"\0")[2][1:])
    elif chunk.type == b"eXIf":
        layout.exif = content
    elif chunk.type == b"pHYs":
        x, y, unit = struct.unpack(">IIB", content)
        layout.dpi = plausible_dpi(x * _INCH, y * _INCH) if unit == 1 else None
    elif chunk.type == b"acTL":
        layout.animated = struct.unpack_from(">I", content)[0] > 1
    elif chunk.type in _TEXTS:
        keyword = content.partition(b"\0")[0]
        if keyword == _XMP or keyword in _PROFILES:  # written again from the metadata
            if keyword not in layout.texts:
                layout.texts[keyword] = _text(chunk.type, content)
            return
    elif chunk.type not in _KEPT | _MEANINGLESS:
        name = chunk.type.decode("latin-1")
        has_name = name.isascii() and name.isalpha()
        layout.lost[f"the PNG chunk {name}" if has_name else "a PNG chunk without a name"] = None
    if chunk.type in _KEPT:
        layout.ancillary.append((chunk.type, content))


def _inflate(content: bytes) -> bytes:
    """Decompress a profile or text of a sensible size."""
    decompressor = zlib.decompressobj()
    result = decompressor.decompress(content, _LARGEST_PROFILE)
    if not decompressor.eof:
        raise ValueError
    return result


def _text(kind: bytes, content: bytes) -> bytes:
    """Return the text of a tEXt, zTXt or iTXt chunk."""
    rest = content.partition(b"\0")[2]
    if kind == b"tEXt":
        return rest
    if kind == b"zTXt":
        return _inflate(rest[1:])
    compressed, text = rest[:1], rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    return _inflate(text) if compressed == b"\1" else text


def _metadata(layout: _Layout) -> Metadata:
    """Gather the metadata, each from its own chunk or else from a raw profile."""
    raw: dict[str, bytes] = {}
    for keyword, text in layout.texts.items():
        if keyword.startswith(_RAW_PROFILE):
            name = keyword.removeprefix(_RAW_PROFILE).decode("latin-1")
            raw[name] = _raw_profile(text)
    app1 = raw.get("APP1", b"")
    exif = layout.exif or raw.get("exif") or (app1 if app1.startswith(b"Exif\0\0") else b"")
    xmp = layout.texts.get(_XMP) or raw.get("xmp") or (app1.partition(b"\0")[2] if app1.startswith(b"http") else b"")
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    icc = layout.profile or raw.get("icc") or raw.get("icm")
    return Metadata(icc or None, exif or None, xmp or None, layout.dpi, tuple(layout.ancillary))


def _raw_profile(text: bytes) -> bytes:
    """Decode `name, length, hexadecimal digits`; nothing where the text is something else."""
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return b""


def _decode(layout: _Layout) -> Raster:
    """Decode the pixels by color type and depth."""
    if layout.color == _PALETTE:
        return _from_palette(layout)
    if layout.color == _RGB:
        color = _rgb8(layout) if layout.depth == 8 else _deep(layout, "RGB")
        return Raster(color, _color_key(layout, color))
    if layout.color == _RGB_ALPHA:
        pixels = _pillow(layout, "RGBA") if layout.depth == 8 else _deep(layout, "RGBA")
        return Raster(pixels[..., :3], pixels[..., 3])
    if layout.color == _GRAY_ALPHA:
        return _gray_alpha(layout)
    if layout.depth == 16:
        gray: Pixels = _pillow(layout, "I;16")
    else:
        gray = _pillow(layout, "1" if layout.depth == 1 else "L")
        gray = gray.astype(np.uint8) * np.uint8(255) if layout.depth == 1 else gray
    gray = gray[..., None]
    return Raster(gray, _color_key(layout, gray))


def _plain(layout: _Layout, depth: int, color: int) -> bytes:
    """Return a PNG of head, palette and pixels alone, with this depth and color type."""
    head = struct.pack(">IIBBBBB", layout.width, layout.height, depth, color, 0, 0, layout.interlaced)
    palette = [encoded_chunk(b"PLTE", layout.palette[:768])] if color == _PALETTE else []
    return b"".join([SIGNATURE, encoded_chunk(b"IHDR", head), *palette, *layout.data, encoded_chunk(b"IEND", b"")])


def _pillow(layout: _Layout, mode: str, content: bytes | None = None) -> Pixels:
    """Decode with Pillow; the mode must be the one that the layout stands for."""
    plain = _plain(layout, layout.depth, layout.color) if content is None else content
    with Pillow.open(io.BytesIO(plain), formats=["PNG"]) as image:
        if image.mode != mode:
            raise DamagedError(f"decoded as {image.mode}, not {mode}")
        return np.asarray(image)


def _rgb8(layout: _Layout) -> Image:
    plain = _plain(layout, 8, _RGB)
    if not kornia:
        return np.asarray(_pillow(layout, "RGB", plain), np.uint8)
    try:
        return np.asarray(kornia.decode_image_png_u8(plain, (layout.height, layout.width), "rgb"), np.uint8)
    except Exception as error:  # kornia-rs raises no more specific exception
        raise DamagedError(f"its compressed data is broken: {error}") from error


def _deep(layout: _Layout, mode: Literal["RGB", "RGBA"]) -> Pixels:
    """Decode 16-bit color in two passes, since Pillow keeps one byte of each sample.

    Declared big-endian, samples keep their first byte; declared little-endian, their second.
    """
    plain, halves = _plain(layout, 16, layout.color), []
    for order in "BL":
        with Pillow.open(io.BytesIO(plain), formats=["PNG"]) as image:
            image.tile = [tile._replace(args=f"{mode};16{order}") for tile in image.tile]
            halves.append(np.asarray(image))
    return np.asarray(halves[0].astype(np.uint16) << 8 | halves[1])


def _gray_alpha(layout: _Layout) -> Raster:
    """Decode gray with alpha; of 16 bits as RGBA of 8 bits, whose rows have the same bytes and filters."""
    if layout.depth == 8:
        pixels = _pillow(layout, "LA")
    else:
        halves = _pillow(layout, "RGBA", _plain(layout, 8, _RGB_ALPHA))
        pixels = np.asarray(halves[..., ::2].astype(np.uint16) << 8 | halves[..., 1::2], np.uint16)
    return Raster(pixels[..., :1], pixels[..., 1])


def _from_palette(layout: _Layout) -> Raster:
    """Look the colors up; an index beyond the palette is black, as in libpng."""
    indices = _pillow(layout, "P")
    color = from_palette(np.asarray(indices, np.uint8), np.frombuffer(layout.palette[:768], np.uint8).reshape(-1, 3))
    if layout.transparency is None:
        return Raster(color)
    alphas = np.full(256, 255, np.uint8)
    transparency = np.frombuffer(layout.transparency[:256], np.uint8)
    alphas[: len(transparency)] = transparency
    return Raster(color, np.take(alphas, indices))


def _color_key(layout: _Layout, pixels: Pixels) -> Pixels | None:
    """Return alpha for the one color that is transparent, if there is one."""
    if layout.transparency is None:
        return None
    levels = 2**layout.depth - 1
    channels = pixels.shape[2]
    key = np.frombuffer(layout.transparency[: 2 * channels], ">u2").astype(np.uint32) & levels
    top = int(np.iinfo(pixels.dtype).max)
    same = (pixels == (key * (top // levels)).astype(pixels.dtype)).all(axis=2)
    return np.where(same, 0, top).astype(pixels.dtype)
