"""Fine-tuning a pre-trained generator as an SRGAN (Ledig et al. 2017, arXiv:1609.04802)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from srlib.engine import seed_all
from srlib.errors import SrlibError
from srlib.models import MODELS, ModelConfig, load_model
from srlib.models.features import as_list, feature_magnitudes, feature_network
from srlib.params import Finetune, Params
from srlib.training.averaging import ExponentialMovingAverage
from srlib.training.callbacks import LAST_GOOD, DivergenceGuard, LossLog, Validation
from srlib.training.gan.adversarial import ADVERSARIAL_LOSSES
from srlib.training.gan.discriminator import build_discriminator
from srlib.training.gan.gradient_shares import GradientShares, gradient_norms, shares
from srlib.training.gan.terms import LossInputs, frozen_call, loss_terms, mean, mean_over_maps
from srlib.training.loop import train, training_batches
from srlib.training.metric_log import MetricLog
from srlib.training.optimizers import NetworkUpdate, make_optimizer
from srlib.training.samples import Samples
from srlib.training.session import Result, TrainingSession, copy_weights
from srlib.training.trainer import Trainer, as_float
from srlib.training.types import ByteArray, LogRecord, Tensor
from srlib.training.validation import save_last_good, save_weights, validation_sample, validation_scores


class GanTrainer(Trainer):
    """Trains generator and discriminator in one step, each by its own loss.

    The sum of both losses is differentiated once. Three cuts keep the gradients apart: the adversarial term calls the
    discriminator with constant variables, the discriminator's own loss sees a constant SR, and the feature network
    is frozen. Both networks are updated from the same state.

    Args:
        generator: The network to fine-tune.
        discriminator: Network from `srlib.training.gan.discriminator`.
        features: The feature network of the perceptual loss.
        magnitudes: The size of each of its outputs, by `feature_magnitudes`.
        section: The section `finetune` of the recipe.
    """

    # The distance between SR and HR: the discriminator's loss may rise a hundredfold in a healthy training.
    monitored = "pixel"

    def __init__(
        self,
        generator: keras.Model,
        discriminator: keras.Model,
        features: keras.Model,
        magnitudes: Sequence[float],
        section: Finetune,
    ) -> None:
        super().__init__(generator, name="finetune")
        self.discriminator = discriminator
        self.features = features
        self.magnitudes = magnitudes
        self.section = section
        self.terms = loss_terms(section)
        columns = [term.name for term in self.terms] + ["discriminator", "score_hr", "score_sr", "color_shift"]
        self.means = {name: keras.metrics.Mean(name=name) for name in columns}
        # Not the optimizer's count of updates: within a loss JAX takes that for a constant.
        self.batches_seen = self.add_weight(
            name="batches_seen", shape=(), dtype="int32", initializer="zeros", trainable=False
        )

    @property
    def step_variables(self) -> list[keras.Variable]:
        """Every variable that a step may change."""
        frozen = {id(variable) for variable in self.features.variables}  # a discriminator may contain them
        return [
            *self.network.variables,
            *(variable for variable in self.discriminator.variables if id(variable) not in frozen),
            *self.optimizer.variables,
            self.batches_seen,
        ]

    def generator_terms(self, hr: Tensor, sr: Tensor, real: Tensor, scale: int) -> dict[str, Tensor]:
        """Return the terms of the generator's loss, not yet weighted.

        Args:
            hr: float32 [B, H, W, 3].
            sr: float32 [B, H, W, 3].
            real: The discriminator's logits of HR, one map or a list of them.
            scale: Upscaling factor.
        """
        inputs = LossInputs(hr, sr, real, scale, self.features, self.magnitudes, self.discriminator, self.section)
        return {term.name: term.function(inputs) for term in self.terms}

    def compute_loss(self, x: Tensor, y: Tensor, y_pred: Tensor, sample_weight: Tensor = None) -> Tensor:
        """Return the generator's loss plus the discriminator's; see the class for what reaches which network.

        Args:
            x: LR, uint8.
            y: HR, uint8.
            y_pred: SR, float32.
            sample_weight: Not used.
        """
        scale = y.shape[1] // x.shape[1]
        hr, sr = _shifted_window(as_float(y), y_pred, self.batches_seen % scale**2, scale)
        self.batches_seen.assign_add(1)
        real = self.discriminator(hr, training=True)
        fake = self.discriminator(ops.stop_gradient(sr), training=True)
        values = self.generator_terms(hr, sr, real, scale)
        total = sum(term.weight * values[term.name] for term in self.terms)
        adversarial = ADVERSARIAL_LOSSES[self.section.adversarial]
        values["discriminator"] = mean_over_maps(adversarial.discriminator, real, fake)
        scores = [adversarial.probabilities(*maps) for maps in zip(as_list(real), as_list(fake), strict=True)]
        values["score_hr"], values["score_sr"] = (mean(score) for score in zip(*scores, strict=True))
        values["color_shift"] = 255.0 * ops.mean(ops.abs(ops.mean(sr - hr, axis=(0, 1, 2))))
        for name, value in values.items():
            self.means[name].update_state(value)
        return total + values["discriminator"]

    def gradient_shares(self, lr: ByteArray, hr: ByteArray) -> LogRecord:
        """Return each term's share of the gradient at SR: the norm of weight · ∂term/∂SR over the sum of all norms."""
        truth = as_float(hr)
        sr = frozen_call(self.network, as_float(lr))
        real = frozen_call(self.discriminator, truth)
        scale = hr.shape[1] // lr.shape[1]
        norms = gradient_norms(lambda sr: self.generator_terms(truth, sr, real, scale), sr)
        weighted = shares({term.name: term.weight * norms[term.name] for term in self.terms})
        return {f"share_{name}": share for name, share in weighted.items()}


def _shifted_window(hr: Tensor, sr: Tensor, place: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """Crop HR and SR by scale − 1 rows and columns, at another of the scale² offsets in each step.

    Strided layers in the feature network and the discriminator leave a pattern with the period of their stride in the
    gradient. Batches begin at whole LR pixels, so that without the offset it would always fall on the same sub-pixels,
    which would learn it as a checkerboard.
    """
    size = (hr.shape[1] - scale + 1, hr.shape[2] - scale + 1)
    start = ops.stack([0, place // scale, place % scale, 0])
    shape = (ops.shape(hr)[0], *size, hr.shape[3])
    return ops.slice(hr, start, shape), ops.slice(sr, start, shape)


def gan_trainer(params: Params, generator: keras.Model, features: Path) -> GanTrainer:
    """Return a trainer for the generator, compiled with the optimizers of the recipe.

    Args:
        params: The recipe.
        generator: The pre-trained network.
        features: The folder with the weights of the feature network.
    """
    section = params.finetune_section()
    feature_weights = _feature_weights(features) if section.features.weights == "file" else None
    frozen = feature_network(
        section.features.network,
        section.features.layers,
        pre_activation=section.features.pre_activation,
        weights=feature_weights,
        seed=params.seed,
        dtype=section.precision,
    )
    magnitudes = feature_magnitudes(frozen)
    discriminator = build_discriminator(section, frozen, magnitudes)
    trainer = GanTrainer(generator, discriminator, frozen, magnitudes, section)
    weights = generator.trainable_variables
    generator_update = NetworkUpdate(
        generator,
        make_optimizer(section.optimizer, weights, weight_decay=section.weight_decay),
        section.learning_rate,
        clip_norm=section.clip_norm,
        average=ExponentialMovingAverage(weights, section.ema_decay) if section.ema_decay else None,
    )
    discriminator_update = NetworkUpdate(
        discriminator,
        make_optimizer("adam", discriminator.trainable_variables),
        section.discriminator_learning_rate or section.learning_rate,
        clip_norm=section.clip_norm,
    )
    trainer.compile_with([generator_update, discriminator_update])
    return trainer


@dataclass(frozen=True)
class FinetuneInputs:
    """Folders that fine-tuning reads.

    Attributes:
        patches: The folder of prepared patches.
        features: The folder with the weights of the feature network.
        pretrained: A model made by pre-training.
    """

    patches: Path
    features: Path
    pretrained: Path


def finetune(
    params: Params, inputs: FinetuneInputs, out: Path, *, resume: Path, log: MetricLog
) -> tuple[keras.Model, Result]:
    """Fine-tune a pre-trained model as an SRGAN and write the generator to `out`.

    The generator is interpolated between its initial and its final weights, see `finetune.interpolation`.

    Args:
        params: The recipe.
        inputs: Folders to read.
        out: Folder for the model.
        resume: The folder of the resume state.
        log: Log that receives the records.

    Returns:
        The generator, in float32, and the result of training with the scores of the saved weights.

    Raises:
        SrlibError: The model, the patches or the feature weights do not fit the recipe, or training diverged.
    """
    section = params.finetune_section()
    seed_all(params.seed)
    generator, config = load_model(inputs.pretrained, scale=params.scale, dtype=section.precision)
    _check_generator(config, inputs.pretrained)
    config = replace(config, training="gan")
    initial = copy_weights(generator)
    trainer = gan_trainer(params, generator, inputs.features)
    pairs = validation_sample(inputs.patches)
    rescue = partial(save_last_good, pairs=pairs, config=config, folder=resume / LAST_GOOD)
    guard = DivergenceGuard(section, rescue)
    callbacks = [
        guard,
        LossLog(section.log_every, section.validate_every),
        Validation(pairs, section.validate_every, guard, keep_best=False),
        Samples(inputs.patches, section.validate_every, at_start=True),
        GradientShares(section),
    ]
    batches = training_batches("finetune", inputs.patches, section, params.seed + 1)
    session = TrainingSession("finetune", trainer, section.steps, log, section.micro_batches)
    result = train(session, batches, callbacks, resume)
    weights = [interpolate(a, b, section.interpolation) for a, b in zip(initial, result.weights, strict=True)]
    model = save_weights(weights, config, out)
    if section.interpolation < 1:
        scores = {**result.validation, **validation_scores(model, pairs)}
        result = replace(result, weights=weights, validation=scores)
    return model, result


def interpolate(psnr: NDArray[np.float32], gan: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Return (1 − alpha) · psnr + alpha · gan, to trade fidelity for texture (ESRGAN, Wang et al. 2018, equation 4).

    Example:
        >>> interpolate(np.float32([0.0]), np.float32([8.0]), 0.25).tolist()
        [2.0]
    """
    return ((1 - alpha) * psnr + alpha * gan).astype(psnr.dtype)


def _check_generator(config: ModelConfig, folder: Path) -> None:
    if config.channels != "rgb":
        networks = ", ".join(name for name, architecture in MODELS.items() if architecture.channels == "rgb")
        raise SrlibError(
            f"{folder}: {config.name} works on luma; an SRGAN needs color: set pretrain.model to one of {networks} "
            "(to score this model, keep its folder and name it in evaluate.methods)"
        )


def _feature_weights(folder: Path) -> Path:
    files = sorted(folder.glob("*.h5"))
    if len(files) != 1:
        raise SrlibError(
            f"{folder}: expected one .h5 file of feature weights, found {len(files)}; check download.features"
        )
    return files[0]
