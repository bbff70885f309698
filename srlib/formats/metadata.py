"""What a file holds besides its pixels: color profile, EXIF, XMP, resolution, and the chunks of a PNG."""

import math
import re
from dataclasses import dataclass

from srlib.formats import exif as exif_data
from srlib.formats import xmp as xmp_data

Chunks = tuple[tuple[bytes, bytes], ...]

_XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)([1-8])\b")


@dataclass(frozen=True)
class Metadata:
    """What a file holds besides its pixels.

    Attributes:
        icc: Color profile.
        exif: EXIF data, from `II` or `MM` on.
        xmp: XMP packet, in UTF-8.
        dpi: Dots per inch, horizontally and vertically.
        chunks: (type, content) of chunks that only a PNG can hold.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    chunks: Chunks = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "xmp", self.xmp and xmp_data.as_utf8(self.xmp))


def orientation_of(metadata: Metadata) -> int:
    """Return the orientation, 1 to 8, that EXIF or else XMP gives; 1 (upright) where neither gives a valid one."""
    if metadata.exif and (value := exif_data.orientation(metadata.exif)):
        return value
    if metadata.xmp and (match := _XMP_ORIENTATION.search(metadata.xmp)):
        return int(match[1])
    return 1


def plausible_dpi(x: float, y: float) -> tuple[float, float] | None:
    """Return a resolution in dots per inch, or None where it is not one."""
    return (float(x), float(y)) if all(math.isfinite(v) and 0 < v < 1e6 for v in (x, y)) else None
