"""SRGAN: a pre-trained generator is fine-tuned against a discriminator (Ledig et al. 2017, arXiv:1609.04802)."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from srlib.data.batches import Batches
from srlib.errors import SrlibError
from srlib.models import ModelConfig, load_model, save_model
from srlib.models.discriminator import discriminator as build_discriminator
from srlib.models.features import feature_network
from srlib.params import Finetune, Params
from srlib.training.loop import Curves, Result, Trainer, as_float, train
from srlib.training.losses import ADVERSARIAL_LOSSES, content, mae
from srlib.training.optimizer import Adam

TERMS = ("content", "pixel", "adversarial", "discriminator", "score_hr", "score_sr", "colour_shift")


class GanTrainer(Trainer):
    """Trains generator and discriminator in one step, each by its own loss.

    The sum of both losses is differentiated once. Three cuts keep the gradients apart: the adversarial term runs a
    discriminator whose variables are constants, the discriminator's own loss sees a constant SR, and the features are
    frozen. Both networks are updated from the same state, at the same learning rate, as in the paper.
    """

    def __init__(
        self, generator: keras.Model, discriminator: keras.Model, features: keras.Model, params: Finetune
    ) -> None:
        super().__init__(generator, name="finetune")
        self.discriminator = discriminator
        self.features = features
        self.params = params
        self.adversarial, self.discrimination = ADVERSARIAL_LOSSES[params.adversarial]
        self.terms = {name: keras.metrics.Mean(name=name) for name in TERMS}

    @property
    def trained(self) -> list[Any]:
        """Variables of the generator and of the discriminator."""
        return [*self.network.variables, *self.discriminator.variables]

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The generator's loss plus the discriminator's; see the class for what reaches which."""
        hr, sr = as_float(y), y_pred
        real = self.discriminator(hr, training=True)
        fake = self.discriminator(ops.stop_gradient(sr), training=True)
        judged, _ = self.discriminator.stateless_call(
            [ops.stop_gradient(v) for v in self.discriminator.trainable_variables],
            [ops.stop_gradient(v) for v in self.discriminator.non_trainable_variables],
            sr,
            training=True,
        )
        values = {
            "content": content(self.features(hr), self.features(sr), scale=self.params.content_scale),
            "pixel": mae(hr, sr),
            "adversarial": self.adversarial(ops.stop_gradient(real), judged),
            "discriminator": self.discrimination(real, fake),
            "score_hr": ops.mean(ops.sigmoid(real)),
            "score_sr": ops.mean(ops.sigmoid(fake)),
            "colour_shift": 255.0 * ops.mean(ops.abs(ops.mean(sr - hr, axis=(0, 1, 2)))),
        }
        for name, value in values.items():
            self.terms[name].update_state(value)
        return (
            self.params.content_weight * values["content"]
            + self.params.pixel_weight * values["pixel"]
            + self.params.adversarial_weight * values["adversarial"]
            + values["discriminator"]
        )


def finetune(
    params: Params, patches: Path, features: Path, pretrained: Path, out: Path, *, state: Path, curves: Curves
) -> tuple[keras.Model, Result]:
    """Fine-tunes the model in `pretrained` and writes the (interpolated) generator to `out`.

    Args:
        params: The recipe.
        patches: The folder of prepared patches.
        features: The folder with the weights of the feature network.
        pretrained: A model made by pre-training.
        out: Where the model goes.
        state: The folder of the resume state.
        curves: Where the rows go.

    Returns:
        The generator, in float32, and the result of training.
    """
    section = params.finetune
    keras.utils.set_random_seed(params.seed)
    generator, config = load_model(pretrained, scale=params.scale, dtype=section.precision)
    _check_generator(config, pretrained)
    start = [ops.convert_to_numpy(v) for v in generator.variables]
    judge = build_discriminator(section.discriminator_filters, dtype=section.precision)
    frozen = feature_network(
        section.features.network,
        [section.features.layer],
        activation=section.features.activation,
        weights=_feature_weights(features) if section.features.weights == "file" else None,
        seed=params.seed,
        dtype=section.precision,
    )
    batches = Batches(
        patches, crop=section.crop, batch=section.batch, seed=params.seed + 1, in_memory=section.in_memory
    )
    trainer = GanTrainer(generator, judge, frozen, section)
    trainer.compile_with(
        Adam(
            clip_norm=section.clip_norm,
            average=section.ema,
            groups=[generator.trainable_variables, judge.trainable_variables],
            averaged=generator.trainable_variables,
        )
    )
    result = train(
        trainer, batches, section, steps=section.steps, patches=patches, state=state, curves=curves, label="finetune",
        keep_best=False,
    )  # fmt: skip
    model, _ = load_model(pretrained)
    for variable, before, after in zip(model.variables, start, result.weights, strict=True):
        variable.assign(interpolate(before, after, section.interpolation))
    save_model(model, dataclasses.replace(config, training="gan"), out)
    return model, result


def interpolate(psnr: np.ndarray, gan: np.ndarray, alpha: float) -> np.ndarray:
    """(1 − alpha) · psnr + alpha · gan, weight by weight: the fidelity knob (ESRGAN, Wang et al. 2018, equation 4)."""
    return ((1 - alpha) * psnr + alpha * gan).astype(psnr.dtype)


def _check_generator(config: ModelConfig, folder: Path) -> None:
    if config.channels != "rgb":
        raise SrlibError(f"{folder}: {config.name} works on luma alone; fine-tuning needs an RGB model such as edsr")


def _feature_weights(folder: Path) -> Path:
    files = sorted(folder.glob("*.h5"))
    if len(files) != 1:
        raise SrlibError(
            f"{folder}: expected one .h5 file of feature weights, found {len(files)}; check download.features"
        )
    return files[0]
