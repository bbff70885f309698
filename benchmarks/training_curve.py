"""PSNR-Y and SSIM-Y on test sets against minutes of pre-training.

    python benchmarks/training_curve.py --minutes 20 --work DIR
        [--pretrain '{model: {name: edsr, skip: nearest}, precision: mixed_bfloat16}']

Trains the recipe's `pretrain` section, with the values of --pretrain in the place of its own, on prepared patches (`dvc
repro prepare`), with as many steps as fit into the minutes: the pace is measured first, the schedule runs over the
whole. Prints a row, and writes it to DIR/curve.csv, at every tenth of the way. Minutes are those of training, its
batches, logs, saved states and held-out scores included; scoring the test sets, in float32 with the averaged weights,
stops the clock. The same command goes on where it was cut off. The averaged weights of a row are in
DIR/rows/STEP, those of the last in DIR/model.
"""

import argparse
import csv
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from srlib.engine import pin_threads
from srlib.errors import SrlibError


def main() -> None:
    """Trains and prints the curve."""
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
    """The recipe with the values given, and the steps that fit into the minutes: measured once, and kept."""
    import yaml

    from srlib.params import check_params, load_params

    content = load_params(options.recipe).model_dump()
    section = content["pretrain"] | {"epochs": None, "log_every": 50} | yaml.safe_load(options.pretrain)
    steps = options.work / "steps.txt"
    params = check_params(content | {"pretrain": section | {"steps": 1}}, options.recipe)
    if not steps.exists():
        steps.write_text(str(round(options.minutes * 60 / pace(params, options.patches))))
    return check_params(content | {"pretrain": section | {"steps": int(steps.read_text())}}, options.recipe)


def pace(params: Any, patches: Path) -> float:
    """Seconds per step, the median after five: of 40 steps at least, and of ten seconds."""
    from srlib.data.batches import prefetch
    from srlib.training.loop import training_batches
    from srlib.training.pretrain import pixel_trainer
    from srlib.training.steps import steps_of

    section = params.pretrain
    take_step = steps_of(pixel_trainer(params))
    taken = []
    begun = start = time.monotonic()
    for step, lr, hr in prefetch(training_batches(patches, section, params.seed), 0, sys.maxsize):
        take_step(lr, hr, section.learning_rate.peak)
        taken.append(time.monotonic() - begun)
        begun = time.monotonic()
        if step == 5:
            start = begun
        if step >= 45 and begun - start > 10:
            break
    return statistics.median(taken[5:])


def run(params: Any, options: argparse.Namespace) -> None:
    """Trains, and scores the test sets on the way."""
    from srlib.evaluation.benchmark import METRICS, Method, evaluate
    from srlib.evaluation.methods import upscale_function
    from srlib.evaluation.sets import find_sets
    from srlib.models import build, save_model
    from srlib.training.loop import Curves, train, training_batches
    from srlib.training.pretrain import model_config, pixel_trainer

    section, config = params.pretrain, model_config(params)
    sets = find_sets(options.test, params.scale)
    metrics = {name: METRICS[name] for name in ("psnr_y", "ssim_y")}
    trainer, network = pixel_trainer(params), build(config)
    every = max(1, section.steps // options.rows)
    clock, table = options.work / "clock.csv", options.work / "curve.csv"
    # Step → seconds of training until then, as far as an earlier process came.
    seconds = {int(step): float(taken) for step, taken in csv.reader(clock.open())} if clock.exists() else {}
    begun = time.monotonic()

    def report(row: dict[str, float], step: int) -> None:
        nonlocal begun
        now = time.monotonic()
        if "validation_psnr_y" in row:
            tell(step)
            begun += time.monotonic() - now
        elif step in seconds:
            begun = now - seconds[step]
        else:
            seconds[step] = now - begun
            with clock.open("a") as file:
                file.write(f"{step},{seconds[step]:.2f}\n")

    def tell(step: int) -> None:
        with trainer.optimizer.averaged_weights():
            for ours, theirs in zip(network.variables, trainer.network.variables, strict=True):
                ours.assign(theirs)
        save_model(network, config, options.work / "rows" / str(step))
        upscale = upscale_function(network)
        results = list(evaluate(sets, [Method("x", lambda lr, scale: upscale(lr))], params.scale, metrics=metrics))
        values: dict[str, float] = {"step": step, "minutes": round(seconds[step] / 60, 2)}
        for name in sets:
            for metric in metrics:
                found = [s.values[metric] for result in results for s in result.scores if s.set == name]
                values[f"{name} {metric}"] = round(statistics.mean(found), 4)
        header = not table.exists()
        with table.open("a", newline="") as file:
            writer = csv.DictWriter(file, values)
            if header:
                writer.writeheader()
            writer.writerow(values)
        print("  ".join(f"{name} {value:g}" for name, value in values.items()), flush=True)

    train(
        trainer, training_batches(options.patches, section, params.seed),
        section.model_copy(update={"validate_every": every}), config=config, steps=section.steps,
        patches=options.patches, state=options.work, curves=Curves(options.work, report=report), label="pretrain",
        keep_best=True,
    )  # fmt: skip
    save_model(network, config, options.work / "model")


if __name__ == "__main__":
    try:
        main()
    except SrlibError as error:
        sys.exit(f"error: {error}")
