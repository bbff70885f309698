"""MATLAB's bicubic beside Pillow's on a 2040×1356 photograph, one core.

    taskset -c 0 python benchmarks/resize.py IMAGE [--rounds 15]

IMAGE is mirrored side by side until it fills 2040×1356. Prints milliseconds (median, minimum) and the ratio of the
medians; exits with 1 if a ratio is above 3. Pillow's time includes the conversion from and to arrays, as in use.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from srlib.imaging.read import read_image
from srlib.imaging.resize import downscale, resize


def mirrored(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill [height, width] with an image and its mirror images."""
    rows, columns = (-(-size // side) for size, side in zip((height, width), image.shape[:2], strict=True))
    padding = ((0, (rows - 1) * image.shape[0]), (0, (columns - 1) * image.shape[1]), (0, 0))
    return np.ascontiguousarray(np.pad(image, padding, mode="symmetric")[:height, :width])


def milliseconds(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each round after one that does not count."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return times[1:]


def main() -> None:
    """Time each pair in turns, so that a busy moment affects both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    hr = mirrored(read_image(options.image), 1356, 2040)

    def pillow(image: np.ndarray, width: int, height: int) -> np.ndarray:
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))

    lr = downscale(hr, 4)
    pairs = {
        f"down ×{scale}": (lambda s=scale: downscale(hr, s), lambda s=scale: pillow(hr, 2040 // s, 1356 // s))
        for scale in (2, 3, 4)
    } | {"up ×4": (lambda: resize(lr, 4), lambda: pillow(lr, 2040, 1356))}
    worst = 0.0
    print(f"{'2040×1356':9}   srlib ms (min)   Pillow ms (min)   ratio")
    for name, (ours, theirs) in pairs.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(options.rounds):
            for side, work in enumerate((ours, theirs)):
                times[side].extend(milliseconds(work, 1))
        medians = [statistics.median(side) for side in times]
        worst = max(worst, medians[0] / medians[1])
        print(
            f"{name:9} {medians[0]:7.1f} ({min(times[0]):5.1f}) {medians[1]:9.1f} ({min(times[1]):5.1f})"
            f" {medians[0] / medians[1]:9.2f}"
        )
    if worst > 3:
        sys.exit(f"a ratio of {worst:.2f}; expected at most 3")


if __name__ == "__main__":
    main()
