"""One update of all weights: how a training step is run on each backend."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from srlib.training.divergence import Row


class Steps:
    """Runs a compiled trainer's steps.

    Variables may be read or assigned only after `write_back`, which costs nothing where they are up to date.
    """

    def __init__(self, trainer: keras.Model) -> None:
        self.trainer = trainer

    def __call__(self, lr: np.ndarray, hr: np.ndarray, rate: float) -> Row:
        """One step on a uint8 batch at a learning rate; returns the losses before the update."""
        self.trainer.optimizer.learning_rate = rate
        self.trainer.reset_metrics()
        logs = self.trainer.train_on_batch(lr, hr, return_dict=True)
        return {name: float(value) for name, value in logs.items()}

    def write_back(self) -> None:
        """Brings the trainer's variables up to date."""


class JaxSteps(Steps):
    """On JAX, variables stay on the device from step to step.

    Keras' `train_on_batch` collects several hundred variables before each step and assigns them afterwards; a GPU
    waits for that longer than it computes.
    """

    def __init__(self, trainer: keras.Model) -> None:
        super().__init__(trainer)
        trainer.build((None, None, None, 3))
        self._groups = [trainer.trainable_variables, trainer.non_trainable_variables, trainer.optimizer.variables]
        rate = trainer.optimizer.learning_rate
        self._rate = next(index for index, v in enumerate(trainer.optimizer.variables) if v is rate)
        self._step = _jax_step(trainer)
        self._values: list[list[Any]] | None = None

    def __call__(self, lr: np.ndarray, hr: np.ndarray, rate: float) -> Row:
        """As `Steps`."""
        if self._values is None:
            self._values = [[v.value for v in group] for group in self._groups]
        self._values[2][self._rate] = np.float32(rate)
        logs, self._values = self._step(self._values, lr, hr)
        return {name: float(value) for name, value in logs.items()}

    def write_back(self) -> None:
        """As `Steps`."""
        for group, values in zip(self._groups, self._values or [], strict=False):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)
        self._values = None


def _jax_step(trainer: keras.Model) -> Callable[..., Any]:
    """(values, lr, hr) → (logs, new values), compiled; the old values are given up."""
    import jax
    import jax.numpy as jnp

    def step(values: list[list[Any]], lr: Any, hr: Any) -> tuple[Row, list[list[Any]]]:
        metrics = [jnp.zeros(v.shape, v.dtype) for v in trainer.metrics_variables]
        logs, (*values, _) = trainer.train_step((*values, metrics), (lr, hr))
        return logs, values

    compiled: Callable[..., Any] = jax.jit(step, donate_argnums=0)
    return compiled


def steps_of(trainer: keras.Model) -> Steps:
    """The way to run a trainer's steps on this backend."""
    return JaxSteps(trainer) if keras.backend.backend() == "jax" else Steps(trainer)
