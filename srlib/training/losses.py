"""Losses of images and of their features.

Images are float32 [B, H, W, C] in [0, 1]. Every loss is a scalar: a mean over the batch.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from keras import ops

from srlib.imaging.color import LUMA_WEIGHTS
from srlib.imaging.resize import contributions
from srlib.training.types import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def mae(hr: Tensor, sr: Tensor) -> Tensor:
    """Return the mean absolute error (L1), the loss of EDSR (Lim et al. 2017).

    Example:
        >>> import numpy as np
        >>> float(mae(np.float32([[[[0.0]]]]), np.float32([[[[0.5]]]])))
        0.5
    """
    return ops.mean(ops.abs(hr - sr))


def mse(hr: Tensor, sr: Tensor) -> Tensor:
    """Return the mean squared error, the loss of SRResNet (Ledig et al. 2017). It maximizes PSNR."""
    return ops.mean(ops.square(hr - sr))


def charbonnier(hr: Tensor, sr: Tensor, *, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of √((hr − sr)² + ε²), a smooth L1 (Charbonnier et al. 1994; Lai et al. 2017)."""
    return ops.mean(ops.sqrt(ops.square(hr - sr) + epsilon**2))


def psnr(hr: Tensor, sr: Tensor, *, floor: float = 0.01) -> Tensor:
    """Return the mean over the batch of `floor` · log(1 + MSE / floor²), with one MSE per image.

    PSNR takes the logarithm of each image's error before the mean, so that a decibel counts the same in a smooth image
    as in a busy one (Chen et al. 2021, HINet; there without a floor). Far below the floor the loss is proportional
    to the MSE; without it, patches that are nearly free of error would have unbounded gradients.

    Args:
        hr: The ground truth.
        sr: The network's output.
        floor: Root mean square error above which the logarithm takes effect; 0.01 is 40 dB.
    """
    return _decibels(ops.mean(ops.square(hr - sr), axis=(1, 2, 3)), floor)


def psnr_y(hr: Tensor, sr: Tensor, *, floor: float = 0.01, color: float = 0.1) -> Tensor:
    """Return the loss `psnr` of luma, with a share of `color` for the error in R, G and B.

    Benchmarks score luma alone, where the eye sees most detail, too. With the mean over R, G and B, what compression
    and noise do to color takes a part of a network's capacity. Images of one channel have the loss `psnr`.

    Args:
        hr: The ground truth.
        sr: The network's output.
        floor: As for `psnr`.
        color: Share of the RGB error. Without it, nothing would hold the colors.

    Example:
        >>> import numpy as np
        >>> gray, blue = np.full((1, 8, 8, 3), 0.1, np.float32), np.zeros((1, 8, 8, 3), np.float32)
        >>> blue[..., 2] = 0.1
        >>> [round(float(psnr_y(np.zeros_like(gray), image)), 4) for image in (gray, blue)]
        [0.0462, 0.0171]
    """
    error = hr - sr
    luma = ops.sum(error * np.array(LUMA_WEIGHTS, np.float32), axis=-1) if error.shape[-1] == 3 else error[..., 0]
    errors = (1 - color) * ops.mean(ops.square(luma), axis=(1, 2)) + color * ops.mean(ops.square(error), axis=(1, 2, 3))
    return _decibels(errors, floor)


def _decibels(errors: Tensor, floor: float) -> Tensor:
    """Return the mean of `floor` · log(1 + MSE / floor²) over the images' mean squared errors, [B]."""
    return floor * ops.mean(ops.log1p(errors / floor**2))


@dataclass(frozen=True)
class PixelLoss:
    """A loss of pre-training.

    Attributes:
        function: Its function of (HR, SR).
        hides_explosion: Whether it hardly grows when training diverges, so that another error must be monitored.
    """

    function: Loss
    hides_explosion: bool = False


PIXEL_LOSSES = {
    "mae": PixelLoss(mae),
    "mse": PixelLoss(mse),
    "charbonnier": PixelLoss(charbonnier),
    "psnr": PixelLoss(psnr, hides_explosion=True),  # a logarithm
    "psnr_y": PixelLoss(psnr_y, hides_explosion=True),
}
"""`pretrain.loss` → its function, and what it needs."""


def checkerboard(hr: Tensor, sr: Tensor, scale: int, *, side: int = 8) -> Tensor:
    """Return the strength of the error's component of period `scale`: checkerboard artifacts and color casts.

    The error at each of the scale² positions within an LR pixel is averaged over `side` × `side` LR pixels (windows
    overlap by half), and the mean of its absolute values is taken. Errors that vary from LR pixel to LR pixel
    cancel in the average; a pattern that repeats in every LR pixel does not.

    Args:
        hr: The ground truth.
        sr: The network's output.
        scale: Upscaling factor. Rows and columns beyond a multiple of it are ignored.
        side: Window size in LR pixels.
    """
    height, width = (size // scale for size in (hr.shape[1], hr.shape[2]))
    error = (sr - hr)[:, : height * scale, : width * scale]
    positions = ops.reshape(error, (-1, height, scale, width, scale * hr.shape[3]))
    positions = ops.reshape(ops.transpose(positions, (0, 1, 3, 2, 4)), (-1, height, width, scale**2 * hr.shape[3]))
    return ops.mean(ops.abs(ops.average_pool(positions, min(side, height, width), strides=max(side // 2, 1))))


def periodicity(hr: Tensor, sr: Tensor, scale: int, *, side: int = 2) -> Tensor:
    """Return how much stronger patterns of period `scale` are in SR than in HR, wherever they are.

    `checkerboard` sees a pattern that keeps its sign over many LR pixels. A network can also weave one that follows the
    content and changes its sign with it. Here, each LR pixel's scale² positions, less their best-fitting plane, are
    averaged over `side` × `side` LR pixels. What an LR pixel does not share with its neighbors cancels; the root mean
    square of the rest is the strength of the pattern. Only the excess over HR counts: a smooth image has no loss.

    Args:
        hr: The ground truth.
        sr: The network's output.
        scale: Upscaling factor. Rows and columns beyond a multiple of it are ignored.
        side: Window size in LR pixels.
    """
    return ops.mean(ops.relu(_periodic(sr, scale, side) - _periodic(hr, scale, side)))


def _periodic(image: Tensor, scale: int, side: int) -> Tensor:
    """Return the strength of patterns of period `scale` around each LR pixel, [B, h, w, C]."""
    height, width, channels = image.shape[1] // scale, image.shape[2] // scale, image.shape[3]
    cells = ops.reshape(image[:, : height * scale, : width * scale], (-1, height, scale, width, scale, channels))
    cells = ops.reshape(ops.transpose(cells, (0, 1, 3, 5, 2, 4)), (-1, height, width, channels * scale**2))
    shared = ops.average_pool(cells, min(side, height, width), strides=1)
    deviations = ops.reshape(shared, (-1, *shared.shape[1:3], channels, scale**2)) @ _without_plane(scale)
    return ops.sqrt(ops.mean(ops.square(deviations), axis=-1) + 1e-6)  # the gradient of a root has no bound at 0


@functools.cache
def _without_plane(scale: int) -> np.ndarray:
    """Return the projection of scale² positions that removes their best-fitting plane, float32 [scale², scale²]."""
    y, x = np.divmod(np.arange(scale**2), scale)
    plane = np.stack([np.ones_like(x), x, y], axis=1).astype(np.float64)
    return (np.eye(scale**2) - plane @ np.linalg.pinv(plane)).astype(np.float32)


def consistency(hr: Tensor, sr: Tensor, scale: int) -> Tensor:
    """Return the mean absolute error that remains after both are downscaled by MATLAB's bicubic.

    An SRGAN is free to invent what downscaling removes: this is the coarse part of its error, which LR shows. Only LR
    pixels whose kernel lies inside the image count, the first of them at the image's corner. So the grid of these
    pixels is that of LR only where the image begins with the kernel of an LR pixel. In training it lies elsewhere in
    each step, as the window of `GanTrainer` does, and an image that agrees with LR exactly keeps a small loss.

    Args:
        hr: The ground truth, at least 4 · `scale` pixels high and wide.
        sr: The network's output.
        scale: Upscaling factor.
    """
    kernel = np.repeat(_downscaling_kernel(scale)[:, :, None, None], hr.shape[3], axis=2)
    return ops.mean(ops.abs(ops.depthwise_conv(sr - hr, kernel, strides=scale, padding="valid")))


@functools.cache
def _downscaling_kernel(scale: int) -> np.ndarray:
    """Return the weights of HR in an LR pixel away from the border, float32 [taps, taps] with sum 1."""
    pixels = 16  # enough for one that is far from both borders
    _, weights = contributions(pixels * scale, pixels, Fraction(1, scale))
    taps = np.trim_zeros(weights[pixels // 2])
    return np.outer(taps, taps).astype(np.float32)


def artifact(hr: Tensor, sr: Tensor, *, side: int = 7) -> Tensor:
    """Return the mean absolute error, weighted by how much the error varies around each pixel.

    Artifacts and misplaced texture have errors that change from pixel to pixel; a blurred area has smooth ones. The
    weight is the variance of the absolute error in a window of `side` pixels, times the fifth root of its variance over
    the whole image (Liang et al. 2022, LDL, arXiv:2203.09195, equations 3 to 5). It is a constant for the gradient. The
    paper's refinement by averaged weights is left out.

    Args:
        hr: The ground truth.
        sr: The network's output.
        side: Side of the window in pixels, odd.
    """
    error = ops.sum(ops.abs(hr - sr), axis=-1, keepdims=True)

    def local_mean(values: Tensor) -> Tensor:
        return ops.average_pool(values, side, strides=1, padding="same")

    local = ops.maximum(local_mean(ops.square(error)) - ops.square(local_mean(error)), 0.0)
    overall = ops.var(error, axis=(1, 2, 3), keepdims=True) ** 0.2
    return ops.mean(ops.stop_gradient(overall * local) * ops.abs(hr - sr))


FAINT = (0.5 / 255) ** 2
"""Power of a frequency below which detail does not count in `regularity`: noise of half a level has it in each."""


def regularity(hr: Tensor, sr: Tensor, scale: int, *, side: int = 32) -> Tensor:
    """Return how much more regular the fine detail of SR is than that of HR: meshes and honeycombs of any period.

    A perceptual or adversarial loss asks for texture. Where LR holds none, a network of convolutions can hardly do
    other than repeat a pattern, and with a penalty on one period (`periodicity`) it takes another. In windows that
    overlap by half, the power of the frequencies that LR cannot hold is compared: the mean of its square over the
    square of its mean is 2 for noise, about 5 for photographs, and large where a few frequencies hold all of it. Only
    the excess over HR counts, as the difference of the logarithms.

    Args:
        hr: The ground truth.
        sr: The network's output.
        scale: Upscaling factor.
        side: Side of a window in pixels; at most the image's.
    """
    side = min(side, hr.shape[1], hr.shape[2])
    return ops.mean(ops.relu(_concentration(sr, scale, side) - _concentration(hr, scale, side)))


def _concentration(image: Tensor, scale: int, side: int) -> Tensor:
    """Return log(mean of the squared power / squared mean power) of each window's fine detail, [B, columns, rows]."""
    cosine, sine, band = _window_spectrum(side, scale)

    def windows(x: Tensor) -> Tensor:
        """[…, pixels] → […, windows, side]."""
        starts = range(0, x.shape[-1] - side + 1, max(side // 2, 1))
        return ops.stack([x[..., start : start + side] for start in starts], axis=-2)

    gray = windows(ops.mean(image, axis=-1))
    real, imaginary = (windows(ops.transpose(gray @ basis, (0, 2, 3, 1))) for basis in (cosine, sine))
    power = ops.square(real @ cosine - imaginary @ sine) + ops.square(real @ sine + imaginary @ cosine)
    power = ops.transpose(power, (0, 1, 3, 2, 4)) * band
    bins = max(float(np.sum(band)), 1.0)
    mean, square = (ops.sum(x, axis=(-2, -1)) / bins for x in (power, ops.square(power)))
    return ops.log(square + FAINT**2) - 2.0 * ops.log(mean + FAINT)


@functools.cache
def _window_spectrum(side: int, scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two bases of the Fourier transform with a Hann window, and the mask of what LR cannot hold."""
    n = np.arange(side)
    window = np.sin(np.pi * (n + 0.5) / side) ** 2
    window /= np.sqrt(np.mean(window**2))
    phase = 2 * np.pi * np.outer(n, n) / side
    frequency = np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency[None])
    bases = (window[:, None] * function(phase) / np.sqrt(side) for function in (np.cos, np.sin))
    band = (radius > 0.5 / scale) & (radius < 0.5)
    cosine, sine = (basis.astype(np.float32) for basis in bases)
    return cosine, sine, band.astype(np.float32)


def perceptual(hr_features: Tensor, sr_features: Tensor, *, scale: float, loss: str = "mse") -> Tensor:
    """Return `scale` times the mean difference between feature maps.

    Args:
        hr_features: Feature maps of the ground truth.
        sr_features: Feature maps of the network's output.
        scale: Factor; 1 / 12.75² in the SRGAN paper (Ledig et al. 2017, equation 5).
        loss: A key of `PIXEL_LOSSES`: `mse` in the paper, `mae` in ESRGAN's code.
    """
    return scale * PIXEL_LOSSES[loss].function(hr_features, sr_features)


def texture(hr_features: Tensor, sr_features: Tensor, *, stride: int, side: int = 16) -> Tensor:
    """Return the mean absolute difference between the Gram matrices of feature maps in windows.

    A Gram matrix holds, for each pair of channels, the mean of their product over a window: how strong the structures
    are that the channels see, and which occur together. Where they are does not matter, so that texture need not lie
    where it does in HR to be right. After the texture loss of EnhanceNet (Sajjadi et al. 2017, arXiv:1612.07919,
    equation 5), which squares the difference.

    Args:
        hr_features: Feature maps of the ground truth, [B, h, w, C].
        sr_features: Feature maps of the network's output.
        stride: Pixels of the image per pixel of the feature maps.
        side: Side of the windows in pixels of the image; each has at least 4 × 4 pixels of the feature maps, or all.
    """
    height, width, channels = hr_features.shape[1:]
    pixels = min(max(side // stride, 4), height, width)

    def gram(features: Tensor) -> Tensor:
        rows, columns = height // pixels, width // pixels
        windows = features[:, : rows * pixels, : columns * pixels]
        windows = ops.reshape(windows, (-1, rows, pixels, columns, pixels, channels))
        windows = ops.reshape(ops.transpose(windows, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, pixels**2, channels))
        return ops.matmul(ops.transpose(windows, (0, 1, 2, 4, 3)), windows) / pixels**2

    return mae(gram(hr_features), gram(sr_features))
