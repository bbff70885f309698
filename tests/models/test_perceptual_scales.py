"""The calibrated factors of the perceptual loss."""

from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import skimage.data
from keras import ops

from srlib.imaging.resize import downscale, resize
from srlib.models.features import LAYERS, FeatureNetwork, feature_network
from srlib.models.perceptual_scales import (
    Distance,
    FeatureSpace,
    FeatureWeights,
    calibrated_scale,
    measured_scales,
)
from srlib.training import losses
from srlib.training.gan.gradient_shares import gradient_norms

ROOT = Path(__file__).parents[2]
SPACES = {
    FeatureSpace(network, weights, layer, before, distance)
    for network, layers in LAYERS.items()
    for weights, layer, before, distance in product(get_args(FeatureWeights), layers, (False, True), get_args(Distance))
}


def test_the_table_holds_nothing_but_known_layers() -> None:
    assert set(measured_scales()) <= {space.fields() for space in SPACES}
    assert all(0 < scale < 1 for scale in measured_scales().values())


def test_all_but_imagenet_weights_of_vgg19_are_calibrated() -> None:
    """VGG19's own weights could not be had where the table was measured; the paper's layer has the paper's factor."""
    missing = {(space.network, space.weights) for space in SPACES if calibrated_scale(space) is None}
    assert missing == {("vgg19", "file")}
    assert calibrated_scale(FeatureSpace("vgg19", "file", "block5_conv4", True, "mse")) == 0.00615


@pytest.mark.parametrize(("network", "layer"), [("squeezenet", "fire3"), ("vgg19", "block2_conv2")])
@pytest.mark.parametrize("distance", get_args(Distance))
def test_calibrated_gradients_are_about_six_times_the_pixel_loss(network, layer, distance) -> None:
    """On an image and an upscaling that the calibration has not seen, so within a factor of three."""
    hr = skimage.data.astronaut()[96:192, 192:288]
    image, truth = (x[None] / np.float32(255) for x in (resize(downscale(hr, 4), 4), hr))
    features = feature_network(network, [layer], pre_activation=True, seed=9)
    space = FeatureSpace(network, "random", layer, True, distance)

    def terms(sr):
        perceptual = losses.perceptual(features(truth), features(sr), scale=calibrated_scale(space), loss=distance)
        return {"perceptual": perceptual, "mae": losses.mae(ops.convert_to_tensor(truth), sr)}

    norms = gradient_norms(terms, ops.convert_to_tensor(image))
    assert 2 < norms["perceptual"] / norms["mae"] < 18


def scales_table(network: FeatureNetwork, weights: FeatureWeights) -> str:
    """Return the layers of a network and their calibrated factors in Markdown."""
    rows = ["| layer | `mse` | `mse`, before ReLU | `mae` | `mae`, before ReLU |", "|---|---:|---:|---:|---:|"]
    for layer in LAYERS[network]:
        scales = [
            calibrated_scale(FeatureSpace(network, weights, layer, before, distance))
            for distance, before in product(get_args(Distance), (False, True))
        ]
        rows.append(f"| `{layer}` | " + " | ".join("–" if scale is None else f"{scale:g}" for scale in scales) + " |")
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize(("network", "weights"), [*product(LAYERS, get_args(FeatureWeights))])
def test_the_documented_tables_are_up_to_date(network, weights) -> None:
    text = (ROOT / "docs/reference/feature-networks.md").read_text(encoding="utf-8")
    table = scales_table(network, weights)
    assert table in text, f"write this table into docs/reference/feature-networks.md:\n{table}"
