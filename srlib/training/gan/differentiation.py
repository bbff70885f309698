"""Gradients at the generator's output: the one place that differentiates by itself instead of leaving it to Keras."""

from collections.abc import Callable
from typing import TypeAlias

import keras
from keras import ops

from srlib.training.types import Tensor

Terms: TypeAlias = Callable[[Tensor], dict[str, Tensor]]
"""Function from SR [B, H, W, C] to some scalars."""


def values_and_gradients(terms: Terms, sr: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the scalars that `terms` computes from `sr`, and ∂scalar/∂SR for each of them."""
    differentiate = {"tensorflow": _with_tensorflow, "jax": _with_jax}[keras.backend.backend()]
    return differentiate(terms, sr)


def _with_tensorflow(terms: Terms, sr: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sr)
        values = terms(sr)
    return values, {name: tape.gradient(value, sr, unconnected_gradients="zero") for name, value in values.items()}


def _with_jax(terms: Terms, sr: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    import jax

    values, pull_back = jax.vjp(terms, sr)
    one_hot = {
        name: {other: ops.ones_like(v) if other == name else ops.zeros_like(v) for other, v in values.items()}
        for name in values
    }
    return values, {name: pull_back(cotangents)[0] for name, cotangents in one_hot.items()}


def with_normalized_gradient(loss: Callable[[Tensor], Tensor], sr: Tensor) -> Tensor:
    """Return a loss whose gradient at SR is as long as that of the mean absolute error, 1 / √(number of values).

    A discriminator that tells SR from HR with certainty gives a gradient many times as long as the other losses', which
    then no longer count. The direction stays. After the adaptive weight of Esser et al. 2021 (VQGAN, arXiv:2012.09841,
    equation 7), without its dependence on the other losses.

    Args:
        loss: Function from SR to a scalar.
        sr: float32 [B, H, W, C].
    """
    values, gradients = values_and_gradients(lambda sr: {"loss": loss(sr)}, ops.stop_gradient(sr))
    gradient = ops.stop_gradient(gradients["loss"])
    length = ops.maximum(ops.sqrt(ops.sum(ops.square(gradient))), 1e-12)
    direction = gradient / (length * ops.sqrt(ops.cast(ops.size(sr), "float32")))
    linear = ops.sum(direction * sr)
    return linear + ops.stop_gradient(values["loss"] - linear)
