"""Test sets, methods, and the loop that scores each method on each picture, with one picture in memory at a time."""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from srlib.errors import SrlibError
from srlib.imaging import metrics
from srlib.imaging.arrays import Image
from srlib.imaging.folders import list_images
from srlib.imaging.read import image_size, read_image
from srlib.imaging.resize import Kernel, crop_to_multiple, downscale, resize

SETS = ("Set5", "Set14", "BSD100", "Urban100", "DIV2K")
"""The published order; other sets follow by name."""

SHOWN = ("comic", "zebra", "0826", "0808")
"""Pictures that readers know from the figures of papers and of the source article."""

ORIGINAL = "original"
"""The name under which the HR picture itself is kept beside the methods' pictures."""


@dataclass(frozen=True)
class Metric:
    """A figure of merit: its name in tables, its unit, how many decimals mean something, and what is better."""

    title: str
    unit: str
    digits: int
    better: Literal["higher", "lower"]
    of: Callable[[Image, Image, int], float]
    """(hr, sr, scale) → the figure."""
    smallest: int = 1
    """Pixels that must be left on each side after a crop of `scale`."""


METRICS: dict[str, Metric] = {
    "psnr_y": Metric("PSNR-Y", "dB", 2, "higher", lambda hr, sr, scale: metrics.psnr_y(hr, sr, scale=scale)),
    "ssim_y": Metric("SSIM-Y", "", 4, "higher", lambda hr, sr, scale: metrics.ssim_y(hr, sr, scale=scale)),
    "psnr_rgb": Metric(
        "PSNR-RGB", "dB", 2, "higher", lambda hr, sr, scale: metrics.psnr_rgb(hr, sr, shave=scale + metrics.RGB_SHAVE)
    ),
    "color_error": Metric(
        "Color error", "of 255", 2, "lower", lambda hr, sr, scale: metrics.color_error(hr, sr, shave=scale)
    ),
}


@dataclass(frozen=True)
class Picture:
    """One test picture. Without `lr`, its LR version is made of `hr` by MATLAB's bicubic with clamped edges."""

    set: str
    name: str
    hr: Path
    lr: Path | None = None


@dataclass(frozen=True)
class Cost:
    """What a network is made of and what it does: parameters, and multiply-adds for an LR picture (height, width)."""

    parameters: int
    multiply_adds: Callable[[int, int], int]


@dataclass(frozen=True)
class Method:
    """A row of the table: a function (uint8 LR, scale) → uint8 SR, or a folder of finished pictures per set."""

    name: str
    upscale: Callable[[Image, int], Image] | None = None
    folder: Path | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Score:
    """A method's figures on one picture. `multiply_adds` is 0 where it has none or they are not known."""

    set: str
    picture: str
    method: str
    values: dict[str, float]
    multiply_adds: int = 0


@dataclass(frozen=True)
class Result:
    """Everything about one picture: the pictures, the scores, and how many seconds each method took."""

    picture: Picture
    hr: Image
    lr: Image
    sr: dict[str, Image]
    scores: list[Score]
    seconds: dict[str, float] = field(default_factory=dict)


class Timing:
    """Sums up what each method took. Such figures never go into an output of the pipeline: they differ every time."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._pixels: dict[str, int] = {}

    def add(self, result: Result) -> None:
        """Counts one picture."""
        for method, taken in result.seconds.items():
            self._seconds[method] = self._seconds.get(method, 0.0) + taken
            self._pixels[method] = self._pixels.get(method, 0) + result.hr.shape[0] * result.hr.shape[1]

    def metrics(self) -> dict[str, float]:
        """`seconds/<method>` in all, and `megapixels_per_second/<method>` of SR pixels."""
        rates = {f"megapixels_per_second/{m}": self._pixels[m] / 1e6 / max(s, 1e-9) for m, s in self._seconds.items()}
        return {f"seconds/{method}": taken for method, taken in self._seconds.items()} | rates


_KERNELS: dict[str, Kernel] = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}


def interpolation(name: Literal["nearest", "bilinear", "bicubic"]) -> Method:
    """An enlargement without a network, as MATLAB does it."""
    return Method(name, lambda lr, scale: resize(lr, scale, kernel=_KERNELS[name]))


def find_sets(folder: Path, scale: int) -> dict[str, list[Picture]]:
    """The test sets below `folder`, each a folder `<Set>/HR/` or `<Set>/` of pictures, with `<Set>/LR/` where given.

    Nothing is decoded, but the sizes are checked, so that no mistake is left to show after an hour of scoring.

    Raises:
        SrlibError: One line per mistake: no set or picture, a picture too small, an LR picture that is missing or does
            not fit its HR.
    """
    if not folder.is_dir():
        raise SrlibError(f"{folder}: no such folder; expected one folder of pictures per test set")
    names = sorted((p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=_order)
    sets = {name: _pictures(folder / name, name, scale) for name in names}
    if not sets:
        raise SrlibError(f"{folder}: expected one folder per test set (such as Set5/HR/baby.png), found none")
    problems = [problem for pictures in sets.values() for picture in pictures for problem in _check(picture, scale)]
    if problems:
        raise SrlibError("\n".join(problems))
    return sets


def featured(sets: dict[str, list[Picture]], count: int) -> set[tuple[str, str]]:
    """The (set, name) of `count` pictures to show: those that figures in the field show, then the sets in turn."""
    everyone = [picture for turn in zip_longest(*sets.values()) for picture in turn if picture]
    everyone.sort(key=lambda picture: picture.name not in SHOWN)
    return {(picture.set, picture.name) for picture in everyone[:count]}


def picture_key(path: Path, scale: int) -> str:
    """The part of a file's name that HR, LR and SR versions share: of `0801x4.png` and `img_001_SRF_4_HR.png` too."""
    return re.sub(rf"(_SRF_{scale})?(_(HR|LR|SR))?$|_?x{scale}$", "", path.stem, count=1) or path.stem


def index_pictures(folder: Path, scale: int) -> dict[str, Path]:
    """The pictures directly in `folder` by their key, sorted.

    Raises:
        SrlibError: No picture there, or two with one key.
    """
    files = list_images(folder, recursive=False)
    if not files:
        raise SrlibError(f"{folder}: expected pictures, found none")
    found: dict[str, Path] = {}
    for file in files:
        key = picture_key(file, scale)
        if key in found:
            raise SrlibError(f"{folder}: {found[key].name} and {file.name} are both named {key}: rename one")
        found[key] = file
    return found


def score_folder(sr: Path, hr: Path, scale: int) -> Iterator[Result]:
    """Scores the finished pictures in `sr` against the originals of the same names in `hr`, one at a time.

    Raises:
        SrlibError: One line per mistake: pictures that are missing on one side, too small, or of another size.
    """
    for folder in (sr, hr):
        if not folder.is_dir():
            raise SrlibError(f"{folder}: no such folder of pictures")
    originals, given = index_pictures(hr, scale), index_pictures(sr, scale)
    problems = [f"{sr}: no picture for {hr / path.name}" for key, path in originals.items() if key not in given]
    problems += [f"{hr}: no original for {path}" for key, path in given.items() if key not in originals]
    for key in originals.keys() & given.keys():
        want = tuple(size - size % scale for size in image_size(originals[key]))
        got = image_size(given[key])
        if got not in (want, image_size(originals[key])):
            problems.append(f"{given[key]}: {got[1]}×{got[0]} pixels, expected {want[1]}×{want[0]}")
    pictures = [Picture(hr.name, key, path) for key, path in originals.items()]
    problems += [problem for picture in pictures for problem in _check(picture, scale)]
    if problems:
        raise SrlibError("\n".join(sorted(problems)))
    name = "SR" if sr.name in ("", ORIGINAL) else sr.name
    yield from evaluate({hr.name: pictures}, [Method(name, folder=sr)], scale)


def evaluate(
    sets: dict[str, list[Picture]],
    methods: Sequence[Method],
    scale: int,
    *,
    measures: dict[str, Metric] | None = None,
) -> Iterator[Result]:
    """Scores every method on every picture, set by set, and yields one picture at a time.

    The seconds leave out reading, writing and scoring, and a warm-up on the first picture. HR is cropped to a multiple
    of the scale.

    Args:
        sets: What `find_sets` gave.
        methods: With different names.
        scale: The factor of enlargement.
        measures: The figures to compute; all of `METRICS` unless given.

    Raises:
        SrlibError: Two methods of one name, a picture too small for a measure, or one of a wrong size from a method.
    """
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1 or name == ORIGINAL:
            raise SrlibError(f"evaluate: the method name {name!r} is taken; give each row of the table its own")
    measures = METRICS if measures is None else measures
    _check_measures(sets, measures, scale)
    given = {method.name: _finished(method, sets, scale) for method in methods if method.folder}
    warm: set[str] = set()
    for picture in (picture for pictures in sets.values() for picture in pictures):
        hr = crop_to_multiple(read_image(picture.hr), scale)
        lr = downscale(hr, scale) if picture.lr is None else read_image(picture.lr)
        result = Result(picture, hr, lr, {}, [])
        for method in methods:
            if method.upscale is None:
                sr = crop_to_multiple(read_image(given[method.name][picture.set, picture.name]), scale)
            else:
                if method.name not in warm:
                    method.upscale(lr, scale)
                    warm.add(method.name)
                start = time.perf_counter()
                sr = method.upscale(lr, scale)
                result.seconds[method.name] = time.perf_counter() - start
            if sr.shape != hr.shape:
                raise SrlibError(
                    f"{picture.set}/{picture.name}: {method.name} gave {_size(sr)}, expected {_size(hr)} "
                    f"({scale} times the LR picture's {_size(lr)})"
                )
            values = {key: measure.of(hr, sr, scale) for key, measure in measures.items()}
            work = method.cost.multiply_adds(*lr.shape[:2]) if method.cost else 0
            result.sr[method.name] = sr
            result.scores.append(Score(picture.set, picture.name, method.name, values, work))
        yield result


def _order(name: str) -> tuple[int, str]:
    return (SETS.index(name) if name in SETS else len(SETS), name)


def _pictures(folder: Path, name: str, scale: int) -> list[Picture]:
    hr = index_pictures(folder / "HR" if (folder / "HR").is_dir() else folder, scale)
    if not (folder / "LR").is_dir():
        return [Picture(name, key, path) for key, path in hr.items()]
    lr = index_pictures(folder / "LR", scale)
    if missing := [path.name for key, path in hr.items() if key not in lr]:
        raise SrlibError(f"{folder / 'LR'}: no LR picture for {', '.join(missing)}; add them, or remove the folder")
    return [Picture(name, key, path, lr[key]) for key, path in hr.items()]


def _check(picture: Picture, scale: int) -> Iterator[str]:
    height, width = (size - size % scale for size in image_size(picture.hr))
    try:
        metrics.check_size(height, width, scale=scale)
    except SrlibError as error:
        yield f"{picture.hr}: {error}"
    if picture.lr and (lr := image_size(picture.lr)) != (height // scale, width // scale):
        yield f"{picture.lr}: expected {width // scale}×{height // scale} (its HR / {scale}), got {lr[1]}×{lr[0]}"


def _check_measures(sets: dict[str, list[Picture]], measures: dict[str, Metric], scale: int) -> None:
    """Raises an SrlibError where a picture is too small for one of the measures that ask for more than the others."""
    for measure in (measure for measure in measures.values() if measure.smallest > 1):
        least = measure.smallest + 2 * scale
        for picture in (picture for pictures in sets.values() for picture in pictures):
            height, width = (size - size % scale for size in image_size(picture.hr))
            if min(height, width) < least:
                raise SrlibError(f"{picture.hr}: {measure.title} needs {least}×{least} pixels, got {width}×{height}")


def _finished(method: Method, sets: dict[str, list[Picture]], scale: int) -> dict[tuple[str, str], Path]:
    """Where a folder method's picture of each test picture is: in `<folder>/<Set>/`, or in the folder for one set."""
    assert method.folder is not None
    found, problems = {}, []
    for name, pictures in sets.items():
        below = method.folder / name
        files = index_pictures(below if below.is_dir() or len(sets) > 1 else method.folder, scale)
        for picture in pictures:
            whole = image_size(picture.hr)
            height, width = (size - size % scale for size in whole)
            file = files.get(picture.name)
            if file is None:
                problems.append(f"{method.folder}: no picture for {name}/{picture.name}; expected {picture.name}.png")
            elif (size := image_size(file)) not in ((height, width), whole):
                problems.append(f"{file}: expected {width}×{height} as its HR picture, got {size[1]}×{size[0]}")
            else:
                found[name, picture.name] = file
    if problems:
        raise SrlibError("\n".join(problems))
    return found


def _size(image: Image) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
