"""What happens between the steps of a training, in the order of the classes here.

The SRGAN adds `GradientShares` (srlib.training.gan.gradient_shares) before the checkpoint.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.data.batches import Batches
from srlib.errors import SrlibError
from srlib.params import Training
from srlib.training.checkpoint import CheckpointBudget, load_checkpoint, save_checkpoint
from srlib.training.divergence import DivergenceMonitor
from srlib.training.session import Snapshot, TrainingSession, copy_weights
from srlib.training.types import ByteArray, LogRecord, Weights
from srlib.training.validation import ValidationPairs, are_finite, bicubic_psnr_y, is_good, validation_scores

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LAST_GOOD = "last_good"
"""The folder, beside the resume state, of the model that is saved when training diverges."""


@dataclass
class NoState:
    """The state of a callback that has none."""


class Callback:
    """One concern of a training.

    Attributes:
        state: All that a resumed training needs to know, as a dataclass that JSON can hold. Loading a checkpoint
            replaces it.
    """

    state: "DataclassInstance" = NoState()

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Act before the first step of this process; `session.step` is above 0 where a training is resumed."""

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Act after a step, given its batch."""

    def on_stop(self, session: TrainingSession) -> str | None:
        """Act before a requested stop; return what the user should know, or None."""
        return None


class DivergenceGuard(Callback):
    """Stops a training that diverges, and saves the last good weights.

    Args:
        section: The section of the recipe.
        save_last_good: Function that saves the last good weights of a session and returns a sentence about it.
    """

    state: DivergenceMonitor

    def __init__(self, section: Training, save_last_good: Callable[[TrainingSession], str]) -> None:
        self.state = DivergenceMonitor()
        self._section = section
        self._save_last_good = save_last_good

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Keep the initial weights: the first step may confirm them."""
        if session.step == 0:
            self._take_snapshot(session)

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Check the losses; a calm loss confirms the weights of the step before."""
        if problem := self.state.check(session.losses, session.trainer.monitored):
            raise self._diverged(session, f"{problem} at step {session.step}")
        latest = session.snapshots.get("latest")
        if latest and latest.step == session.step - 1 and self.state.is_calm:
            session.snapshots["good"] = latest
        is_due = session.is_due(self._section.log_every, self._section.validate_every)
        if is_due and not are_finite(self._take_snapshot(session)):
            raise self._diverged(session, f"a weight became infinite or not a number at step {session.step}")

    def _take_snapshot(self, session: TrainingSession) -> Weights:
        with session.averaged_network() as network:
            session.snapshots["latest"] = Snapshot(session.step, copy_weights(network))
        return session.snapshots["latest"].weights

    def _diverged(self, session: TrainingSession, problem: str) -> SrlibError:
        remedy = "" if self._section.clip_norm else f" or set {session.name}.clip_norm to 1"
        advice = f"lower {session.name}.learning_rate.peak{remedy}; {self._save_last_good(session)}"
        return SrlibError(f"{session.name}: {problem}; {advice}")


@dataclass
class LossSums:
    """Losses since the last record, added up over `count` steps."""

    sums: LogRecord = field(default_factory=dict)
    count: int = 0


class LossLog(Callback):
    """Adds the mean losses of each interval to loss.csv.

    Args:
        intervals: Steps between records; a record is added at the multiples of each.
    """

    state: LossSums

    def __init__(self, *intervals: int) -> None:
        self.state = LossSums()
        self._intervals = intervals

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Report the records of an earlier process."""
        session.log.report_again()

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Add up the losses, and add a record where one is due."""
        sums = {name: self.state.sums.get(name, 0.0) + value for name, value in session.losses.items()}
        self.state = LossSums(sums, self.state.count + 1)
        if session.is_due(*self._intervals):
            means = {name: total / self.state.count for name, total in sums.items()}
            session.log.add_loss(session.step, means | _learning_rates(session))
            self.state = LossSums()


def _learning_rates(session: TrainingSession) -> LogRecord:
    """Return the first network's learning rate, and those of networks with another schedule."""
    first, *others = session.trainer.optimizer.updates
    rates = {"learning_rate": session.learning_rates[0]}
    for update, rate in zip(others, session.learning_rates[1:], strict=True):
        if update.schedule != first.schedule:
            rates[f"{update.network.name}_learning_rate"] = rate
    return rates


@dataclass
class BestScore:
    """The best PSNR-Y on held-out patches so far."""

    psnr_y: float = -math.inf


class Validation(Callback):
    """Scores the averaged weights on held-out patches and keeps the best, or the latest that are good.

    Args:
        pairs: The patches.
        every: Steps between validations; the last step is validated too.
        guard: Guard whose state shows whether the loss is high; weights with a high loss are not kept.
        keep_best: Keep the best weights. If False, as for a GAN, the latest good ones; the initial ones are scored too.
    """

    state: BestScore

    def __init__(self, pairs: ValidationPairs, every: int, guard: DivergenceGuard, *, keep_best: bool) -> None:
        self.state = BestScore()
        self._pairs = pairs
        self._every = every
        self._guard = guard
        self._keep_best = keep_best
        self._bicubic = bicubic_psnr_y(pairs)

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Score the initial weights."""
        if session.step == 0 and not self._keep_best:
            self._validate(session)

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Score the weights where it is due."""
        if session.is_due(self._every):
            self._validate(session)

    def _validate(self, session: TrainingSession) -> None:
        with session.averaged_network() as network:
            scores = validation_scores(network, self._pairs)
            psnr_y, best = scores["psnr_y"], self.state.psnr_y
            is_better = psnr_y > best or (not self._keep_best and is_good(psnr_y, best))
            is_required = session.is_last and not (self._keep_best and "best" in session.snapshots)
            if is_required or (is_better and not self._guard.state.high_steps):
                self.state = BestScore(max(psnr_y, best))
                session.snapshots["best"] = Snapshot(session.step, copy_weights(network))
        session.log.add_validation(session.step, {**scores, "bicubic_psnr_y": self._bicubic})


class Checkpoint(Callback):
    """Saves what a resumed training needs, and loads it.

    Args:
        folder: Folder of the resume state.
        callbacks: The callbacks whose state belongs to it.
    """

    def __init__(self, folder: Path, callbacks: list[Callback]) -> None:
        self._folder = folder
        self._callbacks = callbacks
        self._budget = CheckpointBudget()

    def load(self, session: TrainingSession) -> None:
        """Let `session` and the callbacks continue from the resume state, if there is a usable one."""
        load_checkpoint(self._folder, session, self._callbacks)

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Save after the last step, and whenever the time budget allows it."""
        if session.is_last or self._budget.is_due():
            self._save(session)

    def on_stop(self, session: TrainingSession) -> str:
        """Save the state at this step."""
        self._save(session)
        return f"the next run continues from step {session.step}"

    def _save(self, session: TrainingSession) -> None:
        with self._budget.measure():
            save_checkpoint(self._folder, session, self._callbacks)
