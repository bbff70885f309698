import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from srlib.models import ModelConfig, build
from srlib.models.features import feature_network
from srlib.params import Finetune
from srlib.training.gan.discriminator import discriminator
from srlib.training.gan.trainer import GanTrainer, _moved, interpolate
from srlib.training.losses import SCORES
from srlib.training.optimizers import Adam

NONE = {"perceptual_weight": 0.0, "pixel_weight": 0.0, "checkerboard_weight": 0.0, "adversarial_weight": 0.0}


def trainer(**options) -> GanTrainer:
    keras.utils.set_random_seed(3)
    params = Finetune.model_validate(
        {"lr_patch": 24, "steps": 1, "learning_rate": {"peak": 1e-3}, "perceptual_scale": 1e-5} | options
    )
    gan = GanTrainer(
        build(ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})),
        discriminator(4),
        feature_network("vgg19", ["block2_conv1"]),
        params,
    )
    gan.compile_with(Adam())
    return gan


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
    """Against the discriminator called as a plain function on what the first step sees of SR."""
    gan = trainer(**NONE | {"adversarial_weight": 1.0})
    lr, hr = batch()
    generator = gan.network.trainable_variables
    with tf.GradientTape() as tape:
        loss = gan.compute_loss(x=lr, y=hr, y_pred=gan(lr, training=True))
    found = tape.gradient(loss, [v.value for v in generator])
    with tf.GradientTape() as tape:
        sr = gan(lr, training=True)[:, :-3, :-3]
        loss = ops.mean(ops.softplus(-gan.discriminator(sr, training=True)))
    for ours, plain in zip(found, tape.gradient(loss, [v.value for v in generator]), strict=True):
        assert float(ops.max(ops.abs(plain))) > 0
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-5)


def test_a_step_moves_both_networks_and_the_batch_statistics() -> None:
    gan = trainer()
    gan.compile_with(Adam(clip_norm=1.0))
    before = [ops.convert_to_numpy(v) for v in gan.trained]
    logs = gan.train_on_batch(*batch(), return_dict=True)
    moved = [not np.array_equal(b, ops.convert_to_numpy(v)) for b, v in zip(before, gan.trained, strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    assert {
        "loss",
        "perceptual",
        "pixel",
        "adversarial",
        "discriminator",
        "score_hr",
        "score_sr",
        "color_shift",
    } <= set(logs)
    weights = gan.params
    total = (
        weights.perceptual_weight * logs["perceptual"]
        + weights.pixel_weight * logs["pixel"]
        + weights.checkerboard_weight * logs["checkerboard"]
        + weights.adversarial_weight * logs["adversarial"]
        + logs["discriminator"]
    )
    assert float(logs["loss"]) == pytest.approx(float(total), rel=1e-4)


def test_the_diagnosis_is_the_share_of_each_term_and_changes_nothing() -> None:
    gan = trainer(perceptual_weight=2.0, pixel_weight=0.5, adversarial_weight=0.01)
    gan.compile_with(Adam())
    before = [ops.convert_to_numpy(v) for v in gan.state]
    lr, hr = batch()
    shares = gan.diagnose(lr, hr)
    assert all(np.array_equal(b, ops.convert_to_numpy(v)) for b, v in zip(before, gan.state, strict=True))
    assert sum(shares.values()) == pytest.approx(1)
    # The pixel term has a closed form: each of n values pulls by weight / n.
    alone = trainer(perceptual_weight=2.0, pixel_weight=1.0, adversarial_weight=0.01).diagnose(lr, hr)
    ratio = shares["share_pixel"] / shares["share_perceptual"]
    assert alone["share_pixel"] / alone["share_perceptual"] == pytest.approx(2 * ratio, rel=1e-4)
    assert trainer(**NONE | {"pixel_weight": 0.1}).diagnose(lr, hr) == {
        "share_perceptual": 0,
        "share_pixel": 1,
        "share_checkerboard": 0,
        "share_adversarial": 0,
    }


def test_a_drowned_term_is_said_once_with_the_key_to_change() -> None:
    gan = trainer(perceptual_scale=1e-12, pixel_weight=0.0, adversarial_weight=0.01)
    memory: dict[str, int] = {}
    diagnosis = gan.diagnose(*batch())
    (remark,) = gan.remarks({}, diagnosis, memory)
    assert "content term is drowned" in remark
    assert "raise finetune.perceptual_scale (now 1e-12; 10 % would be about " in remark
    advised = float(remark.split("about ")[1].rstrip(")"))
    better = trainer(perceptual_scale=advised, pixel_weight=0.0, adversarial_weight=0.01).diagnose(*batch())
    assert better["share_perceptual"] == pytest.approx(0.1, abs=0.06), "one digit of advice"
    logs = {"score_hr": 0.7, "score_sr": 0.3}
    assert gan.remarks(logs, diagnosis, memory) == []


def test_a_term_that_sinks_later_is_said_when_it_lasts() -> None:
    gan, memory, logs = trainer(pixel_weight=0.1), {}, {"score_hr": 0.7, "score_sr": 0.3}
    fine = {"share_perceptual": 0.5, "share_pixel": 0.3, "share_checkerboard": 0.0, "share_adversarial": 0.2}
    low = {"share_perceptual": 0.6, "share_pixel": 0.395, "share_checkerboard": 0.0, "share_adversarial": 0.005}
    assert [gan.remarks(logs, d, memory) for d in (fine, low, fine, low)] == [[], [], [], []]
    (remark,) = gan.remarks(logs, low, memory)
    assert "adversarial term is drowned: 0.50% of the gradient; raise finetune.adversarial_weight" in remark


@pytest.mark.parametrize(
    ("scores", "share", "words"),
    [
        ((0.999, 0.001), 0.5, "tells all apart"),
        ((0.501, 0.499), 0.0001, "tells nothing apart"),
        ((0.501, 0.499), 0.3, None),
        ((0.9, 0.1), 0.5, None),
    ],
)
def test_a_collapsed_discriminator_is_said_once(scores, share, words) -> None:
    gan, memory = trainer(), {}
    logs = {"score_hr": scores[0], "score_sr": scores[1]}
    diagnosis = {
        "share_perceptual": 1 - share,
        "share_pixel": 0.0,
        "share_checkerboard": 0.0,
        "share_adversarial": share,
    }
    said = [r for n in range(1, 901) for r in gan.remarks(logs, {} if n % 300 else diagnosis, memory)]
    about = [remark for remark in said if "collapsed" in remark]
    assert len(about) == (words is not None)
    assert all(words in remark for remark in about)
    assert gan.remarks({"score_hr": 0.6, "score_sr": 0.4}, {}, memory) == []
    assert memory["saturated"] == memory["level"] == 0


def test_scores_of_the_relativistic_discriminator_are_of_the_difference() -> None:
    real, fake = np.full((2, 1, 1, 1), 9.0, np.float32), np.full((2, 1, 1, 1), 9.0, np.float32)
    assert [float(s) for s in SCORES["relativistic"](real, fake)] == [0.5, 0.5]
    assert [float(s) for s in SCORES["vanilla"](real, fake)] == pytest.approx([1, 1], abs=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_window_visits_every_place_of_the_lattice_once(scale: int) -> None:
    random = np.random.default_rng(0)
    hr, sr = random.random((2, 2, 6 * scale, 5 * scale, 3), np.float32)
    seen = []
    for place in range(scale**2):
        found = _moved(ops.convert_to_tensor(hr), ops.convert_to_tensor(sr), ops.convert_to_tensor(place), scale)
        y, x = next(
            (y, x) for y in range(scale) for x in range(scale) if np.array_equal(found[0][:, 0, 0], hr[:, y, x])
        )
        for window, whole in zip(found, (hr, sr), strict=True):
            expected = whole[:, y : y + 5 * scale + 1, x : x + 4 * scale + 1]
            np.testing.assert_array_equal(ops.convert_to_numpy(window), expected)
        seen.append((y, x))
    assert len(set(seen)) == scale**2


def test_interpolation_ends_at_both_models() -> None:
    psnr, gan = np.array([1.0, 2.0], np.float32), np.array([3.0, -2.0], np.float32)
    np.testing.assert_array_equal(interpolate(psnr, gan, 0.0), psnr)
    np.testing.assert_array_equal(interpolate(psnr, gan, 1.0), gan)
    np.testing.assert_allclose(interpolate(psnr, gan, 0.25), [1.5, 1.0])


def test_steps_are_the_same_every_time() -> None:
    """Neither the order of gradients that meet nor that of a variable's reading and its update is left to chance."""
    runs = set()
    for _ in range(4):
        gan = trainer()
        gan.compile_with(Adam())
        gan.optimizer.learning_rate = 1e-3
        losses = [tuple(gan.train_on_batch(*batch(), return_dict=True).items()) for _ in range(3)]
        state = [ops.convert_to_numpy(v).tobytes() for v in gan.state]
        runs.add(hashlib.sha256(repr(losses).encode() + b"".join(state)).hexdigest())
    assert len(runs) == 1


def test_no_sum_in_the_order_of_arrival_gets_into_a_step() -> None:
    """The executor of one operation after another refuses the accumulator that a sum is taken apart into."""

    class Accumulating(GanTrainer):
        def compute_loss(self, *tensors):
            loss = super().compute_loss(*tensors)
            accumulator = tf.raw_ops.TemporaryVariable(shape=[], dtype=tf.float32, var_name="sum")
            filled = tf.raw_ops.Assign(ref=accumulator, value=ops.stop_gradient(loss))
            return loss + ops.stop_gradient(tf.raw_ops.DestroyTemporaryVariable(ref=filled, var_name="sum"))

    gan = trainer()
    gan.__class__ = Accumulating
    with pytest.raises(tf.errors.UnimplementedError, match="does not support reference-typed edges"):
        gan.train_on_batch(*batch())
