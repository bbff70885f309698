"""The discriminators of the SRGAN."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from srlib.models.features import FeatureNetwork, as_list, feature_magnitudes, feature_network, least_side
from srlib.training.gan.adversarial import vanilla_discriminator
from srlib.training.gan.discriminator import (
    SpectralConv2D,
    feature_discriminator,
    patch_discriminator,
    unet_discriminator,
)


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((1, height, width, 3), np.float32)


def test_the_discriminator_scores_patches() -> None:
    model = patch_discriminator()
    widths = [model.get_layer(f"conv{i}").filters for i in range(1, 9)]
    strides = [model.get_layer(f"conv{i}").strides[0] for i in range(1, 9)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2]
    assert not any(layer.name.startswith("flatten") for layer in model.layers)
    small = patch_discriminator(4)
    for size in (96, 128, 100):
        logits = ops.convert_to_numpy(small(np.random.default_rng(0).random((1, size, size, 3), np.float32)))
        assert logits.shape == (1, -(-size // 16), -(-size // 16), 1)
    assert small.layers[-1].activation is keras.activations.linear, "logits, not probabilities"


@pytest.mark.parametrize("size", [(96, 96), (93, 93), (29, 50)])
def test_the_unet_scores_each_pixel(size: tuple[int, int]) -> None:
    """Crops are scale - 1 pixels smaller than the patches, so sizes are odd."""
    logits = unet_discriminator(4)(pixels(*size))
    assert tuple(logits.shape) == (1, *size, 1)


def test_the_unet_sees_far_and_near() -> None:
    """A score depends on pixels 20 away, across the strided path, and most on those nearby."""
    model, image = unet_discriminator(4), pixels(64, 64)
    before = ops.convert_to_numpy(model(image))[0, :, :, 0]
    image[0, 32, 32] = 1 - image[0, 32, 32]
    change = np.abs(ops.convert_to_numpy(model(image))[0, :, :, 0] - before)
    assert change[32, 52] > 0
    assert change[31:34, 31:34].mean() > 3 * change[32, 52]


def test_the_kernel_is_divided_by_its_largest_singular_value() -> None:
    """After some steps of the power iteration, against NumPy's decomposition; not in inference, where it stands."""
    layer = SpectralConv2D(5, 3, padding="same", use_bias=False)
    image = pixels(8, 8)
    layer(image)
    start = ops.convert_to_numpy(layer.vector)
    layer(image)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer.vector), start)
    for _ in range(60):
        layer(image, training=True)
    kernel = ops.convert_to_numpy(layer.kernel)
    largest = np.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)[0]
    expected = ops.conv(image, kernel / largest, padding="same")
    np.testing.assert_allclose(ops.convert_to_numpy(layer(image)), ops.convert_to_numpy(expected), rtol=1e-3, atol=1e-5)


def test_the_unet_has_no_batch_statistics() -> None:
    """Only one vector per spectral convolution is not trained."""
    model = unet_discriminator(4)
    spectral = [layer for layer in model.layers if isinstance(layer, SpectralConv2D)]
    assert len(spectral) == 8
    assert len(model.non_trainable_variables) == len(spectral)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


@pytest.mark.parametrize(("network", "tap_layers"), [("squeezenet", ["conv1", "fire5"]), ("vgg19", ["block3_conv1"])])
def test_features_are_scored_layer_by_layer(network: FeatureNetwork, tap_layers: list[str]) -> None:
    """From the least size that the recipe's check allows on."""
    features = feature_network(network, tap_layers, seed=1)
    model = feature_discriminator(features, feature_magnitudes(features), 4)
    side = least_side(network, tap_layers[-1], pixels=5)
    logits = as_list(model(pixels(side, side + 9)))
    assert len(logits) == len(tap_layers)
    assert logits[-1].shape[1] == 1
    assert as_list(features(pixels(side - 1, side + 9)))[-1].shape[1] == 4, "too few for two kernels of 3 × 3"


def test_only_the_small_networks_on_the_features_are_trained() -> None:
    features = feature_network("squeezenet", ["conv1", "fire2"], seed=1)
    model = feature_discriminator(features, feature_magnitudes(features), 4)
    frozen = {id(variable) for variable in features.variables}
    assert not frozen & {id(variable) for variable in model.trainable_variables}
    assert len(model.trainable_variables) == 2 * (3 * 2 + 2)


def test_features_tell_a_blurred_image_soon() -> None:
    """Twenty steps separate two textures that a new image shows, too; with a fixed seed."""
    keras.utils.set_random_seed(1)
    features = feature_network("squeezenet", ["conv1"], seed=1)
    model = feature_discriminator(features, feature_magnitudes(features), 8)
    optimizer = keras.optimizers.Adam(3e-3)
    random = np.random.default_rng(2)

    def pair() -> tuple[np.ndarray, np.ndarray]:
        sharp = random.random((4, 32, 32, 3), np.float32)
        return sharp, (sharp + np.roll(sharp, 1, axis=1) + np.roll(sharp, 1, axis=2)) / 3

    for _ in range(20):
        sharp, smooth = pair()
        with tf.GradientTape() as tape:
            loss = vanilla_discriminator(model(sharp, training=True), model(smooth, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    sharp, smooth = pair()
    real, fake = model(sharp), model(smooth)
    assert float(ops.min(ops.mean(real, axis=(1, 2)))) > float(ops.max(ops.mean(fake, axis=(1, 2)))) + 0.3
