"""The networks on luma: what the papers count, the bicubic upscaling inside, and how they treat RGB images."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from skimage.color import rgb2ycbcr

from srlib.imaging import color as color
from srlib.imaging.resize import resize
from srlib.models import MODELS, ModelConfig, build, multiply_adds, save_model, super_resolve
from srlib.models.blocks import DIV2K_MEAN, LUMA_MEAN, bicubic
from srlib.training.pretrain import PixelTrainer

LUMA = [name for name, architecture in MODELS.items() if architecture.channels != "rgb"]


def weights(model: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables if v.name == "kernel")


@pytest.mark.parametrize(
    ("name", "scale", "options", "count"),
    [
        # Dong et al. 2016 (arXiv:1608.00367), tables 1 and 3, count weights alone.
        ("srcnn", 3, {"middle": 1}, 8_032),
        ("srcnn", 3, {}, 57_184),
        ("fsrcnn", 3, {}, 12_464),
        ("fsrcnn", 3, {"filters": 32, "shrink": 5, "blocks": 1}, 3_937),
        # Shi et al. 2016, section 4.2: (5, 64), (3, 32) and 3 as the last size.
        ("espcn", 2, {}, 25 * 64 + 9 * 64 * 32 + 9 * 32 * 4),
        ("espcn", 3, {}, 25 * 64 + 9 * 64 * 32 + 9 * 32 * 9),
        ("espcn", 4, {}, 25 * 64 + 9 * 64 * 32 + 9 * 32 * 16),
    ],
)
def test_weights_are_as_many_as_published(name: str, scale: int, options: dict, count: int) -> None:
    assert weights(build(ModelConfig(name, scale, options))) == count


@pytest.mark.parametrize(("name", "extra"), [("srcnn", 64 + 32 + 1), ("fsrcnn", 2 * (56 + 12 + 4 * 12 + 56) + 1)])
def test_the_rest_are_biases_and_slopes(name: str, extra: int) -> None:
    for scale in (2, 3, 4):
        model = build(ModelConfig(name, scale))
        assert model.count_params() == weights(model) + extra
        assert not model.non_trainable_variables, "the bicubic kernel is no weight that a file could change"


@settings(max_examples=20, deadline=None)
@given(scale=st.sampled_from([2, 3, 4]), height=st.integers(1, 40), width=st.integers(1, 40))
def test_multiply_adds_by_hand(scale: int, height: int, width: int) -> None:
    pixels = height * width
    counted = {name: multiply_adds(MODEL[name, scale], height, width) for name in LUMA}
    assert counted["fsrcnn"] == pixels * 12_464, "a transposed convolution works once per LR pixel"
    assert counted["srcnn"] == pixels * scale**2 * 57_184
    assert counted["espcn"] == pixels * (25 * 64 + 9 * 64 * 32 + 9 * 32 * scale**2)


MODEL = {(name, scale): build(ModelConfig(name, scale)) for name in LUMA for scale in (2, 3, 4)}


def test_multiply_adds_of_a_frozen_graph(tmp_path: Path) -> None:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from srlib.evaluation.graphs import load_graph

    model = MODEL["fsrcnn", 3]
    function = tf.function(lambda lr: model(lr)).get_concrete_function(tf.TensorSpec((1, None, None, 1), tf.float32))
    path = tmp_path / "fsrcnn.pb"
    path.write_bytes(convert_variables_to_constants_v2(function).graph.as_graph_def().SerializeToString())
    assert load_graph(path, 1, 3).cost.multiply_adds(17, 23) == multiply_adds(model, 17, 23)


def upscaled(image: np.ndarray, scale: int) -> np.ndarray:
    """Luma of uint8 RGB, upscaled by the layers inside SRCNN, in levels of 255."""
    lr = keras.Input((None, None, 1))
    model = keras.Model(lr, bicubic(lr, scale))
    return 255 * ops.convert_to_numpy(model(color.network_input(image, "luma-studio")[np.newaxis]))[0, ..., 0]


@pytest.mark.parametrize("scale", [2, 3, 4])
@settings(max_examples=10, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_bicubic_inside_srcnn_is_matlabs_without_rounding(scale: int, height: int, width: int, seed: int) -> None:
    # Rounding moves each of two passes by half a level at most; the second pass's weights add up to less than 1.3.
    # Values are kept where the kernel's overshoot stays between black and white: there MATLAB clips.
    image = np.random.default_rng(seed).integers(60, 196, (height, width, 3), np.uint8)
    rounded = color.luma(resize(image, scale))
    assert np.abs(upscaled(image, scale) - rounded).max() < 0.5 * (1 + 1.3) * color.STUDIO_LEVELS / 255 + 1e-3


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_inside_srcnn_is_tensorflows_inside(scale: int) -> None:
    # tf.image.resize without antialiasing uses the same kernel (a = -1/2) from a table of 1,024 entries, in which the
    # thirds of ×3 are not, and drops what lies beyond the edges.
    image = skimage.data.astronaut()[:40, :50]
    lr = color.luma(image)[np.newaxis, ..., np.newaxis]
    theirs = tf.image.resize(lr, (40 * scale, 50 * scale), method="bicubic").numpy()[0, ..., 0]
    inside = slice(2 * scale, -2 * scale)
    np.testing.assert_allclose(
        upscaled(image, scale)[inside, inside], theirs[inside, inside], atol=0.05 if scale == 3 else 1e-3
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_effect_of_rounding_on_a_photograph(scale: int) -> None:
    image = skimage.data.astronaut()[:128, :128]
    difference = upscaled(image, scale) - color.luma(resize(image, scale))
    assert np.abs(difference).max() < 1.1
    assert np.sqrt(np.mean(difference**2)) < 0.25, "levels of 255"


@pytest.mark.parametrize("name", LUMA)
def test_an_image_gets_luma_of_the_network_and_bicubic_chroma(name: str) -> None:
    model, lr = MODEL[name, 3], skimage.data.astronaut()[:20, :24]
    sr = super_resolve(model, lr[np.newaxis])
    assert sr.shape == (1, 60, 72, 3)
    result = rgb2ycbcr(sr[0])
    luma = ops.convert_to_numpy(model(color.network_input(lr, "luma-studio")[np.newaxis]))[0, ..., 0]
    np.testing.assert_allclose(result[..., 0], 255 * luma, atol=1e-3)
    np.testing.assert_allclose(result[..., 1:], rgb2ycbcr(resize(lr, 3))[..., 1:], atol=1e-2)


@pytest.mark.parametrize("name", LUMA)
def test_the_keras_format_needs_no_code_of_srlib(name: str, tmp_path: Path) -> None:
    lr = np.random.default_rng(0).random((1, 7, 9, 1), np.float32)
    MODEL[name, 2].save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", custom_objects={}, safe_mode=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(again(lr)), ops.convert_to_numpy(MODEL[name, 2](lr)))


def test_the_mean_of_luma_is_that_of_the_mean_color() -> None:
    weights, black = color.STUDIO_WEIGHTS, color.STUDIO_BLACK
    assert pytest.approx(np.dot(DIV2K_MEAN, weights) + black / 255, abs=1e-3) == LUMA_MEAN


@pytest.mark.parametrize("name", LUMA)
def test_an_image_of_the_mean_has_no_frame(name: str) -> None:
    gray = np.full((1, 9, 8, 1), LUMA_MEAN, np.float32)
    sr = ops.convert_to_numpy(build(ModelConfig(name, 2))(gray))
    np.testing.assert_allclose(sr, LUMA_MEAN, atol=1e-6, err_msg="the padding counts as the mean")


@pytest.mark.jax
@pytest.mark.slow
def test_jax_gives_the_same_images_and_losses(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="JAX is optional")
    random = np.random.default_rng(0)
    lr, hr = random.integers(0, 256, (2, 9, 11, 3), np.uint8), random.integers(0, 256, (2, 27, 33, 3), np.uint8)
    np.savez(tmp_path / "images.npz", lr=lr, hr=hr)
    for name in LUMA:
        save_model(MODEL[name, 3], ModelConfig(name, 3), tmp_path / name)
    code = (
        "import sys, numpy as np\n"
        "from srlib.models import load_model\n"
        "from srlib.training.pretrain import PixelTrainer\n"
        "images = np.load('images.npz')\n"
        "for name in sys.argv[1:]:\n"
        "    trainer = PixelTrainer(load_model(name)[0], 'mse')\n"
        "    sr = trainer(images['lr'])\n"
        "    np.savez(name + '.npz', sr=sr, loss=trainer.compute_loss(images['lr'], images['hr'], sr))\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, *LUMA], check=True, cwd=tmp_path, env=environment)
    for name in LUMA:
        result, trainer = np.load(tmp_path / f"{name}.npz"), PixelTrainer(MODEL[name, 3], "mse")
        sr = trainer(lr)
        np.testing.assert_allclose(result["sr"], ops.convert_to_numpy(sr), atol=1e-5)
        assert float(result["loss"]) == pytest.approx(float(trainer.compute_loss(lr, hr, sr)), rel=1e-5)
