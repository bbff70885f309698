"""The section `finetune`: the SRGAN."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from srlib.models.features import LAYERS, FeatureNetwork
from srlib.models.perceptual_scales import (
    CHECKERBOARD_WEIGHTS,
    Distance,
    FeatureSpace,
    FeatureWeights,
    calibrated_scale,
)
from srlib.params.training import LARGEST_WEIGHT, LearningRate, Training, Weight
from srlib.schema import Fraction, Positive, Section


class Features(Section):
    """The network whose features the perceptual loss compares."""

    network: FeatureNetwork = Field(
        default="vgg19",
        description="VGG19, or SqueezeNet 1.1 (4 % of VGG19's parameters); docs/reference/feature-networks.md compares "
        "them.",
    )
    weights: FeatureWeights = Field(
        default="file",
        description="`file`: the weights that `download.features` names; `random`: untrained, for a trial.",
    )
    layer: str | Annotated[list[str], Field(min_length=1)] = Field(
        default="block5_conv4",
        description=f"Layer whose features are compared: `{LAYERS['vgg19'][0]}` to `{LAYERS['vgg19'][-1]}` for VGG19, "
        "`conv1` and `fire2` to `fire9` for SqueezeNet. A list: several layers, each with its calibrated factor.",
    )
    pre_activation: bool = Field(
        default=False, description="Compare features before the layer's ReLU (ESRGAN) instead of after it (SRGAN)."
    )

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose features are compared."""
        return (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)

    @property
    def deepest(self) -> str:
        """The layer that is furthest from the input."""
        return max(self.layers, key=LAYERS[self.network].index)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield a layer that the network does not have, or that is listed twice."""
        for layer in self.layers:
            if layer not in LAYERS[self.network]:
                yield (
                    "layer",
                    f"expected a layer of {self.network} ({', '.join(LAYERS[self.network])}), got {layer!r}",
                )
        if len(set(self.layers)) < len(self.layers):
            yield "layer", f"expected each layer once, got {', '.join(self.layers)}"


class Finetune(Training):
    """SRGAN fine-tuning: a weighted sum of perceptual, pixel (MAE), checkerboard and adversarial losses."""

    steps: Positive = Field(description="Steps of training.")
    features: Features = Field(default=Features(), description="Feature network of the perceptual loss.")
    perceptual_loss: Distance = Field(
        default="mse", description="Distance between features: mean squared (SRGAN) or mean absolute (ESRGAN's code)."
    )
    perceptual_scale: Annotated[float, Field(gt=0, le=LARGEST_WEIGHT)] | Literal["auto"] = Field(
        default="auto",
        description="Factor on this distance. `auto`: the calibrated one for `features` and `perceptual_loss`, from "
        "docs/reference/feature-networks.md; 0.00615 (1 / 12.75²) for VGG19's `block5_conv4`, as in SRGAN.",
    )
    perceptual_weight: Weight = Field(default=1.0, description="Weight of the perceptual loss.")
    pixel_weight: Weight = Field(default=0.0, description="Weight of the mean absolute error.")
    checkerboard_weight: Weight | Literal["auto"] = Field(
        default="auto",
        description="Weight of the checkerboard loss: the error's component of period `scale`. `auto`: 0 with VGG19 "
        "(SRGAN), 3 with SqueezeNet, whose strides hide such a pattern.",
    )
    adversarial_weight: Weight = Field(
        default=0.001, description="Weight of the adversarial loss; with 0 the discriminator is trained all the same."
    )
    adversarial: Literal["vanilla", "relativistic", "paired"] = Field(
        default="vanilla",
        description="Adversarial loss. `vanilla`: SRGAN's. `relativistic`: the relativistic average one of ESRGAN. "
        "`paired`: relativistic, each position of SR against the same one of HR (RpGAN, Jolicoeur-Martineau 2018).",
    )
    adversarial_normalized: bool = Field(
        default=False,
        description="Give the adversarial loss a gradient at SR of constant length: `adversarial_weight` times that of "
        "the mean absolute error, however sure the discriminator is.",
    )
    consistency_weight: Weight = Field(
        default=0.0,
        description="Weight of the error that remains after downscaling, which contradicts LR; 0: left out.",
    )
    artifact_weight: Weight = Field(
        default=0.0,
        description="Weight of the error where it varies from pixel to pixel (LDL, Liang et al. 2022); 0: left out.",
    )
    periodicity_weight: Weight = Field(
        default=0.0,
        description="Weight of patterns with a period of one LR pixel beyond those of HR, also where they follow the "
        "content; 0: left out.",
    )
    regularity_weight: Weight = Field(
        default=0.0,
        description="Weight of fine detail that repeats with any period more than that of HR does, such as a mesh; 0: "
        "left out.",
    )
    texture_weight: Weight = Field(
        default=0.0,
        description="Weight of the difference between the statistics of the features in windows of 16×16 pixels, "
        "wherever in the window they come from (EnhanceNet, Sajjadi et al. 2017); 0: left out.",
    )
    discriminator: Literal["patch", "unet", "features"] = Field(
        default="patch",
        description="`patch`: SRGAN's, one score per 16×16 pixels. `unet`: one score per pixel, with spectral "
        "normalization (Real-ESRGAN). `features`: small networks on the layers of `features`, which need far fewer "
        "steps (Projected GAN, Sauer et al. 2021).",
    )
    discriminator_filters: Positive = Field(
        default=64,
        description="Channels of the discriminator's first convolution; the later ones have up to 8 times as many, "
        "with `features` as many.",
    )
    discriminator_learning_rate: LearningRate | None = Field(
        default=None,
        description="Learning rate of the discriminator and its schedule. `null`: the generator's, `learning_rate`.",
    )
    interpolation: Fraction = Field(
        default=1.0,
        description="Share of the fine-tuned weights in the saved ones: 0 keeps the pre-trained network, 1 saves the "
        "fine-tuned one (ESRGAN's network interpolation).",
    )

    @property
    def feature_spaces(self) -> list[FeatureSpace]:
        """What the factor of the perceptual loss depends on, for each layer."""
        features = self.features
        return [
            FeatureSpace(features.network, features.weights, layer, features.pre_activation, self.perceptual_loss)
            for layer in features.layers
        ]

    @property
    def checkerboard_factor(self) -> float:
        """The weight of the checkerboard loss; for `auto` that of the feature network."""
        weight = self.checkerboard_weight
        return CHECKERBOARD_WEIGHTS[self.features.network] if weight == "auto" else weight

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield weights and schedules that do not fit, and an automatic factor where none is known."""
        yield from super().mistakes()
        weights = {name: value for name, value in self if name.endswith("_weight")}
        if not any({**weights, "checkerboard_weight": self.checkerboard_factor}.values()):
            yield "perceptual_weight", "expected one of the weights above 0, got 0 for all"
        unknown = [space.layer for space in self.feature_spaces if calibrated_scale(space) is None]
        if self.perceptual_scale == "auto" and unknown:
            yield (
                "perceptual_scale",
                f"expected a number with {self.features.network}'s {unknown[0]}, got auto: no calibrated "
                "factor is known; choose a layer of docs/reference/feature-networks.md that has one, or measure it by "
                f"`python benchmarks/perceptual_scale.py --{self.features.network} FILE`",
            )
        if self.perceptual_scale != "auto" and len(self.features.layers) > 1:
            yield (
                "perceptual_scale",
                f"expected auto with {len(self.features.layers)} layers, got {self.perceptual_scale:g}; a number "
                "belongs to one layer",
            )
        for name in ("learning_rate", "discriminator_learning_rate"):
            schedule: LearningRate | None = getattr(self, name)
            for key, text in schedule.step_mistakes(self.steps) if schedule else ():
                yield f"{name}.{key}", text
