"""PSNR-Y and SSIM-Y on test sets against minutes of pre-training.

    python benchmarks/training_curve.py --minutes 20 --work DIR
        [--pretrain '{model: {name: edsr, skip: nearest}, precision: mixed_bfloat16}']

Trains the recipe's `pretrain` section, changed by --pretrain, on prepared patches (`dvc repro prepare`), for as many
steps as fit into the minutes: the pace is measured first, and the schedule covers all steps. Prints a row, and writes
it to DIR/curve.csv, at every tenth of the steps. Minutes are those of training, with its batches, logs, checkpoints and
validations; scoring the test sets, in float32 with the averaged weights, stops the clock. The same command continues
an interrupted training. The averaged weights of a row are in DIR/rows/STEP, those of the last in DIR/model.
"""

import argparse
import csv
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from srlib.engine import pin_threads
from srlib.errors import SrlibError


def main() -> None:
    """Train and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--work", type=Path, required=True, help="a folder for the curve, the model and the state")
    parser.add_argument("--recipe", type=Path, default=Path("recipes/photos.yaml"))
    parser.add_argument("--pretrain", default="{}", help="YAML, keys of that section in the place of the recipe's")
    parser.add_argument("--patches", type=Path, default=Path("data/patches"))
    parser.add_argument("--test", type=Path, default=Path("data/raw/test"))
    parser.add_argument("--rows", type=int, default=10)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    facts = pin_threads()
    params = recipe(options)
    section = params.pretrain
    print(f"{facts['processor']}, {facts['threads']} threads; {section.model}, {section.steps} steps", flush=True)
    run(params, options)


def recipe(options: argparse.Namespace) -> Any:
    """Return the recipe, changed by the options, with the steps that fit into the minutes: measured once."""
    import yaml

    from srlib.params import check_params, load_params

    content = load_params(options.recipe).model_dump()
    section = content["pretrain"] | {"epochs": None, "log_every": 50} | yaml.safe_load(options.pretrain)
    steps = options.work / "steps.txt"
    if not steps.exists():
        params = check_params(content | {"pretrain": section | {"steps": 10**9}}, options.recipe)  # beyond any schedule
        steps.write_text(str(round(options.minutes * 60 / pace(params, options.patches))))
    return check_params(content | {"pretrain": section | {"steps": int(steps.read_text())}}, options.recipe)


def pace(params: Any, patches: Path) -> float:
    """Return the median seconds per step, of 40 steps and ten seconds at least, after five steps of warm-up."""
    from srlib.data.batches import prefetch
    from srlib.training.loop import training_batches
    from srlib.training.pretrain import pixel_trainer
    from srlib.training.steps import step_runner

    section = params.pretrain
    take_step = step_runner(pixel_trainer(params))
    durations = []
    begin = start = time.monotonic()
    for step, lr, hr in prefetch(training_batches("pretrain", patches, section, params.seed), 0, sys.maxsize):
        take_step(lr, hr, [section.learning_rate.peak])
        durations.append(time.monotonic() - begin)
        begin = time.monotonic()
        if step == 5:
            start = begin
        if step >= 45 and begin - start > 10:
            break
    return statistics.median(durations[5:])


def run(params: Any, options: argparse.Namespace) -> None:
    """Train, and score the test sets on the way."""
    from srlib.evaluation.benchmark import METRICS, Method, evaluate
    from srlib.evaluation.methods import upscale_function
    from srlib.evaluation.sets import find_sets
    from srlib.models import build, save_model
    from srlib.training.callbacks import Callback
    from srlib.training.loop import train
    from srlib.training.metric_log import MetricLog
    from srlib.training.pretrain import model_config, pretraining
    from srlib.training.session import TrainingSession, assign_weights, copy_weights

    sets = find_sets(options.test, params.scale)
    metrics = {name: METRICS[name] for name in ("psnr_y", "ssim_y")}
    config = model_config(params)
    every = max(1, params.pretrain.steps // options.rows)

    class TestScores(Callback):
        """Scores the averaged weights on the test sets, with the clock stopped."""

        state: Curve

        def __init__(self) -> None:
            self.state = Curve()
            self.network = build(config)

        def on_start(self, session: TrainingSession, batches: Any) -> None:
            self.begin = time.monotonic() - self.state.seconds

        def on_step_end(self, session: TrainingSession, lr: Any, hr: Any) -> None:
            self.state = Curve(time.monotonic() - self.begin, self.state.rows)
            if session.is_due(every):
                with session.averaged_network() as network:
                    assign_weights(self.network, copy_weights(network))
                save_model(self.network, config, options.work / "rows" / str(session.step))
                row = {"step": session.step, "minutes": round(self.state.seconds / 60, 2), **self.scores()}
                self.state = Curve(self.state.seconds, [*self.state.rows, row])
                write_rows(self.state.rows, options.work / "curve.csv")
                print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
                self.begin = time.monotonic() - self.state.seconds

        def scores(self) -> dict[str, float]:
            upscale = upscale_function(self.network)
            results = list(evaluate(sets, [Method("x", lambda lr, scale: upscale(lr))], params.scale, metrics=metrics))
            means = {}
            for name in sets:
                for metric in metrics:
                    values = [s.values[metric] for result in results for s in result.scores if s.set == name]
                    means[f"{name} {metric}"] = round(statistics.mean(values), 4)
            return means

    scores = TestScores()
    session, batches, callbacks = pretraining(params, options.patches, options.work, MetricLog(options.work))
    train(session, batches, [*callbacks, scores], options.work)
    save_model(scores.network, config, options.work / "model")


@dataclass
class Curve:
    """What belongs to the resume state: the seconds of training, and the rows so far."""

    seconds: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)


def write_rows(rows: list[dict[str, float]], path: Path) -> None:
    """Write the table."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    try:
        main()
    except SrlibError as error:
        sys.exit(f"error: {error}")
