"""LPIPS: how different two pictures look, measured on a network's features (Zhang et al. 2018, arXiv:1801.03924).

The backbone here is SqueezeNet 1.1 with ImageNet weights in Keras' layout; published tables mostly use AlexNet, and
figures of two backbones cannot be compared. Lower is better, 0 for equal pictures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Metric
from srlib.files import file_hash
from srlib.imaging.arrays import Image

KEY = "lpips_squeezenet"
TITLE = "LPIPS (SqueezeNet)"
TAPS = ("conv1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")
SMALLEST = 35
"""Pixels that SqueezeNet needs at least on each side."""

_EPSILON = 1e-10


def lpips(backbone: Path, linear: Path) -> Metric:
    """LPIPS v0.1 as a column of the table, over the picture without `scale` pixels on each side.

    Args:
        backbone: SqueezeNet's weights without classifier, HDF5 in Keras' layout.
        linear: The weights of each channel, .npz with `lin0.model.1.weight` … `lin6.model.1.weight`, [1, C, 1, 1].

    Raises:
        SrlibError: A file that does not fit.
    """
    from srlib.models.features import feature_network

    network = feature_network("squeezenet", TAPS, weights=backbone)
    weights = _linear(linear, [int(out.shape[-1]) for out in network.outputs])
    distance = _distance(network, weights)

    def of(hr: Image, sr: Image, scale: int) -> float:
        inside = (slice(scale, hr.shape[0] - scale), slice(scale, hr.shape[1] - scale))
        return distance(hr[inside], sr[inside])

    return Metric(TITLE, "", 4, "lower", of, SMALLEST)


def checked(file: Path, sha256: str, key: str) -> Path:
    """`file`, if it is there and has this SHA-256; `key` is its place in the recipe."""
    if not file.is_file():
        raise SrlibError(f"{key}: {file}: no such file")
    if (found := file_hash(file)) != sha256:
        raise SrlibError(f"{key}: {file}: expected the SHA-256 {sha256}, found {found}")
    return file


def _linear(path: Path, channels: list[int]) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = [file[f"lin{index}.model.1.weight"] for index in range(len(channels))]
    except (OSError, ValueError, KeyError) as error:
        raise SrlibError(f"{path}: expected LPIPS' weights of SqueezeNet as .npz ({error})") from None
    shapes = [weight.shape for weight in weights]
    if shapes != [(1, count, 1, 1) for count in channels]:
        raise SrlibError(f"{path}: expected weights for channels {channels}, got shapes {shapes}")
    return [weight.reshape(-1).astype(np.float32) for weight in weights]


def _distance(network: Any, weights: list[np.ndarray]) -> Callable[[Image, Image], float]:
    """The sum over layers of the spatial mean of the weighted squared difference of unit-length features."""
    from keras import ops

    def unit(features: Any) -> Any:
        return features / (ops.sqrt(ops.sum(features**2, axis=-1, keepdims=True)) + _EPSILON)

    def distance(hr: Image, sr: Image) -> float:
        # One picture at a time: side by side in a batch, equal ones may differ in their last bits.
        both = [network(picture[None].astype(np.float32) / np.float32(255), training=False) for picture in (hr, sr)]
        total = 0.0
        for one, other, weight in zip(*both, weights, strict=True):
            layer = ops.mean(ops.sum((unit(one) - unit(other)) ** 2 * weight, axis=-1))
            total += float(ops.convert_to_numpy(layer))
        return total

    return distance
