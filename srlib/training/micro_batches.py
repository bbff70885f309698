"""Steps whose bytes do not depend on the number of devices and processes, on JAX.

A batch is divided into a fixed number of micro-batches. Each device computes the gradients of its micro-batches one
after another, by a program that knows neither the number of devices nor that of micro-batches. All gradients are copied
to every device, which adds them in the order of the micro-batches and updates its weights. Where each device computes
the gradient of its whole share at once, the number of devices decides the shapes of all operations and the order in
which gradients are added, and with them the last bits.

Batch normalization uses the statistics of one micro-batch (ghost batch normalization; Hoffer et al. 2017,
arXiv:1705.08741). Its moving averages become the mean of those that the micro-batches give.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from srlib.training.mesh import AXIS, device_mesh, divide, parts_per_process
from srlib.training.trainer import Trainer
from srlib.training.types import ByteArray, Tensor

Values: TypeAlias = list[list[Tensor]]
"""Values of trainable, of non-trainable and of optimizer variables."""

Step: TypeAlias = Callable[[Values, ByteArray, ByteArray], tuple[dict[str, Tensor], Values]]
"""Function (values, this process's rows of lr and hr) → (losses, new values). It consumes the old values."""


def micro_batch_step(trainer: Trainer, count: int) -> Step:
    """Return a step that adds the gradients of `count` micro-batches in their order.

    Args:
        trainer: A compiled and built trainer.
        count: Number of micro-batches in a batch; a multiple of the number of devices.
    """
    layout = _Layout(trainer)
    gradient = _on_each_device(layout.gradient, "whole", "divided", "divided", out=("divided", "whole"))
    collect = _on_each_device(_collect, "divided", out="whole")
    update = _on_each_device(functools.partial(layout.update, count), "whole", "whole", "whole", out="whole", donate=0)

    def step(values: Values, lr: ByteArray, hr: ByteArray) -> tuple[dict[str, Tensor], Values]:
        rounds = list(zip(_rounds(lr, count), _rounds(hr, count), strict=True))
        results = [gradient(values, divide(one), divide(other)) for one, other in rounds]
        vectors, counters = zip(*results, strict=True)
        new: tuple[dict[str, Tensor], Values] = update(values, collect(list(vectors)), counters[0])
        return new

    return step


class _Layout:
    """How a trainer's gradients, batch statistics and losses lie in one vector, which is gathered at once.

    Args:
        trainer: A compiled and built trainer.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._averaged = [variable.dtype == "float32" for variable in trainer.non_trainable_variables]
        self._names = [metric.name for metric in trainer.metrics]
        averaged = [variable for variable in trainer.non_trainable_variables if variable.dtype == "float32"]
        shapes = [tuple(variable.shape) for variable in [*trainer.trainable_variables, *averaged]]
        self._shapes = shapes + [()] * len(self._names)

    def gradient(self, values: Values, lr: Tensor, hr: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return ([1, n]: the vector of one micro-batch, the new values of counters)."""
        import jax
        import jax.numpy as jnp

        trainer, (trainable, others, optimizer) = self._trainer, values
        metrics = [jnp.zeros(v.shape, v.dtype) for v in trainer.metrics_variables]
        differentiate = jax.value_and_grad(trainer.compute_loss_and_updates, has_aux=True)
        (_, (loss, _, others, metrics)), gradients = differentiate(
            trainable, others, metrics, lr, hr, None, training=True, optimizer_variables=optimizer
        )
        averaged = [v for v, floats in zip(others, self._averaged, strict=True) if floats]
        counters = [v for v, floats in zip(others, self._averaged, strict=True) if not floats]
        parts = [*gradients, *averaged, *self._losses(loss, metrics)]
        return jnp.concatenate([jnp.ravel(part) for part in parts])[None], counters

    def _losses(self, loss: Tensor, metrics: Sequence[Tensor]) -> list[Tensor]:
        """Return the values of the trainer's metrics, of which the first is the loss itself."""
        losses, start = [], 0
        for metric in self._trainer.metrics:
            state = metrics[start : start + len(metric.variables)]
            losses.append(loss if start == 0 else metric.stateless_result(state))
            start += len(metric.variables)
        return losses

    def update(
        self, count: int, values: Values, vectors: Tensor, counters: list[Tensor]
    ) -> tuple[dict[str, Tensor], Values]:
        """Add the vectors [count, n] in their order; return (losses, new values)."""
        mean = functools.reduce(lambda total, vector: total + vector, [vectors[i] for i in range(count)]) / count
        sizes = [int(np.prod(shape)) for shape in self._shapes]
        ends = np.cumsum(sizes)
        parts = iter(
            mean[end - size : end].reshape(shape) for size, end, shape in zip(sizes, ends, self._shapes, strict=True)
        )
        trainable, _, optimizer = values
        gradients = [next(parts) for _ in trainable]
        left = iter(counters)
        others = [next(parts) if floats else next(left) for floats in self._averaged]
        losses = dict(zip(self._names, parts, strict=True))
        trainable, optimizer = self._trainer.optimizer.stateless_apply(optimizer, gradients, trainable)
        return losses, [trainable, others, optimizer]


def _rounds(rows: ByteArray, count: int) -> list[ByteArray]:
    """Divide a process's rows into micro-batches, and return those that its devices compute at the same time."""
    import jax

    devices = jax.local_device_count()
    parts = rows.reshape(devices, parts_per_process(count) // devices, -1, *rows.shape[1:])
    return [np.ascontiguousarray(parts[:, index]).reshape(-1, *rows.shape[1:]) for index in range(parts.shape[1])]


def _collect(vectors: list[Tensor]) -> Tensor:
    """Return the vectors [1, n] of all devices as [count, n], in the order of the micro-batches."""
    import jax
    import jax.numpy as jnp

    own = jnp.concatenate(vectors)
    return jax.lax.all_gather(own, AXIS, tiled=True)


def _on_each_device(
    function: Callable[..., Tensor], *inputs: str, out: str | tuple[str, ...], donate: int | None = None
) -> Callable[..., Tensor]:
    """Compile a function that every device computes on its own part of arrays that are divided or whole."""
    import jax

    specs = {"whole": jax.sharding.PartitionSpec(), "divided": jax.sharding.PartitionSpec(AXIS)}
    places = tuple(specs[name] for name in out) if isinstance(out, tuple) else specs[out]
    mapped = jax.shard_map(
        function, mesh=device_mesh(), in_specs=tuple(specs[name] for name in inputs), out_specs=places, check_vma=False
    )
    compiled: Callable[..., Tensor] = jax.jit(mapped, donate_argnums=() if donate is None else donate)
    return compiled
