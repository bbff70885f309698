"""Noise in JPEG files, estimated from their quantized coefficients: what is possible, on photographs of known noise.

    python benchmarks/jpeg_noise.py PHOTOS [--images 16] [--reduce 2] [--qualities 95 90 85 75 60]
        [--sigmas 0 1 2 3 4 6 8 12] [--colored] [--seed 0]

Each photograph is downscaled by --reduce, which removes its own noise, gets Gaussian noise (the same in all channels,
or independent with --colored), and is stored as JPEG. The estimate sees the file alone:

- A coefficient of the DCT that is 0 without noise becomes ±q, with the step q of the quantization table, where the
  noise exceeds q/2. The counts of 0, ±q and more are those of a Gaussian of the noise's σ: maximum likelihood gives σ.
- Only blocks whose eight neighbors are among the flattest tenth count: a choice that the block's own noise cannot bias.
- Detail adds coefficients, mostly at low frequencies. Of all bands of frequencies, the one with the lowest upper limit
  for σ is taken.
- No estimate where fewer than 20 coefficients of that band are left.

Printed are, for each quality and σ: median, lowest and highest estimate of the luma's noise over its true σ, how many
are within 15 %, and how many photographs have an estimate.
"""

import argparse
import io
import itertools
import math
import statistics
from pathlib import Path

import numpy as np
import scipy.fft
import scipy.special
from PIL import Image

import srlib

SIGMAS = np.geomspace(0.3, 40, 160)
FLATTEST = 0.1
FEWEST = 20
BAND = 3
"""Diagonals of the 8×8 coefficients in a band."""

LUMA = math.sqrt(0.299**2 + 0.587**2 + 0.114**2)
"""Luma's share of noise that is independent in R, G and B."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--reduce", type=int, default=2)
    parser.add_argument("--qualities", type=int, nargs="+", default=[95, 90, 85, 75, 60])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0, 1, 2, 3, 4, 6, 8, 12])
    parser.add_argument("--colored", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    paths = sorted(path for path in options.photos.iterdir() if path.is_file())
    paths = paths[:: max(1, len(paths) // options.images)][: options.images]
    photos = [srlib.downscale(srlib.read_image(path)[..., :3], options.reduce) for path in paths]
    random = np.random.default_rng(options.seed)
    print("| JPEG | σ of luma | median | lowest | highest | within 15 % | estimates |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for quality, sigma in itertools.product(options.qualities, options.sigmas):
        true = sigma * (LUMA if options.colored else 1)
        results = [estimate(stored(noisy(photo, sigma, options.colored, random), quality)) for photo in photos]
        known = [result for result in results if result is not None]
        near = sum(abs(result - true) <= 0.15 * true for result in known)
        cells = [f"{f(known):.2f}" for f in (statistics.median, min, max)] if known else ["–"] * 3
        print(f"| {quality} | {true:.2f} | {' | '.join(cells)} | {near} | {len(known)} of {len(photos)} |", flush=True)


def noisy(photo: np.ndarray, sigma: float, colored: bool, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(0, sigma, (*photo.shape[:2], 3 if colored else 1))
    return np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)


def stored(image: np.ndarray, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def luma_blocks(content: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the quantized coefficients of luma [rows, columns, 8, 8], their steps, and the samples around 0."""
    image = Image.open(io.BytesIO(content))
    steps = np.array(image.quantization[0]).reshape(8, 8)
    image.draft("L", image.size)  # luma as it is stored
    luma = np.asarray(image, np.float64)
    rows, columns = (side // 8 for side in luma.shape)
    samples = luma[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8).swapaxes(1, 2) - 128
    return np.rint(scipy.fft.dctn(samples, axes=(2, 3), norm="ortho") / steps), steps, samples


def estimate(content: bytes) -> float | None:
    """Return σ of the noise of a JPEG file's luma, or None where it cannot be seen."""
    coefficients, steps, samples = luma_blocks(content)
    flat = flattest(coefficients * steps, samples)
    if flat is None:
        return None
    counts = np.abs(coefficients[1:-1, 1:-1][flat])
    diagonal = np.add.outer(np.arange(8), np.arange(8))
    bands = []
    for first in range(2, 13):
        band = (diagonal >= first) & (diagonal < first + BAND)
        bands.append(fit(counts[:, band], steps[band]))
    chosen = min(range(len(bands)), key=lambda index: bands[index][1])
    sigma, _, events = bands[chosen]
    return sigma if events >= FEWEST else None


def flattest(values: np.ndarray, samples: np.ndarray) -> np.ndarray | None:
    """Return which inner blocks have flat neighbors and are not clipped, [rows - 2, columns - 2]."""
    activity = (values**2).sum((2, 3)) / 64 - values[..., 0, 0] ** 2 / 64
    means = values[..., 0, 0] / 8
    rows, columns = activity.shape
    around = np.zeros((rows - 2, columns - 2))
    for y, x in itertools.product(range(3), range(3)):
        if (y, x) != (1, 1):
            part = np.s_[y : rows - 2 + y, x : columns - 2 + x]
            around += activity[part] + (means[part] - means[1:-1, 1:-1]) ** 2 / 2
    inner = samples[1:-1, 1:-1]
    usable = (inner.min((2, 3)) > -118) & (inner.max((2, 3)) < 117)
    if usable.sum() < 50:
        return None
    return usable & (around <= np.quantile(around[usable], FLATTEST))


def shares(sigma: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of ±1 and of more, of Gaussian noise in steps."""
    beyond_half, beyond = (scipy.special.erfc(times * steps / sigma / math.sqrt(2)) for times in (0.5, 1.5))
    return beyond_half - beyond, beyond


def fit(counts: np.ndarray, steps: np.ndarray) -> tuple[float, float, int]:
    """Return σ of maximum likelihood, its upper limit at three standard errors, and the coefficients that are not 0."""
    one, more = shares(SIGMAS[:, None], steps)
    numbers = [(counts == 0).sum(0), (counts == 1).sum(0), (counts > 1).sum(0)]
    chances = (1 - one - more, one, more)
    likelihood = sum((n * np.log(p + 1e-12)).sum(1) for n, p in zip(numbers, chances, strict=True))
    best = int(likelihood.argmax())
    highest = float(SIGMAS[np.flatnonzero(likelihood > likelihood[best] - 4.5).max()])
    return float(SIGMAS[best]), highest, int(numbers[1].sum() + numbers[2].sum())


if __name__ == "__main__":
    main()
