"""Usage: finetune.py PATCHES FEATURES PRETRAINED MODEL RESULTS. Fine-tune the pre-trained network as an SRGAN."""

import sys
from pathlib import Path

from srlib.files import write_json
from srlib.stage import stage_run
from srlib.training.distributed import is_main


def main(patches: Path, features: Path, pretrained: Path, model: Path, results: Path) -> None:
    """Train from `pretrained`; write the generator to `model`, the log and the metrics to `results`."""
    folders = {"patches": patches, "features": features, "pretrained": pretrained}
    with stage_run("finetune", inputs=folders, keras=True, processes=True) as run:
        from srlib.tracking.keys import result_keys
        from srlib.training.gan.trainer import FinetuneInputs, finetune

        if run.params.finetune_section().features.weights == "random" and is_main():
            print("finetune: the feature network has RANDOM weights (finetune.features.weights); fit for a trial only")
        _, result = finetune(
            run.params, FinetuneInputs(**folders), model, resume=run.resume, log=run.metric_log(results)
        )
        write_json(results / "metrics.json", {"finetune": result.headline})
        run.tracking.log_model("gan", model, result_keys(result.validation))
        run.done([model, *(results / name for name in ("loss.csv", "validation.csv", "metrics.json"))])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
