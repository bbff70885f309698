"""FSRCNN: accelerating the super-resolution convolutional neural network (Dong et al. 2016, arXiv:1608.00367)."""

import keras
from keras import layers

from srlib.models.blocks import centerd, conv, prelu_layer

# How the paper starts its transposed convolution.
_SMALL = {"class_name": "RandomNormal", "config": {"stddev": 0.001}}


def fsrcnn(scale: int, *, filters: int = 56, shrink: int = 12, blocks: int = 4, dtype: str = "float32") -> keras.Model:
    """Builds an FSRCNN: float32 luma [B, h, w, 1] in [0, 1] → the same at [B, scale·h, scale·w, 1], not clipped.

    As in the paper: 5×5 features, 1×1 shrinking, 3×3 mapping, 1×1 expanding, each with a PReLU, all on LR, then one
    transposed convolution of 9×9 with a stride of `scale`, which alone depends on the scale.

    Args:
        scale: 2, 3 or 4.
        filters: Width of features and expansion; 56 in the paper (its d), 32 in the small FSRCNN-s.
        shrink: Width of the mapping; 12 in the paper (its s), 5 in FSRCNN-s.
        blocks: 3×3 convolutions of the mapping; 4 in the paper (its m), 1 in FSRCNN-s.
        dtype: Policy of the hidden layers; the transposed convolution is float32.

    The paper's has 12,464 weights, FSRCNN-s 3,937, plus biases and slopes.
    """
    lr = keras.Input((None, None, 1), name="lr")
    x = centerd(lr)
    steps = [("features", filters, 5), ("shrink", shrink, 1)]
    steps += [(f"mapping{index}", shrink, 3) for index in range(1, blocks + 1)]
    for name, width, size in [*steps, ("expand", filters, 1)]:
        x = conv(width, name, size=size, kernel_initializer="he_normal", dtype=dtype)(x)
        x = prelu_layer(f"{name}_prelu", dtype)(x)
    x = layers.Conv2DTranspose(
        1, 9, scale, padding="same", name="upsample_deconv", kernel_initializer=_SMALL, dtype="float32"
    )(x)
    return keras.Model(lr, centerd(x, back=True), name="fsrcnn")
