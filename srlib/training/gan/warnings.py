"""Warnings about an SRGAN whose loss terms are out of balance, or which has collapsed."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from srlib.models.perceptual_scales import calibrated_scale
from srlib.params import Finetune
from srlib.training.gan.terms import LossTerm, loss_terms, perceptual_scales
from srlib.training.types import LogRecord
from srlib.training.validation import is_good

NEGLIGIBLE_SHARE = 0.01
"""A term with a smaller share of the gradient has no influence on the image."""

DOMINANT_SHARE = 0.9
"""The share that the advice about a dominant term aims at."""

MISCALIBRATED = 10.0
"""A factor of the perceptual loss this many times above or below the calibrated one is the cause of a bad share."""

PATIENCE = 2
"""Consecutive validations with a negligible share before a warning is logged. At step 0 one is enough."""

COLLAPSE_STEPS = 200
"""Consecutive steps with saturated or level probabilities before a warning is logged."""

SATURATED = 0.01
"""Probabilities of HR and SR that are this close to 1 and 0 teach the generator little."""

LEVEL = 0.01
"""Probabilities that are this close to 0.5 do not tell HR from SR."""


@dataclass
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


class GanWarnings:
    """Finds what a user should know about a training. Each warning is given once; the counts are kept in a state.

    Args:
        section: The section `finetune` of the recipe.
    """

    def __init__(self, section: Finetune) -> None:
        self._section = section
        self._terms = loss_terms(section)
        self._calibrated = calibrated_scale(section.feature_spaces[0])

    def of_terms(self, state: WarningState, measured: LogRecord, *, at_start: bool = False) -> list[str]:
        """Return warnings about weighted terms whose share is negligible.

        Where a single other term is the cause, the warning is about that one and its key.

        Args:
            state: The counts, which are updated.
            measured: Result of `GanTrainer.gradient_shares`; empty where it was not computed.
            at_start: Whether the weights are the initial ones.
        """
        negligible = []
        for term in self._terms if measured else ():
            is_low = term.weight > 0 and _share(term, measured) < NEGLIGIBLE_SHARE
            count = state.negligible.get(term.name, 0) + 1 if is_low else 0
            state.negligible[term.name] = count
            if count >= PATIENCE or (count and at_start):
                negligible.append(term)
        if negligible and (cause := self._dominant(negligible, measured)):
            return _new(state, {f"dominant {cause.name}": self._dominance_warning(cause, negligible, measured)})
        return _new(state, {term.name: self._term_warning(term, _share(term, measured)) for term in negligible})

    def _dominant(self, negligible: list[LossTerm], measured: LogRecord) -> LossTerm | None:
        """Return the term that makes all other weighted terms negligible, if it is the cause and not they.

        The perceptual loss is the cause if its factor is far from the calibrated one. Where none is known, and for
        another term, the cause is the term if it is one against several.
        """
        weighted = [term for term in self._terms if term.weight]
        largest = max(weighted, key=lambda term: _share(term, measured))
        if len(negligible) < len(weighted) - 1 or largest in negligible:
            return None
        has_reference = largest.name == "perceptual" and self._calibrated is not None
        return largest if (self._is_miscalibrated() if has_reference else len(negligible) > 1) else None

    def _is_miscalibrated(self) -> bool:
        if self._calibrated is None:
            return False
        ratio = self._section.perceptual_weight * perceptual_scales(self._section)[0] / self._calibrated
        return not 1 / MISCALIBRATED < ratio < MISCALIBRATED

    def _dominance_warning(self, term: LossTerm, negligible: list[LossTerm], measured: LogRecord) -> str:
        share = _share(term, measured)
        others = ", ".join(f"{other.name} {100 * _share(other, measured):.1g}%" for other in negligible)
        value = self._value(term)
        factor = DOMINANT_SHARE * (1 - share) / ((1 - DOMINANT_SHARE) * share)
        advice = f"; {DOMINANT_SHARE:.0%} would be about {value * factor:.1g}" if share < 1 else ""
        return (
            f"the {term.name} term dominates: {share:.2%} of the gradient (the others are negligible: {others}); "
            f"lower finetune.{term.calibration_key} (now {value:g}{advice}){self._calibration(term)}"
        )

    def _term_warning(self, term: LossTerm, share: float) -> str:
        value = self._value(term)
        advice = f"; 10 % would be about {value * (1 - share) / (9 * share):.1g}" if share else ""
        return (
            f"the {term.name} term is negligible: {share:.2%} of the gradient; "
            f"raise finetune.{term.calibration_key} (now {value:g}{advice}){self._calibration(term)}"
        )

    def _value(self, term: LossTerm) -> float:
        """Return the present value of the key that a warning names."""
        if term.calibration_key == "perceptual_scale":
            return perceptual_scales(self._section)[0]
        if term.calibration_key == f"{term.name}_weight":
            return term.weight
        value: float = self._section.model_dump()[term.calibration_key]
        return value

    def _calibration(self, term: LossTerm) -> str:
        """Return what the calibrated factor is, where the present one is far from it."""
        if term.name != "perceptual" or not self._is_miscalibrated():
            return ""
        space = self._section.feature_spaces[0]
        return f"; auto takes {self._calibrated:g} for {space.network}'s {space.layer}"

    def of_scores(self, validation: Sequence[LogRecord], *, at_end: bool) -> list[str]:
        """Return a warning if the weights have become much worse than earlier ones, and another one at the end.

        Args:
            validation: The records of validation.csv so far; none where nothing is new.
            at_end: Whether the weights are the last ones, and so the result.
        """
        if not validation:
            return []
        best = max(validation, key=lambda record: record["psnr_y"])
        *earlier, latest = [not is_good(record["psnr_y"], best["psnr_y"]) for record in validation]
        if not latest or (earlier[-1:] == [True] and not at_end):
            return []
        psnr_y = validation[-1]["psnr_y"]
        which = "last weights, which the model is made of," if at_end else "weights"
        return [
            f"the {which} have {psnr_y:.2f} dB PSNR-Y on held-out patches, "
            f"{best['psnr_y'] - psnr_y:.1f} dB less than those of step {best['step']:.0f}; lower "
            "finetune.learning_rate.peak, finetune.steps, or the weights of the adversarial and perceptual losses"
        ]

    def of_discriminator(self, state: WarningState, losses: LogRecord, measured: LogRecord) -> list[str]:
        """Return a warning if the discriminator has collapsed.

        Args:
            state: The counts, which are updated.
            losses: The losses of the latest step.
            measured: Result of `GanTrainer.gradient_shares`; empty where it was not computed.
        """
        hr, sr = losses["score_hr"], losses["score_sr"]
        saturated = min(hr, 1 - sr) > 1 - SATURATED
        level = max(abs(hr - 0.5), abs(sr - 0.5)) < LEVEL
        state.saturated_steps = state.saturated_steps + 1 if saturated else 0
        state.level_steps = state.level_steps + 1 if level else 0
        scores = f"scores of HR {hr:.3f} and SR {sr:.3f} for {COLLAPSE_STEPS} consecutive steps"
        warnings = {}
        if state.saturated_steps >= COLLAPSE_STEPS:
            warnings["saturated"] = (
                f"the discriminator has collapsed: it separates HR and SR perfectly ({scores}), which teaches the "
                f"generator little; lower finetune.discriminator_filters or raise finetune.adversarial_weight"
            )
        is_negligible = measured.get("share_adversarial", 1.0) < NEGLIGIBLE_SHARE
        if state.level_steps >= COLLAPSE_STEPS and is_negligible:
            warnings["level"] = (
                f"the discriminator has collapsed: it cannot tell HR from SR ({scores}), and its gradient is "
                f"negligible; raise finetune.discriminator_filters or lower finetune.learning_rate.peak"
            )
        return _new(state, warnings)


def _share(term: LossTerm, measured: LogRecord) -> float:
    return measured[f"share_{term.name}"]


def _new(state: WarningState, warnings: dict[str, str]) -> list[str]:
    """Return the texts of the warnings that were not given before, and remember them."""
    names = [name for name in warnings if name not in state.warned]
    state.warned += names
    return [warnings[name] for name in names]
