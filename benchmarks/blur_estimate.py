"""Blur beside noise and JPEG: the estimate of `srlib degradation estimate` on photographs of known blur.

    python benchmarks/blur_estimate.py PHOTOS [--images 16] [--first 0] [--reduce 2] [--sigmas 0 0.7 1 1.5 2]
        [--noises 0 5 10] [--qualities 0 95 85 65] [--gray] [--seed 0]

The middle of each photograph is downscaled by --reduce, which makes it sharp, then blurred by a Gaussian kernel, gets
noise (independent in R, G and B, or with --gray the same), and is stored as JPEG 4:2:0 by Pillow; quality 0 is not
stored. The truth is the blur that was added together with the one that sharp images show: √(σ² + .3²).

Printed are, for each noise and quality, how many estimates of blurred images are within 20 %, too low, too high, and
how many images have none; and of the images without blur, how many have an estimate of half a pixel or more.
"""

import argparse
import io
import math
from collections import Counter

import numpy as np
from jpeg_noise import add_photo_options, chosen_photos, colored, gray, stored
from PIL import Image as Pillow

import srlib
from srlib.arrays import Image
from srlib.imaging.degradation import blur, from_uint8, gaussian_kernel, to_uint8
from srlib.imaging.estimation import estimate_traces
from srlib.imaging.input_range import SHARP

SIDE = 1024
"""Most pixels per side of the photograph that are taken."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_photo_options(parser)
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0, 0.7, 1, 1.5, 2])
    parser.add_argument("--noises", type=float, nargs="+", default=[0, 5, 10])
    parser.add_argument("--qualities", type=int, nargs="+", default=[0, 95, 85, 65])
    parser.add_argument("--gray", action="store_true")
    options = parser.parse_args()
    photos = [srlib.downscale(middle(photo), options.reduce) for photo in chosen_photos(options)]
    random = np.random.default_rng(options.seed)
    add_noise = gray if options.gray else colored
    results: dict[tuple[float, int], Counter[str]] = {}
    for photo in photos:
        for sigma in options.sigmas:
            blurred = to_uint8(blur(from_uint8(photo), gaussian_kernel(sigma))) if sigma else photo
            for noise in options.noises:
                image = add_noise(blurred, noise, random)
                for quality in options.qualities:
                    results.setdefault((noise, quality), Counter())[verdict(image, quality, sigma)] += 1
    print(f"{len(photos)} photographs, noise {'gray' if options.gray else 'independent'}")
    print("| noise | JPEG | within 20 % | too low | too high | none | sharp, but called blurred |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for (noise, quality), counts in results.items():
        cells = [str(counts[key]) for key in ("within", "low", "high", "none", "false")]
        print(f"| {noise:g} | {quality or '–'} | {' | '.join(cells)} |")


def middle(photo: Image) -> Image:
    """Return the middle of a photograph."""
    top, left = (max(side - SIDE, 0) // 2 for side in photo.shape[:2])
    return photo[top : top + SIDE, left : left + SIDE]


def verdict(image: Image, quality: int, sigma: float) -> str:
    """Return how the estimate compares with the truth."""
    content = stored(image, quality, "4:2:0") if quality else b""
    estimate = estimate_traces(np.asarray(Pillow.open(io.BytesIO(content))) if content else image, content).blur
    if not sigma:
        return "false" if estimate is not None and estimate >= 0.5 else "sharp"
    if estimate is None:
        return "none"
    ratio = estimate / math.hypot(sigma, SHARP)
    return "within" if abs(ratio - 1) <= 0.2 else "low" if ratio < 1 else "high"


if __name__ == "__main__":
    main()
