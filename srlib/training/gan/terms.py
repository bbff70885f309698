"""The terms of the generator's loss. All that depends on them derives from one table, `loss_terms`.

To add a term, see docs/how-to/add-a-loss-term.md.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import ops

from srlib.errors import SrlibError
from srlib.models.perceptual_scales import calibrated_scale
from srlib.params import Finetune
from srlib.training import losses
from srlib.training.types import Tensor


@dataclass(frozen=True)
class LossInputs:
    """Inputs that a term may use.

    Attributes:
        hr: The ground truth, float32 RGB [B, H, W, 3] in [0, 1].
        sr: The generator's output, of the same shape and range.
        real: The discriminator's logits of HR.
        scale: Upscaling factor.
        features: The frozen feature network.
        discriminator: The discriminator.
        section: The section `finetune` of the recipe.
    """

    hr: Tensor
    sr: Tensor
    real: Tensor
    scale: int
    features: keras.Model
    discriminator: keras.Model
    section: Finetune


@dataclass(frozen=True)
class LossTerm:
    """One term of the generator's loss.

    Attributes:
        name: Column in loss.csv; the gradient share is the column `share_<name>` of validation.csv.
        function: Function that computes the term, a scalar. The first line of its docstring goes into the docs.
        weight: Factor in the sum.
        key: The key of `finetune` to change where the term's share is wrong; `<name>_weight` unless given.
    """

    name: str
    function: Callable[[LossInputs], Tensor]
    weight: float
    key: str = ""

    @property
    def calibration_key(self) -> str:
        """The key of `finetune` that a warning names."""
        return self.key or f"{self.name}_weight"


def loss_terms(section: Finetune) -> tuple[LossTerm, ...]:
    """Return the terms of the generator's loss, in the order of the columns of loss.csv."""
    return (
        LossTerm("perceptual", perceptual, section.perceptual_weight, key="perceptual_scale"),
        LossTerm("pixel", pixel, section.pixel_weight),
        LossTerm("checkerboard", checkerboard, section.checkerboard_factor),
        LossTerm("adversarial", adversarial, section.adversarial_weight),
    )


def perceptual(inputs: LossInputs) -> Tensor:
    """Difference between the feature maps of HR and SR, times `perceptual_scale`."""
    hr_features, sr_features = inputs.features(inputs.hr), inputs.features(inputs.sr)
    section = inputs.section
    return losses.perceptual(hr_features, sr_features, scale=perceptual_scale(section), loss=section.perceptual_loss)


def perceptual_scale(section: Finetune) -> float:
    """Return `perceptual_scale`, and for `auto` the calibrated factor.

    Raises:
        SrlibError: None is known for these features.
    """
    if section.perceptual_scale != "auto":
        return section.perceptual_scale
    if (scale := calibrated_scale(section.feature_space)) is None:
        raise SrlibError(f"finetune.perceptual_scale: expected a number with {section.features.layer}, got auto")
    return scale


def pixel(inputs: LossInputs) -> Tensor:
    """Mean absolute error between HR and SR."""
    return losses.mae(inputs.hr, inputs.sr)


def checkerboard(inputs: LossInputs) -> Tensor:
    """Component of the error with a period of one LR pixel: checkerboard artifacts and color casts."""
    return losses.checkerboard(inputs.hr, inputs.sr, inputs.scale)


def adversarial(inputs: LossInputs) -> Tensor:
    """How clearly the discriminator tells SR from HR: `vanilla` or `relativistic`."""
    fake = frozen_call(inputs.discriminator, inputs.sr)
    return losses.ADVERSARIAL_LOSSES[inputs.section.adversarial].generator(ops.stop_gradient(inputs.real), fake)


def frozen_call(model: keras.Model, x: Tensor) -> Tensor:
    """Call a model in training mode with constant variables; its batch statistics do not change."""
    y, _ = model.stateless_call(
        [ops.stop_gradient(v) for v in model.trainable_variables],
        [ops.stop_gradient(v) for v in model.non_trainable_variables],
        x,
        training=True,
    )
    return y


def terms_table(section: Finetune) -> str:
    """Return the table of the terms for the documentation, in Markdown."""
    rows = ["| term | weight | calibrated by | what it measures |", "|---|---|---|---|"]
    for term in loss_terms(section):
        description = (inspect.getdoc(term.function) or "").splitlines()[0].rstrip(".")
        rows.append(f"| `{term.name}` | `{term.name}_weight` | `{term.calibration_key}` | {description} |")
    return "\n".join(rows) + "\n"
