"""What both trainings have in common, and the section `pretrain`."""

import math
from collections.abc import Iterator
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from srlib.models.base import Network
from srlib.models.registry import MODELS
from srlib.schema import NonNegative, PathText, Positive, Section, Sha256

Precision = Literal["float32", "mixed_bfloat16"]

REACH = 2
"""LR pixels beyond a patch within which lie all HR pixels that MATLAB's bicubic takes into its LR pixels."""

LARGEST_WEIGHT = 1_000_000
"""Weights and norms far above it overflow float32, where a gradient is squared and summed."""

Weight = Annotated[float, Field(ge=0, le=LARGEST_WEIGHT)]

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
    positions: Literal["lr_pixels", "hr_pixels"] = Field(
        default="lr_pixels",
        description="Where in a stored patch a training patch may begin. `lr_pixels`: at every LR pixel. `hr_pixels`: "
        "at every HR pixel, with LR downscaled or degraded anew: `scale`² times as many places, so that a network "
        f"learns less of its training images by heart; `lr_patch` is then at most `prepare.patch` − {2 * REACH}.",
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
