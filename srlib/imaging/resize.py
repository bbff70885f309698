"""MATLAB's imresize for integer images, to the byte: the degradation behind the published tables.

Images are uint8 or uint16 [height, width, channels]. Each axis is one pass with a kernel, stretched by 1/factor when
the axis shrinks (antialiasing); weights are normalized and the result is rounded half away from zero to the same type.
The axis that shrinks more goes first; if both shrink alike, the rows do. Sums are exact up to the rounding, so that a
half always rounds up, on any processor.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from numbers import Integral, Real
from typing import Literal, NamedTuple, get_args

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.memory import check_memory

try:
    import cv2
except ModuleNotFoundError:  # not part of the light installation
    cv2 = None  # type: ignore[assignment]

Edges = Literal["clamp", "mirror"]
Kernel = Literal["cubic", "linear", "box", "nearest"]

# Output rows per matrix product: large enough for BLAS, small enough that the band matrix holds few zeros.
_BLOCK = 16
# Multiplications per product. OpenBLAS keeps up to 2^18 on one thread: more threads would compete with those of the
# callers, which work on several images at once (six times slower on a busy machine).
_PRODUCT = 2**18
# Bytes from which a result is compared with the free memory: asking for that takes as long as resizing a small patch.
_LARGE = 2**27
# Pixels per side, above which places of the kernel could overflow 64 bits.
_LONGEST = 2**31
# Bytes per row or column of the result for the kernel's places and weights.
_BYTES_PER_ROW = 500
# Far above the rounding error of a float64 sum, far below the distance of any other value from a half.
_HALF_SLACK = 1e-9


def cubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic convolution kernel with a = -0.5 (Keys 1981, equation 15) at distances `x` in pixels."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.select([x <= 1, x <= 2], [near, far])


def _linear(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(1 - np.abs(x), 0.0))


def _box(x: np.ndarray) -> np.ndarray:
    return ((x >= -0.5) & (x < 0.5)).astype(np.float64)


# name -> kernel, its width, whether it is ever stretched against aliasing
_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, bool]] = {
    "cubic": (cubic, 4, True),
    "linear": (_linear, 2, True),
    "box": (_box, 1, True),
    "nearest": (_box, 1, False),
}


def resize(
    image: np.ndarray,
    target: tuple[int, int] | int | float | Fraction,
    *,
    kernel: Kernel = "cubic",
    antialias: bool = True,
    edges: Edges = "clamp",
) -> np.ndarray:
    """Resize an image as MATLAB's `imresize` does, byte for byte.

    Args:
        image: uint8 or uint16 [height, width, channels].
        target: New (height, width), or one factor for both axes; a factor gives ceil(factor · size) pixels. A float
            stands for the nearest fraction with a denominator up to 1000, so that 1/3 means a third.
        kernel: `cubic` (a = -0.5), `linear` (triangle), `box`, or `nearest` (a box that is never stretched).
        antialias: Stretch the kernel by 1/factor when an axis shrinks.
        edges: Pixels beyond the border: `clamp` repeats the last one (MATLAB until about 2011, the published
            Set5/Set14/BSD100 files), `mirror` reflects at the border, the last pixel twice (newer MATLAB, DIV2K).

    Returns:
        [new height, new width, channels] of the same dtype.

    Raises:
        SrlibError: The image has another dtype or number of axes, or no pixels; the target is not positive, or more
            than memory can hold; there is no such kernel or kind of edges.

    Example:
        >>> import numpy as np
        >>> from fractions import Fraction
        >>> ramp = np.arange(0, 240, 30, dtype=np.uint8).reshape(1, 8, 1)
        >>> resize(ramp, (1, 4)).ravel().tolist()
        [15, 75, 135, 195]
        >>> resize(ramp, Fraction(3, 2)).shape
        (2, 12, 1)
    """
    _check_image(image, "resize")
    for option, value, choices in (("kernel", kernel, _KERNELS), ("edges", edges, get_args(Edges))):
        if value not in choices:
            raise SrlibError(f"resize: {option}: expected one of {', '.join(choices)}, got {value}")
    sides = image.shape[:2]
    sizes, factors = _sizes(sides, target)
    # The result is held twice where its rows become columns.
    needed = 2 * math.prod(sizes) * image.shape[2] * image.dtype.itemsize + _BYTES_PER_ROW * sum(sizes)
    if needed > _LARGE:
        check_memory(f"resize: {sides[1]}×{sides[0]} to {sizes[1]}×{sizes[0]} pixels", needed)
    for axis in sorted((0, 1), key=lambda axis: factors[axis]):
        if factors[axis] == 1:
            continue
        rows = np.ascontiguousarray(image) if axis == 0 else _transpose(image)
        bits = 8 * image.dtype.itemsize
        rows = _resize_rows(rows, _bands(sides[axis], sizes[axis], factors[axis], kernel, antialias, edges, bits))
        image = rows if axis == 0 else _transpose(rows)
    return np.ascontiguousarray(image)


def _check_image(image: object, name: str) -> None:
    """Raise an SrlibError of the function `name` unless an image is uint8 or uint16 with three axes and pixels."""
    if not isinstance(image, np.ndarray):
        got = type(image).__name__
    elif image.dtype in (np.uint8, np.uint16) and image.ndim == 3 and image.size:
        return
    else:
        got = f"{image.dtype} {image.shape}"
    raise SrlibError(f"{name}: expected a uint8 or uint16 image [height, width, channels], got {got}")


def _sizes(
    sides: tuple[int, ...], target: tuple[int, int] | int | float | Fraction
) -> tuple[tuple[int, ...], tuple[Fraction, ...]]:
    """Return the new size and the factor of both axes."""
    sizes: tuple[int, ...] = sides
    factors: tuple[Fraction, ...] = (Fraction(0),)
    if isinstance(target, tuple) and len(target) == 2 and all(isinstance(side, Integral) for side in target):
        sizes = tuple(map(int, target))
        factors = tuple(Fraction(new, old) for new, old in zip(sizes, sides, strict=True))
    elif isinstance(target, Real) and math.isfinite(target):
        factor = target if isinstance(target, Fraction) else Fraction(float(target))
        factors = (factor.limit_denominator(1000),) * 2
        sizes = tuple(math.ceil(old * factors[0]) for old in sides)
    if min(factors) <= 0:
        raise SrlibError(f"resize: expected (height, width) in whole pixels or one factor, positive, got {target}")
    if max(sizes) > _LONGEST:
        raise SrlibError(f"resize: expected at most {_LONGEST:,} pixels per side, got {one_line(str(target), 80)}")
    return sizes, factors


def _transpose(image: np.ndarray) -> np.ndarray:
    """Exchange height and width, contiguously; OpenCV is ten times as fast where it is installed."""
    if cv2 and image.shape[2] <= 4:
        return np.asarray(cv2.transpose(image)).reshape(image.shape[1], image.shape[0], -1)
    return np.ascontiguousarray(image.swapaxes(0, 1))


def contributions(
    old: int, new: int, factor: Fraction, kernel: Kernel = "cubic", antialias: bool = True, edges: Edges = "clamp"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear map of one axis, from `old` to `new` rows; the other arguments are those of `resize`.

    Returns:
        For each output row the input rows, as indices [new, taps] in [0, old), and their float64 weights [new, taps].
    """
    function, width, stretchable = _KERNELS[kernel]
    stretch = float(factor) if antialias and stretchable and factor < 1 else 1.0
    # The center of output pixel i lies at (i + 1/2) / factor - 1/2 of the input, here from integers: one rounding only.
    p, q = factor.numerator, factor.denominator
    outputs = np.arange(new)
    center = ((2 * outputs + 1) * q - p) / (2 * p)
    first = np.floor(center - width / stretch / 2).astype(np.int64)
    indices = first[:, None] + np.arange(int(np.ceil(width / stretch)) + 2)
    weights = stretch * function(stretch * (center[:, None] - indices))
    weights /= weights.sum(axis=1, keepdims=True)
    if edges == "clamp":
        indices = np.clip(indices, 0, old - 1)
    else:
        indices = indices % (2 * old)
        indices = np.where(indices < old, indices, 2 * old - 1 - indices)
    return indices, weights


class _Band(NamedTuple):
    """Output rows from `start` as a product: `weights` [rows, high - low] with the input rows [low, high)."""

    start: int
    low: int
    high: int
    weights: np.ndarray


@functools.lru_cache(maxsize=16)
def _bands(
    old: int, new: int, factor: Fraction, kernel: Kernel, antialias: bool, edges: Edges, bits: int
) -> tuple[_Band, ...]:
    """Return the matrix from `old` to `new` rows, in blocks without most of its zeros; cached for the next image.

    The weights are float32 where that makes every sum of pixels of `bits` bits exact, else float64.
    """
    indices, weights = contributions(old, new, factor, kernel, antialias, edges)
    # Weights in steps of 2^-14 make every sum of float32 exact, in any order: 10 bits before the point, 14 after it.
    exact = bits == 8 and np.array_equal(weights * 2**14, np.rint(weights * 2**14))
    bands = []
    for start in range(0, new, _BLOCK):
        rows, block = indices[start : start + _BLOCK], weights[start : start + _BLOCK]
        used = block != 0
        low, high = int(rows[used].min()), int(rows[used].max()) + 1
        band = np.zeros((len(rows), high - low), np.float32 if exact else np.float64)
        np.add.at(band, (np.nonzero(used)[0], rows[used] - low), block[used])
        band.flags.writeable = False
        bands.append(_Band(start, low, high, band))
    return tuple(bands)


def _resize_rows(image: np.ndarray, bands: Sequence[_Band]) -> np.ndarray:
    """Resize axis 0 of a contiguous image."""
    top = np.iinfo(image.dtype).max
    new = bands[-1].start + len(bands[-1].weights)
    pixels = image.reshape(len(image), -1)
    columns = pixels.shape[1]
    out = np.empty((new, columns), image.dtype)
    for start, low, high, band in bands:
        strip = max(_PRODUCT // band.size, 8)
        source = np.empty((high - low, -(-columns // strip) * strip), band.dtype)
        source[:, :columns] = pixels[low:high]
        source[:, columns:] = 0
        values = np.matmul(band, source.reshape(high - low, -1, strip).swapaxes(0, 1))
        values += 0.5 if band.dtype == np.float32 else 0.5 + _HALF_SLACK
        np.clip(values, 0, top + 0.5, out=values)
        out[start : start + len(band)] = values.swapaxes(0, 1).astype(image.dtype).reshape(len(band), -1)[:, :columns]
    return out.reshape(new, *image.shape[1:])


def crop_to_multiple(hr: np.ndarray, scale: int) -> np.ndarray:
    """Return the largest top-left part of an image [H, W, C] whose height and width are multiples of `scale`."""
    height, width = (size - size % scale for size in hr.shape[:2])
    return hr[:height, :width]


def downscale(hr: np.ndarray, scale: int, *, edges: Edges = "clamp") -> np.ndarray:
    """Make the LR image of an HR image: crop to a multiple of `scale`, then downscale by MATLAB bicubic.

    Args:
        hr: uint8 or uint16 [H, W, channels].
        scale: Factor by which the LR image is smaller.
        edges: See `resize`.

    Returns:
        [H // scale, W // scale, channels] of the same dtype.

    Raises:
        SrlibError: The image is smaller than `scale`, or not uint8 or uint16 with three axes; `scale` is not a whole
            number from 1.

    Example:
        >>> import numpy as np
        >>> downscale(np.zeros((33, 50, 3), np.uint8), 4).shape
        (8, 12, 3)
    """
    _check_image(hr, "downscale")
    if not isinstance(scale, Integral) or scale < 1:
        raise SrlibError(f"downscale: scale: expected a whole number from 1, got {scale}")
    height, width, scale = *hr.shape[:2], int(scale)
    if min(height, width) < scale:
        raise SrlibError(f"downscale: {width}×{height} pixels, too small for ×{scale}")
    return resize(crop_to_multiple(hr, scale), Fraction(1, scale), edges=edges)
