"""Enlarging a picture with a trained model."""

from collections.abc import Callable
from typing import Any

import numpy as np

from srlib.evaluation.metrics import to_uint8


def upscaler(model: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function that enlarges pictures with a Keras model of `srlib.models`.

    Returns:
        uint8 RGB [h, w, 3] → uint8 RGB [scale·h, scale·w, 3], clamped and rounded as the evaluation protocol says.
    """
    from keras import ops

    def upscale(lr: np.ndarray) -> np.ndarray:
        batch = lr[np.newaxis].astype(np.float32) / np.float32(255)
        return to_uint8(ops.convert_to_numpy(model(batch, training=False))[0])

    return upscale
