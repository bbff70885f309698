"""Below which JPEG quality and above which noise `--model auto` should take the model for photographs.

    python benchmarks/model_choice.py PHOTOS [--models free-x4 photo-x4] [--crop 384] [--backbone H5 --linear NPZ]

Takes the center of each clean photograph, which should be in no training set and no test set, downscales it by 4,
compresses it or adds noise, upscales it by both models, and prints the mean PSNR-Y and LPIPS for each degradation.
"""

import argparse
import statistics
from pathlib import Path

import numpy as np

import srlib
from srlib.arrays import Image
from srlib.evaluation.lpips import lpips
from srlib.imaging import degradation
from srlib.imaging.folders import list_images

QUALITIES = (98, 95, 92, 90, 85, 80, 70)
NOISES = (1.5, 3.0, 4.0, 6.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs=2, default=["free-x4", "photo-x4"])
    parser.add_argument("--crop", type=int, default=384)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--linear", type=Path)
    options = parser.parse_args()
    distance = lpips(options.backbone, options.linear) if options.backbone else None
    models = [srlib.open_model(name) for name in options.models]
    crops = [center(srlib.read_image(path), options.crop) for path in list_images(options.folder)]
    names = " | ".join(f"PSNR-Y {name} | LPIPS {name}" for name in options.models)
    print(f"{len(crops)} photographs\n\n| degradation | {names} |\n|---|{'---:|' * 4}")
    for title in ("clean", *(f"JPEG {q}" for q in QUALITIES), *(f"noise {n:g}" for n in NOISES)):
        columns: list[list[float]] = [[], [], [], []]
        for number, hr in enumerate(crops):
            lr = degraded(srlib.downscale(hr, 4), title, number)
            for index, model in enumerate(models):
                sr = model(lr)
                columns[2 * index].append(srlib.psnr_y(hr, sr, scale=4))
                columns[2 * index + 1].append(distance.compute(hr, sr, 4) if distance else float("nan"))
        print(f"| {title} | {' | '.join(f'{statistics.mean(values):.3f}' for values in columns)} |", flush=True)


def center(image: Image, side: int) -> Image:
    """Return the central square, at most `side` long and a multiple of 4."""
    height, width = (min(side, length) // 4 * 4 for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def degraded(lr: Image, title: str, seed: int) -> Image:
    """Return an LR image after the compression or the noise that a title names."""
    kind, _, value = title.partition(" ")
    if kind == "JPEG":
        return degradation.to_uint8(degradation.compress(degradation.from_uint8(lr), "jpeg", int(value)))
    if kind == "noise":
        noisy = degradation.gaussian_noise(degradation.from_uint8(lr), float(value), np.random.default_rng(seed))
        return degradation.to_uint8(noisy)
    return lr


if __name__ == "__main__":
    main()
