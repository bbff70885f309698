"""Pictures of 8 and 16 bits as PNG, JPEG, TIFF and WebP files, with their metadata. The same picture, the same bytes.

Pillow compresses JPEG and WebP. PNG and TIFF are put together here: Pillow writes no 16-bit color.

Pixels are uint8 or uint16 [height, width, channels] with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from srlib.imaging import exif as exif_data
from srlib.imaging.exif import Entry

Chunks = tuple[tuple[bytes, bytes], ...]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_STRIP = 2**20
_PNG_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_EXIF_LIMIT = 65527  # a JPEG segment holds 65,533 bytes, `Exif\0\0` among them
_OPTIMIZED = 2**27  # bytes of pixels of the largest JPEG with optimal tables


@dataclass(frozen=True)
class Metadata:
    """What a file tells besides its pixels.

    Attributes:
        icc: The color profile.
        exif: From `II` or `MM` on.
        xmp: An XMP packet.
        dpi: Dots per inch, horizontally and vertically.
        chunks: Chunks of a PNG that only a PNG can hold: (type, content).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: Chunks = ()


@dataclass(frozen=True)
class Format:
    """A kind of file: its suffixes, the longest side it can hold, and what encodes it: (pixels, metadata, quality)."""

    name: str
    suffixes: tuple[str, ...]
    longest: int
    encode: Callable[[np.ndarray, Metadata, int], bytes]
    deep: bool
    alpha: bool


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The (type, content) of the chunks of a PNG that is whole."""
    start, found = len(_SIGNATURE), []
    while start + 12 <= len(content):
        size, kind = struct.unpack(">I4s", content[start : start + 8])
        found.append((kind, content[start + 8 : start + 8 + size]))
        start += 12 + size
    return found


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """PNG, lossless; `quality` says nothing here."""
    height, width, channels = pixels.shape
    head = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _PNG_COLORS[channels], 0, 0, 0)
    chunks = list(metadata.chunks)
    if metadata.icc and not any(kind == b"iCCP" for kind, _ in chunks):
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9)))
    if metadata.dpi and not any(kind == b"pHYs" for kind, _ in chunks):
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in metadata.dpi), 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    parts = [(b"IHDR", head), *chunks, *((b"IDAT", part) for part in _png_data(pixels)), (b"IEND", b"")]
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in parts)


def _png_data(pixels: np.ndarray) -> Iterator[bytes]:
    """The compressed rows, each as its difference to the row above (PNG, 3rd edition, 9.2), a megabyte at a time."""
    height = len(pixels)
    above = np.zeros((1, pixels[0].nbytes), np.uint8)
    compressor = zlib.compressobj(3)
    step = max(1, _STRIP // above.nbytes)
    for top in range(0, height, step):
        strip = pixels[top : top + step].astype(pixels.dtype.newbyteorder(">"))
        rows = np.frombuffer(strip.tobytes(), np.uint8).reshape(len(strip), -1)
        filtered = np.full((len(rows), 1 + rows.shape[1]), 2, np.uint8)
        np.subtract(rows, np.concatenate([above, rows[:-1]]), out=filtered[:, 1:])
        above = rows[-1:]
        if part := compressor.compress(filtered.tobytes()):
            yield part
    yield compressor.flush()


def jpeg(pixels: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """JPEG of 8 bits without alpha; from quality 90 on color is as fine as brightness (4:4:4)."""
    options: dict[str, Any] = (
        {} if metadata.exif is None or len(metadata.exif) > _EXIF_LIMIT else {"exif": b"Exif\0\0" + metadata.exif}
    )
    if metadata.xmp and len(metadata.xmp) <= 65000:
        options["xmp"] = metadata.xmp
    # Optimal Huffman tables need all coefficients at once, twice the memory of the pixels.
    options["optimize"] = pixels.nbytes <= _OPTIMIZED
    return _with_pillow(pixels, metadata, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, **options)


def webp(pixels: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """WebP of 8 bits; quality 100 is lossless. Gray becomes RGB: WebP has no gray."""
    if pixels.shape[2] < 3:
        pixels = np.concatenate([pixels[..., :1]] * 3 + [pixels[..., 1:]], axis=2)
    options: dict[str, Any] = {"exif": metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    return _with_pillow(pixels, metadata, "WEBP", quality=quality, lossless=quality == 100, exact=True, **options)


def _with_pillow(pixels: np.ndarray, metadata: Metadata, name: str, **options: Any) -> bytes:
    icc = metadata.icc
    if icc and icc[16:20].strip() != (b"GRAY" if pixels.shape[2] < 3 else b"RGB"):
        icc = None  # of a gray picture that is RGB here: a profile for other channels would be wrong
    options |= {"icc_profile": icc} if icc else {}
    options |= {"dpi": metadata.dpi} if metadata.dpi and name == "JPEG" else {}
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, name, **options)
    return out.getvalue()


def tiff(pixels: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """TIFF, lossless: deflated differences (compression 8, predictor 2) in strips of about a megabyte.

    16-bit gray with alpha becomes RGB with alpha: most readers, Pillow among them, do not know the former.
    """
    if pixels.shape[2] == 2 and pixels.dtype == np.uint16:
        pixels = pixels[..., [0, 0, 0, 1]]
    height, width, channels = pixels.shape
    rows = max(1, _STRIP // (width * channels * pixels.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows].astype(pixels.dtype.newbyteorder("<"))
        strip[:, 1:] -= pixels[top : top + rows, :-1]
        strips.append(zlib.compress(strip.tobytes(), 6))
    gray, alpha = channels < 3, channels in (2, 4)
    dpi = metadata.dpi or (72.0, 72.0)
    tags = [
        _numbers(256, "I", width),
        _numbers(257, "I", height),
        _numbers(258, "H", *[8 * pixels.itemsize] * channels),
        _numbers(259, "H", 8),
        _numbers(262, "H", 1 if gray else 2),
        _numbers(273, "I", *[0] * len(strips)),
        _numbers(274, "H", 1),
        _numbers(277, "H", channels),
        _numbers(278, "I", rows),
        _numbers(279, "I", *map(len, strips)),
        *(Entry(tag, 5, 1, struct.pack("<II", round(v * 1000), 1000)) for tag, v in zip((282, 283), dpi, strict=True)),
        _numbers(284, "H", 1),
        _numbers(296, "H", 2 if metadata.dpi else 1),
        _numbers(317, "H", 2),
        _numbers(339, "H", *[1] * channels),
    ]
    if alpha:
        tags.append(_numbers(338, "H", 2))
    if metadata.xmp:
        tags.append(Entry(700, 1, len(metadata.xmp), metadata.xmp))
    if metadata.icc:
        tags.append(Entry(34675, exif_data.UNDEFINED, len(metadata.icc), metadata.icc))
    if metadata.exif:
        tags += exif_data.for_tiff(metadata.exif, "<")
    head = struct.pack("<2sHI", b"II", 42, 8)
    start = len(head) + len(exif_data.written(tuple(tags), "<", 8))
    start += start % 2
    places = np.cumsum([start, *map(len, strips)])[:-1]
    if start + sum(map(len, strips)) >= 2**32:
        raise ValueError("more than 4 GB, too much for a TIFF; choose PNG")
    tags[5] = _numbers(273, "I", *map(int, places))
    return b"".join([(head + exif_data.written(tuple(tags), "<", 8)).ljust(start, b"\0"), *strips])


def _numbers(tag: int, kind: str, *values: int) -> Entry:
    number = exif_data.SHORT if kind == "H" else exif_data.LONG
    return Entry(tag, number, len(values), struct.pack(f"<{len(values)}{kind}", *values))


FORMATS = {
    "png": Format("PNG", (".png",), 2**31 - 1, png, deep=True, alpha=True),
    "jpeg": Format("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, jpeg, deep=False, alpha=False),
    "tiff": Format("TIFF", (".tif", ".tiff"), 2**31 - 1, tiff, deep=True, alpha=True),
    "webp": Format("WebP", (".webp",), 16_383, webp, deep=False, alpha=True),
}
