import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from srlib.models import ModelConfig, build
from srlib.models.discriminator import discriminator
from srlib.models.features import feature_network
from srlib.params import Finetune
from srlib.training.gan import GanTrainer, interpolate
from srlib.training.optimizer import Adam

NONE = {"content_weight": 0.0, "pixel_weight": 0.0, "adversarial_weight": 0.0}


def trainer(**options) -> GanTrainer:
    keras.utils.set_random_seed(3)
    params = Finetune.model_validate(
        {"crop": 24, "steps": 1, "learning_rate": {"peak": 1e-3}, "content_scale": 1e-5} | options
    )
    return GanTrainer(
        build(ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})),
        discriminator(4),
        feature_network("vgg19", ["block2_conv1"]),
        params,
    )


def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return (
        random.integers(0, 256, (2, 12, 12, 3), dtype=np.uint8),
        random.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8),
    )


def gradients(gan: GanTrainer) -> tuple[float, float]:
    """Norms of the loss's gradient with respect to (generator, discriminator)."""
    lr, hr = batch()
    with tf.GradientTape() as tape:
        loss = gan.compute_loss(x=lr, y=hr, y_pred=gan(lr, training=True))
    variables = [*gan.network.trainable_variables, *gan.discriminator.trainable_variables]
    found = tape.gradient(loss, variables, unconnected_gradients="zero")
    split = len(gan.network.trainable_variables)
    return float(tf.linalg.global_norm(found[:split])), float(tf.linalg.global_norm(found[split:]))


@pytest.mark.parametrize("adversarial", ["vanilla", "relativistic"])
@pytest.mark.parametrize("term", NONE)
def test_each_term_reaches_the_generator(term: str, adversarial: str) -> None:
    nothing, without = gradients(trainer(**NONE, adversarial=adversarial))
    reached, with_term = gradients(trainer(**NONE | {term: 1.0}, adversarial=adversarial))
    assert nothing == 0, "the discriminator's loss must not reach the generator"
    assert reached > 0
    assert without > 0
    assert with_term == pytest.approx(without, rel=1e-5), "no term of the generator may reach the discriminator"


def test_the_feature_network_is_frozen() -> None:
    gan = trainer()
    trained = {v.path for v in gan.trainable_variables}
    own = {v.path for v in [*gan.network.trainable_variables, *gan.discriminator.trainable_variables]}
    assert trained == own


def test_the_adversarial_gradient_is_that_of_the_discriminator_itself() -> None:
    """Central differences, with the discriminator used as a plain function; ReLUs bend it a little."""
    gan = trainer(**NONE | {"adversarial_weight": 1.0})
    lr, hr = batch()
    kernel = gan.network.get_layer("tail").bias

    def adversarial() -> float:
        sr = gan(lr, training=True)
        return float(ops.mean(ops.softplus(-gan.discriminator(sr, training=True))))

    with tf.GradientTape() as tape:
        loss = gan.compute_loss(x=lr, y=hr, y_pred=gan(lr, training=True))
    gradient = ops.convert_to_numpy(tape.gradient(loss, kernel.value))
    start, step = ops.convert_to_numpy(kernel), 3e-4
    numeric = []
    for channel in range(3):
        values = []
        for sign in (1, -1):
            kernel.assign(start + sign * step * np.eye(3, dtype=np.float32)[channel])
            values.append(adversarial())
        numeric.append((values[0] - values[1]) / (2 * step))
        kernel.assign(start)
    np.testing.assert_allclose(gradient, numeric, rtol=0.05, atol=0.02)


def test_a_step_moves_both_networks_and_the_batch_statistics() -> None:
    gan = trainer()
    gan.compile_with(Adam(clip_norm=1.0))
    before = [ops.convert_to_numpy(v) for v in gan.trained]
    logs = gan.train_on_batch(*batch(), return_dict=True)
    moved = [not np.array_equal(b, ops.convert_to_numpy(v)) for b, v in zip(before, gan.trained, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    assert {"loss", "content", "pixel", "adversarial", "discriminator", "score_hr", "score_sr", "colour_shift"} <= set(
        logs
    )
    weights = gan.params
    total = (
        weights.content_weight * logs["content"]
        + weights.pixel_weight * logs["pixel"]
        + weights.adversarial_weight * logs["adversarial"]
        + logs["discriminator"]
    )
    assert float(logs["loss"]) == pytest.approx(float(total), rel=1e-4)


def test_interpolation_ends_at_both_models() -> None:
    psnr, gan = np.array([1.0, 2.0], np.float32), np.array([3.0, -2.0], np.float32)
    np.testing.assert_array_equal(interpolate(psnr, gan, 0.0), psnr)
    np.testing.assert_array_equal(interpolate(psnr, gan, 1.0), gan)
    np.testing.assert_allclose(interpolate(psnr, gan, 0.25), [1.5, 1.0])


def test_steps_are_the_same_every_time() -> None:
    """The update of the discriminator must never overtake the adversarial term's reading of it."""
    runs = set()
    for _ in range(4):
        gan = trainer()
        gan.compile_with(Adam())
        gan.optimizer.learning_rate = 1e-3
        for _ in range(3):
            logs = gan.train_on_batch(*batch(), return_dict=True)
        runs.add(tuple(float(value) for value in logs.values()))
    assert len(runs) == 1
