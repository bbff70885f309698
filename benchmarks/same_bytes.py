"""Check that fresh processes train to the same bytes: all that a resume state contains, after some steps.

    python benchmarks/same_bytes.py [--runs 20] [--side-by-side 2] [--steps 6] [--repository .]

In a repository where `dvc repro prepare` has run, each run is a process of its own that pre-trains with the recipe and
then fine-tunes from these weights. Runs side by side disturb each other's timing, on which such differences depend.
Weights, optimizers, averages and the losses of every step are compared by one digest. Prints how often each digest
occurred, and exits with 1 if there is more than one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

STAGES = ("pretrain", "finetune")


def main() -> int:
    """Start the processes and count their digests."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="of each stage")
    parser.add_argument("--repository", type=Path, default=Path())
    parser.add_argument("--alone", action="store_true", help="what the benchmark starts itself, once per run")
    options = parser.parse_args()
    if options.alone:
        print(*digests(options.repository, options.steps))
        return 0
    command = [sys.executable, __file__, "--alone", "--steps", str(options.steps)]
    command += ["--repository", str(options.repository)]

    def run(_: int) -> list[str]:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return done.stdout.split()

    with ThreadPoolExecutor(options.side_by_side) as pool:
        results = list(pool.map(run, range(options.runs)))
    counts = [Counter(digest) for digest in zip(*results, strict=True)]
    for stage, count in zip(STAGES, counts, strict=True):
        print(f"{stage}: " + ", ".join(f"{digest[:12]} in {n} of {options.runs}" for digest, n in count.most_common()))
    return int(any(len(count) > 1 for count in counts))


def digests(repository: Path, steps: int) -> list[str]:
    """Return the digest of the resume state after each stage's training."""
    from srlib.engine import pin_threads
    from srlib.files import tree_hash
    from srlib.params import load_params
    from srlib.training.gan.trainer import FinetuneInputs, finetune
    from srlib.training.metric_log import MetricLog
    from srlib.training.pretrain import pretrain

    pin_threads()
    os.chdir(repository)
    params = load_params(Path("params.yaml"))
    params = params.model_copy(update={name: shortened(getattr(params, name), steps) for name in STAGES})
    data = Path("data")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        for stage in STAGES:
            (here / stage).mkdir()
            where = {"resume": here / stage, "log": MetricLog(here / f"log-{stage}")}
            if stage == "pretrain":
                pretrain(params, data / "patches", here / "start", **where)
            else:
                inputs = FinetuneInputs(data / "patches", data / "raw/features", here / "start")
                finetune(params, inputs, here / "model", **where)
            results.append(tree_hash(here / stage))
    return results


def shortened(section: Any, steps: int) -> Any:
    """Return a section of the recipe for a few steps, with a schedule that fits into them."""
    rate = section.learning_rate
    milestones = [step for step in rate.milestones if step < steps]
    rate = rate.model_copy(update={"warmup": min(rate.warmup, steps - 1), "milestones": milestones})
    return section.model_copy(update={"steps": steps, "log_every": 1, "validate_every": steps, "learning_rate": rate})


if __name__ == "__main__":
    sys.exit(main())
