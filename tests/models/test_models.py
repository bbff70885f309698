import json
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops, utils

from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.models import MODELS, WEIGHTS, ModelConfig, build, load_model, load_weights, save_model
from srlib.models.features import LAYERS, feature_network
from srlib.params import Model, model_options
from srlib.training.gan.discriminator import discriminator

SMALL = {"blocks": 2, "filters": 8}


def small(name: str) -> dict:
    """Options that make a small network of any kind."""
    return {key: value for key, value in SMALL.items() if key in model_options(name, {})}


@pytest.mark.parametrize(
    ("name", "scale", "options", "parameters"),
    [
        ("edsr", 4, {}, 1_517_571),
        ("edsr", 2, {}, 1_369_859),
        ("edsr", 3, {}, 1_554_499),
        ("compact", 4, {}, 1_248_112),
        ("edsr", 4, {"blocks": 32, "filters": 256, "residual_scaling": 0.1}, 43_089_923),
    ],
)
def test_parameter_counts_are_the_stated_ones(name: str, scale: int, options: dict, parameters: int) -> None:
    assert build(ModelConfig(name, scale, options)).count_params() == parameters


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_nearest_skip_adds_no_parameter_and_begins_at_the_nearest_enlargement(scale: int) -> None:
    utils.set_random_seed(3)
    plain, anchored = (build(ModelConfig("edsr", scale, {**SMALL, "skip": skip})) for skip in ("none", "nearest"))
    assert plain.count_params() == anchored.count_params()
    lr = np.random.default_rng(0).random((1, 9, 7, 3), np.float32)
    nearest = cv2.resize(lr[0], None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    difference = ops.convert_to_numpy(anchored(lr, training=False))[0] - nearest
    assert 0 < np.abs(difference).max() < 0.1


def test_srresnet_has_the_layers_of_the_paper() -> None:
    model = build(ModelConfig("srresnet", 4))
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    head, tail, prelu = 9 * 9 * 3 * 64 + 64, 9 * 9 * 64 * 3 + 3, 64
    block = 2 * (9 * 64 * 64 + 64) + 2 * 2 * 64 + prelu
    body = 9 * 64 * 64 + 64 + 2 * 64
    upsampling = 2 * (9 * 64 * 256 + 256 + prelu)
    assert trainable == head + prelu + 16 * block + body + upsampling + tail
    assert trainable // 100_000 == 15, "1.5 M in Lim et al. 2017, table 1"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scale", [2, 3, 4])
@settings(max_examples=5, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20))
def test_any_size_is_enlarged_by_the_scale(name: str, scale: int, height: int, width: int) -> None:
    model = build(ModelConfig(name, scale, small(name)))
    channels = 3 if MODELS[name].channels == "rgb" else 1
    sr = model(np.zeros((1, height, width, channels), np.float32), training=False)
    assert tuple(sr.shape) == (1, height * scale, width * scale, channels)


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_is_named_and_bfloat16_ends_in_float32(name: str) -> None:
    model = build(ModelConfig(name, 4, small(name)), dtype="mixed_bfloat16")
    again = build(ModelConfig(name, 4, small(name)), dtype="mixed_bfloat16")
    # Keras numbers unnamed layers through the whole process; weights would then be stored under other names.
    own = [layer.name for layer in model.layers if layer.weights]
    assert own == [layer.name for layer in again.layers if layer.weights]
    assert model.output.dtype == "float32"
    assert all(v.dtype == "float32" for v in model.variables)


def test_weights_return_and_have_the_same_bytes(tmp_path: Path) -> None:
    config = ModelConfig("edsr", 3, SMALL)
    hashes = set()
    for name in ("a", "b"):
        utils.set_random_seed(7)
        model = build(config)
        save_model(model, config, tmp_path / name)
        hashes.add(tree_hash(tmp_path / name))
    assert len(hashes) == 1
    loaded, found = load_model(tmp_path / "a")
    assert found == config
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(before), ops.convert_to_numpy(after))


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = ModelConfig("edsr", 4, SMALL)
    save_model(build(config), config, tmp_path / "m")
    with pytest.raises(SrlibError, match="do not fit the network edsr"):
        load_weights(build(ModelConfig("edsr", 4, {"blocks": 3, "filters": 8})), tmp_path / "m" / WEIGHTS)
    with pytest.raises(SrlibError, match="do not fit the network edsr"):
        load_weights(build(ModelConfig("edsr", 2, SMALL)), tmp_path / "m" / WEIGHTS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "vdsr"}, "unknown network 'vdsr'"),
        ({"surprise": 1}, "not a model's config"),
        (None, "expected a model"),
    ],
)
def test_a_config_that_is_wrong_is_named(change: dict | None, words: str, tmp_path: Path) -> None:
    config = ModelConfig("edsr", 4, SMALL)
    save_model(build(config), config, tmp_path)
    path = tmp_path / "config.json"
    if change is None:
        path.unlink()
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SrlibError, match=words):
        load_model(tmp_path)


def test_a_truncated_weights_file_is_named(tmp_path: Path) -> None:
    config = ModelConfig("edsr", 4, SMALL)
    save_model(build(config), config, tmp_path)
    path = tmp_path / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SrlibError, match="not a readable weights file"):
        load_model(tmp_path)


def test_a_config_holds_every_option_and_what_belongs_to_the_network() -> None:
    config = ModelConfig("srcnn", 3, {"middle": 1})
    assert config.options == {"middle": 1, "filters": 64}
    assert (config.channels, config.value_range) == ("luma-studio", (0.0, 1.0))
    assert {name: ModelConfig(name, 2).channels for name in MODELS} == {n: a.channels for n, a in MODELS.items()}
    with pytest.raises(SrlibError, match="channels: srcnn works with luma-studio, got 'rgb'"):
        ModelConfig("srcnn", 3, channels="rgb")


def test_every_network_can_be_chosen_in_a_recipe() -> None:
    names = {member.model_fields["name"].annotation.__args__[0] for member in get_args(get_args(Model)[0])}
    assert names == set(MODELS)


def test_weights_of_a_larger_network_are_refused(tmp_path: Path) -> None:
    build(ModelConfig("fsrcnn", 2, {"blocks": 3})).save_weights(tmp_path / WEIGHTS)
    with pytest.raises(SrlibError, match=r"found an array of the shape \(1, 1, 12\) too many"):
        load_weights(build(ModelConfig("fsrcnn", 2, {"blocks": 2})), tmp_path / WEIGHTS)


@pytest.mark.parametrize("content", [None, b"", b"not HDF5", bytes(5000)])
def test_a_file_that_holds_no_weights_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    if content is None:
        told = "no such file"
    else:
        told = "not a readable weights file"
        path.write_bytes(content)
    with pytest.raises(SrlibError, match=f"model.weights.h5: {told}"):
        load_weights(build(ModelConfig("espcn", 2)), path)


def test_the_discriminator_scores_patches() -> None:
    model = discriminator()
    widths = [model.get_layer(f"conv{i}").filters for i in range(1, 9)]
    strides = [model.get_layer(f"conv{i}").strides[0] for i in range(1, 9)]
    assert widths == [64, 64, 128, 128, 256, 256, 512, 512]
    assert strides == [1, 2, 1, 2, 1, 2, 1, 2]
    assert not any(layer.name.startswith("flatten") for layer in model.layers)
    small = discriminator(4)
    for size in (96, 128, 100):
        logits = ops.convert_to_numpy(small(np.random.default_rng(0).random((1, size, size, 3), np.float32)))
        assert logits.shape == (1, -(-size // 16), -(-size // 16), 1)
    assert logits.min() < 0 or logits.max() > 1, "logits, not probabilities"


def test_vgg19_is_the_published_network() -> None:
    model = feature_network("vgg19", ["block5_conv4"])
    assert model.count_params() == 20_024_384
    assert not model.trainable_variables


def test_random_features_neither_fade_nor_explode() -> None:
    model = feature_network("vgg19", LAYERS["vgg19"], pre_activation=True, seed=1)
    picture = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    spread = [float(ops.std(features)) for features in model(picture)]
    assert max(spread) < 10 * min(spread)


def test_random_features_follow_the_seed() -> None:
    picture = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    one, same, other = (
        ops.convert_to_numpy(feature_network("vgg19", ["block2_conv1"], seed=seed)(picture)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_features_after_the_activation_are_its_positive_part() -> None:
    picture = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    for network, layer in (("vgg19", "block1_conv2"), ("squeezenet", "fire4")):
        before, after = (
            ops.convert_to_numpy(feature_network(network, [layer], pre_activation=pre_activation, seed=3)(picture))
            for pre_activation in (True, False)
        )
        assert before.min() < 0
        np.testing.assert_array_equal(after, np.maximum(before, 0))


def test_an_unknown_layer_is_named() -> None:
    with pytest.raises(SrlibError, match="no layer 'block6_conv1'"):
        feature_network("vgg19", ["block6_conv1"])


def test_squeezenet_takes_its_published_weights(shared: Path) -> None:
    (path,) = (shared / "weights").glob("squeezenet*.h5")
    model = feature_network("squeezenet", ["fire9"], weights=path)
    assert model.count_params() == 722_496


def test_weights_of_another_network_are_refused(shared: Path, tmp_path: Path) -> None:
    (path,) = (shared / "weights").glob("squeezenet*.h5")
    with pytest.raises(SrlibError, match="no layer block1_conv1"):
        feature_network("vgg19", ["block1_conv1"], weights=path)
    broken = tmp_path / "broken.h5"
    broken.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SrlibError, match="not a readable HDF5"):
        feature_network("squeezenet", ["fire9"], weights=broken)


def test_vgg_weights_in_keras_layout_are_taken(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    source = feature_network("vgg19", ["block2_conv2"], seed=5)
    path = tmp_path / "vgg19.h5"
    with h5py.File(path, "w") as file:
        for layer in source.layers:
            if layer.weights:
                group = file.create_group(layer.name)
                names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"]
                group.attrs["weight_names"] = [name.encode() for name in names]
                for name, value in zip(names, layer.get_weights(), strict=True):
                    group[name] = value
    picture = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    loaded = feature_network("vgg19", ["block2_conv2"], weights=path, seed=6)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(picture)), ops.convert_to_numpy(source(picture)))


def test_feature_networks_subtract_the_mean_in_bgr() -> None:
    picture = np.zeros((1, 32, 32, 3), np.float32)
    picture[..., :] = np.array([123.68, 116.779, 103.939]) / 255
    features = feature_network("vgg19", ["block1_conv1"], pre_activation=True)(picture)
    np.testing.assert_allclose(ops.convert_to_numpy(features), 0, atol=1e-3)
