"""Sections `pretrain` and `finetune`: the two trainings."""

import math
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from srlib.models.base import Network
from srlib.models.features import LAYERS, FeatureNetwork
from srlib.models.perceptual_scales import (
    CHECKERBOARD_WEIGHTS,
    Distance,
    FeatureSpace,
    FeatureWeights,
    calibrated_scale,
)
from srlib.models.registry import MODELS
from srlib.schema import Fraction, NonNegative, PathText, Positive, Section, Sha256

Precision = Literal["float32", "mixed_bfloat16"]

_LARGEST = 1_000_000
"""Weights and norms far above it overflow float32, where a gradient is squared and summed."""

Weight = Annotated[float, Field(ge=0, le=_LARGEST)]

if TYPE_CHECKING:
    AnyNetwork = Network
else:
    AnyNetwork = Annotated[reduce(or_, MODELS.values()), Field(discriminator="name")]

GROUP = 8
"""Channels that the dihedral group D4 permutes; an equivariant network's width is a multiple of it."""


class StartFrom(Section):
    """Earlier weights to start from."""

    folder: PathText = Field(description="Folder of a model: config.json and model.weights.h5.")
    sha256: Sha256 = Field(description="SHA-256 of its model.weights.h5: `sha256sum FOLDER/model.weights.h5`.")


class LearningRate(Section):
    """Learning rate of each step: a linear warm-up to `peak`, then the schedule."""

    schedule: Literal["constant", "steps", "cosine"] = Field(
        default="constant",
        description="After the warm-up: `constant`; `steps`, times `factor` at each milestone; `cosine`, down to "
        "`final` at the last step.",
    )
    peak: float = Field(ge=1e-12, lt=1, description="Highest learning rate.")
    warmup: int = Field(default=0, ge=0, description="Steps of linear warm-up; fewer than all steps.")
    milestones: list[Positive] = Field(default=[], description="Steps, in rising order, for `schedule: steps`.")
    factor: float = Field(default=0.5, gt=0, lt=1, description="Factor at each milestone.")
    final: float = Field(default=0.0, ge=0, lt=1, description="Learning rate at the last step, for `schedule: cosine`.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield keys that do not belong to the schedule, and milestones out of order."""
        if self.schedule == "steps" and not self.milestones:
            yield "milestones", "expected at least one with `schedule: steps`, got none"
        if self.schedule != "steps" and self.milestones:
            yield "milestones", f"expected only with `schedule: steps`, got {self.milestones} with {self.schedule}"
        if self.milestones != sorted(set(self.milestones)):
            yield "milestones", f"expected rising numbers, got {self.milestones}"
        if min(self.milestones, default=self.warmup) < self.warmup:
            yield "milestones", f"expected steps after the warm-up ({self.warmup}), got {min(self.milestones)}"
        if self.final and self.schedule != "cosine":
            yield "final", f"expected only with `schedule: cosine`, got {self.final} with {self.schedule}"
        if self.final > self.peak:
            yield "final", f"expected at most `peak` ({self.peak}), got {self.final}"

    def step_mistakes(self, steps: int, *, epochs: str = "") -> Iterator[tuple[str, str]]:
        """Yield what a training of `steps` steps would never reach.

        Args:
            steps: Number of steps, or the most that there may be.
            epochs: This number as text, where it follows from `epochs`.
        """
        limit, key = (f"the steps of `epochs` ({epochs})", "epochs") if epochs else (f"`steps` ({steps})", "steps")
        if self.warmup >= steps:
            yield "warmup", f"expected fewer than {limit}, got {self.warmup}; lower it, or raise `{key}`"
        for milestone in self.milestones:
            if milestone >= steps:
                yield "milestones", f"expected steps below {limit}, got {milestone}; remove it"


class Training(Section):
    """What pre-training and fine-tuning share."""

    precision: Precision = Field(
        default="float32",
        description="Number format of the convolutions. `mixed_bfloat16` is 1.7 times as fast on processors with "
        "AVX512-BF16 or AMX, faster on recent GPUs, too, and many times slower on others.",
    )
    batch: Positive = Field(default=16, description="Patches per step, over all GPUs and hosts.")
    micro_batches: Positive = Field(
        default=1,
        description="Parts of a batch whose gradients are computed separately and added in a fixed order (JAX only). "
        "Above 1, the weights do not depend on the number of GPUs, processes and hosts, which must divide it, and a "
        "step needs less memory; batch statistics are those of one part.",
    )
    lr_patch: int = Field(
        ge=8, description="Side of the random crop that is trained on, in LR pixels; at most `prepare.patch`."
    )
    sampling: Literal["patches", "balanced"] = Field(
        default="patches",
        description="`patches` draws each stored patch once per epoch; `balanced` draws an image first, with a "
        "probability that grows with the square root of its patches, so that a few large images do not dominate.",
    )
    in_memory: bool = Field(
        default=False,
        description="Read all patches into memory instead of memory-mapping their files.",
    )
    optimizer: Literal["adam", "adamw", "muon"] = Field(
        default="adam", description="Optimizer; in `finetune` the generator's (the discriminator has Adam)."
    )
    weight_decay: NonNegative = Field(
        default=0.0, description="Weight decay of `optimizer: adamw`, times the learning rate at each step."
    )
    learning_rate: LearningRate = Field(description="Learning rate and its schedule.")
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the exponential moving average of the weights. The averaged weights are validated and "
        "saved. 0: no average.",
    )
    clip_norm: Weight = Field(default=0.0, description="Largest global norm of the gradient; 0: no clipping.")
    log_every: Positive = Field(default=100, description="Steps between two records of the losses.")
    validate_every: Positive = Field(default=1000, description="Steps between two validations.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield a batch that cannot be divided evenly, and a weight decay that does not fit the optimizer."""
        if self.batch % self.micro_batches:
            yield "micro_batches", f"expected a divisor of `batch` ({self.batch}), got {self.micro_batches}"
        if self.optimizer == "adamw" and not self.weight_decay:
            yield "weight_decay", "expected above 0 with `optimizer: adamw`, got 0; set it, or use `optimizer: adam`"
        if self.optimizer == "adamw" and self.weight_decay * self.learning_rate.peak >= 1:
            limit = f"1 / `learning_rate.peak` ({1 / self.learning_rate.peak:g})"
            yield "weight_decay", f"expected below {limit}, where a step leaves nothing, got {self.weight_decay}"
        if self.optimizer != "adamw" and self.weight_decay:
            yield (
                "weight_decay",
                f"expected 0 with `optimizer: {self.optimizer}`, got {self.weight_decay}; use `optimizer: adamw`",
            )


class Pretrain(Training):
    """Pre-training with a pixel loss."""

    model: AnyNetwork = Field(description="The network and its options.")
    equivariant: bool = Field(
        default=False,
        description="Share weights over the dihedral group D4 (flips and rotations by 90°): a transformed input gives "
        "the transformed output, and a short training reaches a better result. Needs a network that supports it, with "
        "a width that is a multiple of 8.",
    )
    start_from: StartFrom | None = Field(
        default=None,
        description="Weights of an earlier training of this network; for another scale, all but the upsampling layers "
        "are used. `large_kernel` also starts from a `compact` of as many blocks and filters. `null`: random weights.",
    )
    loss: Literal["mae", "mse", "charbonnier", "psnr", "psnr_y"] = Field(
        default="mae",
        description="Pixel loss: mean absolute error (EDSR), mean squared error (SRResNet), Charbonnier (LapSRN), or "
        "the mean over the images of the logarithm of their squared error, which is what a mean PSNR rewards (`psnr`), "
        "or of their error in luma, which is what benchmarks score (`psnr_y`).",
    )
    steps: Positive | None = Field(default=None, description="Steps of training; either this or `epochs`.")
    epochs: Positive | None = Field(default=None, description="Passes over all patches; either this or `steps`.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield options that exclude or need each other."""
        yield from super().mistakes()
        if (self.steps is None) == (self.epochs is None):
            yield "steps", "expected exactly one of `steps` and `epochs`, got " + ("both" if self.steps else "neither")
        if self.steps:
            yield from ((f"learning_rate.{key}", text) for key, text in self.learning_rate.step_mistakes(self.steps))
        yield from self._equivariance_mistakes()

    def steps_with(self, patches: int) -> int:
        """Return the number of steps with so many training patches."""
        return self.steps or math.ceil((self.epochs or 0) * patches / self.batch)

    def epoch_mistakes(self, patches: int, *, at_most: bool = False) -> Iterator[tuple[str, str]]:
        """Yield what the steps of `epochs` would never reach; nothing where `steps` is given.

        Args:
            patches: Number of training patches.
            at_most: Whether there may be fewer.
        """
        if self.epochs:
            steps = self.steps_with(patches)
            mistakes = self.learning_rate.step_mistakes(steps, epochs=f"at most {steps}" if at_most else str(steps))
            yield from ((f"learning_rate.{key}", text) for key, text in mistakes)

    def _equivariance_mistakes(self) -> Iterator[tuple[str, str]]:
        width = self.model.equivariant_width
        if not self.equivariant or (width and width % GROUP == 0):
            return
        able = [name for name, network in MODELS.items() if network().equivariant_width is not None]
        if width is None and self.model.name in able:
            yield (
                "model",
                f"expected options with which {self.model.name} can be equivariant (docs/reference/params.md), got "
                f"{self.model.options}",
            )
        elif width is None:
            yield (
                "equivariant",
                f"expected false with {self.model.name}, got true; only {' or '.join(able)} can be equivariant",
            )
        else:
            yield (
                "model.filters",
                f"expected a multiple of {GROUP} with `equivariant: true`, got {width}; "
                "change it, or set `equivariant: false`",
            )


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
    perceptual_scale: Annotated[float, Field(gt=0, le=_LARGEST)] | Literal["auto"] = Field(
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
