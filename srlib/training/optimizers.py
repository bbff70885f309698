"""Optimizers, and the parts that are combined with them: clipping, orbit projection and averaging of weights.

Each network has its own optimizer. `NetworkUpdate` holds it together with the parts that apply to that network, and
`CombinedOptimizer` is what Keras' training step calls.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
from keras import ops

from srlib.params import LearningRate
from srlib.training.averaging import ExponentialMovingAverage
from srlib.training.equivariance import OrbitProjection
from srlib.training.types import Tensor

OPTIMIZERS = ("adam", "adamw", "muon")


def make_optimizer(
    name: str, variables: Sequence[keras.Variable], *, weight_decay: float = 0.0
) -> keras.optimizers.Optimizer:
    """Return a Keras optimizer, built for `variables`.

    Args:
        name: `adam` (Kingma & Ba 2015), `adamw` (Loshchilov & Hutter 2019) or `muon` (see `Muon`).
        variables: The trainable variables of one network.
        weight_decay: For `adamw`: before each update a kernel w becomes w − learning rate · weight_decay · w. Biases,
            the slopes of PReLU and the factors of normalization do not decay.

    Raises:
        ValueError: `name` is not one of `OPTIMIZERS`.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}, got {name!r}")
    # The learning rate is set before every step.
    options = {"learning_rate": 0.0, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
    if name == "adamw":
        optimizer = keras.optimizers.AdamW(weight_decay=weight_decay, **options)
        optimizer.exclude_from_weight_decay([v for v in variables if v.name != "kernel"])
    else:
        optimizer = Muon(**options) if name == "muon" else keras.optimizers.Adam(**options)
    optimizer.build(list(variables))
    return optimizer


class Muon(keras.optimizers.Adam):
    """Muon (Jordan et al. 2024) for the convolutions between the first and the last, Adam for all other variables.

    A kernel [h, w, in, out] is treated as a matrix [h·w·in, out]. Its gradient enters a momentum with Nesterov's
    look-ahead, and the update is the nearest semi-orthogonal matrix to it: all its singular values become equal, so
    that no direction dominates. Multiplied by 0.2·√(longer side), the update has the root mean square of a typical Adam
    step (Liu et al. 2025, arXiv:2502.16982), so that both parts can share one learning rate. The momentum is stored
    in Adam's first moment. `keras.optimizers.Muon` uses Adam for kernels of convolutions.
    """

    momentum = 0.95

    def build(self, variables: list[keras.Variable]) -> None:
        """Create the moments and group the kernels by shape: those of one shape are orthogonalized together."""
        if self.built:
            return
        super().build(variables)
        kernels = [index for index, v in enumerate(variables) if v.name == "kernel" and len(v.shape) == 4]
        self._stacks: dict[tuple[int, ...], list[int]] = {}
        for index in kernels[1:-1]:
            self._stacks.setdefault(tuple(variables[index].shape), []).append(index)

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Update all variables that the optimizer was built for, given their gradients in the same order."""
        variables = list(trainable_variables or self._trainable_variables)
        learning_rate = ops.cast(self.learning_rate, "float32")
        for shape, members in self._stacks.items():
            rows, columns = math.prod(shape[:-1]), shape[-1]
            for index in members:
                self._momentums[index].assign(self.momentum * self._momentums[index] + grads[index])
            ahead = [grads[index] + self.momentum * self._momentums[index] for index in members]
            updates = orthogonalize(ops.reshape(ops.stack(ahead), (len(members), rows, columns)))
            size = learning_rate * 0.2 * max(rows, columns) ** 0.5
            for index, update in zip(members, ops.unstack(updates), strict=True):
                self.assign_sub(variables[index], size * ops.reshape(update, shape))
        stacked = {index for members in self._stacks.values() for index in members}
        rest = [index for index in range(len(variables)) if index not in stacked]
        super().apply([grads[index] for index in rest], [variables[index] for index in rest])


def orthogonalize(x: Tensor, iterations: int = 5) -> Tensor:
    """Return approximately the factor U·Vᵀ of each matrix's singular value decomposition U·S·Vᵀ.

    Newton–Schulz iterations with the polynomial of Jordan (2024) need matrix products only. Five of them bring singular
    values between 0.01 and 1 (relative to the Frobenius norm) into 0.68 … 1.14, which works as well as exactly 1.

    Args:
        x: float32 [n, rows, columns].
        iterations: Number of times the polynomial is applied.

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


def clip_by_norm(gradients: Sequence[Tensor], limit: float) -> list[Tensor]:
    """Scale gradients so that their common Euclidean norm is at most `limit`."""
    norm = ops.sqrt(sum(ops.sum(ops.square(ops.cast(gradient, "float32"))) for gradient in gradients))
    factor = limit / ops.maximum(norm, limit)
    return [gradient * ops.cast(factor, gradient.dtype) for gradient in gradients]


@dataclass(eq=False)
class NetworkUpdate:
    """How one network's weights are updated: an optimizer, and the parts that are applied before and after it.

    Attributes:
        network: The network; its trainable variables are updated.
        optimizer: Optimizer built for these variables, see `make_optimizer`.
        schedule: The learning rate over the steps of the training.
        clip_norm: Largest norm of the network's gradient; 0: no clipping. Each network is clipped by its own norm:
            under a common one, a generator and a discriminator would scale each other's gradients.
        projection: Projection that keeps the network equivariant; None: any weights.
        average: Moving average of the weights; None: no averaging.
    """

    network: keras.Model
    optimizer: keras.optimizers.Optimizer
    schedule: LearningRate
    clip_norm: float = 0.0
    projection: OrbitProjection | None = None
    average: ExponentialMovingAverage | None = None

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all parts, without those of the network."""
        return [*self.optimizer.variables, *(self.average.variables if self.average else ())]

    def apply(self, gradients: Sequence[Tensor]) -> None:
        """Update the network once, given the gradients of its trainable variables."""
        weights = self.network.trainable_variables
        if self.projection:
            gradients = self.projection.project(gradients)
        if self.clip_norm:
            gradients = clip_by_norm(gradients, self.clip_norm)
        self.optimizer.apply(gradients, weights)
        if self.projection:  # Muon's matrix products round the values of one orbit differently.
            for variable, value in zip(weights, self.projection.project(weights), strict=True):
                variable.assign(value)
        if self.average:
            self.average.update()

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Give the network its averaged weights within the block, if there is an average."""
        with self.average.applied() if self.average else contextlib.nullcontext():
            yield


class CombinedOptimizer(keras.optimizers.Optimizer):
    """The optimizer that Keras' training step calls: it passes each network's gradients to that network's update.

    Args:
        updates: One update per trained network. No variable belongs to two of them.
    """

    def __init__(self, updates: Sequence[NetworkUpdate]) -> None:
        super().__init__(learning_rate=0.0, name="combined")
        self.updates = tuple(updates)

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all updates, networks excluded. This optimizer itself has none."""
        return [variable for update in self.updates for variable in update.variables]

    @property
    def iterations(self) -> keras.Variable:
        """The number of updates done."""
        return self.updates[0].optimizer.iterations

    @property
    def learning_rates(self) -> list[keras.Variable]:
        """The learning rate of each update, as a variable."""
        return [update.optimizer.learning_rate for update in self.updates]

    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Update every network once."""
        variables = trainable_variables or self._trainable_variables
        gradients = {id(variable): gradient for variable, gradient in zip(variables, grads, strict=True)}
        for update in self.updates:
            update.apply([gradients[id(variable)] for variable in update.network.trainable_variables])
