"""SRCNN: image super-resolution using deep convolutional networks (Dong et al. 2014/2016, arXiv:1501.00092)."""

from typing import Literal

import keras

from srlib.models.blocks import bicubic, centerd, conv


def srcnn(scale: int, *, filters: int = 64, middle: Literal[1, 3, 5] = 5, dtype: str = "float32") -> keras.Model:
    """Builds an SRCNN: float32 luma [B, h, w, 1] in [0, 1] → the same at [B, scale·h, scale·w, 1], not clipped.

    The paper's network refines a bicubic enlargement; here the enlargement is its first step, so that LR goes in. Three
    convolutions follow: 9×9, `middle`, 5×5. They keep the picture's size.

    Args:
        scale: 2, 3 or 4.
        filters: Width of the first convolution; the second has half of it. 64 in the paper.
        middle: Size of the second convolution: 1, 3 or 5 for the paper's 9-1-5, 9-3-5 and 9-5-5. The first has 8,032
            weights, the last, behind the scores in most tables, 57,184, plus 97 biases.
        dtype: Policy of the hidden layers; the last convolution is float32.
    """
    lr = keras.Input((None, None, 1), name="lr")
    x = centerd(bicubic(lr, scale))
    x = conv(filters, "extraction", size=9, activation="relu", kernel_initializer="he_normal", dtype=dtype)(x)
    x = conv(filters // 2, "mapping", size=middle, activation="relu", kernel_initializer="he_normal", dtype=dtype)(x)
    x = conv(1, "reconstruction", size=5, dtype="float32")(x)
    return keras.Model(lr, centerd(x, back=True), name="srcnn")
