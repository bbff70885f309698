"""Pairs per second of random 48/192 crops with flips and rotations, beside the naive loader, in one run.

    taskset -c 0,1 python benchmarks/batches.py [--pairs 4000] [--seconds 8] [--folder FOLDER]

Makes patches of 64/256 from smooth noise twice: as the memory-mapped files of `prepare`, and as one PNG per patch. The
naive loader reads each patch of a batch with cv2.imread, crops and rotates it with NumPy, in one thread, and again in
two processes. Every loader fills batches of 16. Prints pairs per second; exits with 1 below 2,500 or 6 times the faster
naive one. The files are in the page cache: this measures the loader, not the disk.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from srlib.data.batches import Batches, prefetch
from srlib.data.patches import prepare_patches
from srlib.imaging.write import write_png
from srlib.params import Prepare

CROP, BATCH, SCALE, PATCH = 48, 16, 4, 64


def make(folder: Path, pairs: int) -> int:
    """Make patches of photo-like noise (detail at every size), as files of `prepare` and as a PNG each."""
    rng = np.random.default_rng(0)
    for number in range(-(-pairs // 35)):
        image = sum(
            cv2.resize(rng.normal(0, 40, (1356 // 2**k, 2040 // 2**k, 3)).astype(np.float32), (2040, 1356))
            for k in range(1, 8)
        )
        write_png(folder / "images" / f"{number:04}.png", np.clip(image * 0.6 + 128, 0, 255).astype(np.uint8))
    params = Prepare(images="images", patch=PATCH, stride=PATCH, validation=0.001)
    prepare_patches(folder / "images", folder / "patches", params, scale=SCALE, seed=0)
    with (folder / "patches" / "index.csv").open(newline="") as file:
        count = sum(row["split"] == "train" for row in csv.DictReader(file))
    for kind in ("lr", "hr"):
        (folder / kind).mkdir()
        patches = np.load(folder / "patches" / f"train_{kind}.npy", mmap_mode="r")
        for number, patch in enumerate(patches):
            cv2.imwrite(str(folder / kind / f"{number:06}.png"), patch)
    return count


def naive(folder: Path, count: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield batches the naive way: two PNG files per pair, then NumPy."""
    rng = np.random.default_rng(seed)
    while True:
        lrs, hrs = [], []
        for number in rng.integers(0, count, BATCH):
            lr, hr = (cv2.imread(str(folder / kind / f"{number:06}.png"))[..., ::-1] for kind in ("lr", "hr"))
            y, x = rng.integers(0, PATCH - CROP + 1, 2)
            lr = lr[y : y + CROP, x : x + CROP]
            hr = hr[y * SCALE : (y + CROP) * SCALE, x * SCALE : (x + CROP) * SCALE]
            if rng.integers(2):
                lr, hr = lr[:, ::-1], hr[:, ::-1]
            turns = rng.integers(4)
            lrs.append(np.rot90(lr, turns))
            hrs.append(np.rot90(hr, turns))
        yield np.stack(lrs), np.stack(hrs)


def naive_process(folder: Path, count: int, seed: int, seconds: float) -> float:
    return rate(naive(folder, count, seed), seconds)


def own_process(folder: Path, in_memory: bool, rank: int, seconds: float) -> float:
    """Pairs per second of one of two processes, which make alternate rows of batches of twice the size."""
    batches = Batches(
        folder / "patches", lr_patch=CROP, batch=2 * BATCH, seed=0, in_memory=in_memory, rank=rank, world=2
    )
    return rate((batches(step) for step in range(10**9)), seconds)


def rate(batches: Iterator[tuple], seconds: float) -> float:
    """Pairs per second after a warm-up of a quarter of the time."""
    start, done = time.perf_counter(), 0
    warm = start + seconds / 4
    for batch in batches:
        now = time.perf_counter()
        if now < warm:
            start = now
            continue
        done += len(batch[-1])
        if now - start >= seconds:
            return done / (now - start)
    raise ValueError("the loader ended early")


def main() -> None:
    """Measures each loader and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        count = make(folder, options.pairs)
        mapped, memory = (
            Batches(folder / "patches", lr_patch=CROP, batch=BATCH, seed=0, in_memory=in_memory)
            for in_memory in (False, True)
        )

        def calls(batches: Callable[[int], tuple]) -> Iterator[tuple]:
            return (batches(step) for step in range(10**9))

        rates = {"naive, one thread": rate(naive(folder, count), options.seconds)}
        with ProcessPoolExecutor(2) as pool:
            each = pool.map(naive_process, [folder] * 2, [count] * 2, [0, 1], [options.seconds] * 2)
            rates["naive, two processes"] = sum(each)
        ours = {
            "memory-mapped": lambda: calls(mapped),
            "memory-mapped, prefetched": lambda: prefetch(mapped, 0, 10**9),
            "in memory": lambda: calls(memory),
            "in memory, one thread ahead": lambda: prefetch(memory, 0, 10**9),
            "in memory, two threads": lambda: prefetch(memory, 0, 10**9, threads=2),
            "in memory, four threads": lambda: prefetch(memory, 0, 10**9, threads=4),
        }
        for name, batches in ours.items():
            rates[name] = rate(batches(), options.seconds)
        for name, folder_in_memory in (("memory-mapped, two processes", False), ("in memory, two processes", True)):
            with ProcessPoolExecutor(2) as pool:
                each = pool.map(own_process, [folder] * 2, [folder_in_memory] * 2, [0, 1], [options.seconds] * 2)
                rates[name] = sum(each)
    print(f"{count} patches of {PATCH}/{PATCH * SCALE}, crops of {CROP}/{CROP * SCALE}, batches of {BATCH}")
    fastest = max(rates["naive, one thread"], rates["naive, two processes"])
    for name, value in rates.items():
        print(f"{name:30} {value:8,.0f} pairs/s {value / fastest:6.1f} ×")
    if rates["memory-mapped"] < max(2500, 6 * fastest):
        sys.exit("fewer than 2,500 pairs per second, or less than 6 times the naive loader")


if __name__ == "__main__":
    main()
