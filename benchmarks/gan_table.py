"""LPIPS and PSNR-Y on test sets between the PSNR weights and the end of an SRGAN's training.

    python benchmarks/gan_table.py --work DIR --pretrained MODEL --features FOLDER --backbone H5 --linear NPZ
        [--finetune '{steps: 6000, precision: float32}'] [--alphas .5 .7 1]

Fine-tunes MODEL by the recipe's `finetune` section, with the values of --finetune in the place of its own, on prepared
patches (`dvc repro prepare`), then prints a row for each `finetune.interpolation` of --alphas, and writes it to
DIR/table.csv; DIR/ALPHA holds the model, DIR/validation.csv the gradient shares. FOLDER holds the weights of the
content loss, H5 and NPZ are LPIPS' (SqueezeNet). The same command goes on where it was cut off.
"""

import argparse
import csv
import statistics
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from srlib.engine import pin_threads
from srlib.errors import SrlibError


def main() -> None:
    """Trains and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("work", "pretrained", "features", "backbone", "linear"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=Path("recipes/photos.yaml"))
    parser.add_argument("--finetune", default="{}", help="YAML, keys of that section in the place of the recipe's")
    parser.add_argument("--alphas", type=float, nargs="+", default=[0.3, 0.5, 0.7, 1.0])
    parser.add_argument("--patches", type=Path, default=Path("data/patches"))
    parser.add_argument("--test", type=Path, default=Path("data/raw/test"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    print(pin_threads()["processor"], flush=True)
    train(options)
    score(options)


def train(options: argparse.Namespace) -> None:
    """Writes the end of training to DIR/1.0."""
    import yaml

    from srlib.params import check_params, load_params
    from srlib.training.gan.trainer import FinetuneInputs, finetune
    from srlib.training.metric_log import MetricLog

    content = load_params(options.recipe).model_dump()
    if weights := next(options.features.glob("*.h5"), None):
        content["download"]["features"] = {"file": str(weights), "sha256": sha256(weights.read_bytes()).hexdigest()}
    section = content["finetune"] | {"interpolation": 1.0} | yaml.safe_load(options.finetune)
    params = check_params(content | {"finetune": section}, options.recipe)
    finetune(
        params, FinetuneInputs(options.patches, options.features, options.pretrained), options.work / "1.0",
        resume=options.work / "state", log=MetricLog(options.work),
    )  # fmt: skip


def score(options: argparse.Namespace) -> None:
    """A row for the PSNR weights, and for each interpolation between them and the end of training."""
    from srlib.evaluation.benchmark import METRICS, evaluate
    from srlib.evaluation.lpips import lpips
    from srlib.evaluation.methods import from_model
    from srlib.evaluation.sets import find_sets
    from srlib.models import load_model
    from srlib.training.gan.trainer import interpolate
    from srlib.training.session import copy_weights
    from srlib.training.validation import save_weights

    start, config = load_model(options.pretrained)
    end, gan = load_model(options.work / "1.0")
    pairs = list(zip(copy_weights(start), copy_weights(end), strict=True))
    folders = {0.0: options.pretrained, 1.0: options.work / "1.0"}
    for alpha in options.alphas:
        if alpha not in folders:
            folders[alpha] = options.work / str(alpha)
            save_weights([interpolate(*pair, alpha) for pair in pairs], gan, folders[alpha])
    metrics = {"lpips": lpips(options.backbone, options.linear)}
    metrics |= {name: METRICS[name] for name in ("psnr_y", "ssim_y", "color_error")}
    sets = find_sets(options.test, config.scale)
    rows: list[dict[str, Any]] = []
    for alpha, folder in sorted(folders.items()):
        results = list(evaluate(sets, [from_model(folder, config.scale, "x")], config.scale, metrics=metrics))
        row: dict[str, Any] = {"alpha": alpha}
        for name in sets:
            for metric in metrics:
                scores = [s.values[metric] for result in results for s in result.scores if s.set == name]
                row[f"{name} {metric}"] = round(statistics.mean(scores), 4)
        rows.append(row)
        print("  ".join(f"{name} {value:g}" for name, value in row.items()), flush=True)
    with (options.work / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    try:
        main()
    except SrlibError as error:
        sys.exit(f"error: {error}")
