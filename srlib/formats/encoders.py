"""Encode images of 8 and 16 bits as PNG, JPEG, TIFF and WebP with their metadata; the same image gives the same bytes.

Pillow compresses JPEG and WebP. PNG and TIFF are put together here, since Pillow writes no 16-bit color.

Pixels are uint8 or uint16 [height, width, channels] with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha) channels.
"""

import io
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from srlib.arrays import Pixels
from srlib.formats import exif as exif_data
from srlib.formats import xmp as xmp_data
from srlib.formats.exif import Entry, Type
from srlib.formats.metadata import Metadata
from srlib.formats.png import SIGNATURE, encoded_chunk
from srlib.formats.tiff_layout import UNASSOCIATED, Compression, Photometric, Tag

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STRIP = 2**20
_PNG_COLORS = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
_EXIF_HEAD = b"Exif\0\0"
_SEGMENT = 65_533  # bytes that a segment of a JPEG holds
_PROFILE_PARTS = 255 * (_SEGMENT - len(b"ICC_PROFILE\0") - 2)
_OPTIMIZED = 2**27  # bytes of pixels of the largest JPEG with optimal tables
_LARGEST_BLOCK = 16  # a JPEG fills both sides up to whole blocks of 8 or 16 pixels
_MOST_PER_SAMPLE = 2  # bytes of a JPEG per sample, at most: gray noise of 0 and 255 at quality 100 takes 1.2


@dataclass(frozen=True)
class Format:
    """A file format that is written.

    Attributes:
        name: Name in messages.
        suffixes: Endings of file names, the usual one first.
        longest: Pixels of the longest side it can hold.
        encode: (pixels, metadata, quality) → the file's bytes.
        deep: Whether it holds 16 bits per channel.
        alpha: Whether it holds transparency.
        gray: Whether it holds gray.
        largest_exif: Most bytes of EXIF data.
        largest_profile: Most bytes of a color profile.
    """

    name: str
    suffixes: tuple[str, ...]
    longest: int
    encode: Callable[[Pixels, Metadata, int], bytes]
    deep: bool
    alpha: bool
    gray: bool = True
    largest_exif: int = 2**31 - 1
    largest_profile: int = 2**31 - 1


class PngCompression(NamedTuple):
    """How hard zlib looks for repetitions in the pixels of a PNG: its level, 1 to 9, and its strategy."""

    level: int
    strategy: int = zlib.Z_DEFAULT_STRATEGY


FAST = PngCompression(1, zlib.Z_RLE)
"""Runs of one value only: photographs take less than half the time of `BALANCED`, and about the same space."""

BALANCED = PngCompression(3)
SMALL = PngCompression(9)
"""At least a tenth smaller than `BALANCED`, in seven times its time."""


def png(pixels: Pixels, metadata: Metadata, quality: int) -> bytes:
    """Encode PNG, lossless; `quality` has no effect."""
    return encode_png(pixels, metadata, BALANCED)


def encode_png(pixels: Pixels, metadata: Metadata, compression: PngCompression) -> bytes:
    """Encode PNG, lossless. All PNG files of srlib are written here.

    The same pixels and metadata give the same bytes wherever Python has the same zlib.
    """
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
    data = ((b"IDAT", part) for part in _png_data(pixels, compression))
    parts = itertools.chain([(b"IHDR", head)], chunks, data, [(b"IEND", b"")])
    return SIGNATURE + b"".join(encoded_chunk(kind, content) for kind, content in parts)


def _png_data(pixels: Pixels, compression: PngCompression) -> Iterator[bytes]:
    """Yield the compressed rows, a megabyte at a time, each as its difference to the row above (PNG, 3rd ed., 9.2)."""
    height = len(pixels)
    above = np.zeros((1, pixels[0].nbytes), np.uint8)
    compressor = zlib.compressobj(compression.level, strategy=compression.strategy)
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


def jpeg(pixels: Pixels, metadata: Metadata, quality: int) -> bytes:
    """Encode JPEG of 8 bits without alpha; from quality 90 on, chroma is not subsampled (4:4:4)."""
    options: dict[str, Any] = {"exif": _EXIF_HEAD + metadata.exif} if metadata.exif else {}
    if metadata.xmp and len(metadata.xmp) <= xmp_data.LONGEST:
        options["xmp"] = metadata.xmp
    elif metadata.xmp:
        options["xmp"], options["extra"] = xmp_data.split(metadata.xmp)
    # Optimal Huffman tables need all coefficients at once, twice the memory of the pixels.
    if pixels.nbytes <= _OPTIMIZED:
        height, width = (side + -side % _LARGEST_BLOCK for side in pixels.shape[:2])
        slack = _MOST_PER_SAMPLE * height * width * pixels.shape[2]
        options |= {"optimize": True, "extra": _WithSlack(options.get("extra", b""), slack)}
    return _with_pillow(pixels, metadata, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2, **options)


class _WithSlack(bytes):
    """Segments of a JPEG that report more bytes than they hold.

    Pillow makes the buffer that a JPEG with optimal tables must fit into as large as a guess from the pixels, too small
    for noise, and the length of the segments. Its one other setting is global, and changes the PNG of other threads.
    """

    slack: int

    def __new__(cls, content: bytes, slack: int) -> "_WithSlack":
        """Return the segments with so many bytes of slack."""
        segments = super().__new__(cls, content)
        segments.slack = slack
        return segments

    def __len__(self) -> int:
        return super().__len__() + self.slack

    def __add__(self, other: "Buffer") -> "_WithSlack":
        return _WithSlack(super().__add__(other), self.slack)


def webp(pixels: Pixels, metadata: Metadata, quality: int) -> bytes:
    """Encode WebP of 8 bits, RGB with or without alpha; quality 100 is lossless."""
    options: dict[str, Any] = {"exif": metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    return _with_pillow(pixels, metadata, "WEBP", quality=quality, lossless=quality == 100, exact=True, **options)


def _with_pillow(pixels: Pixels, metadata: Metadata, name: str, **options: Any) -> bytes:
    options |= {"icc_profile": metadata.icc} if metadata.icc else {}
    options |= {"dpi": metadata.dpi} if metadata.dpi and name == "JPEG" else {}
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(out, name, **options)
    return out.getvalue()


def tiff(pixels: Pixels, metadata: Metadata, quality: int) -> bytes:
    """Encode TIFF, lossless: deflated differences (compression 8, predictor 2) in strips of about a megabyte."""
    height, width, channels = pixels.shape
    rows = max(1, _STRIP // (width * channels * pixels.itemsize))
    strips = []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows].astype(pixels.dtype.newbyteorder("<"))
        strip[:, 1:] -= pixels[top : top + rows, :-1]
        strips.append(zlib.compress(strip.tobytes(), 6))
    sizes = [len(strip) for strip in strips]
    directory = _tiff_directory(pixels, metadata, rows, sizes)
    head = struct.pack("<2sHI", b"II", 42, 8)
    # The length of the directory does not depend on the offsets in it, which follow from that length.
    start = len(head) + len(exif_data.written(directory, "<", len(head)))
    start += start % 2
    if start + sum(sizes) >= 2**32:
        raise ValueError("more than 4 GB, too much for a TIFF; choose PNG")
    offsets = itertools.accumulate(sizes[:-1], initial=start)
    directory = tuple(entry for entry in directory if entry.tag != Tag.STRIP_OFFSETS)
    directory += (_numbers(Tag.STRIP_OFFSETS, Type.LONG, *offsets),)
    return b"".join([(head + exif_data.written(directory, "<", len(head))).ljust(start, b"\0"), *strips])


def _tiff_directory(pixels: Pixels, metadata: Metadata, rows: int, sizes: Sequence[int]) -> tuple[Entry, ...]:
    """Return the directory of a TIFF; the offsets of its strips are still 0."""
    height, width, channels = pixels.shape
    x_dpi, y_dpi = metadata.dpi or (72.0, 72.0)
    entries = [
        _numbers(Tag.WIDTH, Type.LONG, width),
        _numbers(Tag.HEIGHT, Type.LONG, height),
        _numbers(Tag.BITS, Type.SHORT, *[8 * pixels.itemsize] * channels),
        _numbers(Tag.COMPRESSION, Type.SHORT, Compression.DEFLATE),
        _numbers(Tag.PHOTOMETRIC, Type.SHORT, Photometric.BLACK_IS_ZERO if channels < 3 else Photometric.RGB),
        _numbers(Tag.STRIP_OFFSETS, Type.LONG, *[0] * len(sizes)),
        _numbers(Tag.ORIENTATION, Type.SHORT, 1),
        _numbers(Tag.SAMPLES, Type.SHORT, channels),
        _numbers(Tag.ROWS_PER_STRIP, Type.LONG, rows),
        _numbers(Tag.STRIP_SIZES, Type.LONG, *sizes),
        _ratio(Tag.X_RESOLUTION, x_dpi),
        _ratio(Tag.Y_RESOLUTION, y_dpi),
        _numbers(Tag.PLANAR, Type.SHORT, 1),
        _numbers(Tag.RESOLUTION_UNIT, Type.SHORT, 2 if metadata.dpi else 1),
        _numbers(Tag.PREDICTOR, Type.SHORT, 2),
        _numbers(Tag.SAMPLE_FORMAT, Type.SHORT, *[1] * channels),
    ]
    if channels in (2, 4):
        entries.append(_numbers(Tag.EXTRA_SAMPLES, Type.SHORT, UNASSOCIATED))
    if metadata.xmp:
        entries.append(Entry(Tag.XMP, Type.BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.icc:
        entries.append(Entry(Tag.ICC, Type.UNDEFINED, len(metadata.icc), metadata.icc))
    return (*entries, *(exif_data.for_tiff(metadata.exif, "<") if metadata.exif else ()))


def _numbers(tag: Tag, kind: Literal[Type.SHORT, Type.LONG], *values: int) -> Entry:
    code = "H" if kind == Type.SHORT else "I"
    return Entry(tag, kind, len(values), struct.pack(f"<{len(values)}{code}", *values))


def _ratio(tag: Tag, value: float) -> Entry:
    return Entry(tag, Type.RATIONAL, 1, struct.pack("<II", round(value * 1000), 1000))


FORMATS = {
    "png": Format("PNG", (".png",), 2**31 - 1, png, deep=True, alpha=True),
    "jpeg": Format(
        "JPEG",
        (".jpg", ".jpeg", ".jpe", ".jfif"),
        65_500,
        jpeg,
        deep=False,
        alpha=False,
        largest_exif=_SEGMENT - len(_EXIF_HEAD),
        largest_profile=_PROFILE_PARTS,
    ),
    "tiff": Format("TIFF", (".tif", ".tiff"), 2**31 - 1, tiff, deep=True, alpha=True),
    "webp": Format("WebP", (".webp",), 16_383, webp, deep=False, alpha=True, gray=False),
}
