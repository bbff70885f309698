"""The discriminator of the SRGAN (Ledig et al. 2017, arXiv:1609.04802), scoring patches."""

import keras
from keras import layers

CONVOLUTIONS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
"""(width as a multiple of `filters`, stride) of each convolution: 64 to 512 filters in the paper."""

REDUCTION = 16
"""Stride of the outputs in pixels: the product of all strides."""


def discriminator(filters: int = 64, *, dtype: str = "float32") -> keras.Model:
    """Build the discriminator.

    As in the paper: 3×3 convolutions, batch normalization from the second on, LeakyReLU 0.2. The paper's two dense
    layers (1024 units, then one) are applied at each position instead of to the flattened feature map, so that images
    may have any size and each patch gets its own score. There is no sigmoid: the losses take logits.

    Args:
        filters: Width of the first convolution; 64 in the paper.
        dtype: Keras dtype policy of the hidden layers.

    Returns:
        A model: RGB [B, H, W, 3] in [0, 1] → float32 logits [B, ⌈H/16⌉, ⌈W/16⌉, 1].
    """
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(2.0, -1.0, name="to_plus_minus_one", dtype="float32")(image)
    for index, (width, stride) in enumerate(CONVOLUTIONS, start=1):
        x = layers.Conv2D(
            filters * width, 3, stride, padding="same", use_bias=index == 1, name=f"conv{index}", dtype=dtype
        )(x)
        if index > 1:
            x = layers.BatchNormalization(name=f"norm{index}", dtype=dtype)(x)
        x = layers.LeakyReLU(0.2, name=f"relu{index}", dtype=dtype)(x)
    x = layers.Dense(filters * 16, name="dense1", dtype=dtype)(x)
    x = layers.LeakyReLU(0.2, name="relu_dense1", dtype=dtype)(x)
    logits = layers.Dense(1, name="dense2", dtype="float32")(x)
    return keras.Model(image, logits, name="discriminator")
