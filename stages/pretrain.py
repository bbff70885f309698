"""Usage: pretrain.py PATCHES MODEL RESULTS. Trains the recipe's network by a pixel loss."""

import sys
from pathlib import Path

from srlib.files import write_json
from srlib.stage import stage_run


def main(patches: Path, model: Path, results: Path) -> None:
    """Trains on `patches`, writes the best weights to `model`, curves and metrics to `results`."""
    with stage_run("pretrain", inputs={"patches": patches}, keras=True) as run:
        from srlib.training.loop import Curves
        from srlib.training.pretrain import model_config, pretrain

        if model_config(run.params).channels != "rgb":
            name = run.params.pretrain.model.name
            print(f"pretrain: {name} works on luma: run `dvc repro pretrain`; the SRGAN of finetune needs color")

        curves = Curves(results, run.log_metrics, lambda image, step: run.log_image("validation", image, step))
        network, result = pretrain(run.params, patches, model, state=run.resume, curves=curves)
        write_json(results / "metrics.json", result.metrics)
        run.log_metrics(result.metrics)
        run.log_model(network, "pretrained", model)
        run.done([model, *(results / name for name in ("loss.csv", "validation.csv", "metrics.json"))])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
