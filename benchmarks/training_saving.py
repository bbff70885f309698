"""The share of training that saving the resume state takes, with the real size of the EDSR baseline.

    python benchmarks/training_saving.py [--steps 150] [--crop 24] [--batch 16] [--precision mixed_bfloat16]

Runs `pretrain` on random patches in a temporary folder and measures every call of `save_checkpoint`.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from srlib.engine import pin_threads


def main() -> None:
    """Prints how often it saved and the share of the time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crop", type=int, default=24, help="LR pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="mixed_bfloat16")
    options = parser.parse_args()
    pin_threads()
    from srlib.params import Params
    from srlib.training import callbacks
    from srlib.training.checkpoint import FILE, save_checkpoint
    from srlib.training.metric_log import MetricLog
    from srlib.training.pretrain import pretrain

    durations: list[float] = []

    def measured(*arguments: Any) -> None:
        begun = time.monotonic()
        save_checkpoint(*arguments)
        durations.append(time.monotonic() - begun)

    callbacks.save_checkpoint = measured  # type: ignore[attr-defined]
    section = {
        "lr_patch": options.crop,
        "batch": options.batch,
        "precision": options.precision,
        "steps": options.steps,
        "learning_rate": {"peak": 1e-4},
    }
    params = Params.model_validate(
        {
            "scale": 4,
            "seed": 1,
            "download": {"train": "sample", "test": ["sample"], "features": "none"},
            "prepare": {"images": "data/raw/train", "patch": options.crop},
            "pretrain": section
            | {"model": {"name": "edsr"}, "ema_decay": 0.999, "clip_norm": 1.0, "validate_every": options.steps},
            "finetune": section | {"features": {"weights": "random"}},
            "evaluate": {"images": "data/raw/test"},
        }
    )
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for split, count in (("train", 64), ("validation", 8)):
            for kind, side in (("lr", options.crop), ("hr", 4 * options.crop)):
                images = random.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
                np.save(folder / f"{split}_{kind}.npy", images)
        begun = time.monotonic()
        pretrain(params, folder, folder / "model", resume=folder, log=MetricLog(folder))
        whole = time.monotonic() - begun
        size = (folder / FILE).stat().st_size / 1e6
    # The first comes after the first step and the last after the last one, however short the run.
    between = sum(durations[1:-1])
    print(
        f"{options.steps} steps in {whole:.1f} s, {len(durations)} times saved, {size:.0f} MB, "
        f"{np.mean(durations):.3f} s each"
    )
    print(f"saving took {sum(durations) / whole:.2%} of the time; without the first and the last {between / whole:.2%}")


if __name__ == "__main__":
    main()
