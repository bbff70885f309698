"""Upscale what was dropped on the page, by the functions behind `srlib upscale`: the results are the same bytes."""

import functools
import itertools
import math
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np

from srlib.arrays import Image, Pixels
from srlib.calibration.uncertainty import draw_map
from srlib.demo.choices import ModelChoice, version_of
from srlib.errors import SrlibError
from srlib.films.batch import run_plan
from srlib.films.options import FilmOptions
from srlib.formats.suffixes import FILM_SUFFIXES
from srlib.imaging.array_image import write_image
from srlib.imaging.image_file import read_image_file
from srlib.imaging.read import image_size, over_white
from srlib.imaging.resize import resize
from srlib.inference.bands import bands_file
from srlib.inference.choice import AutoModel, open_any
from srlib.inference.exported import read_export_config
from srlib.inference.jobs import plan_jobs
from srlib.inference.limits import LARGE_IMAGE
from srlib.inference.output_size import MODEL_SCALE, OutputSize
from srlib.inference.records import Records, Scores
from srlib.inference.shipped import SHIPPED, shipped_models
from srlib.inference.upscaler import Upscaler

_LARGEST_VIEW = 2048
"""Longest side in pixels of what the page shows; a larger result is also shown in part, at full size."""

_DETAIL = 1024
"""Side in pixels of that part."""

_TILE = 640
"""Most LR pixels per side that one tile contributes: the progress moves and Stop acts after each tile, within
seconds. Larger ones give the same pixels and compute less: .8 of it for `photo-x4`, .6 for `psnr-x4`, at most.
"""

_LARGEST_SURE = 2**25
"""Most pixels of a result for which the page draws how sure it is: that takes about 40 bytes for each."""

_SHOWN_FRAME = 24
"""The frame of a film that is shown, counted from 0, or the last one of a shorter film."""

_AGREEMENT = (
    (55.0, "Downscaled again, the result is almost exactly the input."),
    (45.0, "Downscaled again, the result is close to the input."),
    (37.0, "Downscaled again, the result differs a little from the input."),
    (-math.inf, "Downscaled again, the result differs from the input: parts of it show something else."),
)
"""From so many dB on: LR consistency in words. Bicubic upscaling reaches 37 dB on clean images."""


@dataclass(frozen=True)
class Limits:
    """What the page takes.

    Attributes:
        megapixels: Most millions of pixels of an image.
        megabytes: Most megabytes of a file.
        seconds: Most seconds of a film that are upscaled; None for all of it.
    """

    megapixels: float = LARGE_IMAGE / 1e6
    megabytes: int = 4096
    seconds: float | None = None


@dataclass(frozen=True)
class Settings:
    """What was chosen on the page.

    Attributes:
        choice: The model.
        fidelity: Blend with the model's counterpart, 0 to 1; ignored for a model without one.
        size: How large the result becomes.
        format: A key of `FORMATS` for images; None keeps the file's own.
        quality: Quality of JPEG, WebP and films, 1 to 100.
        consistent: Whether to make the result consistent with the input.
        seconds: Only the first seconds of a film.
    """

    choice: ModelChoice
    fidelity: float | None = None
    size: OutputSize = MODEL_SCALE
    format: str | None = None
    quality: int = 95
    consistent: bool = False
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A result, and what the page shows of it.

    Attributes:
        file: The result.
        view: The input, upscaled by bicubic, and the result; for a film one frame of each.
        detail: The same for the middle of the image at full size; None where `view` is at full size.
        map: Where the detail is not determined by the input; None for films and smaller results.
        sure: How far the result may be from its original; None where that was not measured: for films, blends, models
            of others, corrected results, and other sizes than the model's own.
        text: What to say about the result, in Markdown.
        is_film: Whether the result is a film.
    """

    file: Path
    view: tuple[Path, Path]
    detail: tuple[Path, Path] | None
    map: Path | None
    sure: Path | None
    text: str
    is_film: bool


def upscale_upload(source: Path, folder: Path, settings: Settings, limits: Limits) -> Outcome:
    """Upscale an image or film.

    Args:
        source: The file.
        folder: An empty folder for the result and for what is shown.
        settings: What was chosen.
        limits: What is taken.

    Returns:
        The result.

    Raises:
        SrlibError: One line per problem; files are named without their folder.
    """
    is_film = source.suffix.lower() in FILM_SUFFIXES
    place = folder / "result"
    try:
        if not is_film:
            _check_size(source, limits)
        lines, scores = _run(source, folder, settings, limits)
        file = next(place.iterdir())
        view, detail = _frames(source, file, folder) if is_film else _views(source, file, folder)
    except SrlibError as error:
        raise SrlibError(_without_folders(str(error), source.parent, place)) from error
    sentences = [_agreement(scores)] if not is_film else ["The slider shows one frame of both films."]
    sentences += [_without_folders(line, source.parent, place) for line in lines]
    detail_map = folder / "map.png"
    sure = None if scores is None or settings.consistent else _sure(scores, file, folder)
    if sure is not None:
        sentences.append(sure[1])
    return Outcome(
        file,
        view,
        detail,
        detail_map if detail_map.is_file() else None,
        sure and sure[0],
        "\n\n".join(sentences),
        is_film,
    )


def _run(source: Path, folder: Path, settings: Settings, limits: Limits) -> tuple[list[str], Scores | None]:
    """Run what `srlib upscale` runs; return what it reports about the result, and its scores.

    Films and results that are no larger than the input have no scores.

    Raises:
        SrlibError: There is no result.
    """
    is_film, place = source.suffix.lower() in FILM_SUFFIXES, folder / "result"
    seconds = min((value for value in (settings.seconds, limits.seconds) if value), default=None)
    options = FilmOptions(settings.size, settings.quality, consistent=settings.consistent, seconds=seconds)
    plan = plan_jobs([str(source)], str(place), format=None if is_film else settings.format, films=True)
    records = Records() if is_film else Records(None, folder / "map.png", place, tracked=True)
    try:
        summary = run_plan(plan, lambda: _opened(settings.choice, settings.fidelity), options, records=records)
    except SrlibError as error:
        if not (is_film and any(path.is_file() for path in place.glob("[!.]*"))):
            raise
        return str(error).splitlines(), None  # a damaged film, of which the rest was upscaled
    return list(summary.notes), next(iter(records.lines), None)


def _opened(choice: ModelChoice, fidelity: float | None) -> Upscaler | AutoModel:
    """Open a model; the last two stay open while their names mean the same models."""
    return _open(choice, fidelity, tuple(version_of(model) for model in (choice.model, choice.gan) if model))


@functools.lru_cache(maxsize=2)
def _open(choice: ModelChoice, fidelity: float | None, versions: tuple[str, ...]) -> Upscaler | AutoModel:
    if choice.fidelity is None or fidelity == choice.fidelity:  # the model itself
        return open_any(choice.model, tile=_TILE)
    return open_any(choice.model, gan=choice.gan, fidelity=fidelity, tile=_TILE)


def _without_folders(text: str, *folders: Path) -> str:
    for folder in folders:
        text = text.replace(f"{folder}/", "")
    return text


def _check_size(source: Path, limits: Limits) -> None:
    height, width = image_size(source)
    if height * width > limits.megapixels * 1e6:
        raise SrlibError(
            f"{source}: {width}×{height} pixels are more than this page takes ({limits.megapixels:.3g} megapixels); "
            "use the command `srlib upscale`"
        )


def _sure(scores: Scores, result: Path, folder: Path) -> tuple[Path, str] | None:
    """Draw how far a result may be from its original, and say it; None where that was not measured."""
    if scores.model not in shipped_models() or not bands_file(scores.model).is_file():
        return None
    scale, size = read_export_config(SHIPPED / scores.model).scale, (scores.result_width, scores.result_height)
    if size != (scale * scores.width, scale * scores.height) or math.prod(size) > _LARGEST_SURE:
        return None
    mean = draw_map(result, folder / "sure.png", scores.model)
    return folder / "sure.png", f"95 % of the original's pixels lie within {mean:.1f} levels of 255 on average."


def _agreement(scores: Scores | None) -> str:
    """Return the LR consistency in words and dB."""
    if scores is None:
        return "The result is no larger than the input, so that there is nothing to compare."
    words = next(words for limit, words in _AGREEMENT if scores.lr_psnr >= limit)
    figure = "no difference at all" if math.isinf(scores.lr_psnr) else f"{scores.lr_psnr:.1f} dB"
    return f"**{words}** LR consistency: {figure}, largest difference {scores.lr_largest_error} levels."


def _views(source: Path, result: Path, folder: Path) -> tuple[tuple[Path, Path], tuple[Path, Path] | None]:
    """Write the input and the result as PNG files of one size for the slider: whole, and the middle at full size."""
    lr, sr = (_shown(path) for path in (source, result))
    height, width = sr.shape[:2]
    shrink = Fraction(max(height, width), _LARGEST_VIEW)
    if shrink <= 1:
        return _pair(resize(lr, (height, width)), sr, folder, "view"), None
    size = max(1, round(height / shrink)), max(1, round(width / shrink))
    whole = _pair(resize(lr, size), resize(sr, size), folder, "view")
    rows, columns = (_middle(small, large) for small, large in zip(lr.shape[:2], sr.shape[:2], strict=True))
    detail = sr[rows[1], columns[1]]
    return whole, _pair(resize(lr[rows[0], columns[0]], detail.shape[:2]), detail, folder, "detail")


def _middle(small: int, large: int) -> tuple[slice, slice]:
    """Return the middle of one axis, in pixels of the input and of the result."""
    length = min(small, math.ceil(_DETAIL * small / large))
    start = (small - length) // 2
    return slice(start, start + length), slice(start * large // small, (start + length) * large // small)


def _frames(source: Path, result: Path, folder: Path) -> tuple[tuple[Path, Path], None]:
    """Write one frame of the film and the same one of the result, which may hold only the first frames."""
    count, after = _last_frame(result, _SHOWN_FRAME + 1)
    _, before = _last_frame(source, count)
    return _pair(resize(before, after.shape[:2]), after, folder, "view"), None


def _last_frame(film: Path, most: int) -> tuple[int, Image]:
    """Return the last of the first frames of a film, at most so many, and how many there are."""
    from srlib.films.reading import FrameReader, describe_film

    frames = itertools.islice(FrameReader(describe_film(film), None, []).frames(), most)
    [(count, frame)] = deque(enumerate(frames, 1), maxlen=1)
    return count, _eight_bits(frame.rgb)


def _pair(before: Pixels, after: Pixels, folder: Path, name: str) -> tuple[Path, Path]:
    paths = folder / f"{name}-before.png", folder / f"{name}-after.png"
    for path, image in zip(paths, (before, after), strict=True):
        write_image(path, image)
    return paths


def _shown(path: Path) -> Image:
    """Read an image as uint8 RGB, transparency over white."""
    image = read_image_file(path)
    return _eight_bits(image.rgb if image.alpha is None else over_white(image.rgb, image.alpha))


def _eight_bits(rgb: Pixels) -> Image:
    if rgb.dtype == np.uint8:
        return cast(Image, rgb)
    return cast(Image, ((rgb.astype(np.uint32) + 128) // 257).astype(np.uint8))
