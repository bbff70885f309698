"""ESPCN: an efficient sub-pixel convolutional neural network (Shi et al. 2016, arXiv:1609.05158)."""

import keras
from keras import ops

from srlib.models.blocks import centerd, conv


def espcn(scale: int, *, filters: int = 64, dtype: str = "float32") -> keras.Model:
    """Builds an ESPCN: float32 luma [B, h, w, 1] in [0, 1] → the same at [B, scale·h, scale·w, 1], not clipped.

    As in the paper: 5×5, 3×3 and 3×3 convolutions on LR with tanh between them; the last gives scale² values for each
    pixel, which become its scale × scale pixels of HR.

    Args:
        scale: 2, 3 or 4.
        filters: Width of the first convolution; the second has half of it. 64 in the paper.
        dtype: Policy of the hidden layers; the last convolution is float32.

    The paper's ×3 has 22,624 weights, ×4 24,640, plus biases.
    """
    lr = keras.Input((None, None, 1), name="lr")
    x = conv(filters, "features", size=5, activation="tanh", kernel_initializer="glorot_uniform", dtype=dtype)(
        centerd(lr)
    )
    x = conv(filters // 2, "mapping", activation="tanh", kernel_initializer="glorot_uniform", dtype=dtype)(x)
    x = conv(scale**2, "upsample_conv", dtype="float32")(x)
    return keras.Model(lr, centerd(ops.depth_to_space(x, scale), back=True), name="espcn")
