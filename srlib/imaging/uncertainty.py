"""How far a super-resolved image may be from its original: bands with a stated coverage, one half-width per pixel.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173), separately for each class of local
contrast (Mondrian): on images whose originals are known, take for each class the quantile of the absolute error. A band
of that half-width around a pixel then holds the original as often as stated, for images like those; the rate
holds over many images, not for each of them.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.errors import SrlibError, one_line
from srlib.files import read_regular

LEVELS = (0.8, 0.9, 0.95)
"""Coverages for which bands are kept."""

EDGES = tuple(round(0.125 * 2 ** (step / 4), 4) for step in range(36))
"""Contrasts, in levels of 255 per pixel, between one class and the next: 0.125 to 54."""

BRIGHTNESS = 4
"""Shades of a map per level of half-width: white from 64 levels of 255 on."""

_LARGEST_FILE = 1 << 20
_REACH = 4  # the contrast of a pixel is the mean gradient in a window of 9×9
_STRIP = 512
_FEWEST = 1000  # pixels in a class; one with fewer takes the wider band of the next busier one, the busiest share one


@dataclass(frozen=True)
class Bands:
    """Half-widths of the bands of one model, in levels of 255.

    Attributes:
        half_widths: Coverage → half-width for each class of contrast, from flat to busy.
        images: Number of images that they were measured on.
        pixels: Number of pixels.
    """

    half_widths: dict[float, tuple[float, ...]]
    images: int
    pixels: int

    def map(self, sr: Pixels, coverage: float = 0.95) -> npt.NDArray[np.uint8]:
        """Return the half-width of the band at each pixel of a result.

        Args:
            sr: uint8 or uint16 RGB [H, W, 3].
            coverage: Share of the pixels of originals inside; one of the keys of `half_widths`.

        Returns:
            uint8 [H, W], in levels of 255.

        Raises:
            SrlibError: Another coverage.

        Example:
            >>> bands = Bands({0.9: tuple(range(37))}, images=1, pixels=81)
            >>> bands.map(np.full((8, 8, 3), 128, np.uint8), 0.9).max()
            np.uint8(0)
        """
        if coverage not in self.half_widths:
            expected = " or ".join(f"{level:g}" for level in self.half_widths)
            raise SrlibError(f"coverage: expected {expected}, got {coverage:g}")
        table = np.ceil(self.half_widths[coverage]).clip(0, 255).astype(np.uint8)
        return np.asarray(table[contrast_classes(sr)])


def read_bands(path: Path) -> Bands:
    """Read bands from a JSON file.

    Args:
        path: File that `srlib uncertainty calibrate` wrote.

    Raises:
        SrlibError: The file is damaged.
    """
    try:
        content = json.loads(read_regular(path, limit=_LARGEST_FILE))
        half_widths = {float(level): tuple(map(float, values)) for level, values in content["half_widths"].items()}
        images, pixels = int(content["images"]), int(content["pixels"])
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SrlibError(f"{path}: damaged ({one_line(error)}); run `srlib uncertainty calibrate` again") from None
    widths = [width for values in half_widths.values() for width in values]
    is_complete = widths and all(len(values) == len(EDGES) + 1 for values in half_widths.values())
    if not (is_complete and all(0 < level < 1 for level in half_widths) and all(0 <= width < 256 for width in widths)):
        raise SrlibError(f"{path}: damaged; run `srlib uncertainty calibrate` again")
    return Bands(half_widths, images, pixels)


def draw_bands(bands: Bands, sr: Pixels, coverage: float = 0.95) -> tuple[npt.NDArray[np.uint8], float]:
    """Draw the half-widths of the bands of a result.

    Args:
        bands: The bands of its model.
        sr: uint8 or uint16 RGB [H, W, 3].
        coverage: Share of the pixels of originals inside.

    Returns:
        The map, uint8 [H, W], `BRIGHTNESS` shades per level; and the mean half-width in levels of 255.

    Raises:
        SrlibError: Another coverage than the bands have.
    """
    widths = bands.map(sr, coverage)
    shades = np.minimum(BRIGHTNESS * np.arange(256), 255).astype(np.uint8)
    return np.asarray(shades[widths]), float(widths.mean())


def calibrate(pairs: Iterable[tuple[Pixels, Pixels]]) -> Bands:
    """Measure the bands of a model on images whose originals are known.

    Args:
        pairs: (HR, SR) of each image, uint8 or uint16 RGB of one size; images that the model was not trained on.

    Returns:
        The bands. An error counts in the channel in which it is largest.

    Raises:
        SrlibError: No pairs, or too few pixels.
    """
    counts = np.zeros((len(EDGES) + 1, 256), np.int64)
    images = 0
    for hr, sr in pairs:
        flat = contrast_classes(sr).astype(np.int64) * 256 + largest_errors(hr, sr)
        counts += np.bincount(flat.ravel(), minlength=counts.size).reshape(counts.shape)
        images += 1
    if counts.sum() < _FEWEST:
        raise SrlibError(f"expected at least {_FEWEST:,} pixels to calibrate on, got {counts.sum():,}")
    half_widths = {level: _half_widths(counts, level) for level in LEVELS}
    return Bands(half_widths, images, int(counts.sum()))


def coverage_of(bands: Bands, hr: Pixels, sr: Pixels, coverage: float = 0.95) -> float:
    """Return the share of pixels of an image whose original lies inside the band.

    Args:
        bands: The bands.
        hr: The original, uint8 or uint16 RGB [H, W, 3].
        sr: The result, of the same size.
        coverage: The stated share.
    """
    return float(np.mean(largest_errors(hr, sr) <= bands.map(sr, coverage)))


def largest_errors(hr: Pixels, sr: Pixels) -> npt.NDArray[np.uint8]:
    """Return the largest absolute difference of the channels at each pixel, rounded up to levels of 255.

    Args:
        hr: uint8 or uint16 RGB [H, W, 3].
        sr: The same shape and dtype.
    """
    unit = 257 if hr.dtype == np.uint16 else 1
    difference = np.abs(hr.astype(np.int32) - sr.astype(np.int32)).max(axis=-1)
    return np.asarray(-(-difference // unit), np.uint8)


def contrast_classes(sr: Pixels) -> npt.NDArray[np.uint8]:
    """Return the class of local contrast of each pixel, from 0 (flat) to `len(EDGES)`.

    Args:
        sr: uint8 or uint16 RGB [H, W, 3].
    """
    unit = 257.0 if sr.dtype == np.uint16 else 1.0
    classes = np.empty(sr.shape[:2], np.uint8)
    for top in range(0, sr.shape[0], _STRIP):
        above, below = min(_REACH + 1, top), _REACH + 1
        strip = sr[top - above : top + _STRIP + below].astype(np.float32).mean(axis=-1) / np.float32(unit)
        values = _window_mean(_gradient(strip))[above : above + min(_STRIP, sr.shape[0] - top)]
        classes[top : top + len(values)] = np.digitize(values, EDGES)
    return classes


def _gradient(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the length of the gradient, by differences to the next pixel."""
    down = np.diff(image, axis=0, append=image[-1:])
    right = np.diff(image, axis=1, append=image[:, -1:])
    return np.asarray(np.hypot(down, right))


def _window_mean(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the mean over 9×9 pixels, the border repeated."""
    size = 2 * _REACH + 1
    sums = np.pad(values.astype(np.float64), _REACH, mode="edge")
    for axis in (0, 1):
        total = np.cumsum(np.insert(sums, 0, 0.0, axis=axis), axis=axis)
        ahead, behind = (np.take(total, range(start, start + sums.shape[axis] - size + 1), axis) for start in (size, 0))
        sums = ahead - behind
    return np.asarray(sums / size**2)


def _half_widths(counts: npt.NDArray[np.int64], level: float) -> tuple[float, ...]:
    """Return the conformal quantile of each class's errors, never narrower than that of a flatter class."""
    pixels = counts.sum(axis=1)
    # The busiest classes have no busier one: as many of them as have enough pixels together share a band.
    first_shared = int(np.flatnonzero(pixels[::-1].cumsum()[::-1] >= _FEWEST)[-1])
    width = _quantile(counts[first_shared:].sum(axis=0), level)
    widths = [width] * (len(counts) - first_shared)
    for row in counts[:first_shared][::-1]:
        width = _quantile(row, level) if row.sum() >= _FEWEST else width
        widths.append(width)
    return tuple(np.maximum.accumulate(widths[::-1]).tolist())


def _quantile(errors: npt.NDArray[np.int64], level: float) -> float:
    """Return the conformal quantile of errors, given as the number of pixels with an error of 0, 1, 2 and so on."""
    rank = int(np.ceil((int(errors.sum()) + 1) * level))
    return float(np.searchsorted(np.cumsum(errors), rank))
