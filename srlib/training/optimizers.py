"""Adam, AdamW and Muon with clipping by group and an average of the weights."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from srlib.training.equivariance import Orbits, averaged


class Adam(keras.optimizers.Adam):
    """Adam (Kingma & Ba 2015) that clips each network's gradient by its own norm and averages weights over time.

    A generator and a discriminator that share one optimizer would scale each other's gradients under a common norm.

    Args:
        clip_norm: Largest norm of one group's gradient; 0 switches clipping off.
        average: Decay of the exponential moving average of weights; 0 switches it off. It rises as
            min(average, n / (9 + n)) with the number n of updates so far, so that a short run does not average its
            initial weights.
        groups: Variables that are clipped together; variables in no group form one of their own.
        averaged: Variables to average; None averages all.
        orbits: Of each variable, where the network is to stay equivariant: gradients and weights become means of them.
        weight_decay: AdamW's (Loshchilov & Hutter 2019): before each update a kernel w becomes w − learning rate ·
            weight_decay · w. Biases, the slopes of PReLU and the factors of normalization are left alone. 0 is Adam.
    """

    def __init__(
        self,
        *,
        clip_norm: float = 0.0,
        average: float = 0.0,
        groups: Sequence[Sequence[Any]] = (),
        averaged: Sequence[Any] | None = None,
        orbits: Sequence[Orbits] = (),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate=1e-4, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=weight_decay or None)
        self.clip_group_norm = clip_norm
        self.average = average
        self._orbits = orbits
        self._group_of = {v.path: index for index, group in enumerate(groups, start=1) for v in group}
        self._averaged = None if averaged is None else {v.path for v in averaged}

    def build(self, variables: list[Any]) -> None:
        """Makes the moments, and one average for each averaged variable."""
        if self.built:
            return
        self.exclude_from_weight_decay([v for v in variables if v.name != "kernel"])
        super().build(variables)
        wanted = [self.average and (self._averaged is None or v.path in self._averaged) for v in variables]
        self._averages = [
            self.add_variable_from_reference(variable, name="average", initializer="zeros") if is_wanted else None
            for variable, is_wanted in zip(variables, wanted, strict=True)
        ]

    @property
    def _averaged_pairs(self) -> list[tuple[Any, Any]]:
        """(variable, average). Not an attribute: Keras would count the model's variables as the optimizer's own."""
        pairs = zip(self._trainable_variables, self._averages, strict=True)
        return [(variable, average) for variable, average in pairs if average is not None]

    def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
        """One update: clip, step, then move the averages."""
        variables = trainable_variables or self._trainable_variables
        if self._orbits:
            grads = averaged(self._orbits, grads)
        if self.clip_group_norm:
            grads = self._clip(list(grads), variables)
        updates = ops.cast(self.iterations, "float32")
        self._step(grads, variables)
        if self._orbits:  # Muon's matrix products round the values of an orbit differently
            for variable, value in zip(variables, averaged(self._orbits, variables), strict=True):
                variable.assign(value)
        decay = ops.minimum(self.average, updates / (9.0 + updates))
        for variable, average in self._averaged_pairs:
            average.assign(variable + decay * (average - variable))

    def _step(self, grads: list[Any], variables: list[Any]) -> None:
        super().apply(grads, variables)

    def _clip(self, grads: list[Any], variables: list[Any]) -> list[Any]:
        groups = [self._group_of.get(v.path, 0) for v in variables]
        for group in sorted(set(groups)):
            members = [index for index, g in enumerate(groups) if g == group]
            norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(grads[i], "float32"))) for i in members))
            factor = self.clip_group_norm / ops.maximum(norm, self.clip_group_norm)
            for i in members:
                grads[i] = grads[i] * ops.cast(factor, grads[i].dtype)
        return grads

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Puts the averages in the place of the weights for the time of the block."""
        kept = [ops.convert_to_numpy(variable) for variable, _ in self._averaged_pairs]
        for variable, average in self._averaged_pairs:
            variable.assign(average)
        try:
            yield
        finally:
            for (variable, _), value in zip(self._averaged_pairs, kept, strict=True):
                variable.assign(value)


class Muon(Adam):
    """Muon (Jordan et al. 2024) for the convolutions between the first and the last, Adam for everything else.

    A kernel [h, w, in, out] is taken as a matrix [h·w·in, out]. Its gradient enters a momentum with Nesterov's
    look-ahead; the step is what remains of that when all its singular values are made alike, so that directions that
    the gradient favors do not crowd out the rest. Times 0.2·√(longer side) it has the root mean square of a usual step
    of Adam (Liu et al. 2025, arXiv:2502.16982), and one learning rate serves both. The momentum lies in the place of
    Adam's first moment. `keras.optimizers.Muon` leaves kernels of convolutions to Adam.

    Args: those of `Adam`, without decay.
    """

    momentum = 0.95

    def build(self, variables: list[Any]) -> None:
        """Chooses the kernels, gathered by shape: matrices of one shape are orthogonalized together."""
        if self.built:
            return
        super().build(variables)
        kernels = [index for index, v in enumerate(variables) if v.name == "kernel" and len(v.shape) == 4]
        self._stacks: dict[tuple[int, ...], list[int]] = {}
        for index in kernels[1:-1]:
            self._stacks.setdefault(tuple(variables[index].shape), []).append(index)

    def _step(self, grads: list[Any], variables: list[Any]) -> None:
        rate = ops.cast(self.learning_rate, "float32")
        for shape, members in self._stacks.items():
            rows, columns = math.prod(shape[:-1]), shape[-1]
            for index in members:
                self._momentums[index].assign(self.momentum * self._momentums[index] + grads[index])
            ahead = [grads[index] + self.momentum * self._momentums[index] for index in members]
            steps = orthogonalize(ops.reshape(ops.stack(ahead), (len(members), rows, columns)))
            size = rate * 0.2 * max(rows, columns) ** 0.5
            for index, step in zip(members, ops.unstack(steps), strict=True):
                self.assign_sub(variables[index], size * ops.reshape(step, shape))
        stacked = {index for members in self._stacks.values() for index in members}
        rest = [index for index in range(len(variables)) if index not in stacked]
        super()._step([grads[index] for index in rest], [variables[index] for index in rest])


OPTIMIZERS: dict[str, type[Adam]] = {"adam": Adam, "adamw": Adam, "muon": Muon}
"""`pretrain.optimizer` → its class."""


def orthogonalize(x: Any, iterations: int = 5) -> Any:
    """The factor U·Vᵀ of each matrix's singular value decomposition U·S·Vᵀ, roughly, by matrix products alone.

    Newton–Schulz iterations with Jordan's (2024) polynomial: five bring singular values from .01 to 1 of the largest
    possible into .68 … 1.14, which serves as well as 1.

    Args:
        x: float32 [n, rows, columns].
        iterations: How often the polynomial is applied.

    Returns:
        float32 [n, rows, columns].
    """
    if x.shape[1] < x.shape[2]:
        return ops.swapaxes(orthogonalize(ops.swapaxes(x, 1, 2), iterations), 1, 2)
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True)) + 1e-12)
    for _ in range(iterations):
        gram = ops.matmul(ops.swapaxes(x, 1, 2), x)
        x = 3.4445 * x + ops.matmul(x, 2.0315 * ops.matmul(gram, gram) - 4.7750 * gram)
    return x
