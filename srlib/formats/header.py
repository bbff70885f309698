"""What the head of an image file declares, before its pixels are decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from srlib.arrays import Pixels
from srlib.formats.metadata import Metadata

MAX_PIXELS = 2**28
"""Most pixels of an image (268 million, 800 MB in memory); a larger one is refused before it is decoded."""


class DamagedError(Exception):
    """The file does not hold what its head declares."""


class UnsupportedError(Exception):
    """A valid file of a kind that srlib does not read; the message names the kind, such as `float TIFF`."""


class TooLargeError(Exception):
    """More pixels than `MAX_PIXELS`."""


class Raster(NamedTuple):
    """Decoded pixels as stored, not rotated: gray [H, W, 1] or RGB [H, W, 3]; alpha [H, W] of that type, or None."""

    color: Pixels
    alpha: Pixels | None = None


@dataclass(frozen=True)
class Header:
    """The head of an image file.

    Attributes:
        format: `png`, `jpeg`, `tiff`, `webp`, `bmp` or `gif`.
        width: Width of the stored pixels.
        height: Height of the stored pixels.
        orientation: EXIF orientation, 1 to 8, that is still to be applied.
        metadata: What the file holds besides its pixels.
        decode: Function that decodes the pixels.
        notes: What a user should know, one line each.
    """

    format: str
    width: int
    height: int
    orientation: int
    metadata: Metadata
    decode: Callable[[], Raster]
    notes: tuple[str, ...] = ()


def check_pixels(width: int, height: int) -> None:
    """Raise DamagedError for an image without pixels, TooLargeError for one with more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise DamagedError(f"{width}×{height} pixels")
    if width * height > MAX_PIXELS:
        raise TooLargeError(f"more than {MAX_PIXELS} pixels ({width}×{height})")
