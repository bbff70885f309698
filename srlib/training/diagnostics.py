"""What a GAN does to pictures and no PSNR tells: a color cast, and a checkerboard with the period of the enlargement.

Pictures are uint8 RGB [H, W, 3], all of one size, HR and SR in the same order.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from srlib.imaging.metrics import luma

Pictures = Sequence[npt.NDArray[np.uint8]]


def color_shift(hr: Pictures, sr: Pictures) -> tuple[float, float, float]:
    """Mean of SR − HR in red, green and blue, in levels of 255: what a tint is, whatever the content."""
    shift = np.mean([np.mean(s.astype(float) - h, axis=(0, 1)) for h, s in zip(hr, sr, strict=True)], axis=0)
    return float(shift[0]), float(shift[1]), float(shift[2])


def checkerboard(hr: Pictures, sr: Pictures, scale: int) -> float:
    """How strong a pattern of period `scale` SR carries beyond HR: its root mean square in levels of luma.

    Each LR pixel becomes scale × scale pixels; a network that treats them unequally leaves a checkerboard. It stands
    out in the spectrum at multiples of 1/scale cycles per pixel: the power there, less the power beside, less
    the same of HR. 0 where SR's peaks are no higher than HR's; from about 1 on it shows in flat areas.
    """
    return float(np.sqrt(max(0.0, _peaks(sr, scale) - max(0.0, _peaks(hr, scale)))))


def _peaks(pictures: Pictures, scale: int) -> float:
    """Power of luma, in levels², in the peaks of period `scale`; negative where there are hollows."""
    power = np.mean([_spectrum(luma(picture)) for picture in pictures], axis=0)
    height, width = power.shape
    found = 0.0
    for i in range(scale):
        for j in range(scale):
            if (i, j) != (0, 0):
                y, x = round(i * height / scale), round(j * width / scale)
                # Beside the peak along the same axis, where the edges of natural pictures lie too.
                beside = [(0, d) if j else (d, 0) for d in (-4, 4)]
                found += _around(power, y, x) - sum(_around(power, y + dy, x + dx) for dy, dx in beside) / 2
    return found


def _spectrum(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Periodogram under a Hann window, normalized so that it sums to the mean square of a stationary pattern."""
    window = np.outer(*(np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in picture.shape))
    window /= np.sqrt(np.sum(window**2))
    return np.abs(np.fft.fft2((picture - picture.mean()) * window)) ** 2 / picture.size


def _around(power: npt.NDArray[np.float64], y: int, x: int) -> float:
    """Sum over 3 × 3 bins, which hold what a Hann window makes of one frequency."""
    rows, columns = (np.arange(-1, 2) + y) % power.shape[0], (np.arange(-1, 2) + x) % power.shape[1]
    return float(power[np.ix_(rows, columns)].sum())
