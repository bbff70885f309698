"""Read WebP, BMP and GIF with Pillow, which decodes all of their variants."""

import io
import struct
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.formats.header import DamagedError, Header, Raster, check_pixels
from srlib.formats.metadata import Metadata, orientation_of, plausible_dpi

_BMP_PROFILES = (b"DEBM", b"KNIL")  # kinds of color space in a header of version 5: embedded or linked
_GRAY_MODES = ("1", "L", "LA")


def open_simple(content: bytes, format: str) -> Header:
    """Read the head of a WebP, BMP or GIF.

    Args:
        content: The file.
        format: `webp`, `bmp` or `gif`.

    Raises:
        DamagedError: The head is wrong.
        TooLargeError: Too many pixels.
    """
    with _opened(content, format) as image:
        width, height = image.size
        check_pixels(width, height)
        frames = len([*islice(_gif_frames(content), 2)]) > 1 if format == "gif" else getattr(image, "n_frames", 1) > 1
        info = image.info
    exif, xmp, dpi = info.get("exif"), info.get("xmp"), info.get("dpi")
    exif = exif.removeprefix(b"Exif\0\0") if isinstance(exif, bytes) else None
    metadata = Metadata(
        info.get("icc_profile") or None,
        exif or None,
        xmp.encode() if isinstance(xmp, str) else xmp or None,
        plausible_dpi(*dpi) if isinstance(dpi, tuple) and len(dpi) == 2 else None,
    )
    orientation = orientation_of(metadata) if format == "webp" else 1
    notes: tuple[str, ...] = ("only the first of several frames is used",) if frames else ()
    if format == "gif" and info.get("comment"):
        notes += ("not kept: the GIF comment",)
    if format == "bmp" and content[14] == 124 and content[70:74] in _BMP_PROFILES:
        notes += ("not kept: the color profile of the BMP",)
    return Header(format, width, height, orientation, metadata, partial(_decode, content, format), notes)


def _opened(content: bytes, format: str) -> Pillow.Image:
    return Pillow.open(io.BytesIO(content), formats=[format.upper()])


def _gif_frames(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (left, top, width, height) of each image in a GIF, from its blocks alone (GIF89a, appendix A)."""
    at = 13 + _color_table(content[10])
    while at < len(content):
        if content[at] == 0x2C and len(content) > at + 9:  # an image
            yield struct.unpack_from("<4H", content, at + 1)
            at += 11 + _color_table(content[at + 9])
        elif content[at] == 0x21:  # an extension
            at += 2
        else:
            break
        while at < len(content) and content[at]:
            at += 1 + content[at]
        at += 1


def _with_gif_background(content: bytes, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return [H, W, channels] with the background color where the first image does not reach (GIF89a, section 18).

    Pillow takes the first color of the table instead.
    """
    flags, index = content[10], content[11]
    left, top, width, height = next(_gif_frames(content))
    place = 13 + 3 * index
    if (left, top) == (0, 0) and width >= pixels.shape[1] and height >= pixels.shape[0]:
        return pixels
    background = content[place : place + 3] if 3 * index < _color_table(flags) else bytes(3)
    filled = np.empty_like(pixels)
    filled[:] = np.frombuffer(background, np.uint8)[: pixels.shape[2]]
    part = (slice(top, top + height), slice(left, left + width))
    filled[part] = pixels[part]
    return filled


def _color_table(flags: int) -> int:
    """Return the bytes of the color table that these flags declare."""
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _decode(content: bytes, format: str) -> Raster:
    with _opened(content, format) as image:
        image.load()
        gray = image.mode in _GRAY_MODES
        transparent = image.has_transparency_data
        if not gray and image.mode not in ("P", "PA", "RGB", "RGBA", "RGBX"):
            raise DamagedError(f"decoded as {image.mode}")
        if image.mode == "P" and not transparent:
            colors = np.asarray(_colors(image).take(np.asarray(image), axis=0), np.uint8)
            return Raster(_with_gif_background(content, colors) if format == "gif" else colors)
        mode = ("LA" if gray else "RGBA") if transparent else ("L" if gray else "RGB")
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if format == "webp" and transparent and (pixels[..., -1] == 255).all():  # the decoder adds alpha to animations
        return Raster(pixels[..., :-1])
    if transparent:
        return Raster(pixels[..., :-1], pixels[..., -1])
    return Raster(_with_gif_background(content, pixels) if format == "gif" else pixels)


def _colors(image: Pillow.Image) -> npt.NDArray[np.uint8]:
    """Return the palette of an image, uint8 [256, 3]: faster than to convert every pixel."""
    indices = Pillow.frombytes("P", (256, 1), bytes(range(256)))
    indices.putpalette(image.getpalette("RGB") or [])
    colors: npt.NDArray[np.uint8] = np.asarray(indices.convert("RGB"), np.uint8)
    return colors.reshape(256, 3)
