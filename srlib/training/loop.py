"""One training loop for pre-training and the SRGAN: steps, rows of the loss curve, validation, resume."""

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from srlib.data.batches import Batches, prefetch, validation_pairs
from srlib.errors import SrlibError
from srlib.evaluation.metrics import psnr_y, ssim_y, to_uint8
from srlib.files import write_text
from srlib.params import Training
from srlib.progress import progress
from srlib.training.optimizer import Adam
from srlib.training.schedules import learning_rate
from srlib.training.state import load_state, save_state

Row = dict[str, float]

SAVING_SHARE = 0.01
"""The first step's state is saved, and from then on so often that saving takes this share of the time."""

VALIDATION_PATCHES = 64
"""At most this many held-out patches are scored, spread evenly."""


def as_float(picture: Any) -> Any:
    """uint8 [0, 255] → float32 [0, 1], on the device."""
    return ops.cast(picture, "float32") / 255.0


class Trainer(keras.Model):
    """A super-resolution network together with the losses it is trained by.

    Only `compute_loss` and the list of state variables differ between the kinds of training, so the same code runs on
    every Keras backend. It takes uint8 batches: lr [B, h, w, 3] and hr [B, scale·h, scale·w, 3].
    """

    def __init__(self, network: keras.Model, **options: Any) -> None:
        super().__init__(**options)
        self.network = network

    def call(self, lr: Any, training: bool | None = None) -> Any:
        """uint8 LR → float32 SR in [0, 1], not clipped."""
        return self.network(as_float(lr), training=training)

    def compile_with(self, optimizer: Adam) -> None:
        """Compiles for training.

        On TensorFlow without XLA, which is five times slower than oneDNN on processors, and without two of the graph's
        optimizers: where a variable is read as a constant, as the adversarial term does, `dependency_optimization`
        drops the edge that keeps the update behind the read, and results then differ from run to run; `remapping`
        fails on the LeakyReLU's gradient and says so on stderr. Neither saves time here.
        """
        tensorflow = keras.backend.backend() == "tensorflow"
        if tensorflow:
            import tensorflow as tf

            tf.config.optimizer.set_experimental_options({"dependency_optimization": False, "remapping": False})
        self.compile(optimizer=optimizer, jit_compile=False if tensorflow else "auto")
        optimizer.build(self.trainable_variables)

    @property
    def trained(self) -> list[Any]:
        """Variables of the networks that are trained, batch statistics included."""
        return list(self.network.variables)

    @property
    def state(self) -> list[Any]:
        """Every variable that a step may change."""
        return [*self.trained, *self.optimizer.variables, *self.metrics_variables]


@dataclass(frozen=True)
class Curves:
    """Where a run writes its rows: `loss.csv` and `validation.csv`, and whom it tells."""

    folder: Path
    report: Callable[[Row, int], None] = lambda row, step: None
    sample: Callable[[np.ndarray, int], None] = lambda picture, step: None


@dataclass
class Result:
    """What training ends in: the weights of `trainer.network.variables` and the last row of each curve."""

    weights: list[np.ndarray]
    loss: Row
    validation: Row

    @property
    def metrics(self) -> Row:
        """The last losses and the validation scores of the weights, rounded to what can be compared."""
        row = {**self.loss, **self.validation}
        return {name: float(f"{value:.6g}") for name, value in row.items() if name not in ("step", "learning_rate")}


def train(
    trainer: Trainer,
    batches: Batches,
    params: Training,
    *,
    steps: int,
    patches: Path,
    state: Path,
    curves: Curves,
    label: str,
    keep_best: bool,
) -> Result:
    """Runs the steps that `state` has not seen yet; ends in the same bytes however often it was killed before.

    Args:
        trainer: Compiled, with an `Adam` of this room.
        batches: The training batches, a pure function of the step.
        params: Learning rate and the intervals of logging and validation.
        steps: The whole budget.
        patches: The folder of prepared patches, for validation.
        state: The folder of the resume state.
        curves: Where the rows go.
        label: Shown beside the progress bar.
        keep_best: Return the (averaged) weights of the best validation PSNR instead of the last.

    Raises:
        SrlibError: The loss is no longer finite.
    """
    pairs = _validation_sample(patches)
    found = load_state(state, trainer.state)
    best, facts = found or ([], {"step": 0, "loss": [], "validation": [], "best_psnr_y": -math.inf})
    start, best_psnr = facts["step"], facts["best_psnr_y"]
    losses: list[Row] = facts["loss"]
    scores: list[Row] = facts["validation"]
    for row in losses:  # the run of a resumed stage shows the whole curve
        curves.report(row, int(row["step"]))
    saved, interval = time.monotonic(), 0.0

    with progress(steps, label, "steps", start=start) as advance:
        for step, lr, hr in prefetch(batches, start, steps):
            rate = learning_rate(params.learning_rate, step, steps)
            trainer.optimizer.learning_rate = rate
            logs = {name: float(value) for name, value in trainer.train_on_batch(lr, hr, return_dict=True).items()}
            done = step + 1
            _check_finite(logs, done, label, state)
            last = done == steps
            validate = last or done % params.validate_every == 0
            if validate or done % params.log_every == 0:
                losses.append({"step": done, **logs, "learning_rate": rate})
                trainer.reset_metrics()
                _write_csv(curves.folder / "loss.csv", losses)
                curves.report(losses[-1], done)
            if validate:
                with trainer.optimizer.averaged_weights():
                    score, picture = _validate(trainer.network, *pairs)
                    if (keep_best and score["psnr_y"] > best_psnr) or (last and not keep_best):
                        best_psnr = score["psnr_y"]
                        best = [ops.convert_to_numpy(v) for v in trainer.network.variables]
                scores.append({"step": done, **score})
                _write_csv(curves.folder / "validation.csv", scores)
                curves.report({f"validation_{name}": value for name, value in score.items()}, done)
                curves.sample(picture, done)
            if last or time.monotonic() - saved > interval:
                begun = time.monotonic()
                facts = {"step": done, "loss": losses, "validation": scores, "best_psnr_y": best_psnr}
                save_state(state, trainer.state, best, facts)
                saved = time.monotonic()
                interval = (saved - begun) / SAVING_SHARE
            advance(1, loss=logs["loss"], psnr_y=scores[-1]["psnr_y"] if scores else math.nan)

    _write_csv(curves.folder / "loss.csv", losses)
    _write_csv(curves.folder / "validation.csv", scores)
    return Result(best, losses[-1], max(scores, key=lambda s: s["psnr_y"]) if keep_best else scores[-1])


def _check_finite(logs: Row, step: int, label: str, state: Path) -> None:
    for name, value in logs.items():
        if not math.isfinite(value):
            raise SrlibError(
                f"{label}: {name} became {value} at step {step}; lower {label}.learning_rate.peak or set "
                f"{label}.clip_norm to 1; the last good state is in {state}"
            )


def _validation_sample(patches: Path) -> tuple[np.ndarray, np.ndarray]:
    lr, hr = validation_pairs(patches)
    chosen = np.unique(np.linspace(0, len(lr) - 1, min(len(lr), VALIDATION_PATCHES)).round().astype(int))
    return np.asarray(lr[chosen]), np.asarray(hr[chosen])


def _validate(network: keras.Model, lr: np.ndarray, hr: np.ndarray) -> tuple[Row, np.ndarray]:
    """Mean PSNR-Y and SSIM-Y over held-out patches by the evaluation protocol, and SR above HR of the first four."""
    scale = hr.shape[1] // lr.shape[1]
    sr = [
        to_uint8(picture)
        for start in range(0, len(lr), 8)
        for picture in ops.convert_to_numpy(network(as_float(lr[start : start + 8]), training=False))
    ]
    score = {
        "psnr_y": float(np.mean([psnr_y(h, s, scale=scale) for h, s in zip(hr, sr, strict=True)])),
        "ssim_y": float(np.mean([ssim_y(h, s, scale=scale) for h, s in zip(hr, sr, strict=True)])),
    }
    return score, np.concatenate([np.concatenate(sr[:4], axis=1), np.concatenate(hr[:4], axis=1)])


def _write_csv(path: Path, rows: list[Row]) -> None:
    """Numbers are written with seven digits: more than float32 holds, and the same on every run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.7g}" for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())
