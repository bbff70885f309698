"""Training steps of the EDSR baseline ×4 beside PyTorch and the naive way, against the rate of the matrix product.

    python benchmarks/training_step.py [--torch-python PATH] [--crop 48] [--batch 16] [--seconds 200] [--only A,B]
    python benchmarks/training_step.py --operators float32

Variants take turns, one step each (the naive way one batch through `fit`), so that whatever slows the machine down
slows all of them. Each is in a process of its own, as a training is, so that none finds its memory given away by
another; PyTorch with the interpreter of `--torch-python` where it is not installed in this one. The naive way reads PNG
files in a Sequence: patches of the size of a crop, or whole images of which it cuts crops. GFLOP/s count the
multiplications and additions of the convolutions, forward once and backward twice. The matrix product is 4096 × 4096,
with the same threads. `--operators` says where the time of one step goes, from oneDNN's own record (ONEDNN_VERBOSE=1)
and, for what is none of oneDNN's, the rest.
"""

import argparse
import contextlib
import functools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from srlib.engine import available_cores, pin_threads

OURS = {"ours float32": "float32", "ours bf16": "mixed_bfloat16"}
TORCH = ("torch float32", "torch bf16 autocast", "torch bf16 weights")
NAIVE = {"naive fit on PNG patches": False, "naive fit on PNG images": True}
PRODUCTS = {"product float32": "float32", "product bf16": "bfloat16"}
SIDE = 4096


def main() -> None:
    """Prints one row per variant, or the operators of one."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--crop", type=int, default=48, help="LR pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=200, help="how long the turns go on")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter with PyTorch")
    parser.add_argument("--only", default="", help="variants, separated by commas")
    parser.add_argument("--operators", choices=("float32", "mixed_bfloat16"))
    parser.add_argument("--serve", action="store_true", help="what the benchmark starts itself, once per variant")
    options = parser.parse_args()
    if options.operators:
        operators(options.operators, options.crop, options.batch)
        return
    if options.serve:
        serve(options.crop, options.batch)
        return
    names = options.only.split(",") if options.only else [*OURS, *NAIVE, *TORCH]
    if unknown := set(names) - {*OURS, *NAIVE, *TORCH}:
        parser.error(f"--only: expected some of {', '.join([*OURS, *NAIVE, *TORCH])}, got {', '.join(sorted(unknown))}")
    find_torch = [options.torch_python, "-c", "import torch"]
    if not set(names).isdisjoint(TORCH) and subprocess.run(find_torch, capture_output=True, check=False).returncode:
        sys.exit(f"{options.torch_python}: no PyTorch there; name an interpreter by --torch-python, or use --only")
    sizes = [str(options.crop), str(options.batch)]
    here = [sys.executable, __file__, "--serve", "--crop", sizes[0], "--batch", sizes[1]]
    theirs = Path(__file__).with_name("training_step_torch.py")
    there = [options.torch_python, str(theirs), *sizes, str(available_cores())]
    with contextlib.ExitStack() as ends:
        variants: dict[str, Callable[[], float]] = {}
        greetings = set()
        for name in [*names, *PRODUCTS]:
            child = ends.enter_context(start(there if name in TORCH else here))
            greetings.add(child.stdout.readline().strip() if child.stdout else "")
            variants[name] = functools.partial(ask, child, name)
        if "" in greetings:
            sys.exit("a variant did not start; its error is above")
        print(*sorted(greetings), sep="\n")
        seconds = take_turns(variants, options.seconds)
    report(seconds, step_flops(options.crop, options.batch))


def start(command: list[str]) -> subprocess.Popen[str]:
    """A process that says what it is and then answers the name of a variant with the seconds of one step."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or sys.executable in command}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(child: subprocess.Popen[str], name: str) -> float:
    """Has the other process take a step."""
    assert child.stdin and child.stdout
    child.stdin.write(f"{name}\n")
    child.stdin.flush()
    return float(json.loads(child.stdout.readline()))


def serve(crop: int, batch: int) -> None:
    """The other end of `ask`, for what needs no PyTorch."""
    facts = pin_threads()
    print(f"{facts['processor']}, {facts['threads']} threads, {facts['backend']}", flush=True)
    steps: dict[str, Callable[[], float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            name = line.strip()
            if name not in steps and name in OURS:
                steps[name] = our_step(OURS[name], *random_batch(crop, batch))
            elif name not in steps and name in NAIVE:
                steps[name] = naive_step(Path(folder), crop, batch, whole=NAIVE[name])
            elif name not in steps:
                steps[name] = product(PRODUCTS[name])
            print(steps[name](), flush=True)


def take_turns(variants: dict[str, Callable[[], float]], budget: float) -> dict[str, list[float]]:
    """Return the seconds of each variant's steps, which alternate; the first two of each are warm-up."""
    for step in variants.values():
        step()
        step()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    begun = time.monotonic()
    while time.monotonic() - begun < budget or not all(seconds.values()):
        for name, step in variants.items():
            seconds[name].append(step())
    return seconds


def report(seconds: dict[str, list[float]], flops: float) -> None:
    """One row per variant: the median, the minimum, what it computes and its share of the matrix product."""
    products = {name: 2 * SIDE**3 / statistics.median(seconds.pop(name)) / 1e9 for name in PRODUCTS}
    rates = ", ".join(f"{name.removeprefix('product ')} {rate:.0f}" for name, rate in products.items())
    print(f"matrix product {SIDE}³: {rates} GFLOP/s")
    print(f"{'variant':22} {'median':>8} {'minimum':>8} {'steps':>6} {'GFLOP/s':>8} {'of product':>10}")
    medians = {name: statistics.median(durations) for name, durations in seconds.items()}
    for name, median in medians.items():
        rate = flops / median / 1e9
        share = rate / products["product bf16" if "bf16" in name else "product float32"]
        print(f"{name:22} {median:7.3f}s {min(seconds[name]):7.3f}s {len(seconds[name]):6} {rate:8.0f} {share:10.0%}")
    for ours, kinds in (("ours float32", ("torch float32",)), ("ours bf16", TORCH[1:])):
        if ours in medians and (rivals := [medians[name] for name in kinds if name in medians]):
            print(
                f"{ours} beside the best of PyTorch at this precision: {min(rivals) / medians[ours]:.2f} times as fast"
            )
        for name in filter(medians.__contains__, NAIVE if ours in medians else ()):
            print(f"{ours} beside {name}: {medians[name] / medians[ours]:.2f} times as fast")


def random_batch(crop: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 LR and HR."""
    random = np.random.default_rng(0)
    lr, hr = (random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8) for side in (crop, 4 * crop))
    return lr, hr


def step_flops(crop: int, batch: int) -> float:
    """Floating-point operations of one step's convolutions."""
    from srlib.models import ModelConfig, build, multiply_adds

    return 3 * 2 * batch * multiply_adds(build(ModelConfig("edsr", 4)), crop, crop)


def timed(step: Callable[[], Any]) -> Callable[[], float]:
    """The step as a function that returns the seconds it took."""

    def run() -> float:
        begun = time.perf_counter()
        step()
        return time.perf_counter() - begun

    return run


def our_step(precision: str, lr: np.ndarray, hr: np.ndarray) -> Callable[[], float]:
    """What `pretrain` does per step, with clipping and averaged weights."""
    from srlib.models import ModelConfig, build
    from srlib.params import LearningRate
    from srlib.training.averaging import ExponentialMovingAverage
    from srlib.training.optimizers import NetworkUpdate, make_optimizer
    from srlib.training.pretrain import PixelTrainer

    network = build(ModelConfig("edsr", 4), dtype=precision)
    trainer = PixelTrainer(network, "mae")
    optimizer = make_optimizer("adam", network.trainable_variables)
    average = ExponentialMovingAverage(network.trainable_variables, 0.999)
    trainer.compile_with([NetworkUpdate(network, optimizer, LearningRate(peak=1e-4), clip_norm=1.0, average=average)])
    return timed(lambda: float(trainer.train_on_batch(lr, hr, return_dict=True)["loss"]))


def naive_step(folder: Path, crop: int, batch: int, *, whole: bool) -> Callable[[], float]:
    """The usual tutorial: `fit` on a Sequence that reads PNG files, with Keras' defaults, float32."""
    import cv2
    import keras

    from srlib.models import ModelConfig, build

    random = np.random.default_rng(1)
    height, width = (338, 510) if whole else (crop, crop)  # LR; a DIV2K image is about 2040 × 1352
    for index in range(8 if whole else 64):
        smooth = cv2.resize(random.integers(0, 256, (42, 64, 3), dtype=np.uint8), (4 * width, 4 * height))
        hr = np.clip(smooth + random.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"hr{whole}{index}.png"), hr)
        cv2.imwrite(str(folder / f"lr{whole}{index}.png"), cv2.resize(hr, (width, height)))

    def read(kind: str, index: int) -> np.ndarray:
        return cv2.imread(str(folder / f"{kind}{whole}{index}.png"))[..., ::-1] / 255.0

    class Pairs(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            lrs, hrs = [], []
            for _ in range(batch):
                index = int(random.integers(8 if whole else 64))
                y, x = int(random.integers(height - crop + 1)), int(random.integers(width - crop + 1))
                lrs.append(read("lr", index)[y : y + crop, x : x + crop])
                hrs.append(read("hr", index)[4 * y : 4 * (y + crop), 4 * x : 4 * (x + crop)])
            return np.stack(lrs), np.stack(hrs)

    model = build(ModelConfig("edsr", 4))
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mae")
    pairs = Pairs()
    return timed(lambda: model.fit(pairs, epochs=1, verbose=0))


def product(kind: str) -> Callable[[], float]:
    """One matrix product."""
    import tensorflow as tf

    left, right = (tf.cast(tf.random.stateless_normal((SIDE, SIDE), (0, seed)), kind) for seed in (1, 2))
    multiply = tf.function(lambda: tf.matmul(left, right)[0, 0])
    return timed(lambda: float(multiply()))


def operators(precision: str, crop: int, batch: int) -> None:
    """Runs one warmed-up step under ONEDNN_VERBOSE and adds up its record by operator."""
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); import training_step as b; b.pin_threads()\n"
        f"step = b.our_step({precision!r}, *b.random_batch({crop}, {batch}))\n"
        "step(); step(); print('BEGIN', flush=True); print('END', step(), flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, Path(__file__).parent],
        env=os.environ | {"ONEDNN_VERBOSE": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    record = done.stdout.split("BEGIN\n")[1]
    whole = 1e3 * float(re.search(r"^END (\S+)", record, re.M).group(1))
    spent: dict[str, list[float]] = defaultdict(list)
    for line in record.splitlines():
        # onednn_verbose,v1,primitive,exec,cpu,<kind>,<implementation>,<direction>,…,<milliseconds>
        fields = line.split(",")
        if fields[0] == "onednn_verbose" and "exec" in fields:
            kind, implementation, direction = fields[fields.index("exec") + 2 :][:3]
            spent[f"{kind} {direction} ({implementation})"].append(float(fields[-1]))
    spent["everything else"] = [whole - sum(sum(durations) for durations in spent.values())]
    print(f"{'operator':66} {'calls':>5} {'ms':>7} {'share':>6}   one step {whole:.0f} ms, {precision}")
    for name, durations in sorted(spent.items(), key=lambda item: -sum(item[1])):
        print(f"{name[:66]:66} {len(durations):5} {sum(durations):7.1f} {sum(durations) / whole:6.1%}")


if __name__ == "__main__":
    main()
