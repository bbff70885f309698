"""Running training steps on each Keras backend."""

import contextlib
from collections.abc import Iterator, Sequence

import keras
import numpy as np

from srlib.training import distributed
from srlib.training.mesh import device_count, divide, parts_per_process, replicate, sharding
from srlib.training.micro_batches import Step, Values, micro_batch_step
from srlib.training.trainer import Trainer
from srlib.training.types import ByteArray, LogRecord, Tensor


class StepRunner:
    """Runs the steps of a compiled trainer.

    Between steps the values of variables may be stored elsewhere: read or assign them only within `variables()`.

    Attributes:
        parts: Number of parts into which this process divides its rows of a batch, each computed by itself.
    """

    parts = 1

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __call__(self, lr: ByteArray, hr: ByteArray, learning_rates: Sequence[float]) -> LogRecord:
        """Update the weights once.

        Args:
            lr: [B, h, w, 3].
            hr: [B, scale·h, scale·w, 3].
            learning_rates: One per `NetworkUpdate` of the trainer's optimizer.

        Returns:
            The losses of the weights before the update.
        """
        for variable, value in zip(self.trainer.optimizer.learning_rates, learning_rates, strict=True):
            variable.assign(value)
        self.trainer.reset_metrics()
        losses = self.trainer.train_on_batch(lr, hr, return_dict=True)
        return {name: float(value) for name, value in losses.items()}

    @contextlib.contextmanager
    def variables(self) -> Iterator[None]:
        """Bring the trainer's variables up to date; within the block they may be read and assigned."""
        yield


class JaxStepRunner(StepRunner):
    """On JAX: keeps the values of variables on the devices from step to step, and divides each batch among all devices.

    Keras' `train_on_batch` collects several hundred variables before each step and assigns them afterwards, which takes
    longer than the computation on a GPU.

    Args:
        trainer: A compiled trainer.
        micro_batches: Parts of a batch whose gradients are computed separately; see `srlib.training.micro_batches`.
    """

    def __init__(self, trainer: Trainer, micro_batches: int = 1) -> None:
        super().__init__(trainer)
        trainer.build((None, None, None, 3))
        optimizer = trainer.optimizer
        self._groups = [trainer.trainable_variables, trainer.non_trainable_variables, optimizer.variables]
        places = {id(variable): index for index, variable in enumerate(optimizer.variables)}
        self._learning_rates = [places[id(variable)] for variable in optimizer.learning_rates]
        self._step = micro_batch_step(trainer, micro_batches) if micro_batches > 1 else _batch_step(trainer)
        self._is_on_mesh = micro_batches > 1 or device_count() > 1
        self._values: Values | None = None
        self.parts = parts_per_process(micro_batches)

    def __call__(self, lr: ByteArray, hr: ByteArray, learning_rates: Sequence[float]) -> LogRecord:
        """Update the weights once, as in `StepRunner`."""
        if self._values is None:
            place = replicate if self._is_on_mesh else (lambda value: value)
            self._values = [[place(variable.value) for variable in group] for group in self._groups]
        for index, value in zip(self._learning_rates, learning_rates, strict=True):
            self._values[2][index] = np.float32(value)
        with distributed.collective():
            losses, self._values = self._step(self._values, lr, hr)
            return {name: float(value) for name, value in losses.items()}

    @contextlib.contextmanager
    def variables(self) -> Iterator[None]:
        """Bring the trainer's variables up to date, as in `StepRunner`."""
        if self._values is not None:
            for group, values in zip(self._groups, self._values, strict=True):
                for variable, value in zip(group, values, strict=True):
                    variable.assign(value.addressable_data(0) if self._is_on_mesh else value)
            self._values = None
        yield


def _batch_step(trainer: Trainer) -> Step:
    """Return a step that computes the gradient of the batch at once. It consumes the old values."""
    import jax
    import jax.numpy as jnp

    def step(values: Values, lr: Tensor, hr: Tensor) -> tuple[dict[str, Tensor], Values]:
        metrics = [jnp.zeros(v.shape, v.dtype) for v in trainer.metrics_variables]
        losses, (*new_values, _) = trainer.train_step((*values, metrics), (lr, hr))
        return losses, new_values

    if device_count() == 1:
        compiled: Step = jax.jit(step, donate_argnums=0)
        return compiled
    over_devices = jax.jit(step, donate_argnums=0, out_shardings=sharding(divided=False))
    return lambda values, lr, hr: over_devices(values, divide(lr), divide(hr))


def step_runner(trainer: Trainer, micro_batches: int = 1) -> StepRunner:
    """Return the step runner for the Keras backend in use.

    Args:
        trainer: A compiled trainer.
        micro_batches: Parts of a batch whose gradients are computed separately; above 1 on JAX only.
    """
    return JaxStepRunner(trainer, micro_batches) if keras.backend.backend() == "jax" else StepRunner(trainer)
