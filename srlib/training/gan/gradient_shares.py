"""The share of each loss term in the gradient at the generator's output, and the warnings that depend on it.

`gradient_norms` is the one place that differentiates by itself instead of leaving it to Keras, and so the only one that
depends on the backend.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from srlib.data.batches import Batches
from srlib.params import Finetune
from srlib.training.callbacks import Callback
from srlib.training.gan.terms import LossTerm, loss_terms
from srlib.training.session import TrainingSession
from srlib.training.types import ByteArray, LogRecord, Tensor

Terms: TypeAlias = Callable[[Tensor], dict[str, Tensor]]

NEGLIGIBLE_SHARE = 0.01
"""A term with a smaller share of the gradient has no influence on the image."""

PATIENCE = 2
"""Consecutive validations with a negligible share before a warning is logged. At step 0 one is enough."""

COLLAPSE_STEPS = 200
"""Consecutive steps with saturated or level probabilities before a warning is logged."""

SATURATED = 0.01
"""Probabilities of HR and SR that are this close to 1 and 0 teach the generator little."""

LEVEL = 0.01
"""Probabilities that are this close to 0.5 do not tell HR from SR."""


def gradient_norms(terms: Terms, sr: Tensor) -> dict[str, float]:
    """Return the norm of ∂term/∂SR for each of the scalars that `terms` computes from `sr` [B, H, W, C]."""
    differentiate = {"tensorflow": _tensorflow_gradients, "jax": _jax_gradients}[keras.backend.backend()]
    return {
        name: float(np.linalg.norm(ops.convert_to_numpy(gradient).astype(np.float64)))
        for name, gradient in differentiate(terms, sr).items()
    }


def _tensorflow_gradients(terms: Terms, sr: Tensor) -> dict[str, Tensor]:
    import tensorflow as tf

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sr)
        values = terms(sr)
    return {name: tape.gradient(value, sr, unconnected_gradients="zero") for name, value in values.items()}


def _jax_gradients(terms: Terms, sr: Tensor) -> dict[str, Tensor]:
    import jax

    values, pull_back = jax.vjp(terms, sr)
    one_hot = {
        name: {other: ops.ones_like(v) if other == name else ops.zeros_like(v) for other, v in values.items()}
        for name in values
    }
    return {name: pull_back(cotangents)[0] for name, cotangents in one_hot.items()}


def shares(norms: dict[str, float]) -> dict[str, float]:
    """Divide each norm by the sum of all; 0 throughout where all are 0.

    Example:
        >>> shares({"pixel": 3.0, "adversarial": 1.0})
        {'pixel': 0.75, 'adversarial': 0.25}
    """
    total = sum(norms.values()) or 1.0
    return {name: norm / total for name, norm in norms.items()}


@dataclass(frozen=True)
class WarningState:
    """Counts that the warnings of an SRGAN depend on.

    Attributes:
        negligible: Term → its consecutive validations with a negligible share.
        saturated_steps: Consecutive steps with saturated probabilities.
        level_steps: Consecutive steps with level probabilities.
        warned: Names of the warnings that were printed, so that each is printed once.
    """

    negligible: dict[str, int] = field(default_factory=dict)
    saturated_steps: int = 0
    level_steps: int = 0
    warned: list[str] = field(default_factory=list)


class GradientShares(Callback):
    """Measures the gradient shares of the loss terms, and warns of negligible terms and a collapsed discriminator.

    The shares are added to validation.csv; warnings are printed once each and stop nothing.

    Args:
        section: The section `finetune` of the recipe.
    """

    state: WarningState

    def __init__(self, section: Finetune) -> None:
        self.state = WarningState()
        self._section = section
        self._terms = loss_terms(section)

    def on_start(self, session: TrainingSession, batches: Batches) -> None:
        """Measure the shares for the initial weights, on the first batch."""
        if session.step == 0:
            measured = self._measure(session, *batches(0))
            self._print(session, self.term_warnings(measured, at_start=True))

    def on_step_end(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> None:
        """Measure the shares where a validation is due; watch the discriminator in every step."""
        measured = self._measure(session, lr, hr) if session.is_due(self._section.validate_every) else {}
        self._print(session, self.term_warnings(measured) + self.discriminator_warnings(session.losses, measured))

    def _measure(self, session: TrainingSession, lr: ByteArray, hr: ByteArray) -> LogRecord:
        with session.variables():
            measured: LogRecord = session.trainer.gradient_shares(lr, hr)
        session.log.add_validation(session.step, measured)
        return measured

    def _print(self, session: TrainingSession, warnings: list[str]) -> None:
        for warning in warnings:
            print(f"warning: {session.name}: step {session.step}: {warning}", file=sys.stderr)

    def term_warnings(self, measured: LogRecord, *, at_start: bool = False) -> list[str]:
        """Return warnings about weighted terms whose share is negligible.

        Args:
            measured: Result of `GanTrainer.gradient_shares`; empty where it was not computed.
            at_start: Whether the weights are the initial ones.
        """
        warnings = {}
        for term in self._terms if measured else ():
            share = measured[f"share_{term.name}"]
            count = self.state.negligible.get(term.name, 0) + 1 if term.weight and share < NEGLIGIBLE_SHARE else 0
            self.state = replace(self.state, negligible=self.state.negligible | {term.name: count})
            if count >= PATIENCE or (count and at_start):
                warnings[term.name] = self._term_warning(term, share)
        return self._new(warnings)

    def _term_warning(self, term: LossTerm, share: float) -> str:
        key = term.calibration_key
        value = self._section.model_dump()[key]
        advice = f"; 10 % would be about {value * (1 - share) / (9 * share):.1g}" if share else ""
        return (
            f"the {term.name} term is negligible: {share:.2%} of the gradient; "
            f"raise finetune.{key} (now {value:g}{advice})"
        )

    def discriminator_warnings(self, losses: LogRecord, measured: LogRecord) -> list[str]:
        """Return a warning if the discriminator has collapsed.

        Args:
            losses: The losses of the latest step.
            measured: Result of `GanTrainer.gradient_shares`; empty where it was not computed.
        """
        hr, sr = losses["score_hr"], losses["score_sr"]
        saturated = min(hr, 1 - sr) > 1 - SATURATED
        level = max(abs(hr - 0.5), abs(sr - 0.5)) < LEVEL
        self.state = replace(
            self.state,
            saturated_steps=self.state.saturated_steps + 1 if saturated else 0,
            level_steps=self.state.level_steps + 1 if level else 0,
        )
        scores = f"scores of HR {hr:.3f} and SR {sr:.3f} for {COLLAPSE_STEPS} consecutive steps"
        warnings = {}
        if self.state.saturated_steps >= COLLAPSE_STEPS:
            warnings["saturated"] = (
                f"the discriminator has collapsed: it separates HR and SR perfectly ({scores}), which teaches the "
                f"generator little; lower finetune.discriminator_filters or raise finetune.adversarial_weight"
            )
        is_negligible = measured.get("share_adversarial", 1.0) < NEGLIGIBLE_SHARE
        if self.state.level_steps >= COLLAPSE_STEPS and is_negligible:
            warnings["level"] = (
                f"the discriminator has collapsed: it cannot tell HR from SR ({scores}), and its gradient is "
                f"negligible; raise finetune.discriminator_filters or lower finetune.learning_rate.peak"
            )
        return self._new(warnings)

    def _new(self, warnings: dict[str, str]) -> list[str]:
        """Return the texts of the warnings that were not given before, and remember them."""
        new = [name for name in warnings if name not in self.state.warned]
        self.state = replace(self.state, warned=[*self.state.warned, *new])
        return [warnings[name] for name in new]
