"""One training loop for pre-training and the SRGAN: steps, rows of the loss curve, validation, resume, divergence."""

import contextlib
import csv
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from srlib.data.batches import Batches, prefetch
from srlib.engine import fixed_order
from srlib.errors import SrlibError
from srlib.files import write_text
from srlib.imaging.color import STUDIO_BLACK, STUDIO_WEIGHTS
from srlib.models import ModelConfig, channels_of
from srlib.params import Training
from srlib.progress import progress
from srlib.training.divergence import Row
from srlib.training.optimizers import Adam
from srlib.training.schedules import learning_rate
from srlib.training.state import Progress, Saving, Weights, load_state, save_state
from srlib.training.steps import steps_of
from srlib.training.validation import (
    LAST_GOOD,
    are_finite,
    copy_weights,
    is_good,
    rescue,
    score,
    validation_sample,
)


def as_float(picture: Any) -> Any:
    """uint8 [0, 255] → float32 [0, 1], on the device."""
    return ops.cast(picture, "float32") / 255.0


def as_luma(picture: Any) -> Any:
    """uint8 RGB [..., 3] → float32 Y [..., 1], `luma-studio` of srlib.imaging.color, on the device."""
    weights = ops.convert_to_tensor(STUDIO_WEIGHTS, "float32")
    return ops.sum(as_float(picture) * weights, axis=-1, keepdims=True) + STUDIO_BLACK / 255


class Trainer(keras.Model):
    """A super-resolution network together with the losses it is trained by.

    Only `compute_loss` and the list of state variables differ between the kinds of training, so the same code runs on
    every Keras backend. It takes uint8 batches: lr [B, h, w, 3] and hr [B, scale·h, scale·w, 3].

    Attributes:
        watched: The loss that must not explode.
        diagnoses: Whether `diagnose` has something to tell, also of the start.
    """

    watched = "loss"
    diagnoses = False

    def __init__(self, network: keras.Model, **options: Any) -> None:
        super().__init__(**options)
        self.network = network

    def encode(self, picture: Any) -> Any:
        """uint8 RGB → what the network takes and gives, RGB or luma, on the device."""
        return as_float(picture) if channels_of(self.network) == "rgb" else as_luma(picture)

    def call(self, lr: Any, training: bool | None = None) -> Any:
        """uint8 RGB LR → float32 SR in [0, 1], RGB or luma, not clipped."""
        return self.network(self.encode(lr), training=training)

    def compile_with(self, optimizer: Adam) -> None:
        """Compiles for training; on TensorFlow without XLA, which is five times slower than oneDNN on processors."""
        self.compile(optimizer=optimizer, jit_compile=False if keras.backend.backend() == "tensorflow" else "auto")
        optimizer.build(self.trainable_variables)

    def train_on_batch(self, *args: Any, **options: Any) -> Any:
        """As Keras' own, in an order of additions that is always the same."""
        with fixed_order():
            return super().train_on_batch(*args, **options)

    @property
    def trained(self) -> list[Any]:
        """Variables of the networks that are trained, batch statistics included."""
        return list(self.network.variables)

    @property
    def state(self) -> list[Any]:
        """Every variable that a step may change."""
        return [*self.trained, *self.optimizer.variables]

    def diagnose(self, lr: Any, hr: Any) -> Row:
        """Numbers about one batch for the rows of validation.csv; changes no variable."""
        return {}

    def remarks(self, logs: Row, diagnosis: Row, memory: dict[str, int]) -> list[str]:
        """What somebody who waits for this training should be told now.

        Args:
            logs: The losses of this step; nothing before the first.
            diagnosis: What `diagnose` told after this step; nothing if it was not asked.
            memory: For counting from step to step; it belongs to the resume state.
        """
        return []


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


def training_batches(patches: Path, params: Training, seed: int) -> Batches:
    """The batches that a section of the recipe asks for."""
    return Batches(
        patches,
        lr_patch=params.lr_patch,
        batch=params.batch,
        seed=seed,
        sampling=params.sampling,
        in_memory=params.in_memory,
    )


def train(
    trainer: Trainer,
    batches: Batches,
    params: Training,
    *,
    config: ModelConfig,
    steps: int,
    patches: Path,
    state: Path,
    curves: Curves,
    label: str,
    keep_best: bool,
) -> Result:
    """Runs the steps that `state` has not seen yet; ends in the same bytes however often it was killed before.

    Args:
        trainer: Compiled, with an optimizer of this room.
        batches: The training batches, a pure function of the step.
        params: Learning rate and the intervals of logging and validation.
        config: Of the network that is trained, to save it when training diverges.
        steps: The whole budget.
        patches: The folder of prepared patches, for validation.
        state: The folder of the resume state.
        curves: Where the rows go.
        label: The section of the recipe; shown beside the progress bar.
        keep_best: Return the (averaged) weights of the best validation PSNR instead of the last.

    Raises:
        SrlibError: Training diverged: a loss is no longer finite or exploded (`Watch`), or a weight is not finite. The
            last good weights are in `state`/last_good.
    """
    pairs = validation_sample(patches)
    kept: dict[str, Weights] = {}
    now = Progress()
    if found := load_state(state, trainer.state):
        kept, now = found
    for row in now.loss:  # the run of a resumed stage shows the whole curve
        curves.report(row, int(row["step"]))
    saving, take_step = Saving(), steps_of(trainer)

    def keep(name: str) -> None:
        kept[name], now.kept[name] = copy_weights(trainer.network), now.step

    def stop_at(problem: str) -> SrlibError:
        take_step.write_back()
        rescued = rescue(trainer.network, kept, now.kept, pairs, config, state / LAST_GOOD)
        remedy = "" if params.clip_norm else f" or set {label}.clip_norm to 1"
        return SrlibError(f"{label}: {problem}; lower {label}.learning_rate.peak{remedy}; {rescued}")

    def validate(lr: Any, hr: Any, *, last: bool) -> Row:
        # Before the first update there is no average yet.
        with trainer.optimizer.averaged_weights() if now.step else contextlib.nullcontext():
            if not are_finite(copy_weights(trainer.network)):
                raise stop_at(f"a weight became infinite or not a number at step {now.step}")
            scored, picture = score(trainer.network, *pairs)
            wanted = scored["psnr_y"] > now.best_psnr_y or (not keep_best and is_good(scored, now.best_psnr_y))
            due = last and (not keep_best or "best" not in kept)
            if due or (wanted and not now.watch.high):
                now.best_psnr_y = scored["psnr_y"]
                keep("best")
        diagnosis = trainer.diagnose(lr, hr)
        now.validation.append({"step": now.step, **scored, **diagnosis})
        _write_csv(curves.folder / "validation.csv", now.validation)
        curves.report({f"validation_{name}": value for name, value in (scored | diagnosis).items()}, now.step)
        curves.sample(picture, now.step)
        return diagnosis

    def tell(logs: Row, diagnosis: Row) -> None:
        for remark in trainer.remarks(logs, diagnosis, now.memory):
            print(f"warning: {label}: step {now.step}: {remark}", file=sys.stderr)

    with progress(steps, label, "steps", start=now.step) as advance:
        for step, lr, hr in prefetch(batches, now.step, steps):
            if step == 0:
                keep("latest")
                if trainer.diagnoses:
                    tell({}, validate(lr, hr, last=False))
            rate = learning_rate(params.learning_rate, step, steps)
            logs = take_step(lr, hr, rate)
            if problem := now.watch.problem(logs, trainer.watched):
                raise stop_at(f"{problem} at step {step + 1}")
            if now.kept.get("latest") == step and now.watch.calm:  # these weights gave this loss
                kept["good"], now.kept["good"] = kept["latest"], step
            now.add(logs)
            last = now.step == steps
            validates = last or now.step % params.validate_every == 0
            if validates or now.step % params.log_every == 0:
                take_step.write_back()
                curves.report(now.close_row(rate), now.step)
                _write_csv(curves.folder / "loss.csv", now.loss)
                with trainer.optimizer.averaged_weights():
                    keep("latest")
            tell(logs, validate(lr, hr, last=last) if validates else {})
            if last or saving.due():
                with saving.timed():
                    take_step.write_back()
                    save_state(state, trainer.state, kept, now)
            scored = {"psnr_y": now.validation[-1]["psnr_y"]} if now.validation else {}
            advance(1, loss=logs["loss"], **scored)

    _write_csv(curves.folder / "loss.csv", now.loss)
    _write_csv(curves.folder / "validation.csv", now.validation)
    row = next(row for row in now.validation if row["step"] == now.kept["best"])
    return Result(kept["best"], now.loss[-1], row)


def _write_csv(path: Path, rows: list[Row]) -> None:
    """Numbers are written with seven digits: more than float32 holds, and the same on every run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.7g}" for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())
