"""Convert between images and the values a network works on: RGB, or luma (Y) with bicubically upscaled chroma.

Networks trained here work on `rgb` or `luma-studio`: R, G, B or Y as levels of 255, divided by 255. `luma`, with the
full range for Y as in OpenCV and JPEG, serves networks from other sources.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.imaging.resize import resize

Channels = Literal["rgb", "luma", "luma-studio"]

LUMA_WEIGHTS = (0.299, 0.587, 0.114)
"""ITU-R BT.601: Y from 0 to 255 for R, G and B from 0 to 255."""

STUDIO_WEIGHTS, STUDIO_BLACK, STUDIO_LEVELS = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16.0, 219.0
"""ITU-R BT.601 as in MATLAB's rgb2ycbcr: Y from 16 to 235 for R, G and B from 0 to 255."""

_LUMA = {
    "luma": (LUMA_WEIGHTS, 0.0, 255.0),
    "luma-studio": (STUDIO_WEIGHTS, STUDIO_BLACK, STUDIO_LEVELS),
}


def luma(image: Pixels, channels: Channels = "luma-studio") -> npt.NDArray[np.float64]:
    """Return luma Y (ITU-R BT.601) in levels of 255, not rounded.

    Args:
        image: uint8 or uint16 RGB [..., 3].
        channels: `luma-studio` for Y from 16 to 235, or `luma` for Y from 0 to 255.

    Returns:
        float64 [...].

    Example:
        >>> luma(np.full((1, 1, 3), 255, np.uint8)).round(6)
        array([[235.]])
    """
    weights, black, _ = _LUMA[channels]
    return np.asarray(_levels(image) @ np.array(weights) + black)


def network_input(image: Pixels, channels: Channels) -> npt.NDArray[np.float32]:
    """Return the values a network takes.

    Args:
        image: uint8 or uint16 RGB [..., 3].
        channels: Channels the network works on.

    Returns:
        float32 in [0, 1]: [..., 3] for `rgb`, [..., 1] for luma.

    Raises:
        SrlibError: Unknown `channels`.
    """
    _check(channels)
    if channels == "rgb":
        return image.astype(np.float32) / np.float32(np.iinfo(image.dtype).max)
    return (luma(image, channels)[..., np.newaxis] / 255).astype(np.float32)


def rgb_from_output(sr: npt.ArrayLike, lr: Pixels, channels: Channels) -> npt.NDArray[np.floating]:
    """Convert a network's output to RGB.

    With a luma network, the chroma is that of `lr`, upscaled bicubically. The inverse color transform adds luma equally
    to R, G and B. Adding the difference between the network's Y and bicubic's Y is therefore the same, without rounding
    the chroma in between.

    Args:
        sr: Output of the network, floats [H, W, C] or [B, H, W, C] in about [0, 1]; C = 3 for `rgb`, 1 for luma.
        lr: Input image, uint8 or uint16 RGB with as many axes; H and W are multiples of its height and width.
        channels: Channels the network works on.

    Returns:
        RGB in about [0, 1], not clamped: `sr` itself for `rgb`, else float64.

    Raises:
        SrlibError: Unknown `channels`.
    """
    _check(channels)
    if channels == "rgb":
        return np.asarray(sr)
    output = np.asarray(sr, np.float64)
    if output.ndim == 4:
        return np.stack([rgb_from_output(one, image, channels) for one, image in zip(output, lr, strict=True)])
    *_, levels = _LUMA[channels]
    bicubic = resize(lr, (output.shape[0], output.shape[1]))
    difference = output * 255 - luma(bicubic, channels)[..., np.newaxis]
    return np.asarray((_levels(bicubic) + difference * (255 / levels)) / 255)


def _levels(image: Pixels) -> npt.NDArray[np.float64]:
    """Scale 8- or 16-bit samples to levels from 0 to 255."""
    return image.astype(np.float64) * (255 / np.iinfo(image.dtype).max)


def _check(channels: str) -> None:
    if channels not in get_args(Channels):
        raise SrlibError(f"channels: expected one of {', '.join(get_args(Channels))}, got {channels!r}")
