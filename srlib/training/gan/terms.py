"""The terms of the generator's loss. All that depends on them derives from one table, `all_terms`.

To add a term, see docs/how-to/add-a-loss-term.md.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
from keras import ops

from srlib.errors import SrlibError
from srlib.models.features import as_list
from srlib.models.perceptual_scales import calibrated_scale
from srlib.params import Finetune
from srlib.training import losses
from srlib.training.gan.adversarial import ADVERSARIAL_LOSSES
from srlib.training.gan.differentiation import with_normalized_gradient
from srlib.training.types import Tensor


@dataclass(frozen=True)
class LossInputs:
    """Inputs that a term may use.

    Attributes:
        hr: The ground truth, float32 RGB [B, H, W, 3] in [0, 1].
        sr: The generator's output, of the same shape and range.
        real: The discriminator's logits of HR; one map, or a list of them.
        scale: Upscaling factor.
        features: The frozen feature network.
        magnitudes: The size of each of its outputs, by `feature_magnitudes`.
        discriminator: The discriminator.
        section: The section `finetune` of the recipe.
    """

    hr: Tensor
    sr: Tensor
    real: Tensor
    scale: int
    features: keras.Model
    magnitudes: Sequence[float]
    discriminator: keras.Model
    section: Finetune

    @functools.cached_property
    def hr_features(self) -> list[Tensor]:
        """The feature maps of HR, one for each layer."""
        return as_list(self.features(self.hr))

    @functools.cached_property
    def sr_features(self) -> list[Tensor]:
        """The feature maps of SR."""
        return as_list(self.features(self.sr))


@dataclass(frozen=True)
class LossTerm:
    """One term of the generator's loss.

    Attributes:
        name: Column in loss.csv; the gradient share is the column `share_<name>` of validation.csv.
        function: Function that computes the term, a scalar. The first line of its docstring goes into the docs.
        weight: Factor in the sum.
        key: The key of `finetune` to change where the term's share is wrong; `<name>_weight` unless given.
        optional: Whether the term is left out, with its columns, where its weight is 0.
    """

    name: str
    function: Callable[[LossInputs], Tensor]
    weight: float
    key: str = ""
    optional: bool = False

    @property
    def calibration_key(self) -> str:
        """The key of `finetune` that a warning names."""
        return self.key or f"{self.name}_weight"


def loss_terms(section: Finetune) -> tuple[LossTerm, ...]:
    """Return the terms of the generator's loss that are computed, in the order of the columns of loss.csv."""
    return tuple(term for term in all_terms(section) if term.weight or not term.optional)


def all_terms(section: Finetune) -> tuple[LossTerm, ...]:
    """Return every term that the generator's loss may have."""
    return (
        LossTerm("perceptual", perceptual, section.perceptual_weight, key=_perceptual_key(section)),
        LossTerm("pixel", pixel, section.pixel_weight),
        LossTerm("checkerboard", checkerboard, section.checkerboard_factor),
        LossTerm("adversarial", adversarial, section.adversarial_weight),
        LossTerm("consistency", consistency, section.consistency_weight, optional=True),
        LossTerm("artifact", artifact, section.artifact_weight, optional=True),
        LossTerm("periodicity", periodicity, section.periodicity_weight, optional=True),
        LossTerm("regularity", regularity, section.regularity_weight, optional=True),
        LossTerm("texture", texture, section.texture_weight, optional=True),
    )


def _perceptual_key(section: Finetune) -> str:
    """Return the key for the share of the perceptual loss: the factors of several layers are not to be changed."""
    return "perceptual_scale" if len(section.features.layers) == 1 else ""


def perceptual(inputs: LossInputs) -> Tensor:
    """Difference between the feature maps of HR and SR, times `perceptual_scale`; the mean over the layers."""
    distance, scales = inputs.section.perceptual_loss, perceptual_scales(inputs.section)
    maps = zip(inputs.hr_features, inputs.sr_features, scales, strict=True)
    return mean([losses.perceptual(hr, sr, scale=scale, loss=distance) for hr, sr, scale in maps])


def perceptual_scales(section: Finetune) -> list[float]:
    """Return `perceptual_scale`, and for `auto` the calibrated factor of each layer.

    Raises:
        SrlibError: None is known for one of these layers.
    """
    if section.perceptual_scale != "auto":
        return [section.perceptual_scale]
    scales = [(space.layer, calibrated_scale(space)) for space in section.feature_spaces]
    if unknown := [layer for layer, scale in scales if scale is None]:
        raise SrlibError(f"finetune.perceptual_scale: expected a number with {unknown[0]}, got auto")
    return [scale for _, scale in scales if scale is not None]


def pixel(inputs: LossInputs) -> Tensor:
    """Mean absolute error between HR and SR."""
    return losses.mae(inputs.hr, inputs.sr)


def checkerboard(inputs: LossInputs) -> Tensor:
    """Component of the error with a period of one LR pixel: checkerboard artifacts and color casts."""
    return losses.checkerboard(inputs.hr, inputs.sr, inputs.scale)


def adversarial(inputs: LossInputs) -> Tensor:
    """How clearly the discriminator tells SR from HR: `vanilla`, `relativistic` or `paired`."""
    generator_loss, real = ADVERSARIAL_LOSSES[inputs.section.adversarial].generator, inputs.real

    def loss(sr: Tensor) -> Tensor:
        fake = frozen_call(inputs.discriminator, sr)
        return mean_over_maps(generator_loss, [ops.stop_gradient(logits) for logits in as_list(real)], fake)

    return with_normalized_gradient(loss, inputs.sr) if inputs.section.adversarial_normalized else loss(inputs.sr)


def consistency(inputs: LossInputs) -> Tensor:
    """Error that remains after downscaling: what contradicts LR."""
    return losses.consistency(inputs.hr, inputs.sr, inputs.scale)


def artifact(inputs: LossInputs) -> Tensor:
    """Error where it varies from pixel to pixel: artifacts and misplaced texture (LDL)."""
    return losses.artifact(inputs.hr, inputs.sr)


def periodicity(inputs: LossInputs) -> Tensor:
    """Patterns with a period of one LR pixel that are stronger than in HR, also where they follow the content."""
    return losses.periodicity(inputs.hr, inputs.sr, inputs.scale)


def regularity(inputs: LossInputs) -> Tensor:
    """Fine detail that repeats with any period more than that of HR does: meshes and honeycombs."""
    return losses.regularity(inputs.hr, inputs.sr, inputs.scale)


def texture(inputs: LossInputs) -> Tensor:
    """Difference between the statistics of the features in small windows, wherever in the window they come from."""
    side = inputs.hr.shape[1]
    maps = zip(inputs.hr_features, inputs.sr_features, inputs.magnitudes, strict=True)
    return mean([losses.texture(hr / size, sr / size, stride=side // hr.shape[1]) for hr, sr, size in maps])


def mean_over_maps(loss: losses.Loss, real: Tensor, fake: Tensor) -> Tensor:
    """Return the mean of a loss over the discriminator's maps of logits, of which there may be one or a list."""
    return mean([loss(*logits) for logits in zip(as_list(real), as_list(fake), strict=True)])


def mean(values: Sequence[Tensor]) -> Tensor:
    """Return the mean of some scalars; a single one as it is."""
    return values[0] if len(values) == 1 else sum(values) / len(values)


def frozen_call(model: keras.Model, x: Tensor) -> Tensor:
    """Call a model in training mode with constant variables; its batch statistics do not change."""
    y, _ = model.stateless_call(
        [ops.stop_gradient(v) for v in model.trainable_variables],
        [ops.stop_gradient(v) for v in model.non_trainable_variables],
        x,
        training=True,
    )
    return y
