"""Networks that treat the eight flips and turns of a picture alike, by values that their weights share.

A network is equivariant if enlarging a turned picture gives the turned enlargement. Convolutions are where the values
of a kernel that a flip or a turn takes to each other are equal, and the channels are fields of eight, one for each
flip and turn, that change places with them (Cohen & Welling 2016, arXiv:1602.07576, regular representations of p4m).
The network itself stays an ordinary one: what is shared is held by its initial values, and by averaging gradients
over what is shared, which is the gradient of a batch in all eight positions.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import keras
import numpy as np
from keras import ops

FIELD = 8
"""Channels of a field: a network's width must be a multiple of it."""


@dataclass(frozen=True)
class Orbits:
    """Which values of a flattened variable are equal.

    Attributes:
        members: int32 [orbits, 8]: the places that flips and turns take an orbit's first place to; some repeat where
            some flips or turns leave a place where it is, all of an orbit equally often.
        number: int32 [n]: the orbit of each place.
    """

    members: np.ndarray
    number: np.ndarray

    def average(self, values: Any) -> Any:
        """float32 [n, k] → the same, each value replaced by the mean of its orbit, exactly alike within it."""
        return ops.take(ops.mean(ops.take(values, self.members, axis=0), axis=1), self.number, axis=0)


def orbits_of(network: keras.Model) -> list[Orbits]:
    """The orbits of each trainable variable of a network of `conv` and `upsample` (srlib.models.blocks).

    Args:
        network: On RGB, of convolutions, additions and functions of single values, its width a multiple of `FIELD`.
    """
    width = network.get_layer("head").filters
    return [
        _orbits(tuple(variable.shape), _inputs(variable.shape), *_outputs(layer, width))
        for layer in network.layers
        for variable in layer.trainable_variables
    ]


def share(network: keras.Model) -> None:
    """Makes the network equivariant: every place of an orbit gets the value of its first, so that variances stay."""
    for variable, orbits in zip(network.trainable_variables, orbits_of(network), strict=True):
        values = ops.convert_to_numpy(variable).reshape(-1)
        variable.assign(values[orbits.members[:, 0]][orbits.number].reshape(variable.shape))


def is_shared(network: keras.Model) -> bool:
    """Whether all values of each orbit are exactly equal."""
    for variable, orbits in zip(network.trainable_variables, orbits_of(network), strict=True):
        values = ops.convert_to_numpy(variable).reshape(-1)
        if not np.array_equal(values, values[orbits.members[:, 0]][orbits.number]):
            return False
    return True


def averaged(orbits: Sequence[Orbits], values: Sequence[Any]) -> list[Any]:
    """Gradients or weights of the variables that `orbits` belong to, each value replaced by the mean of its orbit."""
    alike: dict[int, list[int]] = {}
    for index, found in enumerate(orbits):
        alike.setdefault(id(found), []).append(index)
    result = list(values)
    for members in alike.values():  # variables of one shape in one go
        columns = ops.stack([ops.reshape(values[index], (-1,)) for index in members], axis=1)
        means = ops.unstack(orbits[members[0]].average(columns), axis=1)
        for index, mean in zip(members, means, strict=True):
            result[index] = ops.reshape(mean, values[index].shape)
    return result


def _inputs(shape: Sequence[int]) -> int:
    """How many of a variable's inputs change places as a field."""
    return 0 if len(shape) == 1 or shape[-2] == 3 else shape[-2]


def _outputs(layer: keras.Layer, width: int) -> tuple[int, bool]:
    """A layer's factor of sub-pixel upsampling, and whether each of its sub-pixels holds fields rather than RGB."""
    channels = layer.filters
    if not layer.name.startswith("upsample"):
        return 1, channels != 3
    fields = channels in (4 * width, 9 * width)  # steps of ×2 and ×3; else RGB at once
    return isqrt(channels // (width if fields else 3)), fields


@functools.cache
def _orbits(shape: tuple[int, ...], inputs: int, factor: int, fields: bool) -> Orbits:
    """The orbits of a bias [out] or a kernel [side, side, in, out]."""
    rest = shape[-1] // factor**2
    out = _together(_places(factor), _channels(rest) if fields else _still(rest))
    if len(shape) == 4:
        side, _, depth, _ = shape
        out = _together(_together(_places(side), _channels(depth) if inputs else _still(depth)), out)
    first, number = np.unique(out.min(axis=0), return_inverse=True)
    return Orbits(out[:, first].T.astype(np.int32), number.astype(np.int32))


@functools.cache
def _places(side: int) -> np.ndarray:
    """int [8, side²]: which place of a square ends at each, for each flip and turn."""
    square = np.arange(side**2).reshape(side, side)
    return np.stack([np.rot90(seen, turns).reshape(-1) for seen in (square, square[:, ::-1]) for turns in range(4)])


def _channels(count: int) -> np.ndarray:
    """int [8, count]: which channel ends at each; channel h of a field goes to g·h."""
    moves = _places(3)
    numbers = {move.tobytes(): index for index, move in enumerate(moves)}
    # Moving by h, then by the inverse of g: where g takes from.
    field = np.array([[numbers[h[np.argsort(g)].tobytes()] for h in moves] for g in moves])
    return _together(np.broadcast_to(np.arange(count // FIELD), (len(moves), count // FIELD)), field)


def _still(count: int) -> np.ndarray:
    """int [8, count]: channels that no flip and no turn moves."""
    return np.broadcast_to(np.arange(count), (len(_places(1)), count))


def _together(slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """[8, a], [8, b] → [8, a · b]: the moves of a table of a rows and b columns, flattened."""
    return (slow[:, :, None] * fast.shape[1] + fast[:, None, :]).reshape(len(slow), -1)
