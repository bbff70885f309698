"""Seconds per training step of the EDSR baseline, float32 beside bfloat16, in turns in one process.

python benchmarks/training_step.py [--crop 48] [--batch 16] [--rounds 8]
"""

import argparse
import statistics
import time

import numpy as np

from srlib.engine import pin_threads


def main() -> None:
    """Prints median, minimum and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--crop", type=int, default=48, help="LR pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    print(pin_threads())
    from srlib.models import ModelConfig, build
    from srlib.training.optimizer import Adam
    from srlib.training.pretrain import PixelTrainer

    random = np.random.default_rng(0)
    sides = options.crop, 4 * options.crop
    lr, hr = (random.integers(0, 256, (options.batch, side, side, 3), dtype=np.uint8) for side in sides)
    trainers = {}
    for precision in ("float32", "mixed_bfloat16"):
        trainers[precision] = PixelTrainer(build(ModelConfig("edsr", 4), dtype=precision), "mae")
        trainers[precision].compile_with(Adam(clip_norm=1.0, average=0.999))
        for _ in range(2):
            trainers[precision].train_on_batch(lr, hr)
    seconds: dict[str, list[float]] = {precision: [] for precision in trainers}
    for _ in range(options.rounds):
        for precision, trainer in trainers.items():
            begun = time.perf_counter()
            trainer.train_on_batch(lr, hr)
            seconds[precision].append(time.perf_counter() - begun)
    for precision, taken in seconds.items():
        print(f"{precision}: median {statistics.median(taken):.3f} s, minimum {min(taken):.3f} s")
    medians = [statistics.median(taken) for taken in seconds.values()]
    print(f"ratio {medians[0] / medians[1]:.2f}")


if __name__ == "__main__":
    main()
