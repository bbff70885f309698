"""Between pictures and what a network takes and gives: RGB, or luma alone with the chroma enlarged by bicubic.

A network of ours works on `rgb` or on `luma-studio`: R, G, B or Y as levels of 255, divided by 255. `luma`, with the
whole byte for Y as in OpenCV and JPEG, is there for networks of others.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from srlib.errors import SrlibError
from srlib.imaging.arrays import Pixels
from srlib.imaging.resize import resize

Channels = Literal["rgb", "luma", "luma-studio"]

STUDIO_WEIGHTS, STUDIO_BLACK, STUDIO_LEVELS = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16.0, 219.0
"""ITU-R BT.601 as in MATLAB's rgb2ycbcr: Y = 16 … 235 of levels R, G, B = 0 … 255."""

_LUMA = {
    "luma": ((0.299, 0.587, 0.114), 0.0, 255.0),
    "luma-studio": (STUDIO_WEIGHTS, STUDIO_BLACK, STUDIO_LEVELS),
}


def luma(picture: Pixels, channels: Channels = "luma-studio") -> npt.NDArray[np.float64]:
    """Y of RGB [..., 3] → float64 [...] in levels of 255, not rounded: 16 to 235, or 0 to 255 for `luma`."""
    weights, black, _ = _LUMA[channels]
    return np.asarray(_levels(picture) @ np.array(weights) + black)


def network_input(picture: Pixels, channels: Channels) -> npt.NDArray[np.float32]:
    """What a network takes: uint8 or uint16 RGB [..., 3] → float32 [..., 3] or, for luma, [..., 1], in [0, 1]."""
    _check(channels)
    if channels == "rgb":
        return picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    return (luma(picture, channels)[..., np.newaxis] / 255).astype(np.float32)


def rgb_from_output(sr: npt.ArrayLike, lr: Pixels, channels: Channels) -> npt.NDArray[np.floating]:
    """The picture that a network's output stands for.

    With a luma network the chroma is that of `lr` enlarged by bicubic. The inverse of the color transform adds luma
    alike to R, G and B: adding what the network's Y has more than bicubic's is the same, without rounding the chroma
    in between.

    Args:
        sr: The output, floats [H, W, C] or [B, H, W, C] in about [0, 1], C = 3 for `rgb` and 1 for luma.
        lr: What was enlarged, uint8 or uint16 RGB of as many axes; H and W are a multiple of its height and width.
        channels: What the network gives.

    Returns:
        RGB in about [0, 1], not clamped: `sr` itself for `rgb`, else float64.
    """
    _check(channels)
    if channels == "rgb":
        return np.asarray(sr)
    output = np.asarray(sr, np.float64)
    if output.ndim == 4:
        return np.stack([rgb_from_output(one, picture, channels) for one, picture in zip(output, lr, strict=True)])
    *_, levels = _LUMA[channels]
    bicubic = resize(lr, (output.shape[0], output.shape[1]))
    more = output * 255 - luma(bicubic, channels)[..., np.newaxis]
    return np.asarray((_levels(bicubic) + more * (255 / levels)) / 255)


def _levels(picture: Pixels) -> npt.NDArray[np.float64]:
    """In levels of 255, also where there are 65536 of them."""
    return picture.astype(np.float64) * (255 / np.iinfo(picture.dtype).max)


def _check(channels: str) -> None:
    if channels not in get_args(Channels):
        raise SrlibError(f"channels: expected one of {', '.join(get_args(Channels))}, got {channels!r}")
