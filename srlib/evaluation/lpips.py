"""LPIPS: how different two images look, measured on a network's features (Zhang et al. 2018, arXiv:1801.03924).

The backbone here is SqueezeNet 1.1 with ImageNet weights in Keras' layout. Published tables mostly use AlexNet, and
values of two backbones cannot be compared. Lower is better; 0 for equal images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Metric
from srlib.files import file_hash
from srlib.models.features import feature_network, least_side

if TYPE_CHECKING:
    import keras

KEY = "lpips_squeezenet"
TITLE = "LPIPS (SqueezeNet)"
TAPS = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
MIN_SIDE = least_side("squeezenet", TAPS[-1])
"""Fewest pixels on each axis that SqueezeNet accepts."""

Floats = npt.NDArray[np.float32]

_EPSILON = 1e-10


def lpips(backbone: Path, linear: Path) -> Metric:
    """Return LPIPS v0.1 as a metric of the image without `scale` pixels on each side.

    Args:
        backbone: SqueezeNet's weights without the classifier, HDF5 in Keras' layout.
        linear: Weights of each channel, .npz with `lin0.model.1.weight` … `lin6.model.1.weight`, [1, C, 1, 1].

    Raises:
        SrlibError: A file with other weights.
    """
    network = feature_network("squeezenet", TAPS, weights=backbone)
    weights = _linear(linear, [int(out.shape[-1]) for out in network.outputs])
    distance = _distance(network, weights)

    def compute(hr: Image, sr: Image, scale: int) -> float:
        inside = (slice(scale, hr.shape[0] - scale), slice(scale, hr.shape[1] - scale))
        return distance(hr[inside], sr[inside])

    return Metric(TITLE, "", 4, "lower", compute, MIN_SIDE)


def verified(file: Path, sha256: str, key: str) -> Path:
    """Return `file` if it exists and has this SHA-256; `key` is its key in params.yaml, for the error message."""
    if not file.is_file():
        raise SrlibError(f"{key}: {file}: no such file")
    if (actual := file_hash(file)) != sha256:
        raise SrlibError(f"{key}: {file}: expected the SHA-256 {sha256}, found {actual}")
    return file


def _linear(path: Path, channels: list[int]) -> list[Floats]:
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = [file[f"lin{index}.model.1.weight"] for index in range(len(channels))]
    except (OSError, ValueError, KeyError) as error:
        raise SrlibError(f"{path}: expected the linear weights of LPIPS for SqueezeNet as .npz ({error})") from None
    shapes = [weight.shape for weight in weights]
    if shapes != [(1, count, 1, 1) for count in channels]:
        raise SrlibError(f"{path}: expected weights for channels {channels}, got shapes {shapes}")
    return [weight.reshape(-1).astype(np.float32) for weight in weights]


def _distance(network: "keras.Model", weights: list[Floats]) -> Callable[[Image, Image], float]:
    """Sum over layers the spatial mean of the weighted squared difference of unit-length features."""
    from keras import ops

    def unit(features: "keras.KerasTensor") -> "keras.KerasTensor":
        return features / (ops.sqrt(ops.sum(features**2, axis=-1, keepdims=True)) + _EPSILON)

    def distance(hr: Image, sr: Image) -> float:
        # One image at a time: side by side in a batch, equal images may differ in their last bits.
        both = [network(image[None].astype(np.float32) / np.float32(255), training=False) for image in (hr, sr)]
        total = 0.0
        for one, other, weight in zip(*both, weights, strict=True):
            layer = ops.mean(ops.sum((unit(one) - unit(other)) ** 2 * weight, axis=-1))
            total += float(ops.convert_to_numpy(layer))
        return total

    return distance
