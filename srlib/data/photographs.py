"""Photographs as their authors published them, made ready for training.

Published photographs are larger than they are sharp, and most are JPEG files. Downscaled by a factor that fits each,
their pixels are sharp and free of compression artifacts; without that, a network would learn to draw them.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageCms, ImageOps

from srlib.errors import SrlibError, one_line
from srlib.parallel import for_each

WORKERS = 4
"""Photographs in memory at once; the largest takes half a gigabyte."""


@dataclass(frozen=True)
class PhotographFile:
    """A photograph and the image that is made of it.

    Attributes:
        source: The published file.
        target: PNG file to write.
        factor: Its sides are multiplied by this, at most 1.
    """

    source: Path
    target: Path
    factor: float


def write_photographs(photographs: Sequence[PhotographFile]) -> None:
    """Write every photograph upright, in sRGB and downscaled, as PNG.

    Raises:
        SrlibError: A file cannot be decoded.
    """
    if photographs:
        for_each(_write, photographs, label="downscaling photographs", unit="photographs", workers=WORKERS)


def _write(photograph: PhotographFile) -> None:
    try:
        with Image.open(photograph.source) as opened:
            image = _upright_srgb(opened)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise SrlibError(
            f"{photograph.source}: cannot be decoded: {one_line(error)}; delete it and run again"
        ) from None
    width, height = (max(1, round(side * photograph.factor)) for side in image.size)
    photograph.target.parent.mkdir(parents=True, exist_ok=True)
    image.resize((width, height), Image.Resampling.BICUBIC).save(photograph.target)


def _upright_srgb(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB, turned as the EXIF orientation says and converted from the embedded color profile."""
    profile = image.info.get("icc_profile") if image.mode == "RGB" else None
    image = ImageOps.exif_transpose(image).convert("RGB")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):  # damaged, or of another color space: taken as sRGB
            own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), inPlace=True)
    image.info.clear()  # the profile no longer holds
    return image
