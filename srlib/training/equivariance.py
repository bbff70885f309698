"""Networks that treat the eight flips and turns of a picture alike, by values that their weights share.

A network is equivariant if enlarging a turned picture gives the turned enlargement. Convolutions are where the values
of a kernel that a flip or a turn takes to each other are equal, and the channels are fields of eight, one for each
flip and turn, that change places with them (Cohen & Welling 2016, arXiv:1602.07576, regular representations of p4m).
The network itself stays an ordinary one: what is shared is held by its initial values, and by averaging gradients
over what is shared, which is the gradient of a batch in all eight positions.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt
from typing import Any

import keras
import numpy as np
from keras import ops

FIELD = 8
"""Channels of a field: a network's width must be a multiple of it."""

RGB = 3


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
        _orbits(tuple(variable.shape), *_sub_pixels(layer, width))
        for layer in network.layers
        for variable in layer.trainable_variables
    ]


def share(network: keras.Model) -> None:
    """Makes the network equivariant: every place of an orbit gets the value of its first, so that variances stay."""
    for variable, values in _shared(network):
        variable.assign(values)


def is_shared(network: keras.Model) -> bool:
    """Whether all values of each orbit are exactly equal."""
    return all(np.array_equal(ops.convert_to_numpy(variable), values) for variable, values in _shared(network))


def _shared(network: keras.Model) -> Iterator[tuple[Any, np.ndarray]]:
    """Each trainable variable, and its values if every place of an orbit had that of the first."""
    for variable, orbits in zip(network.trainable_variables, orbits_of(network), strict=True):
        values = ops.convert_to_numpy(variable).reshape(-1)
        yield variable, values[orbits.members[:, 0]][orbits.number].reshape(variable.shape)


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


def _sub_pixels(layer: keras.layers.Conv2D, width: int) -> tuple[int, bool]:
    """Into how many sub-pixels each way a layer's channels unfold, and whether one holds fields rather than RGB."""
    channels = layer.filters
    if not layer.name.startswith("upsample"):
        return 1, channels != RGB
    fields = channels in (4 * width, 9 * width)  # steps of ×2 and ×3; else the picture at once
    return isqrt(channels // (width if fields else RGB)), fields


@functools.cache
def _orbits(shape: tuple[int, ...], factor: int, fields: bool) -> Orbits:
    """The orbits of a bias [out] or a kernel [side, side, in, out]."""
    moves = _together(_places(factor), _channels(shape[-1] // factor**2, fields))
    if len(shape) == 4:
        moves = _together(_together(_places(shape[0]), _channels(shape[2], shape[2] != RGB)), moves)
    first, number = np.unique(moves.min(axis=0), return_inverse=True)
    return Orbits(moves[:, first].T.astype(np.int32), number.astype(np.int32))


@functools.cache
def _places(side: int) -> np.ndarray:
    """Which place of a square ends at each, for each flip and turn: int [8, side²]."""
    square = np.arange(side**2).reshape(side, side)
    return np.stack([np.rot90(seen, turns).reshape(-1) for seen in (square, square[:, ::-1]) for turns in range(4)])


def _channels(count: int, fields: bool) -> np.ndarray:
    """Which channel ends at each, int [8, count]: of a field, h where g after h is; RGB stays."""
    moves = _places(3)
    if not fields:
        return np.broadcast_to(np.arange(count), (len(moves), count))
    numbers = {move.tobytes(): index for index, move in enumerate(moves)}
    field = np.array([[numbers[h[np.argsort(g)].tobytes()] for h in moves] for g in moves])  # taken from g⁻¹ after h
    return _together(_channels(count // FIELD, False), field)


def _together(slow: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """[8, a], [8, b] → [8, a · b]: the moves of a table of a rows and b columns, flattened."""
    both: np.ndarray = slow[:, :, None] * fast.shape[1] + fast[:, None, :]
    return both.reshape(len(slow), -1)
