"""Layers that several super-resolution networks share. Shapes are [batch, height, width, channels]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, Unpack

import numpy as np

from srlib.imaging.resize import cubic
from srlib.models.lazy import keras, layers, ops

if TYPE_CHECKING:
    from keras import KerasTensor

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean R, G, B of DIV2K's training images, in [0, 1]."""

LUMA_MEAN = 0.438
"""Their mean luma (`luma-studio`), computed from the mean R, G, B."""

LARGE_KERNEL_END = "_expand"
"""What the name of a large-kernel block's last layer ends in: with zeros there, the block changes nothing."""

_VARIANCE = 1 / 3


class ConvOptions(TypedDict):
    """Options of `conv` that go to `keras.layers.Conv2D`."""

    activation: NotRequired[Literal["relu", "tanh"]]
    kernel_initializer: NotRequired[str | keras.initializers.Initializer]


def scaled_initializer(factor: float) -> keras.initializers.Initializer:
    """Return the initializer of `conv` with weights `factor` times as large.

    Uniform with variance factor² / (3 fan_in). The published EDSR was initialized with a factor of 1; its small
    residuals keep a deep chain of blocks without normalization stable.
    """
    return keras.initializers.VarianceScaling(factor**2 * _VARIANCE, mode="fan_in", distribution="uniform")


def conv(
    filters: int, name: str, *, size: int = 3, dtype: str = "float32", **options: Unpack[ConvOptions]
) -> layers.Conv2D:
    """Return a convolution that keeps height and width, initialized by `scaled_initializer(1)`."""
    # Created even if another one is given: each initializer draws a seed, so their number affects all later weights.
    default = scaled_initializer(1.0)
    return layers.Conv2D(
        filters, size, padding="same", name=name, dtype=dtype, **{"kernel_initializer": default, **options}
    )


def prelu(name: str, dtype: str) -> layers.PReLU:
    """Return a PReLU with one slope per channel, initially 0.25 (He et al. 2015)."""
    start = keras.initializers.Constant(0.25)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=start, name=name, dtype=dtype)


def residual_block(x: KerasTensor, filters: int, name: str, *, scaling: float = 1.0, dtype: str) -> KerasTensor:
    """Add two convolutions with a ReLU between them, times `scaling`, to `x` [B, h, w, filters]: EDSR's block."""
    residual = conv(filters, f"{name}_conv1", dtype=dtype, activation="relu")(x)
    residual = conv(filters, f"{name}_conv2", dtype=dtype)(residual)
    if scaling != 1:
        residual = layers.Rescaling(scaling, name=f"{name}_scaling", dtype=dtype)(residual)
    return layers.Add(name=f"{name}_add", dtype=dtype)([x, residual])


def large_kernel_block(x: KerasTensor, channels: int, size: int, name: str, *, dtype: str) -> KerasTensor:
    """Add a large convolution with ReLU to `x` [B, h, w, filters], between 1×1 convolutions to `channels` and back."""
    large = conv(channels, f"{name}_reduce", size=1, dtype=dtype)(x)
    large = conv(channels, f"{name}_conv", size=size, dtype=dtype, activation="relu")(large)
    large = conv(x.shape[-1], f"{name}{LARGE_KERNEL_END}", size=1, dtype=dtype)(large)
    return layers.Add(name=f"{name}_add", dtype=dtype)([x, large])


def subpixel_skip(x: KerasTensor, lr: KerasTensor, scale: int, *, dtype: str) -> KerasTensor:
    """Add a sub-pixel convolution of `x` to the upscaled `lr`, in float32: [B, h, w, 3] → [B, scale·h, scale·w, 3]."""
    x = conv(3 * scale**2, "upsample_conv", dtype=dtype, kernel_initializer=scaled_initializer(0.1))(x)
    # LR, added to every sub-pixel, becomes its own nearest-neighbor upscaling.
    x = ops.cast(x, "float32") + ops.concatenate([lr] * scale**2, axis=-1)
    return ops.depth_to_space(x, scale)


def upsample(
    x: KerasTensor, scale: int, filters: int, *, dtype: str = "float32", activate: bool = False
) -> KerasTensor:
    """Upsample by sub-pixel convolution (Shi et al. 2016): [B, h, w, filters] → [B, scale·h, scale·w, filters].

    ×2 and ×3 are one step, ×4 is two steps of ×2. With `activate`, each step ends in a PReLU (SRResNet).
    """
    for index, factor in enumerate([2, 2] if scale == 4 else [scale], start=1):
        x = conv(filters * factor**2, f"upsample{index}_conv", dtype=dtype)(x)
        x = ops.depth_to_space(x, factor)
        if activate:
            x = prelu(f"upsample{index}_prelu", dtype)(x)
    return x


def nearest_skip(x: KerasTensor, lr: KerasTensor, scale: int, *, dtype: str) -> KerasTensor:
    """Add a convolution of `x` [B, scale·h, scale·w, filters] to the upscaled `lr` [B, h, w, 3], in float32.

    The network then starts from an image instead of from zeros, which gains a short training a decibel or more;
    Du et al. 2021 (arXiv:2105.09750) call it an anchor.
    """
    x = conv(3, "tail", dtype=dtype, kernel_initializer=scaled_initializer(0.1))(x)
    return ops.repeat(ops.repeat(lr, scale, axis=1), scale, axis=2) + ops.cast(x, "float32")


def subtract_mean(x: KerasTensor, mean: float | Sequence[float] = LUMA_MEAN) -> KerasTensor:
    """Subtract the mean of each channel, so that the zeros around an image stand for mean gray.

    Biases could learn the mean as well. But with zeros that stand for black, networks learned the frame of their
    training patches and were off by several levels on larger images (docs/experiments/2026-11-22-luma-networks.md).
    """
    return layers.Rescaling(1.0, np.negative(mean).tolist(), name="subtract_mean", dtype="float32")(x)


def add_mean(x: KerasTensor, mean: float | Sequence[float] = LUMA_MEAN) -> KerasTensor:
    """Add the mean of each channel: the inverse of `subtract_mean`."""
    return layers.Rescaling(1.0, np.asarray(mean).tolist(), name="add_mean", dtype="float32")(x)


def bicubic(x: KerasTensor, scale: int) -> KerasTensor:
    """Upscale by MATLAB's bicubic, edges clamped: float32 [B, h, w, 1] → [B, scale·h, scale·w, 1].

    Each of the scale² positions within an LR pixel has its own 5×5 kernel, so one convolution and a sub-pixel step
    suffice. This is `srlib.imaging.resize` without its rounding to whole levels after each pass.
    """
    taps = np.arange(-2, 3)
    centers = (2 * np.arange(scale) + 1) / (2 * scale) - 0.5
    weights = cubic(centers[:, None] - taps)
    weights /= weights.sum(axis=1, keepdims=True)
    kernel = np.einsum("yi,xj->ijyx", weights, weights).reshape(5, 5, 1, scale**2).astype(np.float32)
    # Concatenation, since only some backends can pad with the edge's value.
    x = ops.concatenate([x[:, :1], x[:, :1], x, x[:, -1:], x[:, -1:]], axis=1)
    x = ops.concatenate([x[:, :, :1], x[:, :, :1], x, x[:, :, -1:], x[:, :, -1:]], axis=2)
    return ops.depth_to_space(ops.conv(x, kernel, padding="valid"), scale)
