"""Alpha channels: fill the colors under transparent pixels, and find flat regions."""

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels

_Values = npt.NDArray[np.floating]


def neighborhood(alpha: Pixels, extreme: np.ufunc) -> Pixels:
    """Return the minimum or maximum over the 5×5 pixels around each pixel.

    Args:
        alpha: [h, w].
        extreme: `np.minimum` or `np.maximum`.

    Returns:
        The same dtype and shape.
    """
    for axis in (0, 1):
        padded = np.pad(alpha, [(2, 2) if axis == along else (0, 0) for along in (0, 1)], mode="edge")
        alpha = extreme.reduce([padded.take(range(k, k + alpha.shape[axis]), axis) for k in range(5)])
    return alpha


def fill_transparent(rgb: Pixels, alpha: Pixels) -> Pixels:
    """Give fully transparent pixels the colors of the visible ones around them; all others stay as they are.

    Push-pull (Gortler et al. 1996, section 3.4.2): means over blocks of 2, 4, 8 … pixels weighted by alpha until every
    block contains a visible pixel; then back, each empty pixel interpolated linearly from the coarser level.

    Args:
        rgb: uint8 or uint16 [h, w, 3].
        alpha: The same dtype, [h, w].

    Returns:
        The same dtype and shape as `rgb`.
    """
    is_hidden = alpha == 0
    if not is_hidden.any() or is_hidden.all():
        return rgb
    weight = alpha[..., None].astype(np.float32) / np.iinfo(alpha.dtype).max
    filled = _push_pull(rgb.astype(np.float32) * weight, weight)
    return np.asarray(np.where(is_hidden[..., None], np.rint(filled).astype(rgb.dtype), rgb))


def _push_pull(total: _Values, weight: _Values) -> _Values:
    """Return the weighted means `total / weight`, [h, w, 3], also where the weight [h, w, 1] is 0."""
    has_weight = weight > 0
    if has_weight.all():
        return np.asarray(total / weight)
    height, width = weight.shape[:2]
    coarse = _push_pull(_halved(total), _halved(weight))
    interpolated = _doubled(_doubled(coarse, 0, height), 1, width)
    return np.asarray(np.where(has_weight, total / np.where(has_weight, weight, 1), interpolated))


def _halved(values: _Values) -> _Values:
    """Return the sums over blocks of 2×2, or of fewer at an odd border."""
    padded = np.pad(values, ((0, values.shape[0] % 2), (0, values.shape[1] % 2), (0, 0)))
    rows = padded[::2] + padded[1::2]
    return np.asarray(rows[:, ::2] + rows[:, 1::2])


def _doubled(values: _Values, axis: int, size: int) -> _Values:
    """Return the first `size` of twice as many values along an axis, linear between the blocks' centers."""
    values = values.swapaxes(0, axis)
    before, after = np.concatenate([values[:1], values[:-1]]), np.concatenate([values[1:], values[-1:]])
    out = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis=1)
    return out.reshape(-1, *values.shape[1:])[:size].swapaxes(0, axis)
