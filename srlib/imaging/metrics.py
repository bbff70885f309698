"""Metrics between two images, by the protocol behind the published Set5 and Set14 tables.

Images are uint8 RGB [H, W, 3]; `hr` is the original and `sr` the super-resolved image, of the same size. Cropping,
channel and rounding are decided here and nowhere else; the mean over images is `statistics.mean`. The documentation of
the evaluation protocol gives the reason for each rule, and what the usual mistakes cost.
"""

from numbers import Integral

import cv2
import numpy as np
import numpy.typing as npt

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.imaging import color as color

Plane = npt.NDArray[np.float64]

PEAK = 255.0
WINDOW = 11
"""Side of SSIM's Gaussian window in pixels."""

RGB_SHAVE = 6
"""Pixels that PSNR-RGB crops in addition to the scale, as the EDSR paper does on DIV2K."""

FLAWLESS = 100.0
"""PSNR in dB that an image counts at most where means must be finite: that of an image without any error is not."""

RUINED = 6.0
"""PSNR in dB by which a network that lies further below an earlier state of itself is ruined: twice the error."""

_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03


def to_uint8(image: npt.ArrayLike) -> Image:
    """Convert a model's output to 8 bits: clamped, scaled by 255, rounded half up.

    Args:
        image: Floats of any shape, in about [0, 1].

    Returns:
        uint8 of the same shape.

    Raises:
        SrlibError: The values are integers, or one is not a number (NaN).

    Example:
        >>> to_uint8([-0.1, 0.5, 2.0])
        array([  0, 128, 255], dtype=uint8)
    """
    values = np.asarray(image)
    if not np.issubdtype(values.dtype, np.floating):
        raise SrlibError(f"to_uint8: expected floats in [0, 1], got {values.dtype}")
    if np.isnan(values).any():
        raise SrlibError("to_uint8: the image holds values that are not numbers (NaN): the model has diverged")
    return np.floor(np.clip(values.astype(np.float64), 0, 1) * PEAK + 0.5).astype(np.uint8)


def luma(image: Image) -> Plane:
    """Return luma of uint8 RGB [H, W, 3] as float64 [H, W] in [16, 235]: ITU-R BT.601, studio range, not rounded."""
    return color.luma(_checked(image, "image"))


def psnr_y(hr: Image, sr: Image, *, scale: int) -> float:
    """Compute the peak signal-to-noise ratio of luma, as in the published Set5 and Set14 tables.

    Args:
        hr: The original, uint8 RGB [H, W, 3].
        sr: The image to score, of the same size.
        scale: Upscaling factor, and the number of pixels to crop on each side.

    Returns:
        PSNR in dB; infinite for equal images.

    Raises:
        SrlibError: Images of another kind or of different sizes, or nothing left after the crop.

    Example:
        >>> import numpy as np
        >>> hr = np.full((32, 32, 3), 100, np.uint8)
        >>> round(psnr_y(hr, hr + np.uint8(5), scale=4), 2)
        35.47
    """
    return _psnr(*(luma(image) for image in _pair(hr, sr, scale)))


def psnr_rgb(hr: Image, sr: Image, *, shave: int) -> float:
    """Return the PSNR over R, G and B together in dB; `shave` is scale + 6 in the EDSR paper's DIV2K tables."""
    return _psnr(*(image.astype(np.float64) for image in _pair(hr, sr, shave)))


def ssim_y(hr: Image, sr: Image, *, scale: int) -> float:
    """Compute the structural similarity of luma (Wang et al. 2004), as in the published Set5 and Set14 tables.

    Gaussian window of 11×11 with σ 1.5, only where it lies wholly inside the image, population covariance, K1 0.01,
    K2 0.03, range 255.

    Args:
        hr: The original, uint8 RGB [H, W, 3].
        sr: The image to score, of the same size.
        scale: Upscaling factor, and the number of pixels to crop on each side.

    Returns:
        SSIM from -1 to 1; 1 for equal images.

    Raises:
        SrlibError: Images of another kind or of different sizes, or fewer than 11×11 pixels left after the crop.

    Example:
        >>> import numpy as np
        >>> hr = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim_y(hr, hr, scale=4)
        1.0
    """
    x, y = (luma(image) for image in _pair(hr, sr, scale, smallest=WINDOW))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (_K1 * PEAK) ** 2, (_K2 * PEAK) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(likeness / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))))


def color_error(hr: Image, sr: Image, *, shave: int) -> float:
    """Return the error of the mean color: the Euclidean distance between the mean R, G, B, in levels of 255.

    Missing detail does not change it; a tint or a brightness that adversarial training drifts into does.
    """
    means = [image.mean(axis=(0, 1), dtype=np.float64) for image in _pair(hr, sr, shave)]
    return float(np.linalg.norm(means[1] - means[0]))


def check_size(height: int, width: int, *, scale: int) -> None:
    """Raise an SrlibError if an image of this size is too small for one of the protocol's metrics."""
    least = 2 * scale + max(WINDOW, 2 * RGB_SHAVE + 1)
    if min(height, width) < least:
        raise SrlibError(
            f"expected at least {least}×{least} pixels (the protocol crops up to {scale + RGB_SHAVE} on each side and "
            f"SSIM needs {WINDOW}), got {width}×{height}"
        )


def _psnr(x: Plane, y: Plane) -> float:
    error = float(np.mean((x - y) ** 2))
    return float(10 * np.log10(PEAK**2 / error)) if error else float("inf")


def _blur(plane: Plane) -> Plane:
    """Return the Gaussian-weighted local mean wherever the window fits: [h, w] → [h - 10, w - 10]."""
    radius = WINDOW // 2
    window = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * _SIGMA**2))
    window /= window.sum()
    blurred = cv2.sepFilter2D(plane, cv2.CV_64F, window, window)
    return np.asarray(blurred[radius:-radius, radius:-radius], np.float64)


def _pair(hr: Image, sr: Image, shave: int, smallest: int = 1) -> tuple[Image, Image]:
    """Check both images and crop `shave` pixels on each side."""
    _checked(hr, "hr")
    _checked(sr, "sr")
    if hr.shape != sr.shape:
        raise SrlibError(f"expected two images of the same size, got hr {hr.shape} and sr {sr.shape}")
    if not isinstance(shave, Integral):
        raise SrlibError(f"expected a whole number of pixels to crop on each side, got {shave!r}")
    shave = int(shave)
    height, width = hr.shape[0] - 2 * shave, hr.shape[1] - 2 * shave
    if shave < 0 or min(height, width) < smallest:
        raise SrlibError(
            f"expected at least {smallest}×{smallest} pixels after cropping {shave} on each side, "
            f"got {hr.shape[1]}×{hr.shape[0]} before it"
        )
    inside = (slice(shave, shave + height), slice(shave, shave + width))
    return hr[inside], sr[inside]


def _checked(image: Image, name: str) -> Image:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise SrlibError(f"{name}: expected uint8 RGB of shape [H, W, 3], got {got}")
    return image
