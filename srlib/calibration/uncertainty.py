"""Bands of uncertainty of a model: measure them on images of one's own, keep them beside the model, draw them."""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from srlib.arrays import Pixels
from srlib.errors import SrlibError, printable
from srlib.files import check_output, write_json
from srlib.imaging.array_image import write_image
from srlib.imaging.folders import list_images
from srlib.imaging.read import read_image
from srlib.imaging.resize import crop_to_multiple, downscale
from srlib.imaging.uncertainty import Bands, calibrate, coverage_of, draw_bands
from srlib.inference.bands import bands_file, load_bands
from srlib.inference.shipped import shipped_models
from srlib.inference.upscaler import Upscaler, open_model
from srlib.progress import progress


@dataclass(frozen=True)
class Coverage:
    """Share of pixels whose original lies inside the bands.

    Attributes:
        stated: The coverage that was asked for.
        mean: Mean over the images, each with the same weight, whatever its size.
        lowest: The lowest of an image.
        images: Number of images.
    """

    stated: float
    mean: float
    lowest: float
    images: int


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
    mistakes: list[str] = []
    try:
        bands = calibrate(_pairs(open_model(model), hr_folder, lr_folder, mistakes))
    except SrlibError as error:
        raise SrlibError("\n".join([*mistakes, str(error)])) from None
    half_widths = {f"{level:g}": list(values) for level, values in bands.half_widths.items()}
    write_json(path, {"half_widths": half_widths, "images": bands.images, "pixels": bands.pixels})
    _print_left_out(mistakes)
    return bands


def _print_left_out(mistakes: list[str]) -> None:
    for line in mistakes:
        print(f"left out: {line}", file=sys.stderr)


def check_coverage(model: str, hr_folder: Path, lr_folder: Path | None = None) -> list[Coverage]:
    """Measure how many pixels of originals lie inside a model's bands.

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
    mistakes: list[str] = []
    for hr, sr in _pairs(open_model(model), hr_folder, lr_folder, mistakes):
        for level, values in shares.items():
            values.append(coverage_of(bands, hr, sr, level))
    if not all(shares.values()):
        raise SrlibError("\n".join([*mistakes, f"{hr_folder}: no image of it can be used"]))
    _print_left_out(mistakes)
    return [Coverage(level, sum(v) / len(v), min(v), len(v)) for level, v in shares.items()]


def draw_map(result: Path, out: Path, model: str, coverage: float = 0.95, *, force: bool = False) -> float:
    """Draw where a result may be far from its original: the half-width of its bands, four shades per level.

    Args:
        result: An upscaled image.
        out: PNG file to write, gray.
        model: The model that made it, with bands.
        coverage: Share of the pixels of originals inside the bands: .8, .9 or .95.
        force: Overwrite an existing file, unless it is `result`.

    Returns:
        The mean half-width in levels of 255.

    Raises:
        SrlibError: A file cannot be read or written, `out` exists, the model has no bands, or another coverage.
    """
    if out.resolve() == result.resolve():
        raise SrlibError(f"{out}: would overwrite the image that it is made from; name another file")
    check_output(out, suffix=".png", force=force)
    shades, mean = draw_bands(load_bands(model), read_image(result), coverage)
    write_image(out, shades)
    return mean


def _pairs(
    upscaler: Upscaler, hr_folder: Path, lr_folder: Path | None, mistakes: list[str]
) -> Iterator[tuple[Pixels, Pixels]]:
    """Yield (HR, SR) of each image; append a line for each that cannot be used to `mistakes`."""
    files = _files(hr_folder, lr_folder, mistakes)
    with progress(len(files), "measuring errors", "images") as advance:
        for hr_file, lr_file in files.items():
            try:
                yield _pair(upscaler, hr_file, lr_file)
            except SrlibError as error:
                mistakes.append(str(error))
            advance()


def _pair(upscaler: Upscaler, hr_file: Path, lr_file: Path | None) -> tuple[Pixels, Pixels]:
    hr = crop_to_multiple(read_image(hr_file), upscaler.scale)
    if not hr.size:
        raise SrlibError(f"{printable(hr_file)}: expected at least {upscaler.scale}×{upscaler.scale} pixels")
    sr = upscaler(downscale(hr, upscaler.scale) if lr_file is None else read_image(lr_file))
    if sr.shape != hr.shape:
        size = f"{sr.shape[1]}×{sr.shape[0]}"
        raise SrlibError(f"{printable(hr_file)}: the result has {size} pixels; is its LR image right?")
    return hr, sr


def _files(hr_folder: Path, lr_folder: Path | None, mistakes: list[str]) -> dict[Path, Path | None]:
    """Return the LR file of each original, None where it is to be computed."""
    originals = list_images(hr_folder)
    if not originals:
        raise SrlibError(f"{hr_folder}: no images found")
    if lr_folder is None:
        return dict.fromkeys(originals)
    lr_files: dict[Path, list[Path]] = {}
    for path in list_images(lr_folder):
        lr_files.setdefault(path.relative_to(lr_folder).with_suffix(""), []).append(path)
    stems = {original: original.relative_to(hr_folder).with_suffix("") for original in originals}
    owners = Counter(stems.values())
    files: dict[Path, Path | None] = {}
    for original, stem in stems.items():
        candidates = lr_files.get(stem, [])
        if owners[stem] > 1:
            mistakes.append(f"{printable(original)}: another original has the same name but for its ending; rename one")
        elif len(candidates) == 1:
            files[original] = candidates[0]
        else:
            expected = printable(lr_folder / stem)
            mistakes.append(f"{printable(original)}: expected one LR image {expected}.*, got {len(candidates)}")
    return files
