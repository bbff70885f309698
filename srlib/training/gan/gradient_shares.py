"""The share of each loss term in the gradient at the generator's output."""

import sys

import numpy as np
from keras import ops

from srlib.data.batches import Batches
from srlib.params import Finetune
from srlib.training.callbacks import Callback
from srlib.training.gan.differentiation import Terms, values_and_gradients
from srlib.training.gan.warnings import GanWarnings, WarningState
from srlib.training.session import TrainingSession
from srlib.training.types import ByteArray, LogRecord, Tensor


def gradient_norms(terms: Terms, sr: Tensor) -> dict[str, float]:
    """Return the norm of ∂term/∂SR for each of the scalars that `terms` computes from `sr` [B, H, W, C]."""
    _, gradients = values_and_gradients(terms, sr)
    return {
        name: float(np.linalg.norm(ops.convert_to_numpy(gradient).astype(np.float64)))
        for name, gradient in gradients.items()
    }


def shares(norms: dict[str, float]) -> dict[str, float]:
    """Divide each norm by the sum of all; 0 throughout where all are 0.

    Example:
        >>> shares({"pixel": 3.0, "adversarial": 1.0})
        {'pixel': 0.75, 'adversarial': 0.25}
    """
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}


class GradientShares(Callback):
    """Measures the gradient shares of the loss terms, and warns of negligible terms and of a collapse.

    The shares are added to validation.csv; warnings are printed once each and stop nothing.

    Args:
        section: The section `finetune` of the recipe.
    """

    state: WarningState

    def __init__(self, section: Finetune) -> None:
        self.state = WarningState()
        self._warnings = GanWarnings(section)
        self._every = section.validate_every

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Measure the shares for the initial weights, on the first batch."""
        if session.step == 0:
            measured = self._measure(session, *batches(0))
            self._print(session, self._warnings.of_terms(self.state, measured, at_start=True))

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Measure the shares where a validation is due; watch the discriminator in every step."""
        measured = self._measure(session, lr, hr) if session.is_due(self._every) else {}
        scores = session.log.validation if measured else []
        self._print(session, self._warnings.of_scores(scores, at_end=session.is_last))
        self._print(session, self._warnings.of_terms(self.state, measured))
        self._print(session, self._warnings.of_discriminator(self.state, session.losses, measured))

    def _measure(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> LogRecord:
        rows = len(lr) // session.parts  # as many as fit on one device
        with session.variables():
            measured: LogRecord = session.trainer.gradient_shares(lr[:rows], hr[:rows])
        session.log.add_validation(session.step, measured)
        return measured

    def _print(self, session: TrainingSession, warnings: list[str]) -> None:
        for warning in warnings:
            print(f"warning: {session.name}: step {session.step}: {warning}", file=sys.stderr)
