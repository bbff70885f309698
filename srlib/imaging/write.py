"""Write 8-bit RGB images of the pipeline as PNG."""

from pathlib import Path

import numpy as np

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.files import write_bytes
from srlib.formats import encoders
from srlib.formats.encoders import FAST, PngCompression
from srlib.formats.metadata import Metadata


def encode_png(image: Image, *, compression: PngCompression = FAST) -> bytes:
    """Encode an image as PNG; the same pixels give the same bytes.

    Args:
        image: uint8 RGB [height, width, 3].
        compression: `FAST`, `BALANCED` or `SMALL` of `srlib.formats.encoders`.

    Raises:
        SrlibError: The array is not a uint8 RGB image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise SrlibError(f"expected a uint8 RGB image [height, width, 3] to write, got {image.dtype} {image.shape}")
    return encoders.encode_png(image, Metadata(), compression)


def write_png(path: Path, image: Image) -> None:
    """Write an image as PNG, whole or not at all; the same pixels give the same bytes.

    Args:
        path: File to write; missing folders are made.
        image: uint8 RGB [height, width, 3].

    Raises:
        SrlibError: The array is not a uint8 RGB image.
    """
    try:
        content = encode_png(image)
    except SrlibError as error:
        raise SrlibError(f"{path}: {error}") from None
    write_bytes(Path(path), content)
