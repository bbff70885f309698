"""Enlarging a picture with a trained model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from srlib.evaluation.metrics import to_uint8
from srlib.models import load_model


def upscaler(folder: Path, *, dtype: str = "float32") -> Callable[[np.ndarray], np.ndarray]:
    """A function that enlarges pictures with the model in `folder`.

    Returns:
        uint8 RGB [h, w, 3] → uint8 RGB [scale·h, scale·w, 3], clamped and rounded as the evaluation protocol says.

    Raises:
        SrlibError: There is no usable model in `folder`.
    """
    from keras import ops

    model, _ = load_model(folder, dtype=dtype)

    def upscale(lr: np.ndarray) -> np.ndarray:
        batch = lr[np.newaxis].astype(np.float32) / np.float32(255)
        return to_uint8(ops.convert_to_numpy(model(batch, training=False))[0])

    return upscale
