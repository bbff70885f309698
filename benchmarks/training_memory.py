"""Time and memory of a training step: SRResNet against the EDSR baseline, which has no batch normalization.

    python benchmarks/training_memory.py [--batch 16] [--crop 24] [--precision float32] [--rounds 3] [--steps 6]

Lim et al. (2017) say that EDSR's residual block without normalization saves about 40 % of SRResNet's memory in
training. Each network trains in a process of its own, in turns: the median of its steps, and the largest resident
memory while it trains less that before the network is built.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

MODELS = ("srresnet", "edsr")


def main() -> None:
    """Prints a row per network and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--crop", type=int, default=24, help="LR pixels; 24 is the SRGAN paper's")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--child", choices=MODELS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.batch, options.crop, options.precision, options.steps)
        return
    records: dict[str, list[dict[str, float]]] = {name: [] for name in MODELS}
    for _ in range(options.rounds):
        for name in MODELS:
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--child", name], capture_output=True, text=True, check=True
            )
            records[name].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in records.items()
    }
    print(f"×4, batch {options.batch}, LR crop {options.crop}, {options.precision}, {options.rounds} rounds")
    for name, row in medians.items():
        print(f"{name:10} {row['parameters']:>10,.0f} parameters  {row['seconds']:.3f} s  {row['megabytes']:,.0f} MB")
    seconds, megabytes = (medians["edsr"][key] / medians["srresnet"][key] for key in ("seconds", "megabytes"))
    print(f"EDSR baseline takes {seconds:.2f} of SRResNet's time and {megabytes:.2f} of its memory per step")


def child(name: str, batch: int, crop: int, precision: str, steps: int) -> None:
    """Trains one network and prints what it took."""
    from srlib.engine import pin_threads

    pin_threads()
    import numpy as np

    from srlib.models import ModelConfig, build
    from srlib.params import LearningRate
    from srlib.training.optimizers import NetworkUpdate, make_optimizer
    from srlib.training.pretrain import PixelTrainer

    random = np.random.default_rng(0)
    lr, hr = (random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8) for side in (crop, 4 * crop))
    before = peak()
    network = build(ModelConfig(name, 4), dtype=precision)
    trainer = PixelTrainer(network, "mae")
    optimizer = make_optimizer("adam", network.trainable_variables)
    trainer.compile_with([NetworkUpdate(network, optimizer, LearningRate(peak=1e-4))])
    seconds = []
    for _ in range(steps + 2):
        begun = time.perf_counter()
        trainer.train_on_batch(lr, hr)
        seconds.append(time.perf_counter() - begun)
    row = {
        "parameters": network.count_params(),
        "seconds": statistics.median(seconds[2:]),
        "megabytes": peak() - before,
    }
    print(json.dumps(row))


def peak() -> float:
    """Largest resident memory of this process so far, in MB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
