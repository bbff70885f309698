"""Take evenly spread parts of a large image, for estimates that need not see all of it."""

import numpy as np

from srlib.arrays import Pixels

LARGEST = 2**20
"""Pixels up to which an image is taken whole."""

_SIDE = 256
_PER_AXIS = 4


def spread_parts(image: Pixels) -> Pixels:
    """Return the image, or 4×4 evenly spread parts of a large one; their corners lie on 8×8 blocks.

    Args:
        image: Any kind of number, [h, w] or [h, w, channels].

    Returns:
        The same kind, [parts, h, w] or [parts, h, w, channels].

    Example:
        >>> spread_parts(np.zeros((300, 200, 3))).shape, spread_parts(np.zeros((2000, 1000))).shape
        ((1, 300, 200, 3), (16, 256, 256))
    """
    height, width = image.shape[:2]
    if height * width <= LARGEST:
        return image[None]
    sides = min(_SIDE, height), min(_SIDE, width)
    rows, columns = (
        np.linspace(0, length - side, _PER_AXIS).astype(int) // 8 * 8
        for length, side in zip((height, width), sides, strict=True)
    )
    return np.stack([image[row : row + sides[0], column : column + sides[1]] for row in rows for column in columns])
