"""Estimate how an image was degraded, from the image alone: noise, blur and JPEG quality.

- **Noise** is what remains in the flattest places of an image at the highest frequencies, where the spectrum of
  photographs has little: the power of the smoothest tiles, divided by what white noise gives there. Fine texture has
  less power there than at somewhat lower frequencies, and that share is left out. JPEG compression removes these
  frequencies, so below quality 93 the noise is estimated from the file's coefficients instead (`jpeg_noise`).
- **Blur** shows in how the spectrum falls. The power of natural images falls as frequency^-b with b about 2 (Field
  1987; Ruderman and Bialek 1994); a Gaussian blur of standard deviation σ multiplies it by exp(-4π²σ²f²). Both are
  fitted to the logarithm of the power above the noise, since b differs from image to image. JPEG compression rounds
  each coefficient to a multiple of its step; frequencies with less power than this rounding has say nothing about the
  blur. A sharp image has σ about 0.3 pixels.
- **Blocks** of an earlier JPEG compression show as steps between every eighth pair of neighboring pixels, in both
  directions, that are higher on average than the steps between the other pairs.
- **JPEG quality** follows from the quantization tables (ITU-T T.81, annex K, scaled as the IJG library does).

Images are uint8 or uint16 [height, width, 3] in levels of 255 after conversion; frequencies are in cycles per pixel.
"""

import functools
import io
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.arrays import Pixels
from srlib.errors import SrlibError
from srlib.imaging.jpeg_noise import LUMA, jpeg_noise, lowest_noise
from srlib.imaging.spread import spread_parts

_Floats = npt.NDArray[np.float64]

SMALLEST_SIDE = 96
"""Pixels per side that an estimate needs."""

HIDING_QUALITY = 93
"""JPEG quality below which compression removes so much of the noise that the pixels show less than there was: of noise
whose luma has σ 3.3, quality 94 leaves 2.8 and quality 90 leaves 0.6."""

_NOISE_TILE, _BLUR_TILE = 32, 64
"""Pixels per side of the tiles whose spectra show noise and blur."""
_LOWEST_NOISE_FREQUENCY = 0.5
"""Cycles per pixel above which noise is measured: diagonal detail, of which photographs have little."""
_SMOOTHEST = 5
"""Percentile of the tiles, by their power at high frequencies, that is taken as free of detail."""
_TEXTURE = 0.25
"""Power of fine texture above `_LOWEST_NOISE_FREQUENCY`, over its power in `_TEXTURE_BAND`; at most, in photographs."""
_TEXTURE_BAND = (0.35, 0.45)
_STRONGEST_TEXTURE = 7.0
"""Standard deviation in levels that texture reaches in the smoothest tiles of photographs."""
_SCATTER = 1.6
"""Ratio of the two powers up to which a few tiles of white noise scatter."""
_AT_ONCE = 64
"""Tiles that are transformed at once: they fit into the processor's cache."""
_HIGHEST_STEP = 10.0
"""Levels above which a step between two pixels is an edge of the image, so that blocks count and edges do not."""
_LEAST_RINGS = 6
"""Frequencies that a fit of the blur needs."""
_STEEPEST = 3.2
"""Exponent of the spectrum from which on a fit is not that of a photograph: too few frequencies, or unknown noise."""

# Luminance table of ITU-T T.81, table K.1, sorted: tables are compared whatever order they are stored in.
_K1 = np.sort(
    np.fromstring(
        """
        16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
        18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99
        """,
        dtype=np.int64,
        sep=" ",
    )
)


@dataclass(frozen=True)
class Traces:
    """What an image shows of its degradation.

    Attributes:
        noise: Standard deviation per channel in levels of 255; of luma in a JPEG below quality 93 with reduced chroma.
        gray_noise: Share of the noise's variance that all channels have in common, from 0 (independent) to 1 (gray).
            None where compression hides it; then `noise` is that of luma, too.
        blur: Standard deviation of a Gaussian blur in pixels; `input_range.SHARP` for a sharp image. None where noise
            or compression hides it.
        jpeg_quality: Quality of the JPEG file from 1 to 100; None for other files.
        full_chroma: Whether a JPEG keeps the chroma's resolution (4:4:4).
        blocks: How much higher the steps at the borders of 8×8 blocks are than others, in levels of 255; below 0.1 in
            images that were never compressed.
        hides_noise: Whether detail and JPEG compression hide if there is noise; then `noise` is a lower bound.
    """

    noise: float
    gray_noise: float | None
    blur: float | None
    jpeg_quality: int | None = None
    full_chroma: bool = True
    blocks: float = 0.0
    hides_noise: bool = False

    @property
    def luma_noise(self) -> float:
        """Standard deviation of the noise of luma, which keeps all of gray noise and 0.67 of independent noise."""
        is_strong = self.jpeg_quality is not None and self.jpeg_quality < HIDING_QUALITY
        if self.gray_noise is None or (is_strong and not self.full_chroma):
            return self.noise
        gray = self.gray_noise
        return self.noise * math.sqrt(gray + (1 - gray) * LUMA**2)


def estimate_traces(image: Pixels, content: bytes = b"") -> Traces:
    """Estimate how an image was degraded.

    Args:
        image: uint8 or uint16 RGB [h, w, 3], at least 96 pixels per side.
        content: The image's file, for the settings of a JPEG.

    Returns:
        The estimates.

    Raises:
        SrlibError: The image is too small or of another kind.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> noisy = np.clip(generator.normal(120, 8, (128, 128, 3)), 0, 255).astype(np.uint8)
        >>> 7 < estimate_traces(noisy).noise < 9
        True
    """
    if image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST_SIDE:
        raise SrlibError(f"expected RGB of at least {SMALLEST_SIDE} pixels per side, got {list(image.shape)}")
    levels = spread_parts(image).astype(np.float64) * (255 / np.iinfo(image.dtype).max)
    noise, gray_noise = _noise(levels)
    gray = levels @ np.array([0.299, 0.587, 0.114])
    is_jpeg = content.startswith(b"\xff\xd8")
    quality, full_chroma = jpeg_settings(content) if is_jpeg else (None, True)
    traces = Traces(noise, gray_noise, None, quality, full_chroma, _blocks(gray))
    unseen = 0.0
    if quality is not None and quality < HIDING_QUALITY:
        unseen = lowest_noise(quality)
        stored = jpeg_noise(content, quality)
        if stored is not None and stored.noise:
            traces = replace(traces, noise=stored.noise, gray_noise=stored.gray_noise)
        traces = replace(traces, hides_noise=stored is None)
    return replace(traces, blur=_blur(gray, traces.luma_noise, unseen, _luma_steps(content) if is_jpeg else None))


def jpeg_settings(content: bytes) -> tuple[int, bool]:
    """Return the quality (1 to 100, as the IJG library counts) of a JPEG file, and whether its chroma is full (4:4:4).

    Raises:
        SrlibError: Not a JPEG file.
    """
    try:
        with Pillow.open(io.BytesIO(content), formats=["JPEG"]) as image:
            table = getattr(image, "quantization", {}).get(0, [])
            layers = [layer[1:3] for layer in getattr(image, "layer", [])]
    except (OSError, SyntaxError, ValueError) as error:
        raise SrlibError(f"not a JPEG file ({error})") from None
    if len(table) != 64:
        raise SrlibError("a JPEG file without a quantization table of 64 entries")
    errors = np.abs(_ijg_tables() - np.sort(table)).sum(axis=1)
    return int(errors.argmin()) + 1, len(set(layers)) <= 1


def _luma_steps(content: bytes) -> npt.NDArray[np.int64]:
    """Return the quantization steps of a JPEG file's luma, [8, 8] by vertical and horizontal frequency."""
    with Pillow.open(io.BytesIO(content), formats=["JPEG"]) as image:
        return np.array(getattr(image, "quantization", {})[0], np.int64).reshape(8, 8)


@functools.cache
def _ijg_tables() -> npt.NDArray[np.int64]:
    """Return the sorted luminance table of each quality from 1 to 100, [100, 64]."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.asarray(np.clip((_K1 * percent + 50) // 100, 1, 255))


def _blocks(gray: _Floats) -> float:
    """Return by how many levels the steps at the borders of 8×8 blocks exceed those beside them, [parts, h, w]."""
    excesses = []
    for planes in (gray, gray.swapaxes(1, 2)):
        step = np.minimum(np.abs(np.diff(planes, axis=2)), _HIGHEST_STEP)
        excess = (step[..., 1:-1] - (step[..., :-2] + step[..., 2:]) / 2).mean(axis=(0, 1))
        by_place = np.array([excess[place::8].mean() for place in range(8)])
        excesses.append(float(by_place.max() - np.median(by_place)))
    return min(excesses)  # fine stripes of the image itself lie in one direction


def _noise(levels: _Floats) -> tuple[float, float]:
    """Return the noise's standard deviation per channel, and the share of its variance that all channels share."""
    planes = (*np.moveaxis(levels, 3, 0), levels.mean(axis=3))
    powers, texture = np.stack([_high_powers(plane) for plane in planes], axis=1)
    clipped = np.asarray(((levels <= 0) | (levels >= 255)).any(axis=3), np.float64)
    unclipped = _tiles(clipped).mean(axis=(1, 2)) < 0.05
    if unclipped.sum() >= 8:
        powers, texture = powers[:, unclipped], texture[:, unclipped]
    smoothest = _smoothest(powers[3])
    percentile, ratio = _white_noise(1 << (powers.shape[1].bit_length() - 1))  # few sizes, each computed once
    variances = np.percentile(powers, _SMOOTHEST, axis=1) / percentile
    power = max(float(powers[:3, smoothest].mean()), 1e-9)
    excess = float(texture[:3, smoothest].mean()) / (power * ratio)
    # Of noise that is as strong in both bands all remains, of texture nothing.
    share = (1 - _TEXTURE * excess) / (1 - _TEXTURE) if excess > _SCATTER else 1.0
    variance = float(variances[:3].mean())
    variance = max(variance * share, variance - _STRONGEST_TEXTURE**2, 0.0)
    in_common = float(powers[3, smoothest].mean()) / power
    # The mean of three channels keeps a third of independent noise, and all of common noise.
    return variance**0.5, float(np.clip((in_common - 1 / 3) * 1.5, 0, 1))


@functools.cache
def _white_noise(tiles: int) -> tuple[float, float]:
    """Return the power that `_SMOOTHEST` of so many tiles of white noise with variance 1 have at high frequencies.

    And by how much the band below has more in these tiles, which are chosen by their power at high frequencies.
    """
    noise = np.random.default_rng(0).normal(size=(_NOISE_TILE, _NOISE_TILE * min(max(tiles // 2, 8), 512)))
    high, band = _high_powers(noise[None])
    smoothest = _smoothest(high)
    return float(np.percentile(high, _SMOOTHEST)), float(band[smoothest].mean() / high[smoothest].mean())


def _smoothest(power: _Floats) -> npt.NDArray[np.intp]:
    """Return the indices of the `_SMOOTHEST` percent of the tiles, at least one."""
    return np.argsort(power)[: len(power) * _SMOOTHEST // 100 + 1]


def _high_powers(plane: _Floats) -> tuple[_Floats, _Floats]:
    """Return the mean power of each tile at high frequencies and in the band below, both [tiles].

    White noise of variance 1 has about 1 in both.
    """
    frequency = _frequencies(_NOISE_TILE)
    high = frequency > _LOWEST_NOISE_FREQUENCY
    band = (frequency > _TEXTURE_BAND[0]) & (frequency < _TEXTURE_BAND[1])
    tiles = _tiles(plane)
    means = []
    for start in range(0, len(tiles), _AT_ONCE):
        power = _power(tiles[start : start + _AT_ONCE])
        means.append((power[:, high].mean(axis=1), power[:, band].mean(axis=1)))
    highs, bands = zip(*means, strict=True)
    return np.concatenate(highs), np.concatenate(bands)


def _tiles(planes: _Floats, side: int = _NOISE_TILE) -> _Floats:
    """Return the tiles [count, side, side] of some planes [parts, h, w], half overlapping."""
    windows = np.lib.stride_tricks.sliding_window_view(planes, (side, side), axis=(1, 2))
    return windows[:, :: side // 2, :: side // 2].reshape(-1, side, side)


def _power(tiles: _Floats) -> _Floats:
    """Return the power spectrum of each tile under a Hann window; white noise of variance 1 has the mean 1."""
    side = tiles.shape[1]
    window = np.hanning(side + 2)[1:-1]
    window = window[:, None] * window
    flat = tiles - tiles.mean(axis=(1, 2), keepdims=True)
    return np.asarray(np.square(np.abs(np.fft.fft2(flat * window))) / np.square(window).sum())


def _frequencies(side: int) -> _Floats:
    axis = np.fft.fftfreq(side)
    return np.asarray(np.hypot(axis[:, None], axis))


def _blur(gray: _Floats, noise: float, unseen: float, steps: npt.NDArray[np.int64] | None) -> float | None:
    """Return σ of the blur from the slope of the power spectrum, or None where noise or JPEG steps hide too much.

    Args:
        gray: Parts of the image, float64 [parts, h, w] in levels.
        noise: σ of the noise in levels.
        unseen: σ of noise that there may be although none was found.
        steps: Quantization steps of a JPEG file [8, 8].
    """
    power = _power(_tiles(gray, _BLUR_TILE)).mean(axis=0)
    distance = _frequencies(_BLUR_TILE)
    edges = np.arange(1.5, 0.42 * _BLUR_TILE) / _BLUR_TILE
    rings = np.digitize(distance, edges)
    frequency = (edges[:-1] + edges[1:]) / 2
    floor = noise**2 + 1 / 12  # and the rounding to whole levels
    signal = np.array([power[rings == ring].mean() for ring in range(1, len(edges))]) - floor
    hidden = np.maximum(max(floor, unseen**2), 0.0 if steps is None else _rounding(steps, frequency))
    usable = np.cumprod(signal > hidden).astype(bool)  # up to the first frequency that is covered
    if usable.sum() < _LEAST_RINGS:
        return None
    frequency, signal = frequency[usable], signal[usable]
    matrix = np.stack([np.ones_like(frequency), -np.log(frequency), -4 * np.pi**2 * frequency**2], axis=1)
    weights = np.sqrt(frequency)[:, None]  # so many bins lie on a ring
    _, exponent, variance = np.linalg.lstsq(matrix * weights, np.log(signal) * weights[:, 0], rcond=None)[0]
    return float(np.sqrt(max(variance, 0.0))) if exponent < _STEEPEST else None


def _rounding(steps: npt.NDArray[np.int64], frequency: _Floats) -> _Floats:
    """Return the power of rounding to multiples of JPEG's steps, a twelfth of their squares, near each frequency."""
    axis = np.arange(8) / 16  # cycles per pixel of the DCT's cosines
    distance = np.hypot(axis[:, None], axis).ravel()[1:]
    near = np.exp(-np.square((distance - frequency[:, None]) * 16) * 2)  # within half a coefficient, about
    return np.asarray(near @ np.square(steps.ravel()[1:]) / near.sum(axis=1) / 12)
