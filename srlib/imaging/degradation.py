"""Degrade an image as cameras, web sites and messengers do: blur, resizing, noise and lossy compression.

Each function is one operation with fixed settings; `srlib.data.degradation` draws the settings at random. Images are
float32 RGB [height, width, 3] with values in about [0, 1], unless stated otherwise. Every operation keeps the image
aligned: kernels are centered, and resizing maps the full extent of the image to the full extent of the result.

Sources: Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833), section 3; Zhang et al. 2021 (BSRGAN, arXiv:2103.14006).
"""

import io
import math
from typing import Literal, get_args

import cv2
import numpy as np
from PIL import Image

from srlib.errors import SrlibError

Method = Literal["area", "bilinear", "bicubic"]
Codec = Literal["jpeg", "webp"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]

_INTERPOLATION = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
_PILLOW_SUBSAMPLING = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}


def gaussian_kernel(
    sigma_x: float, sigma_y: float | None = None, *, angle: float = 0.0, shape: float = 1.0
) -> np.ndarray:
    """Return a normalized blur kernel: isotropic, anisotropic or generalized Gaussian.

    The density is exp(−½ r^shape) with r = zᵀ Σ⁻¹ z; `shape` 1 is the Gaussian, below 1 it has heavier tails, above 1
    a flatter top (Liu et al. 2020, arXiv:1912.01155; used by Real-ESRGAN).

    Args:
        sigma_x: Standard deviation along the first axis of the ellipse in pixels, above 0.
        sigma_y: Standard deviation along the second axis; None for an isotropic kernel.
        angle: Rotation of the first axis against the horizontal in radians.
        shape: Exponent of the generalized Gaussian, above 0.

    Returns:
        float32 [k, k] with sum 1; k is odd and covers at least 3 standard deviations on each side.

    Raises:
        SrlibError: A standard deviation or the shape is not positive.

    Example:
        >>> kernel = gaussian_kernel(1.0)
        >>> kernel.shape, round(float(kernel.sum()), 6)
        ((7, 7), 1.0)
    """
    sigma_y = sigma_x if sigma_y is None else sigma_y
    if min(sigma_x, sigma_y, shape) <= 0:
        raise SrlibError(f"blur: expected sigma and shape above 0, got {sigma_x}, {sigma_y} and {shape}")
    radius = math.ceil(3 * max(sigma_x, sigma_y))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    distance = (along / sigma_x) ** 2 + (across / sigma_y) ** 2
    kernel = np.exp(-0.5 * distance**shape)
    return np.asarray(kernel / kernel.sum(), np.float32)


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel with a kernel; edges are mirrored.

    Args:
        image: float32 [height, width, 3].
        kernel: float32 [k, k], odd and symmetric under a rotation by 180 degrees.
    """
    return np.asarray(cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def resample(image: np.ndarray, height: int, width: int, method: Method) -> np.ndarray:
    """Resize to `height` × `width` as common software does, that is without antialiasing except for `area`.

    Args:
        image: float32 [h, w, 3].
        height: Target height in pixels, at least 1.
        width: Target width in pixels, at least 1.
        method: `area`, `bilinear` or `bicubic`.

    Raises:
        SrlibError: An unknown method.
    """
    if method not in _INTERPOLATION:
        raise SrlibError(f"resize: expected {', '.join(get_args(Method))}, got {method}")
    return np.asarray(cv2.resize(image, (max(width, 1), max(height, 1)), interpolation=_INTERPOLATION[method]))


def gaussian_noise(
    image: np.ndarray, sigma: float, generator: np.random.Generator, *, gray: bool = False
) -> np.ndarray:
    """Add Gaussian noise.

    Args:
        image: float32 [height, width, 3].
        sigma: Standard deviation in levels of 255.
        generator: Source of randomness.
        gray: Add the same noise to all channels.
    """
    noise = generator.standard_normal((*image.shape[:2], 1 if gray else 3), np.float32)
    return np.asarray(image + np.float32(sigma / 255) * noise)


def poisson_noise(image: np.ndarray, scale: float, generator: np.random.Generator, *, gray: bool = False) -> np.ndarray:
    """Add shot noise, whose variance is proportional to the brightness.

    A value v receives noise of variance scale · v / 255 in units of [0, 1], that is a standard deviation of
    √(scale · v · 255) levels of 255. The Gaussian limit of the Poisson distribution is used, which is fast and
    differs only for a few photons per pixel.

    Args:
        image: float32 [height, width, 3].
        scale: Noise strength; 1 corresponds to 255 photons at full brightness.
        generator: Source of randomness.
        gray: Compute the noise from luma and add it to all channels.
    """
    signal = (
        np.clip(image @ np.array([0.299, 0.587, 0.114], np.float32), 0, 1)[..., None] if gray else np.clip(image, 0, 1)
    )
    noise = generator.standard_normal(signal.shape, np.float32)
    return np.asarray(image + np.sqrt(np.float32(scale / 255) * signal) * noise)


def compress(image: np.ndarray, codec: Codec, quality: int, *, subsampling: Subsampling = "4:2:0") -> np.ndarray:
    """Encode and decode by the real encoder (libjpeg-turbo or libwebp, through Pillow).

    Args:
        image: float32 [height, width, 3]; it is clipped and rounded to uint8 first.
        codec: `jpeg` or `webp`.
        quality: 1 to 100.
        subsampling: Chroma subsampling of JPEG.

    Returns:
        float32 [height, width, 3] in [0, 1], whole levels of 255.
    """
    content = io.BytesIO()
    source = Image.fromarray(to_uint8(image))
    if codec == "jpeg":
        source.save(content, "JPEG", quality=quality, subsampling=_PILLOW_SUBSAMPLING[subsampling])
    elif codec == "webp":
        source.save(content, "WEBP", quality=quality, method=0)
    else:
        raise SrlibError(f"compression: expected {' or '.join(get_args(Codec))}, got {codec}")
    with Image.open(content) as decoded:
        return from_uint8(np.asarray(decoded.convert("RGB")))


def from_uint8(image: np.ndarray) -> np.ndarray:
    """Convert uint8 [0, 255] to float32 [0, 1]."""
    return np.asarray(image, np.float32) / np.float32(255)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Clip float32 to [0, 1] and round half up to uint8."""
    return np.asarray(np.floor(np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)), np.uint8)
