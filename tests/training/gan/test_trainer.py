import hashlib
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from srlib.models import ModelConfig, build
from srlib.models.features import feature_magnitudes, feature_network
from srlib.params import Finetune, Params
from srlib.training.gan.adversarial import ADVERSARIAL_LOSSES
from srlib.training.gan.discriminator import build_discriminator
from srlib.training.gan.terms import all_terms, loss_terms
from srlib.training.gan.trainer import GanTrainer, _shifted_window, gan_trainer, interpolate
from srlib.training.optimizers import Muon
from srlib.training.pretrain import PixelTrainer

from ..conftest import plain_update

SECTION = Finetune.model_validate({"lr_patch": 24, "steps": 1, "learning_rate": {"peak": 1e-3}})
NONE = {f"{term.name}_weight": 0.0 for term in all_terms(SECTION)}


@cache
def frozen() -> tuple[keras.Model, list[float]]:
    """Return the feature network of all trainers and its magnitudes: no training changes them."""
    features = feature_network("vgg19", ["block2_conv1"])
    return features, feature_magnitudes(features)


def networks(section: Finetune) -> tuple[keras.Model, keras.Model]:
    """Return a new generator and a new discriminator, the same ones each time."""
    features = frozen()  # before the seed: this may be the first call
    keras.utils.set_random_seed(3)
    generator = build(ModelConfig("edsr", 4, {"blocks": 1, "filters": 8}))
    return generator, build_discriminator(section.model_copy(update={"discriminator_filters": 4}), *features)


def section_of(**options) -> Finetune:
    return SECTION.model_copy(update={"perceptual_scale": 1e-5} | options)


def trainer(**options) -> GanTrainer:
    section = section_of(**options)
    gan = GanTrainer(*networks(section), *frozen(), section)
    gan.compile_with([plain_update(gan.network), plain_update(gan.discriminator)])
    return gan


networks_for_losses = cache(partial(networks, SECTION))


def losses(**options) -> GanTrainer:
    """Return a trainer that is not compiled, of networks that all of these share: it cannot change their weights."""
    return GanTrainer(*networks_for_losses(), *frozen(), section_of(**options))


def set_rates(gan: GanTrainer, value: float) -> None:
    for rate in gan.optimizer.learning_rates:
        rate.assign(value)


def batch() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return (
        random.integers(0, 256, (2, 12, 12, 3), dtype=np.uint8),
        random.integers(0, 256, (2, 48, 48, 3), dtype=np.uint8),
    )


def gradients(gan: GanTrainer) -> tuple[float, float]:
    """Norms of the loss's gradient with respect to (generator, discriminator)."""
    lr, hr = batch()
    hr[:, :24] = 128  # a flat half: patterns in SR are stronger there, and a discriminator sees textures in the other
    with tf.GradientTape() as tape:
        loss = gan.compute_loss(x=lr, y=hr, y_pred=gan(lr, training=True))
    variables = [*gan.network.trainable_variables, *gan.discriminator.trainable_variables]
    result = tape.gradient(loss, variables, unconnected_gradients="zero")
    split = len(gan.network.trainable_variables)
    return float(tf.linalg.global_norm(result[:split])), float(tf.linalg.global_norm(result[split:]))


@cache
def gradients_of_nothing(adversarial: str) -> tuple[float, float]:
    """`gradients` where no term of the generator has a weight."""
    return gradients(losses(**NONE, adversarial=adversarial))


@pytest.mark.parametrize(
    ("term", "adversarial"),
    [*((term, "vanilla") for term in NONE), *(("adversarial_weight", name) for name in ("relativistic", "paired"))],
)
def test_each_term_reaches_the_generator(term: str, adversarial: str) -> None:
    nothing, without = gradients_of_nothing(adversarial)
    reached, with_term = gradients(losses(**NONE | {term: 1.0}, adversarial=adversarial))
    assert nothing == 0, "the discriminator's loss must not reach the generator"
    assert reached > 0
    assert without > 0
    assert with_term == pytest.approx(without, rel=1e-5), "no term of the generator may reach the discriminator"


def test_the_feature_network_is_frozen() -> None:
    gan = losses()
    trained = {v.path for v in gan.trainable_variables}
    own = {v.path for v in [*gan.network.trainable_variables, *gan.discriminator.trainable_variables]}
    assert trained == own


def test_the_adversarial_gradient_is_the_discriminators() -> None:
    """Against the discriminator as a plain function of the part of SR that the first step sees."""
    gan = losses(**NONE | {"adversarial_weight": 1.0})
    lr, hr = batch()
    generator = gan.network.trainable_variables
    with tf.GradientTape() as tape:
        loss = gan.compute_loss(x=lr, y=hr, y_pred=gan(lr, training=True))
    result = tape.gradient(loss, [v.value for v in generator])
    with tf.GradientTape() as tape:
        sr = gan(lr, training=True)[:, :-3, :-3]
        loss = ops.mean(ops.softplus(-gan.discriminator(sr, training=True)))
    for ours, plain in zip(result, tape.gradient(loss, [v.value for v in generator]), strict=True):
        assert float(ops.max(ops.abs(plain))) > 0
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-5)


def test_a_step_moves_both_networks_and_the_batch_statistics() -> None:
    gan = trainer(adversarial_normalized=True)
    gan.compile_with([plain_update(network, clip_norm=1.0) for network in (gan.network, gan.discriminator)])
    set_rates(gan, 1e-3)
    variables = [*gan.network.variables, *gan.discriminator.variables]
    before = [ops.convert_to_numpy(v) for v in variables]
    logs = gan.train_on_batch(*batch(), return_dict=True)
    moved = [not np.array_equal(b, ops.convert_to_numpy(v)) for b, v in zip(before, variables, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    names = {term.name for term in loss_terms(gan.section)}
    assert {"loss", *names, "discriminator", "score_hr", "score_sr", "color_shift"} <= set(logs)
    assert np.isfinite(list(logs.values())).all()
    total = sum(term.weight * logs[term.name] for term in gan.terms) + logs["discriminator"]
    assert float(logs["loss"]) == pytest.approx(float(total), rel=1e-4)


def test_a_discriminator_of_features_leaves_them_as_they_are() -> None:
    """The features' weights are in no checkpoint."""
    gan = trainer(discriminator="features", adversarial="relativistic")
    set_rates(gan, 1e-3)
    features = [ops.convert_to_numpy(v) for v in gan.features.variables]
    heads = [ops.convert_to_numpy(v) for v in gan.discriminator.trainable_variables]
    logs = gan.train_on_batch(*batch(), return_dict=True)
    for before, variable in zip(features, gan.features.variables, strict=True):
        np.testing.assert_array_equal(before, ops.convert_to_numpy(variable))
    moved = [not np.array_equal(b, v) for b, v in zip(heads, gan.discriminator.trainable_variables, strict=True)]
    assert sum(moved) >= len(moved) - 1, "all but the bias of the logits, which a relativistic loss ignores"
    assert 0 < logs["score_sr"] < 1
    assert not {id(v) for v in gan.features.variables} & {id(v) for v in gan.step_variables}


def test_gradient_shares_change_no_variable() -> None:
    gan = losses(perceptual_weight=2.0, pixel_weight=0.5, adversarial_weight=0.01)
    gan.compile_with([plain_update(gan.network), plain_update(gan.discriminator)])
    before = [ops.convert_to_numpy(v) for v in gan.step_variables]
    lr, hr = batch()
    shares = gan.gradient_shares(lr, hr)
    assert all(np.array_equal(b, ops.convert_to_numpy(v)) for b, v in zip(before, gan.step_variables, strict=True))
    assert list(shares) == [f"share_{term.name}" for term in loss_terms(gan.section)]
    assert sum(shares.values()) == pytest.approx(1)
    # The pixel term has a closed form: the gradient of each of n values is weight / n.
    alone = losses(perceptual_weight=2.0, pixel_weight=1.0, adversarial_weight=0.01).gradient_shares(lr, hr)
    ratio = shares["share_pixel"] / shares["share_perceptual"]
    assert alone["share_pixel"] / alone["share_perceptual"] == pytest.approx(2 * ratio, rel=1e-4)
    only = losses(**NONE | {"pixel_weight": 0.1}).gradient_shares(lr, hr)
    assert only == {f"share_{term.name}": float(term.name == "pixel") for term in gan.terms}


def test_relativistic_probabilities_compare_both_kinds() -> None:
    real, fake = np.full((2, 1, 1, 1), 9.0, np.float32), np.full((2, 1, 1, 1), 9.0, np.float32)
    for name in ("relativistic", "paired"):
        assert [float(s) for s in ADVERSARIAL_LOSSES[name].probabilities(real, fake)] == [0.5, 0.5]
    assert [float(s) for s in ADVERSARIAL_LOSSES["vanilla"].probabilities(real, fake)] == pytest.approx(
        [1, 1], abs=1e-3
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_window_visits_each_sub_pixel_once(scale: int) -> None:
    random = np.random.default_rng(0)
    hr, sr = random.random((2, 2, 6 * scale, 5 * scale, 3), np.float32)
    seen = []
    for place in range(scale**2):
        windows = _shifted_window(
            ops.convert_to_tensor(hr), ops.convert_to_tensor(sr), ops.convert_to_tensor(place), scale
        )
        y, x = next(
            (y, x) for y in range(scale) for x in range(scale) if np.array_equal(windows[0][:, 0, 0], hr[:, y, x])
        )
        for window, whole in zip(windows, (hr, sr), strict=True):
            expected = whole[:, y : y + 5 * scale + 1, x : x + 4 * scale + 1]
            np.testing.assert_array_equal(ops.convert_to_numpy(window), expected)
        seen.append((y, x))
    assert len(set(seen)) == scale**2


def test_interpolation_ends_at_both_models() -> None:
    psnr, gan = np.array([1.0, 2.0], np.float32), np.array([3.0, -2.0], np.float32)
    np.testing.assert_array_equal(interpolate(psnr, gan, 0.0), psnr)
    np.testing.assert_array_equal(interpolate(psnr, gan, 1.0), gan)
    np.testing.assert_allclose(interpolate(psnr, gan, 0.25), [1.5, 1.0])


def test_the_optimizer_of_the_recipe_is_the_generators() -> None:
    network = {"name": "compact", "filters": 8, "blocks": 1}
    section = {"lr_patch": 24, "steps": 1, "learning_rate": {"peak": 1e-3}, "perceptual_scale": 1e-5}
    features = {"network": "squeezenet", "weights": "random", "layer": "conv1"}
    params = Params.model_validate(
        {
            "scale": 4,
            "seed": 1,
            "download": {"train": "sample", "test": ["sample"], "features": "none"},
            "prepare": {"images": "x", "patch": 24},
            "pretrain": {"model": network, "lr_patch": 24, "steps": 1, "learning_rate": {"peak": 1e-3}},
            "finetune": section | {"optimizer": "muon", "features": features, "discriminator_filters": 4},
            "evaluate": {"images": "x"},
        }
    )
    generator = build(ModelConfig("compact", 4, {"filters": 8, "blocks": 1}))
    kinds = [type(update.optimizer) for update in gan_trainer(params, generator, Path()).optimizer.updates]
    assert kinds == [Muon, keras.optimizers.Adam]


@pytest.mark.slow
def test_steps_are_reproducible() -> None:
    """The order of additions of gradients, and of reading and updating a variable, is not left to chance."""
    runs = set()
    for _ in range(4):
        gan = trainer()
        set_rates(gan, 1e-3)
        losses = [tuple(gan.train_on_batch(*batch(), return_dict=True).items()) for _ in range(3)]
        values = [ops.convert_to_numpy(v).tobytes() for v in gan.step_variables]
        runs.add(hashlib.sha256(repr(losses).encode() + b"".join(values)).hexdigest())
    assert len(runs) == 1


def test_a_sum_in_order_of_arrival_is_refused() -> None:
    """The single-threaded executor refuses the accumulator that TensorFlow would split such a sum into."""

    class Accumulating(PixelTrainer):
        def compute_loss(self, *tensors):
            loss = super().compute_loss(*tensors)
            accumulator = tf.raw_ops.TemporaryVariable(shape=[], dtype=tf.float32, var_name="sum")
            filled = tf.raw_ops.Assign(ref=accumulator, value=ops.stop_gradient(loss))
            return loss + ops.stop_gradient(tf.raw_ops.DestroyTemporaryVariable(ref=filled, var_name="sum"))

    accumulating = Accumulating(build(ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})), "mae")
    accumulating.compile_with([plain_update(accumulating.network)])
    with pytest.raises(tf.errors.UnimplementedError, match="does not support reference-typed edges"):
        accumulating.train_on_batch(*batch())
