"""Faults of GAN output that PSNR does not show: a color cast, and checkerboard artifacts of period `scale`.

Images are uint8 RGB [H, W, 3], all of the same size, with HR and SR in the same order.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from srlib.imaging.metrics import luma
from srlib.training.types import ByteArray

Images: TypeAlias = Sequence[ByteArray]


def color_shift(hr: Images, sr: Images) -> tuple[float, float, float]:
    """Return the mean of SR − HR in red, green and blue, in levels of 255: the tint, whatever the content.

    Example:
        >>> hr = np.full((8, 8, 3), 100, np.uint8)
        >>> color_shift([hr], [hr + np.array([3, 0, 7], np.uint8)])
        (3.0, 0.0, 7.0)
    """
    shift = np.mean([np.mean(s.astype(float) - h, axis=(0, 1)) for h, s in zip(hr, sr, strict=True)], axis=0)
    return float(shift[0]), float(shift[1]), float(shift[2])


def checkerboard(hr: Images, sr: Images, scale: int) -> float:
    """Return the strength of the pattern of period `scale` that SR has beyond HR: root mean square, in levels of luma.

    Each LR pixel becomes scale × scale pixels, and a network that treats them differently leaves a checkerboard. It
    appears in the spectrum at multiples of 1/scale cycles per pixel. The power there, less the power nearby, less the
    same for HR is the square of the result; 0 where SR's peaks are no higher than HR's. From about 1 on the pattern is
    visible in flat areas.

    Args:
        hr: The ground truth.
        sr: The network's output.
        scale: Upscaling factor.
    """
    return float(np.sqrt(max(0.0, _peaks(sr, scale) - max(0.0, _peaks(hr, scale)))))


def _peaks(images: Images, scale: int) -> float:
    """Return the power of luma, in levels², in the peaks of period `scale`; negative where there are dips."""
    power = np.mean([_spectrum(luma(image)) for image in images], axis=0)
    height, width = power.shape
    total = 0.0
    for i in range(scale):
        for j in range(scale):
            if (i, j) != (0, 0):
                y, x = round(i * height / scale), round(j * width / scale)
                # Neighbors on the same axis, where the edges of natural images have their power too.
                neighbors = [(0, d) if j else (d, 0) for d in (-4, 4)]
                total += _around(power, y, x) - sum(_around(power, y + dy, x + dx) for dy, dx in neighbors) / 2
    return total


def _spectrum(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the periodogram under a Hann window, normalized to sum to the mean square of a stationary pattern."""
    window = np.outer(*(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in image.shape))
    window /= np.sqrt(np.sum(window**2))
    return np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2 / image.size


def _around(power: NDArray[np.float64], y: int, x: int) -> float:
    """Return the sum over 3 × 3 bins, which contain what a Hann window makes of one frequency."""
    rows, columns = (np.arange(-1, 2) + y) % power.shape[0], (np.arange(-1, 2) + x) % power.shape[1]
    return float(power[np.ix_(rows, columns)].sum())
