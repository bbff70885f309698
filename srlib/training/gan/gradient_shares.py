"""How much each term of a loss pulls at the picture: the norms of its gradient with respect to SR.

The one place that differentiates by itself instead of leaving it to Keras, and so the one that knows the backends.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

Terms = Callable[[Any], dict[str, Any]]


def gradient_norms(terms: Terms, sr: Any) -> dict[str, float]:
    """Norm of ∂term/∂SR for each of the scalars that `terms` computes from `sr` [B, H, W, C]."""
    differentiate = {"tensorflow": _tensorflow, "jax": _jax}[keras.backend.backend()]
    gradients = differentiate(terms, sr)
    return {
        name: float(np.linalg.norm(ops.convert_to_numpy(gradient).astype(np.float64)))
        for name, gradient in gradients.items()
    }


def _tensorflow(terms: Terms, sr: Any) -> dict[str, Any]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sr)
        values = terms(sr)
    return {name: tape.gradient(value, sr, unconnected_gradients="zero") for name, value in values.items()}


def _jax(terms: Terms, sr: Any) -> dict[str, Any]:
    import jax

    values, pull_back = jax.vjp(terms, sr)
    chosen = {
        name: {other: ops.ones_like(v) if other == name else ops.zeros_like(v) for other, v in values.items()}
        for name in values
    }
    return {name: pull_back(cotangents)[0] for name, cotangents in chosen.items()}


def shares(norms: dict[str, float]) -> dict[str, float]:
    """Each norm over the sum of all; 0 throughout where all are 0."""
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}
