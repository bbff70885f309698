"""Usage: pretrain.py PATCHES MODEL RESULTS. Train the recipe's network with a pixel loss."""

import sys
from pathlib import Path

from srlib.files import write_json
from srlib.stage import stage_run


def main(patches: Path, model: Path, results: Path) -> None:
    """Train on `patches`; write the best weights to `model`, the log and the metrics to `results`."""
    with stage_run("pretrain", inputs={"patches": patches}, keras=True, processes=True) as run:
        from srlib.tracking.keys import result_keys
        from srlib.training.pretrain import pretrain

        _, result = pretrain(run.params, patches, model, resume=run.resume, log=run.metric_log(results))
        write_json(results / "metrics.json", {"pretrain": result.headline})
        run.tracking.log_model("pretrained", model, result_keys(result.validation))
        run.done([model, *(results / name for name in ("loss.csv", "validation.csv", "metrics.json"))])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
