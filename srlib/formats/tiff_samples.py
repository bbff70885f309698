"""Decode the strips and tiles of a TIFF to samples.

NumPy places uncompressed samples. Compressed ones are decoded by libtiff, which is in Pillow: it gets the same strips
under a directory of its own that declares a plain image of bytes, so that it cannot misread bit depth, planes, sign or
photometric interpretation. tifffile could decode them only with imagecodecs, which is several times as large as Pillow.
"""

import contextlib
import io
import os
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.arrays import Pixels
from srlib.formats import exif as exif_data
from srlib.formats.header import DamagedError, UnsupportedError
from srlib.formats.tiff_layout import FAX, UNASSOCIATED, Compression, Layout, Photometric, Tag, row_bytes


class _Plane(NamedTuple):
    """Strips or tiles of all channels or of one, in reading order."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    samples: int


def decode_samples(layout: Layout) -> Pixels:
    """Decode to [H, W, samples]: uint8, or uint16 for more than 8 bits."""
    if not layout.planar:
        return _plane(layout, _Plane(layout.offsets, layout.sizes, layout.samples))
    count = len(layout.offsets) // layout.samples
    parts = [slice(start, start + count) for start in range(0, len(layout.offsets), count)]
    planes = [_plane(layout, _Plane(layout.offsets[part], layout.sizes[part], 1)) for part in parts]
    return np.concatenate(planes, axis=2)


def _plane(layout: Layout, plane: _Plane) -> Pixels:
    """Decode one plane, or all channels of a chunky image."""
    if layout.compression in (Compression.JPEG, Compression.WEBP):
        return _through_libtiff(layout, plane, plane.samples, layout.width)
    if layout.compression in FAX:
        return _through_libtiff(layout, plane, 0, layout.width)
    # Pillow knows no image of four channels with reversed bits.
    native = layout.bits == 8 and plane.samples in ((1, 3) if layout.reversed_bits else (1, 3, 4))
    if layout.compression != Compression.NONE and native:
        return _through_libtiff(layout, plane, plane.samples, layout.width)
    if layout.compression == Compression.NONE:
        rows = _uncompressed(layout, plane)
    else:
        rows = _through_libtiff(layout, plane, 1, row_bytes(layout, layout.width))[..., 0]
    values = _unpacked(layout, rows, plane.samples)
    if layout.compression != Compression.NONE and layout.predictor == 2:
        return _summed(layout, values)
    return values


def _uncompressed(layout: Layout, plane: _Plane) -> npt.NDArray[np.uint8]:
    """Place the bytes of uncompressed strips or tiles: uint8 [H, bytes of a row]."""
    (height, width), (_, across) = layout.block, layout.grid
    row = row_bytes(layout, width)
    out = np.empty((layout.height, row_bytes(layout, layout.width)), np.uint8)
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


def _unpacked(layout: Layout, rows: npt.NDArray[np.uint8], samples: int) -> Pixels:
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


def _summed(layout: Layout, values: Pixels) -> Pixels:
    """Sum up differences along the rows of each strip or tile (TIFF 6.0, section 14)."""
    width = layout.block[1]
    out = np.empty_like(values)
    for left in range(0, layout.width, width):
        part = values[:, left : left + width]
        np.cumsum(part, axis=1, dtype=part.dtype, out=out[:, left : left + width])
    return out


def _through_libtiff(layout: Layout, plane: _Plane, samples: int, width: int) -> npt.NDArray[np.uint8]:
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


def _plain_directory(layout: Layout, plane: _Plane, samples: int, width: int) -> dict[int, tuple[int, ...] | bytes]:
    """Declare an image of bytes, or of gray, RGB, YCbCr or CMYK for JPEG, whose decoder must know the color space."""
    native = samples == plane.samples and layout.bits == 8
    coded = layout.compression in (Compression.JPEG, Compression.WEBP)
    photometric = Photometric.BLACK_IS_ZERO if samples < 3 else Photometric.RGB
    if coded and samples >= 3 and layout.photometric in (Photometric.YCBCR, Photometric.CMYK):
        photometric = layout.photometric
    entries: dict[int, tuple[int, ...] | bytes] = {
        Tag.WIDTH: (width,),
        Tag.HEIGHT: (layout.height,),
        Tag.BITS: (8,) * samples or (1,),
        Tag.COMPRESSION: (layout.compression,),
        Tag.PHOTOMETRIC: (photometric,),
        Tag.FILL_ORDER: (2 if layout.reversed_bits else 1,),
        Tag.SAMPLES: (samples or 1,),
        Tag.PREDICTOR: (layout.predictor if native and not coded else 1,),
    }
    if samples == 4 and photometric == Photometric.RGB:
        entries[Tag.EXTRA_SAMPLES] = (UNASSOCIATED,)
    if layout.tile:
        across = layout.tile[1] if native or not samples else row_bytes(layout, layout.tile[1])
        entries |= {Tag.TILE_WIDTH: (across,), Tag.TILE_HEIGHT: (layout.tile[0],)}
        entries |= {Tag.TILE_OFFSETS: plane.offsets, Tag.TILE_SIZES: plane.sizes}
    else:
        entries |= {Tag.ROWS_PER_STRIP: (layout.block[0],)}
        entries |= {Tag.STRIP_OFFSETS: plane.offsets, Tag.STRIP_SIZES: plane.sizes}
    if layout.compression in (Compression.GROUP3, Compression.GROUP4):
        group3 = layout.compression == Compression.GROUP3
        entries[Tag.T4_OPTIONS if group3 else Tag.T6_OPTIONS] = (layout.fax_options,)
    if layout.jpeg_tables:
        entries[Tag.JPEG_TABLES] = layout.jpeg_tables
    if photometric == Photometric.YCBCR and layout.subsampling:
        entries[Tag.YCBCR_SUBSAMPLING] = layout.subsampling
    return entries


def _with_directory(content: bytes, entries: dict[int, tuple[int, ...] | bytes]) -> bytes:
    """Return the file with a directory at its end in place of its own."""
    shorts = {Tag.BITS, Tag.YCBCR_SUBSAMPLING, Tag.EXTRA_SAMPLES}
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
