"""Write 8-bit RGB images of the pipeline as PNG.

OpenCV compresses here, although `srlib.imaging.formats.encoders` could: its wheel brings its own zlib, so that the
bytes, which DVC hashes, depend on the lock file alone and not on the zlib of the system.
"""

from pathlib import Path

import cv2
import numpy as np

from srlib.errors import SrlibError
from srlib.files import write_bytes
from srlib.imaging.arrays import Image


def encode_png(image: Image, *, compression: int | None = None) -> bytes:
    """Encode an image as PNG; the same pixels give the same bytes.

    Args:
        image: uint8 RGB [height, width, 3].
        compression: zlib level from 0 (fast) to 9 (small); by default OpenCV's own, which is fast.

    Raises:
        SrlibError: The array is not a uint8 RGB image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise SrlibError(f"expected a uint8 RGB image [height, width, 3] to write, got {image.dtype} {image.shape}")
    options = [] if compression is None else [cv2.IMWRITE_PNG_COMPRESSION, compression]
    done, content = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    assert done, "OpenCV encodes every uint8 image"
    return bytes(content.tobytes())


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
