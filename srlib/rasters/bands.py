"""Bands as images: a network takes three channels of levels, a band may hold any numbers, with gaps.

A group is one band, which goes through the network as three equal channels, or three bands that belong together, such
as red, green and blue. Pixels without a valid number (nodata, NaN, infinite) are filled from their neighborhood before,
and get their own number back afterwards. Everything here depends on pixels at most `REACH` away, so that a raster can
be computed window by window.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels

if TYPE_CHECKING:
    from srlib.inference.upscale import RgbModel

Values = npt.NDArray[np.number]
Mask = npt.NDArray[np.bool_]

_Number = TypeVar("_Number", np.number, np.bool_)

REACH = 8
"""Pixels to each side that fill a gap."""

_SIGMA = 2.0
"""Standard deviation, in pixels, of the Gaussian that weighs the neighbors of a gap."""

_LEVELS = 65535
"""White of the 16-bit image that a band becomes."""


@dataclass(frozen=True)
class Group:
    """Bands that go through the network together.

    Attributes:
        bands: Indices of one or three bands, from 0.
        low: The number that becomes black.
        high: The number that becomes white.
        fill: Number for gaps that are wider than `REACH`.
        is_byte: Whether the numbers are levels from 0 to 255 already.
    """

    bands: tuple[int, ...]
    low: float
    high: float
    fill: float
    is_byte: bool = False


def upscale_group(values: Values, valid: Mask, group: Group, model: "RgbModel") -> Values:
    """Upscale the bands of a group.

    Args:
        values: Numbers of the group's bands, [bands, h, w].
        valid: Which of them are valid, [bands, h, w].
        group: The group, with its range of numbers.
        model: Upscales RGB by `model.scale`.

    Returns:
        The same dtype, [bands, scale·h, scale·w]. Results lie in [low, high]. Where a pixel is not valid, its number is
        repeated.
    """
    scale = model.scale
    if not valid.any() or group.low == group.high:
        return _repeated(values, scale)
    numbers = np.stack([_without_gaps(band, mask, group.fill) for band, mask in zip(values, valid, strict=True)])
    levels = _to_levels(numbers, group)
    rgb = np.ascontiguousarray(np.moveaxis(levels.repeat(3, axis=0) if len(levels) == 1 else levels, 0, 2))
    upscaled = np.moveaxis(model(rgb).astype(np.float64), 2, 0)
    if len(group.bands) == 1:
        upscaled = upscaled.mean(axis=0, keepdims=True)
    result = _from_levels(upscaled, group, values.dtype)
    return np.asarray(np.where(_repeated(valid, scale), result, _repeated(values, scale)))


def _to_levels(numbers: npt.NDArray[np.float64], group: Group) -> Pixels:
    if group.is_byte:
        return np.rint(numbers).astype(np.uint8)
    relative = np.clip((numbers - group.low) / (group.high - group.low), 0, 1)
    return np.rint(relative * _LEVELS).astype(np.uint16)


def _from_levels(levels: npt.NDArray[np.float64], group: Group, dtype: npt.DTypeLike) -> Values:
    if group.is_byte:
        return np.rint(levels).astype(dtype)
    numbers = group.low + levels / _LEVELS * (group.high - group.low)
    high = group.high
    if np.issubdtype(dtype, np.integer):
        numbers = np.rint(numbers)
        if high > np.iinfo(dtype).max:  # the largest of 64 bits, rounded up: it would become the lowest number
            high = float(np.nextafter(high, 0))
    return np.clip(numbers, group.low, high).astype(dtype)


def _repeated(values: npt.NDArray[_Number], scale: int) -> npt.NDArray[_Number]:
    return values.repeat(scale, axis=-2).repeat(scale, axis=-1)


def _without_gaps(band: Values, valid: Mask, fill: float) -> npt.NDArray[np.float64]:
    """Return a band [h, w] as floats, invalid pixels filled by the Gaussian mean of the valid ones around them."""
    numbers = np.where(valid, band, 0).astype(np.float64)
    if valid.all():
        return numbers
    weight = _blurred(valid.astype(np.float64))
    mean = _blurred(numbers) / np.where(weight > 0, weight, 1)
    return np.where(valid, numbers, np.where(weight > 0, mean, fill))


def _blurred(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Convolve [h, w] with a Gaussian of 2 · `REACH` + 1 pixels; beyond the border there is nothing."""
    distances = np.arange(-REACH, REACH + 1)
    taps = np.exp(-0.5 * (distances / _SIGMA) ** 2)
    for axis in (0, 1):
        padded = np.pad(values, [(REACH, REACH) if axis == along else (0, 0) for along in (0, 1)])
        length = values.shape[axis]
        values = sum(
            (tap * padded.take(range(at, at + length), axis) for at, tap in enumerate(taps)), np.zeros_like(values)
        )
    return values
