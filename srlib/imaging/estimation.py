"""Estimate how an image was degraded, from the image alone: noise, blur and JPEG quality.

- **Noise** is what remains in the flattest places of an image at the highest frequencies, where the spectrum of
  photographs has little: the power of the smoothest tiles, divided by what white noise gives there. Smoothing before
  compression hides noise, so after a strong JPEG compression the estimate is too low.
- **Blur** shows in how the spectrum falls. The power of natural images falls as frequency^-b with b about 2 (Field
  1987; Ruderman and Bialek 1994); a Gaussian blur of standard deviation σ multiplies it by exp(-4π²σ²f²). Both are
  fitted to the logarithm of the power above the noise, since b differs from image to image. A sharp image has σ about
  0.3 pixels.
- **JPEG quality** follows from the quantization tables (ITU-T T.81, annex K, scaled as the IJG library does).

Images are uint8 or uint16 [height, width, 3] in levels of 255 after conversion; frequencies are in cycles per pixel.
"""

import functools
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from srlib.arrays import Pixels
from srlib.errors import SrlibError

_Floats = npt.NDArray[np.float64]

SHARP = 0.34
"""Blur in pixels that a sharp photograph shows by this measure, from the sampling of its pixels."""

SMALLEST_SIDE = 96
"""Pixels per side that an estimate needs."""

_NOISE_TILE, _BLUR_TILE = 32, 64
_LOWEST_NOISE_FREQUENCY = 0.5
_SMOOTHEST = 5
"""Percentile of the tiles, by their power at high frequencies, that is taken as free of detail."""
_LARGEST = 2**22
"""Pixels that are looked at; larger images are read at their center."""

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
        noise: Standard deviation per channel in levels of 255.
        gray_noise: Share of the noise's variance that all channels have in common, from 0 (independent) to 1 (gray).
        blur: Standard deviation of a Gaussian blur in pixels; `SHARP` for a sharp image. None where noise hides it.
        jpeg_quality: Quality of the JPEG file from 1 to 100; None for other files.
        full_chroma: Whether a JPEG keeps the chroma's resolution (4:4:4).
    """

    noise: float
    gray_noise: float
    blur: float | None
    jpeg_quality: int | None = None
    full_chroma: bool = True


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
    levels = _center(image).astype(np.float64) * (255 / np.iinfo(image.dtype).max)
    noise, gray_noise = _noise(levels)
    gray = levels @ np.array([0.299, 0.587, 0.114])
    # Of independent noise in R, G and B, luma keeps 0.45 of the variance; of gray noise all of it.
    luma_noise = noise * np.sqrt(gray_noise + (1 - gray_noise) * 0.447)
    quality, full_chroma = jpeg_settings(content) if content.startswith(b"\xff\xd8") else (None, True)
    return Traces(noise, gray_noise, _blur(gray, float(luma_noise)), quality, full_chroma)


def jpeg_settings(content: bytes) -> tuple[int, bool]:
    """Return the quality (1 to 100, as the IJG library counts) of a JPEG file, and whether its chroma is full (4:4:4).

    Raises:
        SrlibError: Not a JPEG file.
    """
    try:
        with Pillow.open(io.BytesIO(content), formats=["JPEG"]) as image:
            table = np.sort(getattr(image, "quantization", {}).get(0, []))
            layers = [layer[1:3] for layer in getattr(image, "layer", [])]
    except (OSError, SyntaxError, ValueError) as error:
        raise SrlibError(f"not a JPEG file ({error})") from None
    if len(table) != 64:
        raise SrlibError("a JPEG file without a quantization table of 64 entries")
    errors = np.abs(_ijg_tables() - table).sum(axis=1)
    return int(errors.argmin()) + 1, len(set(layers)) <= 1


@functools.cache
def _ijg_tables() -> npt.NDArray[np.int64]:
    """Return the sorted luminance table of each quality from 1 to 100, [100, 64]."""
    quality = np.arange(1, 101)[:, None]
    percent = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return np.asarray(np.clip((_K1 * percent + 50) // 100, 1, 255))


def _center(image: Pixels) -> Pixels:
    """Return the central part of a large image."""
    side = int(_LARGEST**0.5)
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _noise(levels: _Floats) -> tuple[float, float]:
    """Return the noise's standard deviation per channel, and the share of its variance that all channels share."""
    powers = np.stack([_high_power(plane) for plane in (*np.moveaxis(levels, 2, 0), levels.mean(axis=2))])
    clipped = np.asarray(((levels <= 0) | (levels >= 255)).any(axis=2), np.float64)
    unclipped = _tiles(clipped).mean(axis=(1, 2)) < 0.05
    if unclipped.sum() >= 8:
        powers = powers[:, unclipped]
    smoothest = np.argsort(powers[3])[: max(1, len(powers[3]) * _SMOOTHEST // 100 + 1)]
    variances = np.percentile(powers, _SMOOTHEST, axis=1) / _white_noise(powers.shape[1])
    variance = float(variances[:3].mean())
    in_common = float(powers[3, smoothest].mean() / max(powers[:3, smoothest].mean(), 1e-9))
    # The mean of three channels keeps a third of independent noise, and all of common noise.
    return variance**0.5, float(np.clip((in_common - 1 / 3) * 1.5, 0, 1))


@functools.cache
def _white_noise(tiles: int) -> float:
    """Return what `_SMOOTHEST` of so many tiles of white noise with variance 1 have as power."""
    noise = np.random.default_rng(0).normal(size=(_NOISE_TILE, _NOISE_TILE * min(max(tiles // 2, 8), 512)))
    return float(np.percentile(_high_power(noise), _SMOOTHEST))


def _high_power(plane: _Floats) -> _Floats:
    """Return the mean power of each tile at high frequencies, [tiles]; white noise of variance 1 has about 1."""
    high = _frequencies(_NOISE_TILE) > _LOWEST_NOISE_FREQUENCY
    return np.asarray(_power(_tiles(plane))[:, high].mean(axis=1))


def _tiles(plane: _Floats, side: int = _NOISE_TILE) -> _Floats:
    """Return the tiles [count, side, side] of a plane [h, w], half overlapping."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (side, side))
    return windows[:: side // 2, :: side // 2].reshape(-1, side, side)


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


def _blur(gray: _Floats, noise: float) -> float | None:
    """Return σ of the blur from the slope of the power spectrum, or None where too little of it is above the noise."""
    power = _power(_tiles(gray, _BLUR_TILE)).mean(axis=0)
    distance = _frequencies(_BLUR_TILE)
    edges = np.arange(1.5, 0.42 * _BLUR_TILE) / _BLUR_TILE
    rings = np.digitize(distance, edges)
    frequency = (edges[:-1] + edges[1:]) / 2
    floor = noise**2 + 1 / 12  # and the rounding to whole levels
    signal = np.array([power[rings == ring].mean() for ring in range(1, len(edges))]) - floor
    usable = np.cumprod(signal > floor).astype(bool)  # up to the first frequency that noise covers
    if usable.sum() < 8:
        return None
    frequency, signal = frequency[usable], signal[usable]
    matrix = np.stack([np.ones_like(frequency), -np.log(frequency), -4 * np.pi**2 * frequency**2], axis=1)
    weights = np.sqrt(frequency)[:, None]  # so many bins lie on a ring
    solution = np.linalg.lstsq(matrix * weights, np.log(signal) * weights[:, 0], rcond=None)[0]
    return float(np.sqrt(max(solution[2], 0.0)))
