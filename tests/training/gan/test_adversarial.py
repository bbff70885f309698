import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from srlib.training.gan import adversarial


def logits(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(-1, 1, 1, 1)


def value(tensor) -> float:
    return float(ops.convert_to_numpy(tensor))


def test_vanilla_losses_are_cross_entropies() -> None:
    real, fake = logits(2.0, -1.0), logits(0.5, -3.0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert value(adversarial.vanilla_generator(real, fake)) == pytest.approx(-np.log(sigmoid(fake)).mean(), rel=1e-5)
    expected = -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(fake)).mean()
    assert value(adversarial.vanilla_discriminator(real, fake)) == pytest.approx(expected, rel=1e-5)


def test_relativistic_losses_follow_esrgan() -> None:
    real, fake = logits(2.0, -1.0), logits(0.5, -3.0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    d_real, d_fake = sigmoid(real - fake.mean()), sigmoid(fake - real.mean())
    discriminator = -np.log(d_real).mean() - np.log(1 - d_fake).mean()
    generator = -np.log(1 - d_real).mean() - np.log(d_fake).mean()
    assert value(adversarial.relativistic_discriminator(real, fake)) == pytest.approx(discriminator, rel=1e-5)
    assert value(adversarial.relativistic_generator(real, fake)) == pytest.approx(generator, rel=1e-5)


def test_paired_losses_compare_each_position() -> None:
    real, fake = logits(2.0, -1.0), logits(0.5, -3.0)
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    assert value(adversarial.paired_discriminator(real, fake)) == pytest.approx(-np.log(sigmoid(real - fake)).mean())
    assert value(adversarial.paired_generator(real, fake)) == pytest.approx(-np.log(sigmoid(fake - real)).mean())


def test_paired_losses_ignore_what_a_scene_adds() -> None:
    real, fake, scene = logits(2.0, -1.0), logits(0.5, -3.0), logits(7.0, -4.0)
    for loss in (adversarial.paired_generator, adversarial.paired_discriminator):
        assert value(loss(real + scene, fake + scene)) == pytest.approx(value(loss(real, fake)), rel=1e-5)


@pytest.mark.parametrize("name", adversarial.ADVERSARIAL_LOSSES)
def test_extreme_scores_stay_finite(name: str) -> None:
    sides = adversarial.ADVERSARIAL_LOSSES[name]
    for loss in (sides.generator, sides.discriminator):
        assert np.isfinite(value(loss(logits(1e4, -1e4), logits(-1e4, 1e4))))


@settings(max_examples=20, deadline=None)
@given(st.floats(-5, 5), st.floats(0.1, 5))
def test_generator_and_discriminator_want_the_opposite(score: float, step: float) -> None:
    """A higher score of SR lowers the generator's loss and raises the discriminator's."""
    real = logits(1.0)
    for loss in adversarial.ADVERSARIAL_LOSSES.values():
        assert value(loss.generator(real, logits(score + step))) < value(loss.generator(real, logits(score)))
        assert value(loss.discriminator(real, logits(score + step))) > value(loss.discriminator(real, logits(score)))
