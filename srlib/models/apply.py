"""Apply a network to images, and count its multiply-adds."""

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from srlib.arrays import Pixels
from srlib.imaging import color

if TYPE_CHECKING:
    import keras


def super_resolve(model: "keras.Model", lr: Pixels) -> npt.NDArray[np.floating]:
    """Upscale images with a network; for a luma network, chroma is upscaled by bicubic interpolation.

    Args:
        model: A network as `build` or `load_model` return it.
        lr: uint8 or uint16 RGB [B, h, w, 3].

    Returns:
        RGB floats [B, scale·h, scale·w, 3] in about [0, 1], not clipped.
    """
    from keras import ops

    channels = channels_of(model)
    sr = ops.convert_to_numpy(model(color.network_input(lr, channels), training=False))
    return color.rgb_from_output(sr, lr, channels)


def channels_of(model: "keras.Model") -> color.Channels:
    """Return the channels that a network works on, from the shape of its input."""
    return "luma-studio" if model.input.shape[-1] == 1 else "rgb"


def multiply_adds(model: "keras.Model", height: int, width: int) -> int:
    """Return the multiply-adds of all convolutions for one LR image of `height` × `width`.

    A convolution applies its kernel once per output pixel, a transposed one once per input pixel. SRCNN's bicubic
    upscaling is not counted: its weights are fixed, and its 25 per HR pixel are a few per mille of the rest at most.
    """
    import keras
    from keras import layers

    convolutions = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Conv2DTranspose))]
    tensors = [c.input if isinstance(c, layers.Conv2DTranspose) else c.output for c in convolutions]
    probe = keras.Model(model.input, tensors)
    specs = probe.compute_output_spec(keras.KerasTensor((1, height, width, model.input.shape[-1])))
    return sum(
        spec.shape[1] * spec.shape[2] * math.prod(layer.kernel.shape)
        for layer, spec in zip(convolutions, specs, strict=True)
    )
