"""Scores on degraded test images: noise, blur and JPEG, and for comparison on clean ones.

    python benchmarks/degraded_table.py TEST [--scale 4] [--sets Set14 BSD100] [--images 20]
        [--recipes clean jpeg-60 blur-noise-75] [--given FOLDER …]
        [--models psnr-x4 gan-x4 psnr-x4:0.5 photo-x4] [--backbone H5 --linear NPZ] [--strips FOLDER] [--crop 160]

TEST is what the stage `download` makes: one folder per set with HR and LR. A model is a name, a folder or a file;
`NAME:F` is blended with its GAN counterpart at fidelity F, so that 0 is the GAN's weights. A recipe of `RECIPES`
degrades the first --images HR images of each set; the random numbers follow from --seed and the names, so that the same
command gives the same images. A folder of --given holds LR images as they are, each named by the set and the HR image,
as in `s14_img_001.jpg`.

Prints one table per recipe and folder: means over images of PSNR-Y, SSIM-Y, LPIPS (SqueezeNet; `nan` without weights),
the share of blocks with a line of period 4 (`periodic_lines.py`; at another --scale `nan`), LR consistency (PSNR and
largest error against the degraded LR image), and the seconds of CPU time that an image takes.
--strips writes the methods side by side.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from periodic_lines import PERIODIC, SCALE

import srlib
from srlib.arrays import Image
from srlib.data.degradation import degrade_image, keyed_generator
from srlib.evaluation.benchmark import METRICS, Method, Metric, Result, evaluate, interpolation
from srlib.evaluation.lpips import KEY as LPIPS
from srlib.evaluation.lpips import lpips
from srlib.evaluation.sets import BenchmarkImage, find_sets
from srlib.imaging.read import read_image
from srlib.imaging.write import write_png
from srlib.params.degradation import Degradation
from srlib.report.strips import strip

_MATLAB = {"methods": ["antialiased"]}
_PLAIN = {"poisson": 0, "gray": 0}
_BLUR = {"anisotropic": 0, "generalized": 0}


def _jpeg(quality: int) -> dict[str, object]:
    return {"quality": [quality, quality], "webp": 0, "full_chroma": 0}


RECIPES: dict[str, list[dict[str, object]]] = {
    "clean": [],
    "jpeg-90": [{"resize": _MATLAB, "compression": _jpeg(90)}],
    "jpeg-60": [{"resize": _MATLAB, "compression": _jpeg(60)}],
    "noise-8": [{"resize": _MATLAB, "noise": {"sigma": [8, 8], **_PLAIN}}],
    "blur-noise-75": [
        {
            "blur": {"sigma": [1.2, 1.2], **_BLUR},
            "resize": _MATLAB,
            "noise": {"sigma": [8, 8], **_PLAIN},
            "compression": _jpeg(75),
        }
    ],
    "second-order": [
        {
            "blur": {"sigma": [0.2, 2.0]},
            "resize": {"factor": [0.5, 1.0]},
            "noise": {"sigma": [1, 15]},
            "compression": {"quality": [50, 95]},
        },
        {"blur": {"sigma": [0.2, 1.5]}, "noise": {"sigma": [1, 8]}, "compression": {"quality": [40, 95]}},
    ],
}
"""Name → the passes of `prepare.degradation`; no pass is MATLAB's bicubic."""

SHORT = {"s14": "Set14", "b100": "BSD100", "s5": "Set5"}
"""Sets as the names of given LR images begin."""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("test", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--sets", nargs="+", default=["Set14", "BSD100"])
    parser.add_argument("--images", type=int, default=20, help="most images per set")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--given", type=Path, nargs="*", default=[])
    parser.add_argument("--models", nargs="+", default=["psnr-x4", "gan-x4", "photo-x4"])
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--linear", type=Path)
    parser.add_argument("--strips", type=Path)
    parser.add_argument("--crop", type=int, default=160, help="side of the strips' details in HR pixels")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    metrics = {key: METRICS[key] for key in ("psnr_y", "ssim_y")}
    if options.scale == SCALE:
        metrics["periodic"] = PERIODIC
    if options.backbone:
        metrics[LPIPS] = lpips(options.backbone, options.linear)
    sets = {name: images for name, images in find_sets(options.test, options.scale).items() if name in options.sets}
    seconds: dict[tuple[str, str], float] = {}
    methods = [timed(method, seconds) for method in (interpolation("bicubic"), *map(network, options.models))]
    for title, images in tables(sets, options):
        table(title, images, methods, metrics, seconds, options)


def network(model: str) -> Method:
    """Return a model, or its blend at a fidelity."""
    name, _, fidelity = model.partition(":")
    upscaler = srlib.open_model(name, fidelity=float(fidelity) if fidelity else None, precision="float32")
    title = Path(model).name.replace(":", " fidelity ")
    return Method(title, lambda lr, scale: srlib.upscale(lr, model=upscaler, scale=scale))


def timed(method: Method, seconds: dict[tuple[str, str], float]) -> Method:
    """Return the method with its CPU time, which other work on the machine changes less than the clock's."""
    upscale = method.upscale
    assert upscale is not None

    def run(lr: Image, scale: int) -> Image:
        start = time.process_time()
        sr = upscale(lr, scale)
        seconds[method.name, str(lr.shape)] = time.process_time() - start
        return sr

    return Method(method.name, run)


def tables(
    sets: dict[str, list[BenchmarkImage]], options: argparse.Namespace
) -> Iterator[tuple[str, dict[str, list[BenchmarkImage]]]]:
    """Yield title and images of each table; degraded images exist while their table is made."""
    for recipe in options.recipes:
        with tempfile.TemporaryDirectory() as folder:
            degraded = {
                name: [degrade(image, recipe, Path(folder), options) for image in images[: options.images]]
                for name, images in sets.items()
            }
            yield recipe, degraded
    for folder in options.given:
        named = {(image.set, image.name): image for images in sets.values() for image in images}
        chosen: dict[str, list[BenchmarkImage]] = {}
        for path in sorted(folder.iterdir()):
            prefix, _, name = path.stem.partition("_")
            image = named.get((SHORT.get(prefix, prefix), name))
            if image is not None:
                chosen.setdefault(image.set, []).append(BenchmarkImage(image.set, image.name, image.hr, path))
        yield folder.name, chosen


def degrade(image: BenchmarkImage, recipe: str, folder: Path, options: argparse.Namespace) -> BenchmarkImage:
    """Write the degraded LR image and return its pair; a clean one is the set's own."""
    if not RECIPES[recipe]:
        return image
    section = Degradation.model_validate({"clean": 0, "passes": RECIPES[recipe]})
    generator = keyed_generator(f"{options.seed}/{recipe}/{image.set}/{image.name}")
    path = folder / f"{image.set}_{image.name}.png"
    write_png(path, degrade_image(read_image(image.hr), options.scale, section, generator))
    return BenchmarkImage(image.set, image.name, image.hr, path)


def table(
    title: str,
    sets: dict[str, list[BenchmarkImage]],
    methods: list[Method],
    metrics: dict[str, Metric],
    seconds: dict[tuple[str, str], float],
    options: argparse.Namespace,
) -> None:
    """Print the table of one recipe, and write its strips."""
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for result in evaluate(sets, methods, options.scale, metrics=metrics):
        for score in result.scores:
            agreement = srlib.lr_consistency(result.lr, result.sr[score.method])
            values = [score.values.get(key, float("nan")) for key in ("psnr_y", "ssim_y", LPIPS, "periodic")]
            values += [agreement.psnr, agreement.largest_error, seconds[score.method, str(result.lr.shape)]]
            rows.setdefault((score.set, score.method), []).append(values)
        if options.strips:
            draw(result, title, options)
    print(f"\n### {title}\n")
    print("| set | method | PSNR-Y | SSIM-Y | LPIPS | Period 4 (%) | LR PSNR | LR error | CPU s |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (name, method), values in rows.items():
        psnr, ssim, distance, lines, lr, error, time_ = map(statistics.mean, zip(*values, strict=True))
        scores = f"{psnr:.2f} | {ssim:.4f} | {distance:.4f} | {lines:.1f} | {lr:.2f} | {error:.1f} | {time_:.2f}"
        print(f"| {name} ({len(values)}) | {method} | {scores} |", flush=True)


def draw(result: Result, title: str, options: argparse.Namespace) -> None:
    """Write all methods side by side."""
    path = options.strips / title / f"{result.image.set}_{result.image.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, strip(result, list(result.sr), scale=options.scale, side=options.crop))


if __name__ == "__main__":
    main()
