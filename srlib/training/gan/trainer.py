"""SRGAN: a pre-trained generator is fine-tuned against a discriminator (Ledig et al. 2017, arXiv:1609.04802)."""

import dataclasses
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from srlib.errors import SrlibError
from srlib.models import MODELS, ModelConfig, load_model
from srlib.models.features import feature_network
from srlib.params import Finetune, Params
from srlib.training.divergence import Row
from srlib.training.gan.discriminator import discriminator as build_discriminator
from srlib.training.gan.gradient_shares import gradient_norms, shares
from srlib.training.loop import Curves, Result, Trainer, as_float, train, training_batches
from srlib.training.losses import ADVERSARIAL_LOSSES, SCORES, content, mae, repeated
from srlib.training.optimizers import Adam
from srlib.training.validation import write_model

TERMS = ("perceptual", "pixel", "checkerboard", "adversarial", "discriminator", "score_hr", "score_sr", "color_shift")

WEIGHT_KEYS = {
    "perceptual": ("perceptual_weight", "perceptual_scale"),
    "pixel": ("pixel_weight", "pixel_weight"),
    "checkerboard": ("checkerboard_weight", "checkerboard_weight"),
    "adversarial": ("adversarial_weight", "adversarial_weight"),
}
"""Term of the generator's loss → (its weight, the key that calibrates it)."""

DROWNED = 0.01
"""A term with less than this share of the gradient has no say in the picture."""

LASTING = 2
"""So many measurements in a row a term must be drowned before it is said; the first counts alone."""

COLLAPSED = 200
"""So many steps in a row the discriminator's scores must be saturated, or level, before it is said."""

SATURATED, LEVEL = 0.01, 0.01
"""How close to 1 and 0, and how close to 0.5, scores are that teach nothing."""


class GanTrainer(Trainer):
    """Trains generator and discriminator in one step, each by its own loss.

    The sum of both losses is differentiated once. Three cuts keep the gradients apart: the adversarial term runs a
    discriminator whose variables are constants, the discriminator's own loss sees a constant SR, and the features are
    frozen. Both networks are updated from the same state, at the same learning rate, as in the paper.
    """

    # The distance between SR and HR: the discriminator's loss may rise a hundredfold within a healthy training.
    watched = "pixel"
    diagnoses = True

    def __init__(
        self, generator: keras.Model, discriminator: keras.Model, features: keras.Model, params: Finetune
    ) -> None:
        super().__init__(generator, name="finetune")
        self.discriminator = discriminator
        self.features = features
        self.params = params
        self.adversarial, self.discrimination = ADVERSARIAL_LOSSES[params.adversarial]
        self.terms = {name: keras.metrics.Mean(name=name) for name in TERMS}
        # Not the optimizer's count of updates: within a loss JAX takes that for a constant.
        self.seen = self.add_weight(name="seen", shape=(), dtype="int32", initializer="zeros", trainable=False)

    @property
    def trained(self) -> list[Any]:
        """Variables of the generator and of the discriminator."""
        return [*self.network.variables, *self.discriminator.variables]

    @property
    def state(self) -> list[Any]:
        """Every variable that a step may change, the number of batches seen among them."""
        return [*super().state, self.seen]

    @property
    def weights_of_terms(self) -> dict[str, float]:
        """Term of the generator's loss → its weight."""
        return {term: getattr(self.params, weight) for term, (weight, _) in WEIGHT_KEYS.items()}

    def generator_terms(self, hr: Any, sr: Any, real: Any, scale: int) -> dict[str, Any]:
        """The terms of the generator's loss, not yet weighted, from float pictures and the logits of HR."""
        hr_features, sr_features = self.features(hr), self.features(sr)
        return {
            "perceptual": content(
                hr_features, sr_features, scale=self.params.perceptual_scale, loss=self.params.perceptual_loss
            ),
            "pixel": mae(hr, sr),
            "checkerboard": repeated(hr, sr, scale),
            "adversarial": self.adversarial(ops.stop_gradient(real), _constant(self.discriminator, sr)),
        }

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *args: Any, **kwargs: Any) -> Any:
        """The generator's loss plus the discriminator's; see the class for what reaches which."""
        scale = y.shape[1] // x.shape[1]
        hr, sr = _moved(as_float(y), y_pred, self.seen % scale**2, scale)
        self.seen.assign_add(1)
        real = self.discriminator(hr, training=True)
        fake = self.discriminator(ops.stop_gradient(sr), training=True)
        values = self.generator_terms(hr, sr, real, scale)
        total = sum(weight * values[term] for term, weight in self.weights_of_terms.items())
        values["discriminator"] = self.discrimination(real, fake)
        values["score_hr"], values["score_sr"] = SCORES[self.params.adversarial](real, fake)
        values["color_shift"] = 255.0 * ops.mean(ops.abs(ops.mean(sr - hr, axis=(0, 1, 2))))
        for name, value in values.items():
            self.terms[name].update_state(value)
        return total + values["discriminator"]

    def diagnose(self, lr: Any, hr: Any) -> Row:
        """Each term's share of what pulls at SR: the norm of weight · ∂term/∂SR over the sum of these norms."""
        truth = as_float(hr)
        sr = _constant(self.network, as_float(lr))
        real = _constant(self.discriminator, truth)
        norms = gradient_norms(lambda sr: self.generator_terms(truth, sr, real, hr.shape[1] // lr.shape[1]), sr)
        weighted = shares({term: weight * norms[term] for term, weight in self.weights_of_terms.items()})
        return {f"share_{term}": share for term, share in weighted.items()}

    def remarks(self, logs: Row, diagnosis: Row, memory: dict[str, int]) -> list[str]:
        """Terms that are drowned, a discriminator that has collapsed; each is said once."""
        found = {}
        for term, weight in self.weights_of_terms.items() if diagnosis else ():
            drowned = weight > 0 and diagnosis[f"share_{term}"] < DROWNED
            memory[term] = memory.get(term, 0) + 1 if drowned else 0
            if memory[term] >= LASTING or (drowned and not logs):
                found[f"{term} is drowned"] = self._drowned(term, weight, diagnosis[f"share_{term}"])
        if logs:
            hr, sr = logs["score_hr"], logs["score_sr"]
            saturated, level = min(hr, 1 - sr) > 1 - SATURATED, max(abs(hr - 0.5), abs(sr - 0.5)) < LEVEL
            memory["saturated"] = memory.get("saturated", 0) + 1 if saturated else 0
            memory["level"] = memory.get("level", 0) + 1 if level else 0
            scores = f"scores of HR {hr:.3f} and SR {sr:.3f}, {COLLAPSED} steps on end"
            if memory["saturated"] >= COLLAPSED:
                found["saturated"] = (
                    f"the discriminator has collapsed: it tells all apart ({scores}) and teaches little; lower "
                    f"finetune.discriminator_filters or raise finetune.adversarial_weight"
                )
            if memory["level"] >= COLLAPSED and diagnosis.get("share_adversarial", 1.0) < DROWNED:
                found["level"] = (
                    f"the discriminator has collapsed: it tells nothing apart ({scores}) and its gradient has gone; "
                    f"raise finetune.discriminator_filters or lower finetune.learning_rate.peak"
                )
        new = [text for name, text in found.items() if f"said: {name}" not in memory]
        memory |= {f"said: {name}": 1 for name in found}
        return new

    def _drowned(self, term: str, weight: float, share: float) -> str:
        key = WEIGHT_KEYS[term][1]
        now = getattr(self.params, key)
        advice = f"; 10 % would be about {now * (1 - share) / (9 * share):.1g}" if share else ""
        return f"the {term} term is drowned: {share:.2%} of the gradient; raise finetune.{key} (now {now:g}{advice})"


def _moved(hr: Any, sr: Any, place: Any, scale: int) -> tuple[Any, Any]:
    """HR and SR without some rows and columns: a window that is at another of scale² places in each step.

    Strided layers, in the features as in the discriminator, leave a pattern of their stride in the gradient. Batches
    begin at whole LR pixels, so that it would always fall on the same sub-pixels, which would learn it as checkerboard.
    """
    size = (hr.shape[1] - scale + 1, hr.shape[2] - scale + 1)
    start = ops.stack([0, place // scale, place % scale, 0])
    shape = (ops.shape(hr)[0], *size, hr.shape[3])
    return ops.slice(hr, start, shape), ops.slice(sr, start, shape)


def _constant(model: keras.Model, x: Any) -> Any:
    """The model in training mode as a fixed function: constant variables, batch statistics that stay as they are."""
    y, _ = model.stateless_call(
        [ops.stop_gradient(v) for v in model.trainable_variables],
        [ops.stop_gradient(v) for v in model.non_trainable_variables],
        x,
        training=True,
    )
    return y


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
    section = params.finetune_section()
    keras.utils.set_random_seed(params.seed)
    generator, config = load_model(pretrained, scale=params.scale, dtype=section.precision)
    _check_generator(config, pretrained)
    config = dataclasses.replace(config, training="gan")
    start = [np.array(ops.convert_to_numpy(v)) for v in generator.variables]
    judge = build_discriminator(section.discriminator_filters, dtype=section.precision)
    frozen = feature_network(
        section.features.network,
        [section.features.layer],
        pre_activation=section.features.pre_activation,
        weights=_feature_weights(features) if section.features.weights == "file" else None,
        seed=params.seed,
        dtype=section.precision,
    )
    batches = training_batches(patches, section, params.seed + 1)
    trainer = GanTrainer(generator, judge, frozen, section)
    trainer.compile_with(
        Adam(
            clip_norm=section.clip_norm,
            average=section.ema_decay,
            groups=[generator.trainable_variables, judge.trainable_variables],
            averaged=generator.trainable_variables,
        )
    )
    result = train(
        trainer, batches, section, config=config, steps=section.steps, patches=patches, state=state, curves=curves,
        label="finetune", keep_best=False,
    )  # fmt: skip
    weights = [interpolate(b, a, section.interpolation) for b, a in zip(start, result.weights, strict=True)]
    return write_model(weights, config, out), result


def interpolate(psnr: np.ndarray, gan: np.ndarray, alpha: float) -> np.ndarray:
    """(1 − alpha) · psnr + alpha · gan, weight by weight: the fidelity knob (ESRGAN, Wang et al. 2018, equation 4)."""
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
