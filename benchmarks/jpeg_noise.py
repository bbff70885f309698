"""Noise in JPEG files: the estimate of `srlib degradation estimate` on photographs of known noise.

    python benchmarks/jpeg_noise.py PHOTOS [--images 16] [--first 0] [--reduce 2] [--qualities 92 90 85 75 60]
        [--sigmas 0 1 2 3 4 6 8 12] [--case CASE] [--subsampling 4:2:0] [--pixels] [--seed 0]

Each photograph is downscaled by --reduce, which removes its own noise, gets noise, and is stored as JPEG by Pillow. The
estimate sees the file alone. The cases:

- gray: Gaussian noise, the same in R, G and B.
- colored: Gaussian noise, independent in R, G and B.
- resized: gray noise before a reduction to 2/3 by Pillow's bicubic; σ is what a flat image keeps of it.
- area: the same with averages of 2×2 pixels, which keep white noise white.
- upscaled: gray noise before bicubic upscaling by 3/2; σ is what a flat image keeps of it.
- twice: gray noise, stored as JPEG 90 before.
- shifted: the same, and cropped by 3 pixels before the second compression.
- shot: colored noise whose variance is proportional to the brightness; σ is that at half brightness.
- night: the photograph at a quarter of its brightness and black below 8 levels, with colored noise.
- cast: the photograph at a quarter of its brightness, with shot noise; σ is that at the image's mean brightness.

Printed are, for each quality and σ, how many estimates are within 15 % and how many there are; their median over σ; and
how many found most of the noise in common to R, G and B, most of it independent, or could not tell. For σ 0, the number
of estimates, all of which are false, and the highest.
"""

import argparse
import io
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

import srlib
from srlib.arrays import Image
from srlib.imaging.degradation import from_uint8, poisson_noise, to_uint8
from srlib.imaging.estimation import SMALLEST_SIDE, Traces, estimate_traces
from srlib.imaging.jpeg_noise import LUMA, jpeg_noise, lowest_noise

Random = np.random.Generator
HALF_BRIGHTNESS = 127.5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_photo_options(parser)
    parser.add_argument("--qualities", type=int, nargs="+", default=[92, 90, 85, 75, 60])
    parser.add_argument("--sigmas", type=float, nargs="+", default=[0, 1, 2, 3, 4, 6, 8, 12])
    parser.add_argument("--case", choices=CASES, default="gray")
    parser.add_argument("--subsampling", choices=["4:4:4", "4:2:2", "4:2:0"], default="4:2:0")
    parser.add_argument("--pixels", action="store_true", help="estimate from the decoded pixels instead")
    options = parser.parse_args()
    photos = [srlib.downscale(photo, options.reduce) for photo in chosen_photos(options)]
    photos = [photo for photo in photos if min(photo.shape[:2]) >= SMALLEST_SIDE]
    make, true = CASES[options.case]
    results: dict[tuple[int, float], list[tuple[float, float | None]]] = {}
    random = np.random.default_rng(options.seed)
    for photo in photos:
        for sigma in options.sigmas:
            image = make(photo, sigma, random)
            for quality in options.qualities:
                content = stored(image, quality, options.subsampling)
                estimate = (from_pixels if options.pixels else from_file)(content, quality)
                results.setdefault((quality, sigma), []).extend([estimate] if estimate else [])
    if options.case in COLORED and options.subsampling != "4:4:4":
        true *= LUMA  # the estimate is of luma
    print(f"{len(photos)} photographs, {options.case}, {options.subsampling}")
    for quality in options.qualities:
        cells = [cell(results[quality, sigma], sigma * true) for sigma in options.sigmas]
        print(f"| {quality} | {' | '.join(cells)} |")


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which photographs are taken, how they are made clean, and the seed."""
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="index of the first photograph, to take others")
    parser.add_argument("--reduce", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)


def chosen_photos(options: argparse.Namespace) -> list[Image]:
    """Read --images photographs, spread over the folder from --first on."""
    paths = sorted(path for path in options.photos.iterdir() if path.is_file())[options.first :]
    paths = paths[:: max(1, len(paths) // options.images)][: options.images]
    return [srlib.read_image(path)[..., :3] for path in paths]


def cell(estimates: list[tuple[float, float | None]], sigma: float) -> str:
    """Return what is printed for one quality and σ."""
    if not estimates:
        return "0"
    noises = [noise for noise, _ in estimates]
    if not sigma:
        return f"{len(noises)}: {max(noises):.1f}"
    near = sum(abs(noise - sigma) <= 0.15 * sigma for noise in noises)
    gray = sum(share is not None and share > 0.5 for _, share in estimates)
    unknown = sum(share is None for _, share in estimates)
    kinds = f"{gray}/{len(noises) - gray - unknown}/{unknown}"
    return f"{near} of {len(noises)}, {statistics.median(noises) / sigma:.2f}, {kinds}"


def from_file(content: bytes, quality: int) -> tuple[float, float | None] | None:
    estimate = jpeg_noise(content, quality)
    return (estimate.noise, estimate.gray_noise) if estimate and estimate.noise else None


def from_pixels(content: bytes, quality: int) -> tuple[float, float | None] | None:
    traces: Traces = estimate_traces(np.asarray(Pillow.open(io.BytesIO(content)).convert("RGB")))
    return (traces.noise, traces.gray_noise) if traces.noise >= lowest_noise(100) else None


def gray(photo: Image, sigma: float, random: Random) -> Image:
    return rounded(photo + random.normal(0, sigma, (*photo.shape[:2], 1)))


def colored(photo: Image, sigma: float, random: Random) -> Image:
    return rounded(photo + random.normal(0, sigma, photo.shape))


def rescaled(factor: float, resample: Pillow.Resampling) -> Callable[[Image, float, Random], Image]:
    """Return a case with gray noise before another size."""

    def make(photo: Image, sigma: float, random: Random) -> Image:
        noisy = Pillow.fromarray(gray(photo, sigma, random))
        return np.asarray(noisy.resize((round(noisy.width * factor), round(noisy.height * factor)), resample))

    return make


def remaining_share(factor: float, resample: Pillow.Resampling) -> float:
    """Return the share of σ that resizing leaves."""
    flat = np.full((300, 300, 3), 128, np.uint8)
    return float(rescaled(factor, resample)(flat, 20, np.random.default_rng(0)).std() / 20)


def twice(photo: Image, sigma: float, random: Random) -> Image:
    return np.asarray(Pillow.open(io.BytesIO(stored(gray(photo, sigma, random), 90, "4:2:0"))))


def shifted(photo: Image, sigma: float, random: Random) -> Image:
    return twice(photo, sigma, random)[3:, 3:]


def shot(photo: Image, sigma: float, random: Random, brightness: float = HALF_BRIGHTNESS) -> Image:
    return to_uint8(poisson_noise(from_uint8(photo), sigma**2 / brightness, random))


def night(photo: Image, sigma: float, random: Random) -> Image:
    dark = photo / 4.0
    return colored(np.where(dark < 8, 0, dark), sigma, random)


def cast(photo: Image, sigma: float, random: Random) -> Image:
    dark = rounded(photo / 4)
    return shot(dark, sigma, random, float(dark.mean()))


def rounded(image: np.ndarray) -> Image:
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def stored(image: Image, quality: int, subsampling: str) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return file.getvalue()


CASES: dict[str, tuple[Callable[..., Image], float]] = {
    "gray": (gray, 1),
    "colored": (colored, 1),
    "resized": (rescaled(2 / 3, Pillow.Resampling.BICUBIC), remaining_share(2 / 3, Pillow.Resampling.BICUBIC)),
    "area": (rescaled(1 / 2, Pillow.Resampling.BOX), remaining_share(1 / 2, Pillow.Resampling.BOX)),
    "upscaled": (rescaled(3 / 2, Pillow.Resampling.BICUBIC), remaining_share(3 / 2, Pillow.Resampling.BICUBIC)),
    "twice": (twice, 1),
    "shifted": (shifted, 1),
    "shot": (shot, 1),
    "night": (night, 1),
    "cast": (cast, 1),
}
"""Name → function that makes the image, and the σ that is left of the noise."""

COLORED = ("colored", "shot", "night", "cast")

if __name__ == "__main__":
    main()
