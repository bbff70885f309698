"""EDSR: enhanced deep residual networks for single image super-resolution (Lim et al. 2017, arXiv:1707.02921)."""

import keras
from keras import layers, ops

from srlib.models.blocks import conv, nearest_skip, scaled_initializer, upsample

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean R, G, B of DIV2K's training pictures, in [0, 1]."""


def edsr(
    scale: int,
    *,
    blocks: int = 16,
    filters: int = 64,
    residual_scaling: float = 1.0,
    skip: str = "none",
    dtype: str = "float32",
) -> keras.Model:
    """Builds an EDSR: float32 RGB [B, h, w, 3] in [0, 1] → the same at [B, scale·h, scale·w, 3], not clipped.

    Args:
        scale: 2, 3 or 4.
        blocks: Residual blocks of two convolutions without normalization; 16 in the baseline, 32 in the large model.
        filters: Width; 64 in the baseline, 256 in the large model.
        residual_scaling: Factor on each block's residual; 1 in the baseline, 0.1 in the large model.
        skip: `none` as published, or `nearest`: the network adds to the nearest-neighbor enlargement, and begins close
            to it.
        dtype: Policy of the convolutions. What the last one gives is small, SR less the mean or the nearest-neighbor
            enlargement; these are added in float32, so that few of bfloat16's 8 bits of mantissa are missed.

    The baseline ×4 has 1,517,571 parameters.
    """
    lr = keras.Input((None, None, 3), name="lr")
    x = layers.Rescaling(1.0, [-m for m in DIV2K_MEAN], name="subtract_mean", dtype="float32")(lr)
    x = head = conv(filters, "head", dtype=dtype)(x)
    for index in range(1, blocks + 1):
        residual = conv(filters, f"block{index}_conv1", dtype=dtype, activation="relu")(x)
        residual = conv(filters, f"block{index}_conv2", dtype=dtype)(residual)
        if residual_scaling != 1:
            residual = layers.Rescaling(residual_scaling, name=f"block{index}_scaling", dtype=dtype)(residual)
        x = layers.Add(name=f"block{index}_add", dtype=dtype)([x, residual])
    x = conv(filters, "body", dtype=dtype)(x)
    x = layers.Add(name="body_add", dtype=dtype)([x, head])
    x = upsample(x, scale, filters, dtype=dtype)
    if skip == "nearest":
        x = conv(3, "tail", dtype=dtype, kernel_initializer=scaled_initializer(0.1))(x)
        return keras.Model(lr, nearest_skip(lr, ops.cast(x, "float32"), scale), name="edsr")
    x = conv(3, "tail", dtype=dtype)(x)
    sr = layers.Rescaling(1.0, list(DIV2K_MEAN), name="add_mean", dtype="float32")(x)
    return keras.Model(lr, sr, name="edsr")
