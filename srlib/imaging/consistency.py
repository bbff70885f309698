"""LR consistency: whether a super-resolved image, downscaled again, is the image that it was made from.

The downscaling is MATLAB bicubic (`srlib.imaging.resize`), which is a linear map D = Dh ⊗ Dw up to its rounding, with
one matrix per axis. All images that downscale to `lr` differ by an element of the null space of D, so that

- D⁺ = Dᵀ(D·Dᵀ)⁻¹ gives the smallest change that makes an image consistent: `sr + D⁺(lr - D·sr)` (the consistency
  enforcing module of Bahat and Michaeli, "Explorable Super Resolution", 2020, here with exact borders and any size);
- `sr - D⁺·D·sr` is the detail that the LR image says nothing about.

D·Dᵀ is a product of one banded matrix per axis, solved directly. Images are [height, width, channels]; work is done in
strips of rows, so that the memory beyond the images is that of a few LR images.
"""

import dataclasses
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.imaging.color import luma
from srlib.imaging.resize import contributions, resize

_Floats = npt.NDArray[np.float64]

_STRIP = 128
"""HR rows or columns that are computed at once."""

_ROUNDS = 8
"""Most projections. One is exact but for rounding; more are needed where it leaves the range of the levels."""

_TOLERANCE = 1.0
"""Largest error in levels, before the downscaled image is rounded, at which the projections end."""

_GAIN = 0.9
"""A projection that leaves more than this part of the largest error is the last."""


@dataclasses.dataclass(frozen=True)
class LrConsistency:
    """How well a super-resolved image, downscaled again, agrees with its LR image.

    Attributes:
        psnr: PSNR over all channels and pixels in dB; infinite where both are equal.
        largest_error: Largest difference of one value, in levels of the image's type.
    """

    psnr: float
    largest_error: int


def lr_consistency(lr: Pixels, sr: Pixels) -> LrConsistency:
    """Compare a super-resolved image, downscaled to the size of its LR image, with that LR image.

    Args:
        lr: uint8 or uint16 [h, w, channels].
        sr: The same dtype and channels, at least as high and wide.

    Returns:
        PSNR and largest error. On Set5 and ×4, bicubic upscaling reaches 37 dB: a result below that shows something
        else than its input.

    Raises:
        SrlibError: The arrays do not fit each other.

    Example:
        >>> import numpy as np
        >>> from srlib import lr_consistency
        >>> lr = np.full((8, 8, 3), 100, np.uint8)
        >>> lr_consistency(lr, np.full((32, 32, 3), 102, np.uint8)).largest_error
        2
    """
    _check(lr, sr)
    error = np.abs(resize(sr, (lr.shape[0], lr.shape[1])).astype(np.int32) - lr)
    mean_square = float(np.mean(np.square(error, dtype=np.float64)))
    peak = np.iinfo(lr.dtype).max
    return LrConsistency(10 * math.log10(peak**2 / mean_square) if mean_square else math.inf, int(error.max()))


def make_consistent(lr: Pixels, sr: Pixels) -> Pixels:
    """Change a super-resolved image as little as possible so that, downscaled again, it is its LR image.

    Whole levels between 0 and the type's largest leave a difference of at most about one level; where the LR image
    itself holds values that no image downscales to (ringing beside black and white), it may stay larger.

    Args:
        lr: uint8 or uint16 [h, w, channels].
        sr: The same dtype and channels, at least as high and wide.

    Returns:
        A new array like `sr`.

    Raises:
        SrlibError: The arrays do not fit each other.

    Example:
        >>> import numpy as np
        >>> lr = np.random.default_rng(0).integers(90, 160, (8, 8, 3), np.uint8)
        >>> sr = make_consistent(lr, np.full((32, 32, 3), 128, np.uint8))
        >>> lr_consistency(lr, sr).largest_error <= 1
        True
    """
    _check(lr, sr)
    rows, columns = _Axis(sr.shape[0], lr.shape[0]), _Axis(sr.shape[1], lr.shape[1])
    peak = np.iinfo(sr.dtype).max
    sr = sr.copy()
    error, largest = lr - _downscaled(sr, rows, columns), math.inf
    for _ in range(_ROUNDS):
        for part, change in _strips_of_pseudo_inverse(error, rows, columns):
            change += sr[part]
            sr[part] = np.floor(np.clip(change, 0, peak) + 0.5)
        error = lr - _downscaled(sr, rows, columns)
        before, largest = largest, float(np.abs(error).max())
        if largest <= _TOLERANCE or largest > _GAIN * before:
            break
    return sr


def undetermined_detail(lr_size: tuple[int, int], sr: Pixels) -> npt.NDArray[np.float32]:
    """Return how much of each place's detail vanishes when a super-resolved image is downscaled to the LR size.

    The part of the image beyond bicubic upscaling that lies in the null space of the downscaling: the LR image neither
    confirms nor excludes it, so it comes from the model alone.

    Args:
        lr_size: (height, width) of the LR image.
        sr: uint8 or uint16 [H, W, channels], at least as high and wide.

    Returns:
        float32 [H, W] in levels of 255: the root mean square of that part of luma (of gray, if there is one
        channel) over a square of about one LR pixel.

    Raises:
        SrlibError: The image is smaller than `lr_size`, or of another kind.

    Example:
        >>> import numpy as np
        >>> float(undetermined_detail((8, 8), np.full((32, 32, 3), 128, np.uint8)).max())
        0.0
    """
    _check(np.empty((*lr_size, sr.shape[2]), sr.dtype), sr)
    rows, columns = _Axis(sr.shape[0], lr_size[0]), _Axis(sr.shape[1], lr_size[1])
    bicubic = resize(resize(sr, lr_size), (sr.shape[0], sr.shape[1]))
    plane = np.empty((*sr.shape[:2], 1))
    for start in range(0, len(sr), _STRIP):
        part = slice(start, start + _STRIP)
        plane[part] = (_gray(sr[part]) - _gray(bicubic[part]))[..., None]
    del bicubic
    out = np.empty(plane.shape[:2], np.float32)
    for part, determined in _strips_of_pseudo_inverse(_downscaled(plane, rows, columns), rows, columns):
        out[part] = np.square(plane[part] - determined)[..., 0]
    del plane
    side = max(1, round(math.sqrt(math.prod(out.shape) / math.prod(lr_size))))
    for axis in (0, 1):
        out = _moving_mean(out, side, axis)
    return np.sqrt(out)


def _gray(image: Pixels) -> _Floats:
    """Return luma, or the only channel, in levels of 255 [h, w]."""
    if image.shape[2] == 3:
        return luma(image, "luma")
    return image[..., 0].astype(np.float64) * (255 / np.iinfo(image.dtype).max)


def _check(lr: Pixels, sr: Pixels) -> None:
    fits = isinstance(lr, np.ndarray) and isinstance(sr, np.ndarray) and lr.ndim == sr.ndim == 3
    fits = fits and lr.dtype == sr.dtype and lr.dtype in (np.uint8, np.uint16) and lr.shape[2] == sr.shape[2]
    if not fits or sr.shape[0] < lr.shape[0] or sr.shape[1] < lr.shape[1]:
        raise SrlibError(
            "LR consistency: expected two uint8 or uint16 images [height, width, channels], the second at least as "
            f"large, got {_kind(lr)} and {_kind(sr)}"
        )


def _kind(image: object) -> str:
    return f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__


class _Axis:
    """The downscaling along one axis: a matrix [lr, hr] of which each row has a few neighboring weights."""

    def __init__(self, hr: int, lr: int) -> None:
        self.hr, self.lr = hr, lr
        self._indices, self._weights = contributions(hr, lr, Fraction(lr, hr))
        self.low, self.high = self._indices.min(axis=1), self._indices.max(axis=1) + 1
        self._factor = _banded_cholesky(self._gram())

    def matrix(self, rows: slice, columns: slice) -> _Floats:
        """Return a part of the matrix."""
        indices, weights = self._indices[rows], self._weights[rows]
        inside = (indices >= columns.start) & (indices < columns.stop)
        out = np.zeros((len(indices), columns.stop - columns.start))
        np.add.at(out, (np.nonzero(inside)[0], indices[inside] - columns.start), weights[inside])
        return out

    def blocks(self) -> Iterator[tuple[slice, slice, _Floats]]:
        """Return LR rows, the HR rows that they depend on, and the matrix between them."""
        for start in range(0, self.lr, max(1, _STRIP * self.lr // self.hr)):
            rows = slice(start, min(start + max(1, _STRIP * self.lr // self.hr), self.lr))
            columns = slice(int(self.low[rows].min()), int(self.high[rows].max()))
            yield rows, columns, self.matrix(rows, columns)

    def strips(self) -> Iterator[tuple[slice, slice, _Floats]]:
        """Return HR rows, the LR rows that depend on them, and the transposed matrix between them."""
        for start in range(0, self.hr, _STRIP):
            columns = slice(start, min(start + _STRIP, self.hr))
            touching = np.nonzero((self.low < columns.stop) & (self.high > columns.start))[0]
            rows = slice(int(touching[0]), int(touching[-1]) + 1) if len(touching) else slice(0, 0)
            yield columns, rows, self.matrix(rows, columns).T

    def apply(self, values: _Floats) -> _Floats:
        """Downscale axis 0 of [hr, …]."""
        flat = values.reshape(self.hr, -1)
        out = np.empty((self.lr, flat.shape[1]))
        for rows, columns, matrix in self.blocks():
            out[rows] = matrix @ flat[columns]
        return out.reshape(self.lr, *values.shape[1:])

    def transposed(self, values: _Floats) -> _Floats:
        """Apply the transposed matrix to axis 0 of [lr, …]."""
        flat = values.reshape(self.lr, -1)
        out = np.empty((self.hr, flat.shape[1]))
        for columns, rows, matrix in self.strips():
            out[columns] = matrix @ flat[rows]
        return out.reshape(self.hr, *values.shape[1:])

    def solve(self, values: _Floats) -> _Floats:
        """Return (D·Dᵀ)⁻¹ applied to axis 0 of [lr, …], by forward and backward substitution."""
        factor, width = self._factor, self._factor.shape[1]
        out = values.reshape(self.lr, -1).copy()
        for i in range(self.lr):
            for k in range(1, min(i + 1, width)):
                out[i] -= factor[i, k] * out[i - k]
            out[i] /= factor[i, 0]
        for i in reversed(range(self.lr)):
            for k in range(1, min(self.lr - i, width)):
                out[i] -= factor[i + k, k] * out[i + k]
            out[i] /= factor[i, 0]
        return out.reshape(values.shape)

    def _gram(self) -> _Floats:
        """Return D·Dᵀ as [lr, width]: entry (i, k) is the product of the rows i and i - k."""
        last = np.arange(self.lr)
        width = 1 + int((last - np.searchsorted(self.high, self.low, side="right")).max())
        out = np.zeros((self.lr, width))
        for start in range(0, self.lr, _STRIP):
            rows = slice(max(0, start - width), min(start + _STRIP, self.lr))
            columns = slice(int(self.low[rows].min()), int(self.high[rows].max()))
            matrix = self.matrix(rows, columns)
            products = matrix @ matrix.T
            for k in range(width):
                out[rows.start + k : rows.stop, k] = np.diagonal(products, -k)
        return out


def _banded_cholesky(gram: _Floats) -> _Floats:
    """Return L with L·Lᵀ = D·Dᵀ, both as [n, width]: entry (i, k) stands at row i, column i - k."""
    count, width = gram.shape
    out = np.zeros_like(gram)
    for i in range(count):
        for k in range(min(i, width - 1), -1, -1):
            shared = sum(out[i, k + m] * out[i - k, m] for m in range(1, width - k) if i - k - m >= 0)
            out[i, k] = math.sqrt(gram[i, 0] - shared) if k == 0 else (gram[i, k] - shared) / out[i - k, 0]
    return out


def _downscaled(sr: npt.NDArray[np.generic], rows: _Axis, columns: _Axis) -> _Floats:
    """Return D·sr, [h, w, channels], not rounded."""
    out = np.empty((rows.lr, columns.lr, sr.shape[2]))
    for part, sources, matrix in rows.blocks():
        strip = sr[sources].reshape(sources.stop - sources.start, -1).astype(np.float64)
        low = (matrix @ strip).reshape(-1, columns.hr, sr.shape[2])
        out[part] = columns.apply(np.ascontiguousarray(low.swapaxes(0, 1))).swapaxes(0, 1)
    return out


def _strips_of_pseudo_inverse(values: _Floats, rows: _Axis, columns: _Axis) -> Iterator[tuple[slice, _Floats]]:
    """Return D⁺ applied to [h, w, channels], a strip of HR rows at a time."""
    solution = columns.solve(np.ascontiguousarray(rows.solve(values).swapaxes(0, 1)))  # [w, h, channels]
    for part, sources, matrix in rows.strips():
        wide = columns.transposed(np.ascontiguousarray(solution[:, sources])).swapaxes(0, 1)  # [rows, W, channels]
        yield part, (matrix @ wide.reshape(wide.shape[0], -1)).reshape(-1, *wide.shape[1:])


def _moving_mean(values: npt.NDArray[np.float32], side: int, axis: int) -> npt.NDArray[np.float32]:
    """Return the mean over `side` neighbors along an axis, the border's pixels repeated."""
    before = side // 2
    padding = [(0, 0), (0, 0)]
    padding[axis] = (before, side - 1 - before)
    padded = np.pad(values, padding, mode="edge")
    count = values.shape[axis]
    total = np.zeros_like(values)
    for shift in range(side):
        total += padded[(slice(None),) * axis + (slice(shift, shift + count),)]
    total /= np.float32(side)
    return total
