"""What the directory of a TIFF declares (TIFF 6.0, BigTIFF), read by tifffile and checked."""

import io
import logging
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from srlib.formats.header import DamagedError, UnsupportedError

logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)  # what matters is raised here


class Tag(IntEnum):
    """Tags of a TIFF directory that are read here."""

    SUBFILE = 254
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


class Photometric(IntEnum):
    """What the samples stand for."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    CMYK = 5
    YCBCR = 6
    CIELAB = 8


class Compression(IntEnum):
    """How strips and tiles are compressed."""

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


BYTE_STREAMS = frozenset(  # compressions of bytes, whatever they stand for
    {
        Compression.LZW,
        Compression.DEFLATE,
        Compression.OLD_DEFLATE,
        Compression.PACKBITS,
        Compression.LZMA,
        Compression.ZSTD,
    }
)
FAX = frozenset({Compression.CCITT, Compression.GROUP3, Compression.GROUP4})
COLORS = {
    Photometric.WHITE_IS_ZERO: 1,
    Photometric.BLACK_IS_ZERO: 1,
    Photometric.RGB: 3,
    Photometric.PALETTE: 1,
    Photometric.CMYK: 4,
    Photometric.YCBCR: 3,
    Photometric.CIELAB: 3,
}
_PHOTOMETRIC_NAMES = {4: "transparency masks", 9: "ICC Lab", 10: "ITU Lab", 32803: "raw camera data", 34892: "raw data"}
_FORMAT_NAMES = {2: "TIFF with signed samples", 3: "float TIFF", 5: "complex TIFF", 6: "complex TIFF"}
ASSOCIATED, UNASSOCIATED = 1, 2


@dataclass(frozen=True)
class Layout:
    """What the directory of a TIFF declares, checked."""

    content: bytes
    order: str
    width: int
    height: int
    bits: int
    samples: int
    photometric: Photometric
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


class Directory:
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

    @property
    def tags(self) -> set[int]:
        """The tags of all entries."""
        return set(self._values)

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


def read_layout(content: bytes, directory: Directory, width: int, height: int) -> Layout:
    """Check what the directory declares."""
    samples = directory.number(Tag.SAMPLES, 1)
    if not 1 <= samples <= 64:
        raise UnsupportedError(f"TIFF of {samples} channels")
    bits = _bits(directory)
    photometric = _photometric(directory, bits)
    tiled = Tag.TILE_WIDTH in directory
    tile = (directory.number(Tag.TILE_HEIGHT), directory.number(Tag.TILE_WIDTH)) if tiled else None
    if tile and not all(1 <= side <= 2**16 for side in tile):
        raise DamagedError(f"tiles of {tile[1]}×{tile[0]} pixels")
    layout = Layout(
        content=content,
        order=directory.order,
        width=width,
        height=height,
        bits=bits,
        samples=samples,
        photometric=photometric,
        compression=directory.number(Tag.COMPRESSION, 1),
        predictor=directory.number(Tag.PREDICTOR, 1),
        planar=directory.number(Tag.PLANAR, 1) == 2 and samples > 1,
        reversed_bits=directory.number(Tag.FILL_ORDER, 1) == 2,
        extra=directory.numbers(Tag.EXTRA_SAMPLES),
        color_map=directory.numbers(Tag.COLOR_MAP),
        tile=tile,
        rows_per_strip=max(directory.number(Tag.ROWS_PER_STRIP, height), 1),
        offsets=directory.numbers(Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS),
        sizes=directory.numbers(Tag.TILE_SIZES if tiled else Tag.STRIP_SIZES),
        fax_options=directory.number(Tag.T4_OPTIONS, directory.number(Tag.T6_OPTIONS, 0)),
        jpeg_tables=directory.data(Tag.JPEG_TABLES) or b"",
        subsampling=directory.numbers(Tag.YCBCR_SUBSAMPLING),
    )
    _check(layout)
    return _with_strips(layout)


def _bits(directory: Directory) -> int:
    """Return the bits of a sample, the same for all."""
    kinds = set(directory.numbers(Tag.SAMPLE_FORMAT)) - {1, 4}  # 4 is undefined
    if kinds:
        raise UnsupportedError(_FORMAT_NAMES.get(min(kinds), f"TIFF with samples of the kind {min(kinds)}"))
    depths = set(directory.numbers(Tag.BITS)) or {1}
    if len(depths) > 1:
        raise UnsupportedError(f"TIFF with channels of {' and '.join(map(str, sorted(depths)))} bits")
    bits = depths.pop()
    if not 1 <= bits <= 16:
        raise UnsupportedError(f"TIFF of {bits} bits per channel")
    return bits


def _photometric(directory: Directory, bits: int) -> Photometric:
    value = directory.number(Tag.PHOTOMETRIC, Photometric.BLACK_IS_ZERO)
    if value not in COLORS:
        raise UnsupportedError(f"TIFF with {_PHOTOMETRIC_NAMES.get(value, f'photometric interpretation {value}')}")
    photometric = Photometric(value)
    if photometric == Photometric.PALETTE and bits > 8:
        raise UnsupportedError("TIFF with a palette of more than 256 colors")
    if photometric == Photometric.CIELAB and bits != 8:
        raise UnsupportedError(f"CIELab TIFF of {bits} bits per channel")
    if photometric == Photometric.CMYK and directory.number(Tag.INK_SET, 1) != 1:
        raise UnsupportedError("TIFF with inks other than CMYK")
    return photometric


def _check(layout: Layout) -> None:
    """Raise for what the decoders below do not read."""
    if layout.samples < COLORS[layout.photometric]:
        raise DamagedError(f"{layout.samples} channels for {layout.photometric.name}")
    kind = layout.compression
    if kind not in {Compression.NONE, Compression.JPEG, Compression.WEBP, *BYTE_STREAMS, *FAX}:
        name = "old-style JPEG" if kind == Compression.OLD_JPEG else f"compression {kind}"
        raise UnsupportedError(f"TIFF with {name}")
    if kind in (Compression.JPEG, Compression.WEBP):
        if layout.bits != 8:
            raise UnsupportedError(f"TIFF with JPEG of {layout.bits} bits")
        if not layout.planar and layout.samples not in (1, 3, 4):
            raise UnsupportedError(f"TIFF with JPEG of {layout.samples} channels")
    elif layout.photometric == Photometric.YCBCR:
        raise UnsupportedError("YCbCr TIFF without JPEG compression")
    if kind in FAX and (layout.bits, layout.samples) != (1, 1):
        raise DamagedError("fax compression of more than one bit")
    if kind in BYTE_STREAMS and layout.predictor == 2 and layout.bits not in (8, 16):
        raise UnsupportedError(f"TIFF with differences of {layout.bits} bits")
    if kind in BYTE_STREAMS and layout.predictor not in (1, 2):
        raise UnsupportedError(f"TIFF with predictor {layout.predictor}")
    if layout.photometric == Photometric.PALETTE and len(layout.color_map) < 3 * 2**layout.bits:
        raise DamagedError("the color map is missing or too short")


def _with_strips(layout: Layout) -> Layout:
    """Check where the strips or tiles lie, and complete their sizes where they are missing."""
    down, across = layout.grid
    count = down * across * (layout.samples if layout.planar else 1)
    offsets, sizes = layout.offsets[:count], layout.sizes[:count]
    if len(offsets) < count:
        raise DamagedError(f"{len(offsets)} strips of {count}")
    if len(sizes) < count:
        if layout.compression != Compression.NONE and count > 1:
            raise DamagedError(f"sizes of {len(sizes)} strips of {count}")
        whole = layout.block[0] * row_bytes(layout, layout.block[1])
        rest = len(layout.content) - offsets[0]
        sizes = tuple(min(whole, rest) if layout.compression == Compression.NONE else rest for _ in range(count))
    for offset, size in zip(offsets, sizes, strict=True):
        if offset + size > len(layout.content) or size < 1 or offset < 8:
            raise DamagedError(f"a strip at byte {offset} extends beyond the end of the file")
    return replace(layout, offsets=offsets, sizes=sizes)


def row_bytes(layout: Layout, width: int) -> int:
    """Return the bytes of a row of a strip or tile of this width, of one plane."""
    samples = 1 if layout.planar else layout.samples
    return -(-width * samples * layout.bits // 8)
