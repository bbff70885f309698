"""Calibrated factors of the perceptual loss, by feature network and layer: what `perceptual_scale: auto` stands for.

Features differ in size by orders of magnitude from layer to layer, and so do the gradients of the perceptual loss.
"""

import csv
import functools
from pathlib import Path
from typing import Literal, NamedTuple

from srlib.models.features import FeatureNetwork

Distance = Literal["mse", "mae"]
FeatureWeights = Literal["file", "random"]

TABLE = Path(__file__).parent / "perceptual_scales.csv"
"""Measured factors; written by `benchmarks/perceptual_scale.py`."""

SRGAN_SCALES: dict[Distance, float] = {"mse": 0.00615, "mae": 0.08}
"""Factors for VGG19's `block5_conv4` with ImageNet weights: 1 / 12.75² (Ledig et al. 2017) and about its root."""

CHECKERBOARD_WEIGHTS: dict[FeatureNetwork, float] = {"vgg19": 0.0, "squeezenet": 3.0}
"""Weight of the checkerboard loss. SqueezeNet reads every second pixel, then every fourth: a pattern of that period is
invisible to it. 3 is the weight with which gan-x4 was trained; the SRGAN paper has no such term."""


class FeatureSpace(NamedTuple):
    """What the factor of a perceptual loss depends on.

    Attributes:
        network: The feature network.
        weights: `file` for ImageNet weights, `random` for untrained ones.
        layer: One of the network's layers.
        pre_activation: Whether the features are those before the layer's ReLU.
        distance: How features are compared.
    """

    network: FeatureNetwork
    weights: FeatureWeights
    layer: str
    pre_activation: bool
    distance: Distance

    def fields(self) -> tuple[str, ...]:
        """Return the fields as the table has them."""
        return tuple(str(value).lower() for value in self)


def calibrated_scale(space: FeatureSpace) -> float | None:
    """Return the calibrated factor, or None if none is known.

    Example:
        >>> calibrated_scale(FeatureSpace("vgg19", "file", "block5_conv4", False, "mse"))
        0.00615
        >>> calibrated_scale(FeatureSpace("vgg19", "file", "block1_conv1", False, "mse")) is None
        True
    """
    if (space.network, space.weights, space.layer) == ("vgg19", "file", "block5_conv4"):
        return SRGAN_SCALES[space.distance]
    return measured_scales().get(space.fields())


@functools.cache
def measured_scales() -> dict[tuple[str, ...], float]:
    """Return the table: fields of a `FeatureSpace` → factor."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return {tuple(fields): float(scale) for *fields, scale in list(csv.reader(file))[1:]}
