"""A loss whose gradient at SR keeps its length."""

import numpy as np
import pytest
from keras import ops

from srlib.training.gan.differentiation import values_and_gradients, with_normalized_gradient
from srlib.training.gan.gradient_shares import gradient_norms

from .test_trainer import batch, gradients, trainer


def images(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((2, 16, 16, 3), np.float32)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4])
def test_the_length_is_that_of_the_mean_absolute_error(factor: float) -> None:
    hr, sr = images(0), ops.convert_to_tensor(images(1))

    def loss(sr):
        return factor * ops.mean(ops.square(sr - hr) * hr)

    norms = gradient_norms(
        lambda sr: {"normalized": with_normalized_gradient(loss, sr), "mae": ops.mean(ops.abs(sr - hr))}, sr
    )
    assert norms["normalized"] == pytest.approx(norms["mae"], rel=1e-4)


def test_value_and_direction_are_those_of_the_loss() -> None:
    hr, sr = images(0), ops.convert_to_tensor(images(1))

    def loss(sr):
        return ops.mean(ops.square(sr - hr) * hr)

    values, gradients = values_and_gradients(
        lambda sr: {"as it is": loss(sr), "normalized": with_normalized_gradient(loss, sr)}, sr
    )
    assert float(values["normalized"]) == pytest.approx(float(values["as it is"]), rel=1e-5)
    one, other = (ops.convert_to_numpy(gradient).ravel() for gradient in gradients.values())
    assert np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other) == pytest.approx(1, abs=1e-5)


def test_a_loss_without_a_gradient_stays_without_one() -> None:
    sr = ops.convert_to_tensor(images(1))
    norms = gradient_norms(lambda sr: {"loss": with_normalized_gradient(lambda sr: ops.sum(sr) * 0.0, sr)}, sr)
    assert norms == {"loss": 0.0}


def test_a_certain_discriminator_keeps_its_share() -> None:
    """Logits a thousand times as large, and the adversarial loss still has the same share of the gradient."""
    gan = trainer(adversarial_normalized=True, adversarial_weight=0.5)  # its own networks: this test changes them
    before = gan.gradient_shares(*batch())["share_adversarial"]
    kernel = gan.discriminator.layers[-1].kernel
    kernel.assign(kernel * 1000.0)
    after = gan.gradient_shares(*batch())["share_adversarial"]
    assert before == pytest.approx(after, rel=1e-3) and before > 0.01
    assert np.isfinite(gradients(gan)).all()
