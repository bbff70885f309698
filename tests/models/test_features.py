"""Feature networks: the published ones, with their weights or random ones."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import skimage.data
from keras import ops

from srlib.errors import SrlibError
from srlib.models.features import (
    LAYERS,
    FeatureNetwork,
    feature_magnitudes,
    feature_network,
    kernel_shapes,
    least_side,
    read_weights,
)


def test_vgg19_is_the_published_network() -> None:
    model = feature_network("vgg19", ["block5_conv4"])
    assert model.count_params() == 20_024_384
    assert not model.trainable_variables


def test_random_features_neither_fade_nor_explode() -> None:
    model = feature_network("vgg19", LAYERS["vgg19"], pre_activation=True, seed=1)
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    spread = [float(ops.std(features)) for features in model(image)]
    assert max(spread) < 10 * min(spread)


def test_random_features_follow_the_seed() -> None:
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    one, same, other = (
        ops.convert_to_numpy(feature_network("vgg19", ["block2_conv1"], seed=seed)(image)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_features_after_the_activation_are_its_positive_part() -> None:
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    for network, layer in (("vgg19", "block1_conv2"), ("squeezenet", "fire4")):
        before, after = (
            ops.convert_to_numpy(feature_network(network, [layer], pre_activation=pre_activation, seed=3)(image))
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
    with pytest.raises(SrlibError, match="expected an HDF5 file of Keras weights"):
        feature_network("squeezenet", ["fire9"], weights=broken)


@pytest.mark.parametrize("network", LAYERS)
def test_kernel_shapes_are_those_of_the_network(network) -> None:
    for layer in (LAYERS[network][0], LAYERS[network][-1]):
        model = feature_network(network, [layer])
        built = {one.name: one.kernel.shape for one in model.layers if one.weights}
        assert kernel_shapes(network, layer) == built


def test_weights_are_checked_without_keras(shared: Path) -> None:
    (path,) = (shared / "weights").glob("squeezenet*.h5")
    arrays = read_weights(path, "squeezenet", "fire2")
    assert list(arrays) == ["conv1", "fire2_squeeze1x1", "fire2_expand1x1", "fire2_expand3x3"]
    with pytest.raises(SrlibError, match="expected weights of vgg19, but there is no layer block1_conv1"):
        read_weights(path, "vgg19", "block1_conv1")


def test_vgg_weights_in_keras_layout_are_taken(tmp_path: Path) -> None:
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
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    loaded = feature_network("vgg19", ["block2_conv2"], weights=path, seed=6)
    np.testing.assert_array_equal(ops.convert_to_numpy(loaded(image)), ops.convert_to_numpy(source(image)))


def test_the_mean_is_subtracted_in_bgr() -> None:
    image = np.zeros((1, 32, 32, 3), np.float32)
    image[..., :] = np.array([123.68, 116.779, 103.939]) / 255
    features = feature_network("vgg19", ["block1_conv1"], pre_activation=True)(image)
    np.testing.assert_allclose(ops.convert_to_numpy(features), 0, atol=1e-3)


def _write_layout(path: Path, layout: str) -> None:
    """Write an HDF5 file that no Keras application would."""
    with h5py.File(path, "w") as file:
        if layout == "dataset":
            file["block1_conv1"] = np.zeros(3)
        elif layout == "weights.h5":
            file["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 64), np.float32)
        elif layout != "empty":
            group = file.create_group("block1_conv1")
            names: dict[str, object] = {
                "number": 3,
                "missing": ["kernel", "bias"],
                "numbers": [1, 2],
                "group": ["a", "b"],
            }
            group.attrs["weight_names"] = names[layout]
            group.create_group("a")
            group.create_group("b")


@pytest.mark.parametrize("layout", ["empty", "dataset", "weights.h5", "number", "missing", "numbers", "group"])
def test_weights_in_another_layout_are_one_line(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "w.h5"
    _write_layout(path, layout)
    with pytest.raises(SrlibError, match="expected") as caught:
        feature_network("vgg19", ["block1_conv1"], weights=path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_weights_at_odd_places_are_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "zero").symlink_to("/dev/zero")
    for path in (tmp_path, tmp_path / "zero"):
        with pytest.raises(SrlibError, match="expected a regular file"):
            feature_network("vgg19", ["block1_conv1"], weights=path)
    with pytest.raises(SrlibError, match="No such file"):
        feature_network("vgg19", ["block1_conv1"], weights=tmp_path / "none.h5")


def test_layers_are_known_without_keras() -> None:
    assert LAYERS["vgg19"][::15] == ("block1_conv1", "block5_conv4") and len(LAYERS["vgg19"]) == 16
    assert LAYERS["squeezenet"][-1] == "fire9" and len(LAYERS["squeezenet"]) == 9


@pytest.mark.parametrize(
    ("network", "layer"),
    [("vgg19", "block1_conv2"), ("vgg19", "block5_conv4"), *(("squeezenet", layer) for layer in LAYERS["squeezenet"])],
)
def test_the_least_side_of_an_image(network: FeatureNetwork, layer: str) -> None:
    model, side = feature_network(network, [layer]), least_side(network, layer)

    def has_output(side: int) -> bool:
        try:
            shape = model.compute_output_shape((1, side, side, 3))
        except ValueError:
            return False
        return min(shape[1:3]) > 0

    assert has_output(side) and not has_output(side - 1)


def test_magnitudes_bring_all_layers_to_one_size() -> None:
    """Photographs' features divided by them are near 1, in every layer."""
    layers = ("conv1", "fire3", "fire5")
    features = feature_network("squeezenet", layers, pre_activation=True, seed=2)
    image = (skimage.data.astronaut()[None, 100:228, 150:278] / 255).astype(np.float32)
    sizes = [float(np.sqrt(np.square(ops.convert_to_numpy(x)).mean())) for x in features(image)]
    ratios = np.array(sizes) / feature_magnitudes(features)
    assert sizes[0] > 0 and ((ratios > 0.4) & (ratios < 2.5)).all(), ratios
    single = feature_network("squeezenet", layers[:1], pre_activation=True, seed=2)
    assert feature_magnitudes(single) == pytest.approx(feature_magnitudes(features)[:1])
