"""Bands of uncertainty of a model: measure them on images of one's own, keep them beside the model, draw them."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srlib.arrays import Pixels
from srlib.errors import SrlibError, one_line
from srlib.files import check_output, read_regular, write_json
from srlib.imaging.array_image import write_image
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale
from srlib.imaging.uncertainty import EDGES, Bands, calibrate, coverage_of
from srlib.inference.shipped import SHIPPED, shipped_models
from srlib.inference.upscaler import Upscaler, open_model
from srlib.progress import progress

BANDS = "bands.json"
"""File with the bands, in the folder of the model."""

BRIGHTNESS = 4
"""Shades of a map per level of half-width: white from 64 levels of 255 on."""

_LARGEST_FILE = 1 << 20


@dataclass(frozen=True)
class Coverage:
    """Share of pixels whose original lies inside the bands.

    Attributes:
        stated: The coverage that was asked for.
        mean: Mean over the images.
        lowest: The lowest of an image.
        images: Number of images.
    """

    stated: float
    mean: float
    lowest: float
    images: int


def bands_file(model: str) -> Path:
    """Return where the bands of a model are kept: in its folder; for a file, beside it under its name.

    Args:
        model: As for `open_model`.
    """
    folder = SHIPPED / model if model in shipped_models() else Path(model)
    return folder / BANDS if folder.is_dir() else folder.with_name(f"{folder.name}.{BANDS}")


def load_bands(model: str) -> Bands:
    """Read the bands of a model.

    Raises:
        SrlibError: There are none, or the file is damaged.
    """
    path = bands_file(model)
    if not path.is_file():
        raise SrlibError(
            f"{path}: not there; measure the bands of {model} first: srlib uncertainty calibrate {model} HR_DIR"
        )
    try:
        content = json.loads(read_regular(path, limit=_LARGEST_FILE))
        half_widths = {float(level): tuple(map(float, values)) for level, values in content["half_widths"].items()}
        images, pixels = int(content["images"]), int(content["pixels"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SrlibError(f"{path}: damaged ({one_line(error)}); run `srlib uncertainty calibrate` again") from None
    widths = [width for values in half_widths.values() for width in values]
    if any(len(values) != len(EDGES) + 1 for values in half_widths.values()) or not all(map(math.isfinite, widths)):
        raise SrlibError(f"{path}: damaged; run `srlib uncertainty calibrate` again")
    return Bands(half_widths, images, pixels)


def calibrate_model(model: str, hr_folder: Path, lr_folder: Path | None = None) -> Bands:
    """Measure the bands of a model on images whose originals are at hand, and keep them beside it.

    Args:
        model: As for `open_model`; not one that ships with srlib.
        hr_folder: Folder of originals that the model was not trained on.
        lr_folder: Their LR images, of the same names (default: MATLAB's bicubic).

    Returns:
        The bands.

    Raises:
        SrlibError: The model is a shipped one, or the folder has no usable images.
    """
    if model in shipped_models():
        raise SrlibError(f"{model}: comes with its bands; copy its folder to calibrate it on other images")
    path = bands_file(model)
    check_output(path)
    bands = calibrate(_pairs(open_model(model), hr_folder, lr_folder))
    half_widths = {f"{level:g}": list(values) for level, values in bands.half_widths.items()}
    write_json(path, {"half_widths": half_widths, "images": bands.images, "pixels": bands.pixels})
    return bands


def check_coverage(model: str, hr_folder: Path, lr_folder: Path | None = None) -> list[Coverage]:
    """Measure how often originals lie inside a model's bands.

    Args:
        model: As for `open_model`; with bands.
        hr_folder: Folder of originals.
        lr_folder: Their LR images, of the same names (default: MATLAB's bicubic).

    Returns:
        One line for each coverage.

    Raises:
        SrlibError: The model has no bands, or the folder has no usable images.
    """
    bands = load_bands(model)
    shares: dict[float, list[float]] = {level: [] for level in bands.half_widths}
    for hr, sr in _pairs(open_model(model), hr_folder, lr_folder):
        for level, values in shares.items():
            values.append(coverage_of(bands, hr, sr, level))
    return [Coverage(level, sum(v) / len(v), min(v), len(v)) for level, v in shares.items()]


def draw_map(result: Path, out: Path, model: str, coverage: float = 0.95) -> float:
    """Draw where a result may be far from its original: the half-width of its bands, four shades per level.

    Args:
        result: An upscaled image.
        out: PNG file to write, gray.
        model: The model that made it, with bands.
        coverage: Share of originals inside the bands: .8, .9 or .95.

    Returns:
        The mean half-width in levels of 255.

    Raises:
        SrlibError: A file cannot be read or written, the model has no bands, or another coverage.
    """
    check_output(out)
    widths = load_bands(model).map(read_image(result), coverage)
    shades = (widths.astype("uint16") * BRIGHTNESS).clip(0, 255).astype("uint8")
    write_image(out, shades)
    return float(widths.mean())


def _pairs(upscaler: Upscaler, hr_folder: Path, lr_folder: Path | None) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield (HR, SR) of each image."""
    paths = list_images(hr_folder)
    if not paths:
        raise SrlibError(f"{hr_folder}: no images found")
    with progress(len(paths), "measuring errors", "images") as advance:
        for path in paths:
            hr = crop_to_multiple(read_image(path), upscaler.scale)
            lr = downscale(hr, upscaler.scale) if lr_folder is None else _lr_of(path, hr_folder, lr_folder)
            sr = upscaler(lr)
            if sr.shape != hr.shape:
                raise SrlibError(f"{path}: the result has {sr.shape[1]}×{sr.shape[0]} pixels; is its LR image right?")
            yield hr, sr
            advance()


def _lr_of(path: Path, hr_folder: Path, lr_folder: Path) -> Pixels:
    stem = lr_folder / path.relative_to(hr_folder).with_suffix("")
    candidates = sorted(stem.parent.glob(f"{stem.name}.*")) if stem.parent.is_dir() else []
    if len(candidates) != 1:
        raise SrlibError(f"{path}: expected one LR image {stem}.*, got {len(candidates)}")
    return read_image(candidates[0])
