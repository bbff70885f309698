"""Estimate the noise of a JPEG file from its quantized coefficients, where compression has removed it from the pixels.

- **Counts.** A coefficient of the DCT that is 0 without noise becomes ±1 or more steps of the file's quantization table
  where the noise exceeds half a step. White noise of standard deviation σ has the same σ in every coefficient, so the
  counts of 0, ±1 and more give σ by maximum likelihood.
- **Flat blocks.** Only blocks whose eight neighbors are among the flattest count. A block's own noise cannot bias this
  choice. Blocks that touch black or white, where noise is clipped, are left out. Shot noise makes bright blocks less
  flat, so of it the estimate is what dark parts have.
- **Bands.** Detail only adds to the counts. Of the bands of frequencies, the one with the lowest upper limit for σ is
  taken.
- **Texture** is not taken for noise: it has more power at lower frequencies, and its counts differ more from block to
  block than chance allows. Either leaves the image without an estimate, and so does a σ below `lowest_noise`.
- **Colors.** Noise that R, G and B share is in luma alone. Of noise that is independent in each channel, luma keeps the
  share `LUMA` and chroma `_CHROMA`, half of it where chroma is averaged over 2×2 pixels (4:2:0).

The coefficients are recomputed from luma and chroma as the decoder of Pillow returns them before it converts colors.
"""

import functools
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.imaging.spread import spread_parts

_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]

LUMA = math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
"""Standard deviation that luma keeps of noise that is independent in R, G and B."""

_CHROMA = 0.64
"""The same of Cb (0.62) and Cr (0.66)."""

_SIGMAS = np.geomspace(0.3, 40, 160)
_ERRORS = 4.5
"""Drop of the log-likelihood at three standard errors."""
_BAND = 3
"""Diagonals of the 8×8 coefficients in a band."""
_BANDS = np.array(
    [((np.add.outer(range(8), range(8)) - first) // _BAND == 0).ravel() for first in range(1, 13)], np.float64
)
_FLATTEST = 0.05
"""Share of the blocks that is taken as flat: those with the least detail in the blocks around them."""
_LEAST_BLOCKS = 60
"""Flat blocks that an estimate needs."""
_LEAST_COUNTS = 25
"""Coefficients other than 0 that an estimate needs."""
_SAMPLING = {1: [(1, 1)] * 3, 2: [(2, 2), (1, 1), (1, 1)]}
"""Reduction at which the decoder returns chroma as it is stored → sampling factors of 4:4:4 and 4:2:0. It interpolates
the chroma of others, such as 4:2:2."""
_CLIPPED = 10
"""Distance in levels from black and white within which noise may be clipped."""
_TILT = 1.13
"""Largest ratio of σ three diagonals below to σ in the band: white noise has 1, texture about 1.4."""
_SCATTER = 1.3
"""Largest variance of the counts from block to block, over that of chance, for many blocks."""
_COMMON = 0.8
"""Upper limit of the chroma's noise, over that of independent noise, below which R, G and B share most of it."""
_DETAIL = 1.35
"""The same ratio for the estimate itself, above which it is the chroma's detail."""


@dataclass(frozen=True)
class JpegNoise:
    """Noise of a JPEG file.

    Attributes:
        noise: Standard deviation in levels of 255, per channel; of luma where `gray_noise` is None or chroma is stored
            at a smaller size. 0 if it is below `lowest_noise`.
        gray_noise: Share of the noise's variance that all channels have in common; None where it cannot be seen. Where
            chroma is averaged (4:2:0), its detail often looks like independent noise: one image proves little.
    """

    noise: float
    gray_noise: float | None = None


@dataclass(frozen=True)
class _Plane:
    """Counts of the coefficients in the flattest blocks of luma or chroma.

    Attributes:
        counts: Absolute coefficients in steps, those above 2 as 2 [blocks, 64].
        brightness: Mean of each block [blocks].
        steps: Quantization steps [64].
    """

    counts: _Counts
    brightness: _Floats
    steps: _Counts


@dataclass(frozen=True)
class _Bands:
    """σ of each band with its limits at three standard errors, and the number of coefficients other than 0, [bands]."""

    sigma: _Floats
    lower: _Floats
    upper: _Floats
    events: _Floats


def lowest_noise(quality: int) -> float:
    """Return the noise in levels of 255 below which detail looks alike in the coefficients of a JPEG file.

    Args:
        quality: Quality from 1 to 100, as the IJG library counts.

    Example:
        >>> [round(lowest_noise(quality), 1) for quality in (95, 85, 75, 60)]
        [3.0, 3.0, 4.2, 6.2]
    """
    return max(3.0, 1.0 + 0.13 * (100 - quality))


def jpeg_noise(content: bytes, quality: int) -> JpegNoise | None:
    """Estimate the noise that an image had before it was stored as JPEG.

    Args:
        content: A JPEG file that Pillow can open.
        quality: Its quality from 1 to 100.

    Returns:
        The noise; None where detail hides whether there is any, and for files whose channels are not luma and chroma.
    """
    with Pillow.open(io.BytesIO(content), formats=["JPEG"]) as image:
        layers: list[tuple[int, int, int, int]] = getattr(image, "layer", [])
        tables = {key: np.array(table, np.int64) for key, table in getattr(image, "quantization", {}).items()}
        if not _is_luma_and_chroma(image, layers):
            return None
        size = image.size
    samples = _decoded(content, "L", size)
    plane = _flat_blocks(samples, tables[layers[0][3]], _unclipped(samples))
    luma = None if plane is None else _white_noise(plane, lowest_noise(quality))
    if not luma:
        return None if luma is None else JpegNoise(0.0)
    sampling = [layer[1:3] for layer in layers]
    if len(layers) == 1:
        return JpegNoise(luma, 1.0)
    reduction = next((factor for factor, known in _SAMPLING.items() if known == sampling), None)
    if reduction is None:
        return JpegNoise(luma)
    colors = _decoded(content, "YCbCr", (max(size[0] // reduction, 1), max(size[1] // reduction, 1)))
    unclipped = _unclipped(colors[..., 0])
    chroma = [_flat_blocks(colors[..., index], tables[layers[index][3]], unclipped) for index in (1, 2)]
    share = _chroma_share([plane for plane in chroma if plane is not None], luma / LUMA * _CHROMA / reduction)
    if share is None:
        return JpegNoise(luma)
    own = (share * luma / LUMA) ** 2  # variance per channel that is independent
    variance = luma**2 + own * (1 - LUMA**2)
    return JpegNoise(math.sqrt(variance) if reduction == 1 else luma, max(1 - own / variance, 0.0))


def _is_luma_and_chroma(image: Pillow.Image, layers: Sequence[tuple[int, int, int, int]]) -> bool:
    """Return whether a file has luma alone, or luma and chroma; not R, G and B, and not CMYK."""
    is_rgb = image.info.get("adobe_transform") == 0 or [layer[0] for layer in layers] == list(b"RGB")
    return len(layers) == 1 or (len(layers) == 3 and not is_rgb)


def _decoded(content: bytes, mode: str, size: tuple[int, int]) -> _Floats:
    """Return parts of the image in a color mode, scaled by the decoder, [parts, h, w] or [parts, h, w, 3]."""
    with Pillow.open(io.BytesIO(content), formats=["JPEG"]) as image:
        image.draft(mode, size)
        return spread_parts(np.asarray(image)).astype(np.float64)


def _blocks(planes: npt.NDArray[np.float64]) -> _Floats:
    """Return the blocks of some planes [parts, h, w] as [parts, rows, columns, 8, 8]."""
    parts, rows, columns = len(planes), planes.shape[1] // 8, planes.shape[2] // 8
    return planes[:, : 8 * rows, : 8 * columns].reshape(parts, rows, 8, columns, 8).swapaxes(2, 3)


def _unclipped(luma: _Floats) -> npt.NDArray[np.bool_]:
    """Return which blocks touch neither black nor white, [parts, rows, columns]."""
    blocks = _blocks(luma)
    return np.asarray((blocks.min((3, 4)) > _CLIPPED) & (blocks.max((3, 4)) < 255 - _CLIPPED))


@functools.cache
def _dct() -> _Floats:
    """Return the matrix of the orthonormal DCT-II of 8 samples."""
    number = np.arange(8)
    matrix = np.cos(np.pi * (2 * number + 1) * number[:, None] / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def _flat_blocks(planes: _Floats, steps: _Counts, unclipped: npt.NDArray[np.bool_]) -> _Plane | None:
    """Return the counts of the blocks with the flattest neighbors, or None where there are too few blocks."""
    if min(unclipped.shape[1:]) < 3:
        return None
    coefficients = np.rint(_dct() @ (_blocks(planes) - 128) @ _dct().T / steps.reshape(8, 8))
    values = coefficients * steps.reshape(8, 8)
    means = values[..., 0, 0] / 8
    activity = np.square(values).sum((3, 4)) / 64 - np.square(means)
    rows, columns = (side - 2 for side in means.shape[1:])
    around = np.zeros((len(means), rows, columns))
    for row, column in itertools.product(range(3), range(3)):
        if (row, column) != (1, 1):
            place = np.s_[:, row : row + rows, column : column + columns]
            around += activity[place] + np.square(means[place] - means[:, 1:-1, 1:-1]) / 2
    usable = np.flatnonzero(unclipped[:, 1:-1, 1:-1])
    count = max(int(len(usable) * _FLATTEST), _LEAST_BLOCKS)
    if len(usable) < _LEAST_BLOCKS:
        return None
    flattest = usable[np.argsort(around.ravel()[usable], kind="stable")[:count]]
    inner = coefficients[:, 1:-1, 1:-1].reshape(-1, 64)[flattest]
    counts = np.minimum(np.abs(inner), 2).astype(np.int64)
    return _Plane(counts, inner[:, 0] * steps[0], steps)


def _white_noise(plane: _Plane, lowest: float) -> float | None:
    """Return σ of the noise, 0 if it is below `lowest`, or None where detail hides it."""
    bands = _fit([plane])
    best = int(bands.upper.argmin())
    sigma = float(bands.sigma[best])
    if bands.upper[best] < lowest:
        return 0.0
    is_flat = bands.lower[max(best - _BAND, 0)] <= _TILT * sigma
    is_noise = is_flat and bands.events[best] >= _LEAST_COUNTS and _is_even([plane], best)
    return sigma if is_noise and sigma >= lowest else None


def _chroma_share(planes: Sequence[_Plane], independent: float) -> float | None:
    """Return the chroma's σ over that of independent noise, 0 where it is far below, or None where detail covers it."""
    if len(planes) < 2:
        return None
    bands = _fit(planes)
    if bands.upper.min() < _COMMON * independent:
        return 0.0
    upper = np.where(bands.events >= _LEAST_COUNTS, bands.upper, np.inf)
    best = int(upper.argmin())
    ratio = float(bands.sigma[best]) / independent
    return min(ratio, 1.0) if upper[best] < np.inf and ratio <= _DETAIL and _is_even(planes, best) else None


def _fit(planes: Sequence[_Plane]) -> _Bands:
    """Return σ of maximum likelihood in each band."""
    likelihood, events = np.zeros((len(_BANDS), len(_SIGMAS))), np.zeros(len(_BANDS))
    for plane in planes:
        numbers = np.stack([(plane.counts == count).sum(0) for count in range(3)])
        chances = np.stack([_log_chances(int(step)) for step in plane.steps])
        likelihood += _BANDS @ np.einsum("kj,jks->js", numbers, chances)
        events += _BANDS @ (numbers[1] + numbers[2])
    best = likelihood.argmax(1)
    near = likelihood > likelihood.max(1, keepdims=True) - _ERRORS
    highest = len(_SIGMAS) - 1 - near[:, ::-1].argmax(1)
    return _Bands(_SIGMAS[best], _SIGMAS[near.argmax(1)], _SIGMAS[highest], events)


@functools.cache
def _log_chances(step: int) -> _Floats:
    """Return the logarithms of the probabilities of 0, ±1 and more steps for each of `_SIGMAS`, [3, sigmas]."""
    half, whole = (
        np.array([math.erfc(steps * step / sigma / math.sqrt(2)) for sigma in _SIGMAS]) for steps in (0.5, 1.5)
    )
    return np.log(np.stack([1 - half, half - whole, whole]) + 1e-12)


def _is_even(planes: Sequence[_Plane], band: int) -> bool:
    """Return whether the counts differ from block to block no more than by chance.

    Blocks of similar brightness are compared, since shot noise grows with it.
    """
    for plane in planes:
        order = np.argsort(plane.brightness, kind="stable")
        events = plane.counts[order][:, _BANDS[band] > 0] > 0
        share = events.mean(0)
        chance = float((share * (1 - share)).sum())
        variance = float(np.square(np.diff(events.sum(1))).mean()) / 2
        if variance > chance * (_SCATTER + 1.2 * math.sqrt(2 / len(order))):
            return False
    return True
