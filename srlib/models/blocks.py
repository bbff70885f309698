"""Parts that several super-resolution networks share."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from srlib.imaging.resize import cubic

# Uniform with variance 1 / (3 fan_in): what the published EDSR was initialized with. Its small residuals keep a deep
# chain of blocks without normalization stable.
INITIALIZER: dict[str, Any] = {
    "class_name": "VarianceScaling",
    "config": {"scale": 1 / 3, "mode": "fan_in", "distribution": "uniform"},
}


def conv(filters: int, name: str, *, size: int = 3, dtype: str = "float32", **options: Any) -> layers.Conv2D:
    """A convolution that keeps the picture's size, with the initialization of this room."""
    options.setdefault("kernel_initializer", keras.initializers.get(INITIALIZER))
    return layers.Conv2D(filters, size, padding="same", name=name, dtype=dtype, **options)


def prelu_layer(name: str, dtype: str) -> layers.PReLU:
    """A PReLU with one slope per channel, 0.25 at the start (He et al. 2015)."""
    start = keras.initializers.Constant(0.25)
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=start, name=name, dtype=dtype)


def upsample(x: Any, scale: int, filters: int, *, dtype: str = "float32", prelu: bool = False) -> Any:
    """Sub-pixel upsampling (Shi et al. 2016): [B, h, w, filters] → [B, scale·h, scale·w, filters].

    ×2 and ×3 are one step, ×4 is two of ×2. With `prelu`, each step ends in a PReLU (SRResNet).
    """
    for index, factor in enumerate([2, 2] if scale == 4 else [scale], start=1):
        x = conv(filters * factor**2, f"upsample{index}_conv", dtype=dtype)(x)
        x = ops.depth_to_space(x, factor)
        if prelu:
            x = prelu_layer(f"upsample{index}_prelu", dtype)(x)
    return x


def nearest_skip(lr: Any, residual: Any, scale: int) -> Any:
    """`residual` [B, scale·h, scale·w, 3] on top of the nearest-neighbor enlargement of `lr` [B, h, w, 3].

    The network then begins with a picture instead of with nothing, which a short training repays with a decibel and
    more (docs/training.md); Du et al. 2021 (arXiv:2105.09750) call it an anchor.
    """
    return ops.repeat(ops.repeat(lr, scale, axis=1), scale, axis=2) + residual


def scaled_initializer(factor: float) -> keras.initializers.Initializer:
    """The initialization of this room with values `factor` times as large."""
    options = INITIALIZER["config"]
    return keras.initializers.VarianceScaling(**{**options, "scale": factor**2 * options["scale"]})


LUMA_MEAN = 0.438
"""Mean of DIV2K's training pictures as `luma-studio`: their mean R, G, B (see edsr.py) by the same weights."""


def centerd(x: Any, *, back: bool = False) -> Any:
    """Luma minus its mean, or plus it with `back`.

    The biases of a first and a last convolution could hold it as well, but for the zeros around a picture: these then
    stand for mean gray. Where they stood for black, networks without it learned the frame of their training crops and
    were off by several levels on larger pictures (docs/networks.md).
    """
    offset = LUMA_MEAN if back else -LUMA_MEAN
    return layers.Rescaling(1.0, offset, name="add_mean" if back else "subtract_mean", dtype="float32")(x)


def bicubic(x: Any, scale: int) -> Any:
    """MATLAB's bicubic enlargement, edges clamped: float32 [B, h, w, 1] → [B, scale·h, scale·w, 1].

    Each of the scale² places within an LR pixel has its own 5×5 kernel, so one convolution and a sub-pixel step do it.
    It is `srlib.imaging.resize` without the rounding to whole levels after each pass and at the end.
    """
    taps = np.arange(-2, 3)
    centers = (2 * np.arange(scale) + 1) / (2 * scale) - 0.5
    weights = cubic(centers[:, None] - taps)
    weights /= weights.sum(axis=1, keepdims=True)
    kernel = np.einsum("yi,xj->ijyx", weights, weights).reshape(5, 5, 1, scale**2).astype(np.float32)
    # Clamped edges by concatenation: padding with the edge's value exists on no more than some backends.
    x = ops.concatenate([x[:, :1], x[:, :1], x, x[:, -1:], x[:, -1:]], axis=1)
    x = ops.concatenate([x[:, :, :1], x[:, :, :1], x, x[:, :, -1:], x[:, :, -1:]], axis=2)
    return ops.depth_to_space(ops.conv(x, kernel, padding="valid"), scale)
