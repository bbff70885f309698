"""The benchmark: metrics, methods, and the loop that scores each method on one image after another."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srlib.arrays import Image
from srlib.errors import SrlibError
from srlib.evaluation.sets import BenchmarkImage, check_folders, cropped_size, find_versions, name_problem
from srlib.imaging.consistency import lr_consistency
from srlib.imaging.metrics import RGB_SHAVE, color_error, psnr_rgb, psnr_y, ssim_y
from srlib.imaging.read import read_image
from srlib.imaging.resize import Kernel, crop_to_multiple, downscale, resize
from srlib.imaging.write import write_png

ORIGINAL = "original"
"""The name under which the HR image itself is kept beside the methods' images."""

Sets = Mapping[str, Sequence[BenchmarkImage]]
"""Name of a set → its images, as `srlib.evaluation.sets.find_sets` returns it."""


@dataclass(frozen=True)
class Metric:
    """A column of the tables.

    Attributes:
        title: Name in tables.
        unit: Unit in tables; may be empty.
        digits: Number of significant decimals.
        better: Direction that is better.
        compute: Function (HR, SR, scale) → value; both images are uint8 RGB [H, W, 3].
        min_side: Pixels that must be left on each axis after `scale` pixels are cropped on each side.
    """

    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower"]
    compute: Callable[[Image, Image, int], float]
    min_side: int = 1


def _lr_psnr(hr: Image, sr: Image, scale: int) -> float:
    return lr_consistency(downscale(hr, scale), sr).psnr


METRICS: dict[str, Metric] = {
    "psnr_y": Metric("PSNR-Y", "dB", 2, "higher", lambda hr, sr, scale: psnr_y(hr, sr, scale=scale)),
    "ssim_y": Metric("SSIM-Y", "", 4, "higher", lambda hr, sr, scale: ssim_y(hr, sr, scale=scale)),
    "psnr_rgb": Metric("PSNR-RGB", "dB", 2, "higher", lambda hr, sr, scale: psnr_rgb(hr, sr, shave=scale + RGB_SHAVE)),
    "color_error": Metric("Color error", "of 255", 2, "lower", lambda hr, sr, scale: color_error(hr, sr, shave=scale)),
    "lr_psnr": Metric("LR PSNR", "dB", 2, "higher", _lr_psnr),
}
"""Metrics that need no weights. The keys are those of metrics.json, means.csv and scores.csv."""


@dataclass(frozen=True)
class Cost:
    """What a network costs: its parameters, and the multiply-adds for an LR image of (height, width)."""

    parameters: int
    multiply_adds: Callable[[int, int], int]


@dataclass(frozen=True)
class Method:
    """One row of the table: a function, or finished images.

    Attributes:
        name: Name in tables and of the folder of its images.
        upscale: Function (uint8 LR [h, w, 3], scale) → uint8 SR [scale·h, scale·w, 3].
        folder: Finished images, `<folder>/<Set>/<name>.png`, where there is no `upscale`.
        cost: What the network costs, where it is known.
        role: `pretrained` or `gan` for the networks that the recipe trained.
        files: (set, name) → finished image, where there is neither a function nor a folder.
    """

    name: str
    upscale: Callable[[Image, int], Image] | None = None
    folder: Path | None = None
    cost: Cost | None = None
    role: str = ""
    files: Mapping[tuple[str, str], Path] | None = None


@dataclass(frozen=True)
class Score:
    """The metrics of one method on one image. `multiply_adds` is 0 where the cost is not known."""

    set: str
    image: str
    method: str
    values: dict[str, float]
    multiply_adds: int = 0


@dataclass(frozen=True)
class Result:
    """Everything about one image.

    Attributes:
        image: The image of the test set.
        hr: uint8 [H, W, 3], cropped to a multiple of the scale.
        lr: uint8 [H / scale, W / scale, 3].
        sr: Name of a method → its image, of the size of `hr`.
        scores: One score per method.
        seconds: Name of a method → seconds of its call; none for folders.
    """

    image: BenchmarkImage
    hr: Image
    lr: Image
    sr: dict[str, Image]
    scores: list[Score]
    seconds: dict[str, float] = field(default_factory=dict)


class Timing:
    """Sums of the methods' seconds. They differ at every run, so they never go into an output of the pipeline."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._pixels: dict[str, int] = {}

    def add(self, result: Result) -> None:
        """Count one image."""
        for method, seconds in result.seconds.items():
            self._seconds[method] = self._seconds.get(method, 0.0) + seconds
            self._pixels[method] = self._pixels.get(method, 0) + result.hr.shape[0] * result.hr.shape[1]

    def metrics(self) -> dict[str, float]:
        """Return `seconds/<method>` in total and `megapixels_per_second/<method>` of SR pixels."""
        totals = {f"seconds/{method}": seconds for method, seconds in self._seconds.items()}
        rates = {
            f"megapixels_per_second/{method}": self._pixels[method] / 1e6 / max(seconds, 1e-9)
            for method, seconds in self._seconds.items()
        }
        return totals | rates


_KERNELS: dict[str, Kernel] = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


def interpolation(name: Literal["nearest", "bilinear", "bicubic"]) -> Method:
    """Return a method without a network: MATLAB's interpolation of that name.

    Example:
        >>> import numpy as np
        >>> interpolation("nearest").upscale(np.zeros((2, 3, 3), np.uint8), 4).shape
        (8, 12, 3)
    """
    return Method(name, lambda lr, scale: resize(lr, scale, kernel=_KERNELS[name]))


def check_method_names(names: Sequence[str]) -> None:
    """Raise an SrlibError if a method's name is a duplicate, or cannot be the name of the folder of its images."""
    for name in names:
        if names.count(name) > 1 or name == ORIGINAL:
            raise SrlibError(f"evaluate: the method name {name!r} is already in use; give each method its own name")
        problem = name_problem(name)
        if not problem and (name.startswith(".") or set(name) & set("/\\")):
            problem = "expected a name without /, \\ and a leading dot"
        if problem:
            raise SrlibError(f"evaluate: the method {name!r} cannot name the folder of its images: {problem}")


def score_folder(sr: Path, hr: Path, scale: int) -> Iterator[Result]:
    """Score the finished images in `sr` against the originals of the same names in `hr`, one at a time.

    Args:
        sr: Upscaled images, in subfolders too.
        hr: Original images, in the same subfolders.
        scale: Upscaling factor, which decides how many pixels are cropped.

    Raises:
        SrlibError: One line per mistake: images that are missing on one side, too small, or of another size.
    """
    versions = check_folders(sr, hr, scale)
    images = list(versions)
    name = "SR" if name_problem(sr.name) or sr.name == ORIGINAL else sr.name
    files = {(image.set, image.name): path for image, path in versions.items()}
    yield from evaluate({images[0].set: images}, [Method(name, files=files)], scale)


def evaluate(
    sets: Sets, methods: Sequence[Method], scale: int, *, metrics: Mapping[str, Metric] = METRICS
) -> Iterator[Result]:
    """Score every method on every image, set by set, and yield one image at a time.

    HR is cropped to a multiple of the scale. The seconds leave out reading, writing, scoring, and a warm-up on the
    first image.

    Args:
        sets: Test sets, from `find_sets`.
        methods: Methods with different names.
        scale: Upscaling factor.
        metrics: Metrics to compute.

    Raises:
        SrlibError: Two methods of one name, an image that is too small for a metric, or a method whose output has a
            wrong size.
    """
    check_method_names([method.name for method in methods])
    check_metrics(sets, metrics, scale)
    versions = {method.name: method.files for method in methods if method.files}
    versions |= {method.name: find_versions(method.folder, sets, scale) for method in methods if method.folder}
    warm: set[str] = set()
    for image in (image for images in sets.values() for image in images):
        hr = crop_to_multiple(read_image(image.hr), scale)
        lr = downscale(hr, scale) if image.lr is None else read_image(image.lr)
        result = Result(image, hr, lr, {}, [])
        for method in methods:
            if method.upscale is None:
                sr = crop_to_multiple(read_image(versions[method.name][image.set, image.name]), scale)
            else:
                if method.name not in warm:
                    method.upscale(lr, scale)
                    warm.add(method.name)
                start = time.perf_counter()
                sr = method.upscale(lr, scale)
                result.seconds[method.name] = time.perf_counter() - start
            _add(result, method, sr, scale, metrics)
        yield result


def write_versions(folder: Path, result: Result) -> None:
    """Write each method's image, and the original, to `<folder>/<Set>/<method>/<name>.png`."""
    for method, image in {**result.sr, ORIGINAL: result.hr}.items():
        write_png(folder / result.image.set / method / f"{result.image.name}.png", image)


def _add(result: Result, method: Method, sr: Image, scale: int, metrics: Mapping[str, Metric]) -> None:
    """Score one method's image and add it to the result."""
    image = result.image
    if sr.shape != result.hr.shape:
        raise SrlibError(
            f"{image.set}/{image.name}: {method.name} returned {_size(sr)} pixels, expected {_size(result.hr)} "
            f"({scale} times the LR image's {_size(result.lr)})"
        )
    values = {key: metric.compute(result.hr, sr, scale) for key, metric in metrics.items()}
    height, width = result.lr.shape[:2]
    work = method.cost.multiply_adds(height, width) if method.cost else 0
    result.sr[method.name] = sr
    result.scores.append(Score(image.set, image.name, method.name, values, work))


def check_metrics(sets: Sets, metrics: Mapping[str, Metric], scale: int) -> None:
    """Raise an SrlibError if an image is too small for a metric that needs more pixels than the others.

    Args:
        sets: The test sets.
        metrics: The metrics.
        scale: Upscaling factor, and the pixels that are cropped on each side.
    """
    for metric in (metric for metric in metrics.values() if metric.min_side > 1):
        least = metric.min_side + 2 * scale
        for image in (image for images in sets.values() for image in images):
            height, width = cropped_size(image.hr, scale)
            if min(height, width) < least:
                raise SrlibError(f"{image.hr}: {metric.title} needs {least}×{least} pixels, got {width}×{height}")


def _size(image: Image) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
