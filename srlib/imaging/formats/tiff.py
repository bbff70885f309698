"""Read TIFF by its declared layout (TIFF 6.0, BigTIFF).

tifffile reads the directory. Uncompressed samples are placed by NumPy. Compressed ones are decoded by libtiff, which is
in Pillow: it gets the same strips under a directory of its own that declares a plain image of bytes, so that it cannot
misread bit depth, planes, sign or photometric interpretation. What the samples mean is decided here.
"""

import contextlib
import io
import logging
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.imaging.arrays import Pixels
from srlib.imaging.formats import exif as exif_data
from srlib.imaging.formats.header import DamagedError, Header, Raster, UnsupportedError, check_pixels
from srlib.imaging.formats.inks import cmyk_to_srgb, from_palette, lab_to_srgb
from srlib.imaging.formats.metadata import Metadata, plausible_dpi

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # what matters is raised here


class _Tag(IntEnum):
    """Tags of a TIFF directory that are read here."""

    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_SIZES = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR = 284
    T4_OPTIONS = 292
    T6_OPTIONS = 293
    RESOLUTION_UNIT = 296
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_SIZES = 325
    INK_SET = 332
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    YCBCR_SUBSAMPLING = 530
    XMP = 700
    IPTC = 33723
    PHOTOSHOP = 34377
    ICC = 34675


class _Photometric(IntEnum):
    """What the samples stand for."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8


class _Compression(IntEnum):
    NONE = 1
    CCITT = 2
    GROUP3 = 3
    GROUP4 = 4
    LZW = 5
    OLD_JPEG = 6
    JPEG = 7
    DEFLATE = 8
    PACKBITS = 32773
    OLD_DEFLATE = 32946
    LZMA = 34925
    ZSTD = 50000
    WEBP = 50001


_BYTES = frozenset(  # compressions of bytes, whatever they stand for
    {
        _Compression.LZW,
        _Compression.DEFLATE,
        _Compression.OLD_DEFLATE,
        _Compression.PACKBITS,
        _Compression.LZMA,
        _Compression.ZSTD,
    }
)
_FAX = frozenset({_Compression.CCITT, _Compression.GROUP3, _Compression.GROUP4})
_COLORS = {
    _Photometric.WHITE_IS_ZERO: 1,
    _Photometric.BLACK_IS_ZERO: 1,
    _Photometric.RGB: 3,
    _Photometric.PALETTE: 1,
    _Photometric.CMYK: 4,
    _Photometric.YCBCR: 3,
    _Photometric.CIELAB: 3,
}
_PHOTOMETRIC_NAMES = {4: "transparency masks", 9: "ICC Lab", 10: "ITU Lab", 32803: "raw camera data", 34892: "raw data"}
_FORMAT_NAMES = {2: "TIFF with signed samples", 3: "float TIFF", 5: "complex TIFF", 6: "complex TIFF"}
_ASSOCIATED, _UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class _Layout:
    """What the directory of a TIFF declares, checked."""

    content: bytes
    order: str
    width: int
    height: int
    bits: int
    samples: int
    photometric: _Photometric
    compression: int
    predictor: int
    planar: bool
    reversed_bits: bool
    extra: tuple[int, ...]
    color_map: tuple[int, ...]
    tile: tuple[int, int] | None
    rows_per_strip: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    fax_options: int
    jpeg_tables: bytes
    subsampling: tuple[int, ...]

    @property
    def block(self) -> tuple[int, int]:
        """Height and width of a strip or tile."""
        return self.tile or (min(self.rows_per_strip, self.height), self.width)

    @property
    def grid(self) -> tuple[int, int]:
        """Number of strips or tiles down and across."""
        height, width = self.block
        return -(-self.height // height), -(-self.width // width)


class _Directory:
    """The first directory of a TIFF, read by tifffile."""

    def __init__(self, content: bytes) -> None:
        import tifffile  # takes 0.2 s, so only where it is needed

        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            if not isinstance(page, tifffile.TiffPage):
                raise DamagedError("holds no directory")
            self.order: str = file.byteorder
            self.big = file.is_bigtiff
            self._values = {tag.code: tag.value for tag in page.tags}
            try:
                file.pages[1]
                self.more_pages = True
            except IndexError:
                self.more_pages = False
            except Exception:  # a second page that cannot be read is a page too
                self.more_pages = True

    def __contains__(self, tag: int) -> bool:
        return tag in self._values

    def numbers(self, tag: int) -> tuple[int, ...]:
        """Return the whole numbers of an entry, none where it is missing; raise where it holds something else."""
        value = self._values.get(tag, ())
        if isinstance(value, bytes):
            value = tuple(value)
        elif isinstance(value, np.ndarray):  # tifffile's form of color maps
            value = tuple(value.ravel().tolist())
        values = value if isinstance(value, tuple) else (value,)
        try:
            return tuple(int(v) for v in values)
        except (TypeError, ValueError, OverflowError) as error:
            raise DamagedError(f"tag {tag} holds no whole numbers") from error

    def number(self, tag: int, default: int | None = None) -> int:
        """Return the first number of an entry."""
        values = self.numbers(tag)
        if values:
            return values[0]
        if default is None:
            raise DamagedError(f"tag {tag} is missing")
        return default

    def ratio(self, tag: int) -> float:
        """Return a fraction; 0 where it is missing or wrong."""
        value = self._values.get(tag, ())
        try:
            numerator, denominator = value
            return float(numerator / denominator)
        except (TypeError, ValueError, ZeroDivisionError, OverflowError):
            return float(value) if isinstance(value, int | float) else 0.0

    def data(self, tag: int) -> bytes | None:
        """Return the bytes of an entry; None where it is missing or of another type."""
        value = self._values.get(tag)
        if isinstance(value, str):
            return value.encode("utf-8", "surrogateescape")
        if isinstance(value, tuple) and all(isinstance(v, int) and 0 <= v < 256 for v in value):
            return bytes(value)
        return value if isinstance(value, bytes) and value else None


def open_tiff(content: bytes) -> Header:
    """Read the first directory of a TIFF.

    Raises:
        DamagedError: The directory is wrong, or points beyond the end of the file.
        TooLargeError: Too many pixels.
        UnsupportedError: A kind of samples or compression that is not read.
    """
    directory = _Directory(content)
    width, height = directory.number(_Tag.WIDTH), directory.number(_Tag.HEIGHT)
    check_pixels(width, height)
    layout = _layout(content, directory, width, height)
    notes: list[str] = ["only the first of several pages is used"] if directory.more_pages else []
    alpha, associated, ignored = _alpha_channel(layout)
    if ignored:
        notes.append("a channel whose meaning the TIFF does not declare is left out")
    metadata, lost = _metadata(content, directory)
    profile = metadata.icc
    if layout.photometric in (_Photometric.CMYK, _Photometric.CIELAB):
        notes.append(f"{'CMYK' if layout.photometric == _Photometric.CMYK else 'CIELab'} is converted to sRGB")
        metadata = replace(metadata, icc=None)
    notes += [f"not kept: {', '.join(lost)}"] if lost else []
    orientation = directory.number(_Tag.ORIENTATION, 1)
    orientation = orientation if orientation in range(1, 9) else 1
    decode = partial(_decode, layout, alpha, associated, profile)
    return Header("tiff", width, height, orientation, metadata, decode, tuple(notes))


def _layout(content: bytes, directory: _Directory, width: int, height: int) -> _Layout:
    """Check what the directory declares."""
    samples = directory.number(_Tag.SAMPLES, 1)
    if not 1 <= samples <= 64:
        raise UnsupportedError(f"TIFF of {samples} channels")
    bits = _bits(directory)
    photometric = _photometric(directory, bits)
    tiled = _Tag.TILE_WIDTH in directory
    tile = (directory.number(_Tag.TILE_HEIGHT), directory.number(_Tag.TILE_WIDTH)) if tiled else None
    if tile and not all(1 <= side <= 2**16 for side in tile):
        raise DamagedError(f"tiles of {tile[1]}×{tile[0]} pixels")
    layout = _Layout(
        content=content,
        order=directory.order,
        width=width,
        height=height,
        bits=bits,
        samples=samples,
        photometric=photometric,
        compression=directory.number(_Tag.COMPRESSION, 1),
        predictor=directory.number(_Tag.PREDICTOR, 1),
        planar=directory.number(_Tag.PLANAR, 1) == 2 and samples > 1,
        reversed_bits=directory.number(_Tag.FILL_ORDER, 1) == 2,
        extra=directory.numbers(_Tag.EXTRA_SAMPLES),
        color_map=directory.numbers(_Tag.COLOR_MAP),
        tile=tile,
        rows_per_strip=max(directory.number(_Tag.ROWS_PER_STRIP, height), 1),
        offsets=directory.numbers(_Tag.TILE_OFFSETS if tiled else _Tag.STRIP_OFFSETS),
        sizes=directory.numbers(_Tag.TILE_SIZES if tiled else _Tag.STRIP_SIZES),
        fax_options=directory.number(_Tag.T4_OPTIONS, directory.number(_Tag.T6_OPTIONS, 0)),
        jpeg_tables=directory.data(_Tag.JPEG_TABLES) or b"",
        subsampling=directory.numbers(_Tag.YCBCR_SUBSAMPLING),
    )
    _check(layout)
    return _with_strips(layout)


def _bits(directory: _Directory) -> int:
    """Return the bits of a sample, the same for all."""
    kinds = set(directory.numbers(_Tag.SAMPLE_FORMAT)) - {1, 4}  # 4 is undefined
    if kinds:
        raise UnsupportedError(_FORMAT_NAMES.get(min(kinds), f"TIFF with samples of the kind {min(kinds)}"))
    depths = set(directory.numbers(_Tag.BITS)) or {1}
    if len(depths) > 1:
        raise UnsupportedError(f"TIFF with channels of {' and '.join(map(str, sorted(depths)))} bits")
    bits = depths.pop()
    if not 1 <= bits <= 16:
        raise UnsupportedError(f"TIFF of {bits} bits per channel")
    return bits


def _photometric(directory: _Directory, bits: int) -> _Photometric:
    value = directory.number(_Tag.PHOTOMETRIC, _Photometric.BLACK_IS_ZERO)
    if value not in _COLORS:
        raise UnsupportedError(f"TIFF with {_PHOTOMETRIC_NAMES.get(value, f'photometric interpretation {value}')}")
    photometric = _Photometric(value)
    if photometric == _Photometric.PALETTE and bits > 8:
        raise UnsupportedError("TIFF with a palette of more than 256 colors")
    if photometric == _Photometric.CIELAB and bits != 8:
        raise UnsupportedError(f"CIELab TIFF of {bits} bits per channel")
    if photometric == _Photometric.CMYK and directory.number(_Tag.INK_SET, 1) != 1:
        raise UnsupportedError("TIFF with inks other than CMYK")
    return photometric


def _check(layout: _Layout) -> None:
    """Raise for what the decoders below do not read."""
    if layout.samples < _COLORS[layout.photometric]:
        raise DamagedError(f"{layout.samples} channels for {layout.photometric.name}")
    kind = layout.compression
    if kind not in {_Compression.NONE, _Compression.JPEG, _Compression.WEBP, *_BYTES, *_FAX}:
        name = "old-style JPEG" if kind == _Compression.OLD_JPEG else f"compression {kind}"
        raise UnsupportedError(f"TIFF with {name}")
    if kind in (_Compression.JPEG, _Compression.WEBP):
        if layout.bits != 8:
            raise UnsupportedError(f"TIFF with JPEG of {layout.bits} bits")
        if not layout.planar and layout.samples not in (1, 3, 4):
            raise UnsupportedError(f"TIFF with JPEG of {layout.samples} channels")
    elif layout.photometric == _Photometric.YCBCR:
        raise UnsupportedError("YCbCr TIFF without JPEG compression")
    if kind in _FAX and (layout.bits, layout.samples) != (1, 1):
        raise DamagedError("fax compression of more than one bit")
    if kind in _BYTES and layout.predictor == 2 and layout.bits not in (8, 16):
        raise UnsupportedError(f"TIFF with differences of {layout.bits} bits")
    if kind in _BYTES and layout.predictor not in (1, 2):
        raise UnsupportedError(f"TIFF with predictor {layout.predictor}")
    if layout.photometric == _Photometric.PALETTE and len(layout.color_map) < 3 * 2**layout.bits:
        raise DamagedError("the color map is missing or too short")


def _with_strips(layout: _Layout) -> _Layout:
    """Check where the strips or tiles lie, and complete their sizes where they are missing."""
    down, across = layout.grid
    count = down * across * (layout.samples if layout.planar else 1)
    offsets, sizes = layout.offsets[:count], layout.sizes[:count]
    if len(offsets) < count:
        raise DamagedError(f"{len(offsets)} strips of {count}")
    if len(sizes) < count:
        if layout.compression != _Compression.NONE and count > 1:
            raise DamagedError(f"sizes of {len(sizes)} strips of {count}")
        whole = layout.block[0] * _row_bytes(layout, layout.block[1])
        rest = len(layout.content) - offsets[0]
        sizes = tuple(min(whole, rest) if layout.compression == _Compression.NONE else rest for _ in range(count))
    for offset, size in zip(offsets, sizes, strict=True):
        if offset + size > len(layout.content) or size < 1 or offset < 8:
            raise DamagedError(f"a strip at byte {offset} extends beyond the end of the file")
    return replace(layout, offsets=offsets, sizes=sizes)


def _row_bytes(layout: _Layout, width: int) -> int:
    """Return the bytes of a row of a strip or tile of this width, of one plane."""
    samples = 1 if layout.planar else layout.samples
    return -(-width * samples * layout.bits // 8)


def _alpha_channel(layout: _Layout) -> tuple[int | None, bool, bool]:
    """Return the index of the alpha channel, whether color is multiplied by it, and whether others are left out."""
    colors = _COLORS[layout.photometric]
    count = layout.samples - colors
    kinds = (*layout.extra[:count], *(0,) * count)[:count]
    if count and not layout.extra and layout.photometric == _Photometric.RGB and layout.samples == 4:
        return colors, False, False  # other programs take an undeclared fourth channel of RGB for alpha
    alphas = [index for index, kind in enumerate(kinds) if kind in (_ASSOCIATED, _UNASSOCIATED)]
    if not alphas:
        return None, False, count > 0
    return colors + alphas[0], kinds[alphas[0]] == _ASSOCIATED, count > 1


def _metadata(content: bytes, directory: _Directory) -> tuple[Metadata, tuple[str, ...]]:
    """Return the metadata, and the names of the parts that are not kept."""
    x, y = directory.ratio(_Tag.X_RESOLUTION), directory.ratio(_Tag.Y_RESOLUTION)
    unit = directory.number(_Tag.RESOLUTION_UNIT, 2) if directory.data(_Tag.RESOLUTION_UNIT) is None else 2
    factor = {2: 1.0, 3: 2.54}.get(unit, 0.0)
    exif = exif_data.from_tiff(content)
    lost = []
    if exif is None and any(tag in directory for tag in (exif_data.Tag.EXIF, exif_data.Tag.GPS)):
        lost.append("EXIF data of a BigTIFF" if directory.big else "unreadable EXIF data")
    if _Tag.IPTC in directory or _Tag.PHOTOSHOP in directory:
        lost.append("IPTC and Photoshop data")
    icc, xmp = directory.data(_Tag.ICC), directory.data(_Tag.XMP)
    return Metadata(icc, exif, xmp, plausible_dpi(x * factor, y * factor)), tuple(lost)


def _decode(layout: _Layout, alpha: int | None, associated: bool, profile: bytes | None) -> Raster:
    """Decode the samples and give them their meaning."""
    samples = _samples(layout)
    colors = _COLORS[layout.photometric]
    color = samples[..., :colors]
    if layout.photometric == _Photometric.PALETTE:
        color = from_palette(np.asarray(color[..., 0], np.uint8), _colors(layout))
    elif layout.photometric == _Photometric.WHITE_IS_ZERO:
        color = ((1 << layout.bits) - 1) - color
    color = color if layout.photometric == _Photometric.PALETTE else _full_range(color, layout.bits)
    transparency = None if alpha is None else _full_range(samples[..., alpha], layout.bits)
    if transparency is not None and associated:
        color = _unassociated(color, transparency)
    if layout.photometric == _Photometric.CMYK:
        color = cmyk_to_srgb(np.ascontiguousarray(color), profile)
    elif layout.photometric == _Photometric.CIELAB:
        color = lab_to_srgb(np.ascontiguousarray(color).astype(np.uint8))
    if transparency is not None and transparency.dtype != color.dtype:  # a profile or a palette gives 8 bits
        transparency = ((transparency.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Raster(color, transparency)


def _full_range(values: Pixels, bits: int) -> Pixels:
    """Scale samples of 1 to 16 bits to the whole range of 8 or 16 bits, rounded."""
    if bits in (8, 16):
        return values
    levels, top = (1 << bits) - 1, 255 if bits < 8 else 65535
    scaled = (values.astype(np.uint32) * top + levels // 2) // levels
    return scaled.astype(np.uint8 if bits < 8 else np.uint16)


def _unassociated(color: Pixels, alpha: Pixels) -> Pixels:
    """Divide color by the alpha that it was multiplied with, rounded; black where it is transparent."""
    top = int(np.iinfo(color.dtype).max)
    divisor = np.maximum(alpha[..., None].astype(np.uint64), 1)
    values = (color.astype(np.uint64) * top + divisor // 2) // divisor
    values[alpha == 0] = 0
    return np.asarray(np.minimum(values, top), color.dtype)


def _colors(layout: _Layout) -> npt.NDArray[np.uint8]:
    """Return the colors [N, 3] of the map of 16-bit levels: the upper bytes; some programs write 8 bits only."""
    colors = np.array(layout.color_map[: 3 * 2**layout.bits], np.uint32).reshape(3, -1).T
    shift = 8 if colors.max() > 255 else 0
    return (colors >> shift).astype(np.uint8)


class _Plane(NamedTuple):
    """Strips or tiles of all channels or of one, in reading order."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    samples: int


def _samples(layout: _Layout) -> Pixels:
    """Decode to [H, W, samples]: uint8, or uint16 for more than 8 bits."""
    if not layout.planar:
        return _plane(layout, _Plane(layout.offsets, layout.sizes, layout.samples))
    count = len(layout.offsets) // layout.samples
    parts = [slice(start, start + count) for start in range(0, len(layout.offsets), count)]
    planes = [_plane(layout, _Plane(layout.offsets[part], layout.sizes[part], 1)) for part in parts]
    return np.concatenate(planes, axis=2)


def _plane(layout: _Layout, plane: _Plane) -> Pixels:
    """Decode one plane, or all channels of a chunky image."""
    if layout.compression in (_Compression.JPEG, _Compression.WEBP):
        return _through_libtiff(layout, plane, plane.samples, layout.width)
    if layout.compression in _FAX:
        return _through_libtiff(layout, plane, 0, layout.width)
    native = layout.bits == 8 and plane.samples in (1, 3, 4)
    if layout.compression != _Compression.NONE and native:
        return _through_libtiff(layout, plane, plane.samples, layout.width)
    if layout.compression == _Compression.NONE:
        rows = _uncompressed(layout, plane)
    else:
        rows = _through_libtiff(layout, plane, 1, _row_bytes(layout, layout.width))[..., 0]
    values = _unpacked(layout, rows, plane.samples)
    if layout.compression != _Compression.NONE and layout.predictor == 2:
        return _summed(layout, values)
    return values


def _uncompressed(layout: _Layout, plane: _Plane) -> npt.NDArray[np.uint8]:
    """Place the bytes of uncompressed strips or tiles: uint8 [H, bytes of a row]."""
    (height, width), (_, across) = layout.block, layout.grid
    row = _row_bytes(layout, width)
    out = np.empty((layout.height, _row_bytes(layout, layout.width)), np.uint8)
    for number, (offset, size) in enumerate(zip(plane.offsets, plane.sizes, strict=True)):
        top, left = number // across * height, number % across * row
        rows = height if layout.tile else min(height, layout.height - top)
        if size < rows * row:
            raise DamagedError(f"a strip of {size} bytes at byte {offset}, expected {rows * row}")
        block = np.frombuffer(layout.content, np.uint8, rows * row, offset).reshape(rows, row)
        out[top : top + rows, left : left + row] = block[: layout.height - top, : out.shape[1] - left]
    if layout.reversed_bits:
        out = np.packbits(np.unpackbits(out, axis=1), axis=1, bitorder="little")
    return out


def _unpacked(layout: _Layout, rows: npt.NDArray[np.uint8], samples: int) -> Pixels:
    """Unpack bytes [H, bytes of a row] to samples [H, W, samples]."""
    shape = (layout.height, layout.width, samples)
    if layout.bits == 8:
        return rows.reshape(shape)
    if layout.bits == 16:
        return rows.view(layout.order + "u2").astype(np.uint16).reshape(shape)
    count = layout.width * samples
    bits = np.unpackbits(rows, axis=1)[:, : count * layout.bits].reshape(layout.height, count, layout.bits)
    values = np.zeros((layout.height, count), np.uint8 if layout.bits < 8 else np.uint16)
    for bit in range(layout.bits):
        values <<= 1
        values |= bits[..., bit]
    return values.reshape(shape)


def _summed(layout: _Layout, values: Pixels) -> Pixels:
    """Sum up differences along the rows of each strip or tile (TIFF 6.0, section 14)."""
    width = layout.block[1]
    out = np.empty_like(values)
    for left in range(0, layout.width, width):
        part = values[:, left : left + width]
        np.cumsum(part, axis=1, dtype=part.dtype, out=out[:, left : left + width])
    return out


def _through_libtiff(layout: _Layout, plane: _Plane, samples: int, width: int) -> npt.NDArray[np.uint8]:
    """Let libtiff decode strips or tiles under a directory of our own.

    Args:
        layout: Layout of the file.
        plane: The strips or tiles.
        samples: Channels of 8 bits to declare; 0 declares one of 1 bit.
        width: Width to declare.

    Returns:
        uint8 [H, width, samples].
    """
    plain = _with_directory(layout.content, _plain_directory(layout, plane, samples, width))
    with Pillow.open(io.BytesIO(plain), formats=["TIFF"]) as image, _quiet():
        if image.size != (width, layout.height):
            raise DamagedError(f"decoded as {image.mode} of {image.size}")
        values = np.asarray(image)
    values = values.reshape(layout.height, width, -1).astype(np.uint8, copy=False)
    if values.shape[2] != max(samples, 1):
        raise DamagedError(f"decoded with {values.shape[2]} channels, not {max(samples, 1)}")
    return values


class _Quiet:
    """State of `_quiet`: the number of threads that need it, and the saved descriptor of standard error."""

    lock = threading.Lock()
    threads = 0
    saved = -1


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep libtiff from printing to standard error: what it says is in the error that is raised.

    It prints from C, so the descriptor itself is redirected while at least one thread decodes.
    """
    with _Quiet.lock:
        if _Quiet.threads == 0:
            with contextlib.suppress(OSError):  # there is no standard error
                _Quiet.saved = os.dup(2)
                sink = os.open(os.devnull, os.O_WRONLY)
                os.dup2(sink, 2)
                os.close(sink)
        _Quiet.threads += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.threads -= 1
            if _Quiet.threads == 0 and _Quiet.saved >= 0:
                os.dup2(_Quiet.saved, 2)
                os.close(_Quiet.saved)
                _Quiet.saved = -1


def _plain_directory(layout: _Layout, plane: _Plane, samples: int, width: int) -> dict[int, tuple[int, ...] | bytes]:
    """Declare an image of bytes, or of gray, RGB, YCbCr or CMYK for JPEG, whose decoder must know the color space."""
    native = samples == plane.samples and layout.bits == 8
    coded = layout.compression in (_Compression.JPEG, _Compression.WEBP)
    photometric = _Photometric.BLACK_IS_ZERO if samples < 3 else _Photometric.RGB
    if coded and samples >= 3 and layout.photometric in (_Photometric.YCBCR, _Photometric.CMYK):
        photometric = layout.photometric
    entries: dict[int, tuple[int, ...] | bytes] = {
        _Tag.WIDTH: (width,),
        _Tag.HEIGHT: (layout.height,),
        _Tag.BITS: (8,) * samples or (1,),
        _Tag.COMPRESSION: (layout.compression,),
        _Tag.PHOTOMETRIC: (photometric,),
        _Tag.FILL_ORDER: (2 if layout.reversed_bits else 1,),
        _Tag.SAMPLES: (samples or 1,),
        _Tag.PREDICTOR: (layout.predictor if native and not coded else 1,),
    }
    if samples == 4 and photometric == _Photometric.RGB:
        entries[_Tag.EXTRA_SAMPLES] = (_UNASSOCIATED,)
    if layout.tile:
        across = layout.tile[1] if native or not samples else _row_bytes(layout, layout.tile[1])
        entries |= {_Tag.TILE_WIDTH: (across,), _Tag.TILE_HEIGHT: (layout.tile[0],)}
        entries |= {_Tag.TILE_OFFSETS: plane.offsets, _Tag.TILE_SIZES: plane.sizes}
    else:
        entries |= {_Tag.ROWS_PER_STRIP: (layout.block[0],)}
        entries |= {_Tag.STRIP_OFFSETS: plane.offsets, _Tag.STRIP_SIZES: plane.sizes}
    if layout.compression in (_Compression.GROUP3, _Compression.GROUP4):
        group3 = layout.compression == _Compression.GROUP3
        entries[_Tag.T4_OPTIONS if group3 else _Tag.T6_OPTIONS] = (layout.fax_options,)
    if layout.jpeg_tables:
        entries[_Tag.JPEG_TABLES] = layout.jpeg_tables
    if photometric == _Photometric.YCBCR and layout.subsampling:
        entries[_Tag.YCBCR_SUBSAMPLING] = layout.subsampling
    return entries


def _with_directory(content: bytes, entries: dict[int, tuple[int, ...] | bytes]) -> bytes:
    """Return the file with a directory at its end in place of its own."""
    shorts = {_Tag.BITS, _Tag.YCBCR_SUBSAMPLING, _Tag.EXTRA_SAMPLES}
    start = len(content) + len(content) % 2
    if start >= 2**32 - 2**24:
        raise UnsupportedError("a compressed TIFF of more than 4 GB")
    directory = []
    for tag, values in entries.items():
        if isinstance(values, bytes):
            directory.append(exif_data.Entry(tag, exif_data.Type.UNDEFINED, len(values), values))
            continue
        kind, code = (exif_data.Type.SHORT, "H") if tag in shorts else (exif_data.Type.LONG, "I")
        directory.append(exif_data.Entry(tag, kind, len(values), struct.pack(f"<{len(values)}{code}", *values)))
    head = struct.pack("<2sHI", b"II", 42, start)
    return b"".join([head, content[8:].ljust(start - 8, b"\0"), exif_data.written(tuple(directory), "<", start)])
