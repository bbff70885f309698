"""A training in progress."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from srlib.training.metric_log import MetricLog
from srlib.training.schedules import learning_rate
from srlib.training.steps import step_runner
from srlib.training.trainer import Trainer
from srlib.training.types import ByteArray, LogRecord, Weights


@dataclass(frozen=True)
class Snapshot:
    """A copy of the network's weights.

    Attributes:
        step: Number of steps they were trained for.
        weights: The values of all variables, batch statistics included.
    """

    step: int
    weights: Weights


@dataclass(frozen=True)
class Result:
    """Result of a training.

    Attributes:
        weights: The values of the network's variables.
        loss: The last record of loss.csv.
        validation: The record of validation.csv that belongs to the weights.
    """

    weights: Weights
    loss: LogRecord
    validation: LogRecord

    @property
    def metrics(self) -> LogRecord:
        """The last losses and the scores of the weights, rounded to six digits."""
        record = {**self.loss, **self.validation}
        names = [name for name in record if name != "step" and not name.endswith("learning_rate")]
        return {name: float(f"{record[name]:.6g}") for name in names}

    @property
    def headline(self) -> LogRecord:
        """The PSNR-Y of the weights on held-out patches, for `dvc metrics`."""
        return {"psnr_y": self.metrics["psnr_y"]}


class TrainingSession:
    """A training in progress: its trainer, the step it has reached, snapshots of weights, and its metric log.

    Variables of the trainer are read and assigned within `variables()` or `averaged_network()` only.

    Args:
        name: The section of the recipe; messages and the progress bar begin with it.
        trainer: A compiled trainer.
        steps: Number of steps of the whole training.
        log: Log that receives its records.
        micro_batches: Parts of a batch whose gradients are computed separately.

    Attributes:
        step: Number of steps done.
        losses: The losses of the latest step.
        learning_rates: The learning rates of the latest step, one per trained network.
        snapshots: Copies of weights by name:

            | name | taken | used for |
            |---|---|---|
            | latest | at every record of a log | becomes `good` |
            | good | `latest`, once the next step's loss confirms it | rescue after divergence |
            | best | at validation: the best so far, or the latest that is good where the end counts | result, rescue |
    """

    def __init__(self, name: str, trainer: Trainer, steps: int, log: MetricLog, micro_batches: int = 1) -> None:
        self.name = name
        self.trainer = trainer
        self.steps = steps
        self.log = log
        self.step = 0
        self.losses: LogRecord = {}
        self.learning_rates: list[float] = []
        self.snapshots: dict[str, Snapshot] = {}
        self._run_step = step_runner(trainer, micro_batches)

    @property
    def is_last(self) -> bool:
        """Whether the latest step was the last one."""
        return self.step == self.steps

    def is_due(self, *intervals: int) -> bool:
        """Return True after the last step, and after each step that is a multiple of one of `intervals`."""
        return self.is_last or any(self.step % interval == 0 for interval in intervals)

    @property
    def parts(self) -> int:
        """Number of parts into which this process divides its rows of a batch, each computed by itself."""
        return self._run_step.parts

    def take_step(self, lr: ByteArray, hr: ByteArray) -> None:
        """Update the weights once on a batch."""
        schedules = [update.schedule for update in self.trainer.optimizer.updates]
        self.learning_rates = [learning_rate(schedule, self.step, self.steps) for schedule in schedules]
        self.losses = self._run_step(lr, hr, self.learning_rates)
        self.step += 1

    @contextlib.contextmanager
    def variables(self) -> Iterator[list[keras.Variable]]:
        """Give access to every variable that a step may change, up to date."""
        with self._run_step.variables():
            yield self.trainer.step_variables

    @contextlib.contextmanager
    def averaged_network(self) -> Iterator[keras.Model]:
        """Give access to the network with its averaged weights, or its own ones where they are not averaged."""
        with self._run_step.variables(), self.trainer.averaged_weights():
            yield self.trainer.network

    def status(self) -> dict[str, float]:
        """Return what the progress bar shows."""
        scores = {"psnr_y": self.log.validation[-1]["psnr_y"]} if self.log.validation else {}
        return {"loss": self.losses["loss"], **scores}

    def result(self) -> Result:
        """Return the best weights with their scores, after the last step."""
        best = self.snapshots["best"]
        return Result(best.weights, self.log.loss[-1], self.log.validation_record(best.step))


def copy_weights(network: keras.Model) -> Weights:
    """Return copies of the values of all variables, batch statistics included."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in network.variables]


def assign_weights(network: keras.Model, weights: Weights) -> None:
    """Set the values of all variables."""
    for variable, value in zip(network.variables, weights, strict=True):
        variable.assign(value)
