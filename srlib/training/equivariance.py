"""Networks that are equivariant under the eight flips and rotations of the square (the dihedral group D4).

A network is equivariant if super-resolving a flipped or rotated image gives the flipped or rotated result. For that,
the entries of each kernel that D4 maps onto each other (an orbit) are equal, and channels come in groups of eight that
D4 permutes (the regular representation; Cohen & Welling 2016, arXiv:1602.07576). Layers and weight files are those of
an ordinary network: equal entries are set once, and stay equal because gradients and updated weights are replaced by
their mean over each orbit. That mean is the gradient of the batch in all eight orientations.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from srlib.training.types import Tensor

GROUP = 8
"""Channels that D4 permutes among themselves: a network's width must be a multiple of it."""

RGB = 3

Permutations = NDArray[np.int64]
"""[8, n]: for each of the eight flips and rotations, the entry that moves to each of n places."""


@dataclass(frozen=True)
class KernelOrbits:
    """The entries of one flattened variable that must be equal.

    Attributes:
        members: int32 [orbits, 8]: the entries that the eight flips and rotations map an orbit's first entry to. Where
            some of them map it to the same entry, that entry occurs more than once, each equally often.
        number: int32 [n]: the orbit of each entry.
    """

    members: NDArray[np.int32]
    number: NDArray[np.int32]

    def average(self, values: Tensor) -> Tensor:
        """Replace each entry by the mean of its orbit, exactly equal within it.

        Args:
            values: float32 [n, k], with one variable per column.

        Returns:
            float32 [n, k].
        """
        return ops.take(ops.mean(ops.take(values, self.members, axis=0), axis=1), self.number, axis=0)


class OrbitProjection:
    """Projection of gradients or weights onto those of an equivariant network, by averaging over orbits.

    Args:
        network: Network as `kernel_orbits` takes it.
    """

    def __init__(self, network: keras.Model) -> None:
        self._orbits = kernel_orbits(network)

    def project(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the projected values, one tensor per trainable variable of the network, in the same order."""
        by_shape: dict[int, list[int]] = {}
        for index, orbits in enumerate(self._orbits):
            by_shape.setdefault(id(orbits), []).append(index)
        result = list(values)
        for indices in by_shape.values():  # One computation for all variables of a shape.
            columns = ops.stack([ops.reshape(values[index], (-1,)) for index in indices], axis=1)
            means = ops.unstack(self._orbits[indices[0]].average(columns), axis=1)
            for index, mean in zip(indices, means, strict=True):
                result[index] = ops.reshape(mean, values[index].shape)
        return result


def kernel_orbits(network: keras.Model) -> list[KernelOrbits]:
    """Return the orbits of each trainable variable.

    Args:
        network: A network on RGB made of `conv` and `upsample` (srlib.models.blocks), additions and element-wise
            functions. Its width must be a multiple of `GROUP`.
    """
    width = network.get_layer("head").filters
    return [
        _orbits(tuple(variable.shape), *_output_layout(layer, width))
        for layer in network.layers
        for variable in layer.trainable_variables
    ]


def make_equivariant(network: keras.Model) -> None:
    """Set all entries of each orbit to its first one. The variance of initial weights stays as it was."""
    for variable, values in _tied_values(network):
        variable.assign(values)


def is_equivariant(network: keras.Model) -> bool:
    """Return True if all entries of each orbit are exactly equal."""
    return all(np.array_equal(ops.convert_to_numpy(variable), values) for variable, values in _tied_values(network))


def _tied_values(network: keras.Model) -> Iterator[tuple[keras.Variable, NDArray[np.float32]]]:
    """Yield each trainable variable, and its values with all entries of an orbit set to the first."""
    for variable, orbits in zip(network.trainable_variables, kernel_orbits(network), strict=True):
        values = ops.convert_to_numpy(variable).reshape(-1)
        yield variable, values[orbits.members[:, 0]][orbits.number].reshape(variable.shape)


def _output_layout(layer: keras.layers.Conv2D, width: int) -> tuple[int, bool]:
    """Return (the factor by which the layer's output is shuffled to sub-pixels, whether channels come in groups)."""
    channels = layer.filters
    if not layer.name.startswith("upsample"):
        return 1, channels != RGB
    grouped = channels in (4 * width, 9 * width)  # A ×2 or ×3 stage; otherwise the image itself.
    return isqrt(channels // (width if grouped else RGB)), grouped


@functools.cache
def _orbits(shape: tuple[int, ...], factor: int, grouped: bool) -> KernelOrbits:
    """Return the orbits of a bias [out] or a kernel [side, side, in, out]."""
    moves = _combine(_pixel_moves(factor), _channel_moves(shape[-1] // factor**2, grouped))
    if len(shape) == 4:
        moves = _combine(_combine(_pixel_moves(shape[0]), _channel_moves(shape[2], shape[2] != RGB)), moves)
    first, number = np.unique(moves.min(axis=0), return_inverse=True)
    return KernelOrbits(moves[:, first].T.astype(np.int32), number.astype(np.int32))


@functools.cache
def _pixel_moves(side: int) -> Permutations:
    """Return the permutations of the pixels of a square."""
    square = np.arange(side**2).reshape(side, side)
    return np.stack([np.rot90(image, turns).reshape(-1) for image in (square, square[:, ::-1]) for turns in range(4)])


def _channel_moves(count: int, grouped: bool) -> Permutations:
    """Return the permutations of channels: channel h of a group takes the values of g⁻¹·h; RGB stays."""
    moves = _pixel_moves(3)
    if not grouped:
        return np.broadcast_to(np.arange(count), (len(moves), count))
    numbers = {move.tobytes(): index for index, move in enumerate(moves)}
    group = np.array([[numbers[h[np.argsort(g)].tobytes()] for h in moves] for g in moves])
    return _combine(_channel_moves(count // GROUP, False), group)


def _combine(slow: Permutations, fast: Permutations) -> Permutations:
    """Return [8, a·b], the permutations of a flattened table, given those of its a rows and b columns."""
    both: Permutations = slow[:, :, None] * fast.shape[1] + fast[:, None, :]
    return both.reshape(len(slow), -1)
