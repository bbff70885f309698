"""Running training steps on each Keras backend."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import keras
import numpy as np

from srlib.training.trainer import Trainer
from srlib.training.types import ByteArray, LogRecord, Tensor

Values: TypeAlias = list[list[Tensor]]
"""Values of trainable, of non-trainable and of optimizer variables."""


class StepRunner:
    """Runs the steps of a compiled trainer.

    Between steps the values of variables may be stored elsewhere: read or assign them only within `variables()`.
    """

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
    """On JAX: keeps the values of variables on the device from step to step.

    Keras' `train_on_batch` collects several hundred variables before each step and assigns them afterwards, which takes
    longer than the computation on a GPU.
    """

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        trainer.build((None, None, None, 3))
        optimizer = trainer.optimizer
        self._groups = [trainer.trainable_variables, trainer.non_trainable_variables, optimizer.variables]
        places = {id(variable): index for index, variable in enumerate(optimizer.variables)}
        self._learning_rates = [places[id(variable)] for variable in optimizer.learning_rates]
        self._step = _jax_step(trainer)
        self._values: Values | None = None

    def __call__(self, lr: ByteArray, hr: ByteArray, learning_rates: Sequence[float]) -> LogRecord:
        """Update the weights once, as in `StepRunner`."""
        if self._values is None:
            self._values = [[variable.value for variable in group] for group in self._groups]
        for index, value in zip(self._learning_rates, learning_rates, strict=True):
            self._values[2][index] = np.float32(value)
        losses, self._values = self._step(self._values, lr, hr)
        return {name: float(value) for name, value in losses.items()}

    @contextlib.contextmanager
    def variables(self) -> Iterator[None]:
        """Bring the trainer's variables up to date, as in `StepRunner`."""
        if self._values is not None:
            for group, values in zip(self._groups, self._values, strict=True):
                for variable, value in zip(group, values, strict=True):
                    variable.assign(value)
            self._values = None
        yield


def _jax_step(trainer: Trainer) -> Callable[[Values, ByteArray, ByteArray], tuple[dict[str, Tensor], Values]]:
    """Return the compiled function (values, lr, hr) → (losses, new values). It consumes the old values."""
    import jax
    import jax.numpy as jnp

    def step(values: Values, lr: Tensor, hr: Tensor) -> tuple[dict[str, Tensor], Values]:
        metrics = [jnp.zeros(v.shape, v.dtype) for v in trainer.metrics_variables]
        losses, (*new_values, _) = trainer.train_step((*values, metrics), (lr, hr))
        return losses, new_values

    compiled: Callable[[Values, ByteArray, ByteArray], tuple[dict[str, Tensor], Values]]
    compiled = jax.jit(step, donate_argnums=0)
    return compiled


def step_runner(trainer: Trainer) -> StepRunner:
    """Return the step runner for the Keras backend in use."""
    return JaxStepRunner(trainer) if keras.backend.backend() == "jax" else StepRunner(trainer)
