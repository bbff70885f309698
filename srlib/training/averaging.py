"""Exponential moving average of weights."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
from keras import ops


class ExponentialMovingAverage:
    """Moving average of variables, with a decay that rises from 0 so that initial weights have no share in it.

    After update number n (from 0) the decay is min(decay, n / (9 + n)): the average follows a short run as well as a
    long one.

    Args:
        variables: The variables to average. Their initial values are the initial averages.
        decay: Upper limit of the decay, in [0, 1). 0.999 averages over about the last 1,000 updates.
    """

    def __init__(self, variables: Sequence[keras.Variable], decay: float) -> None:
        self._pairs = [(v, keras.Variable(ops.convert_to_numpy(v), trainable=False, name="average")) for v in variables]
        self._decay = decay
        self._updates = keras.Variable(0, dtype="int", trainable=False, name="updates")

    @property
    def variables(self) -> list[keras.Variable]:
        """The averages and the number of updates: what a resumed training needs."""
        return [*(average for _, average in self._pairs), self._updates]

    def update(self) -> None:
        """Move the averages towards the current values. Call it once after each update of the variables."""
        updates = ops.cast(self._updates, "float32")
        decay = ops.minimum(self._decay, updates / (9.0 + updates))
        for variable, average in self._pairs:
            average.assign(variable + decay * (average - variable))
        self._updates.assign_add(1)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the variables their averages as values within the block, and their own values back after it."""
        current = [ops.convert_to_numpy(variable) for variable, _ in self._pairs]
        for variable, average in self._pairs:
            variable.assign(average)
        try:
            yield
        finally:
            for (variable, _), value in zip(self._pairs, current, strict=True):
                variable.assign(value)
