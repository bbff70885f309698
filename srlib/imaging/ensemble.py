"""The geometric self-ensemble: the mean over the eight flips and rotations of an image (the dihedral group D4)."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Value = TypeVar("Value", bound=np.number)


def mean_over_views(
    image: npt.NDArray[Value], upscale: Callable[[npt.NDArray[Value]], npt.NDArray[np.number]], scale: int
) -> npt.NDArray[np.float64]:
    """Upscale the eight flips and rotations of an image, transform the results back, and return their mean.

    Source: Lim et al. 2017 (arXiv:1707.02921), section 3.4.

    Args:
        image: [h, w, channels].
        upscale: Function from [h, w, channels] to [scale·h, scale·w, channels], also for height and width exchanged.
        scale: Upscaling factor.

    Returns:
        float64 [scale·h, scale·w, channels].
    """
    height, width, channels = image.shape
    total = np.zeros((height * scale, width * scale, channels), np.float64)
    for rotations in range(4):
        for is_flipped in (False, True):
            view = np.rot90(image[:, ::-1] if is_flipped else image, rotations)
            result = np.rot90(upscale(np.ascontiguousarray(view)), -rotations)
            total += result[:, ::-1] if is_flipped else result
    return total / 8
