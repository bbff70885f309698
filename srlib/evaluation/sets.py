"""Test sets on disk: which images to score, in which order, and whether they can be scored at all."""

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path, PurePosixPath

from srlib.atomic import LONGEST_NAME
from srlib.errors import SrlibError
from srlib.imaging import metrics
from srlib.imaging.folders import list_images
from srlib.imaging.read import image_size

SETS = ("Set5", "Set14", "BSD100", "Urban100", "DIV2K")
"""The order of published tables; other sets follow by name."""

WELL_KNOWN = ("comic", "zebra", "0826", "0808")
"""Images that readers know from the figures of papers and of the source article."""

_CONTROL = ("Cc", "Zl", "Zp")  # Unicode categories: control characters, line and paragraph separators


@dataclass(frozen=True)
class BenchmarkImage:
    """One image of a test set. Without `lr`, its LR version is `hr` downscaled by MATLAB's bicubic, edges clamped."""

    set: str
    name: str
    hr: Path
    lr: Path | None = None


def find_sets(folder: Path, scale: int) -> dict[str, list[BenchmarkImage]]:
    """Return the test sets below `folder`: `<Set>/HR/` or `<Set>/`, with `<Set>/LR/` where the set has its own LR.

    No image is decoded, but names and sizes are checked, so that every mistake shows before an hour of scoring.

    Args:
        folder: One folder per test set.
        scale: Upscaling factor.

    Returns:
        Name of a set → its images. Published sets come first, in their usual order.

    Raises:
        SrlibError: One line per mistake: no set or image, a name that output files cannot have, an image that is too
            small, an LR image that is missing or does not fit its HR image.
    """
    if not folder.is_dir():
        raise SrlibError(f"{folder}: no such folder; expected one folder of images per test set")
    names = sorted((p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=set_order)
    sets = {name: _images(folder / name, name, scale) for name in names}
    if not sets:
        raise SrlibError(f"{folder}: expected one folder per test set (such as Set5/HR/baby.png), found none")
    images = [image for members in sets.values() for image in members]
    problems = [problem for image in images for problem in (*_name_problems(image), *_size_problems(image, scale))]
    if problems:
        raise SrlibError("\n".join(problems))
    return sets


def set_order(name: str) -> tuple[int, str]:
    """Return the sorting key of a set's name: published sets in their usual order, then the others by name.

    Example:
        >>> sorted(["mine", "Set14", "Set5"], key=set_order)
        ['Set5', 'Set14', 'mine']
    """
    return (SETS.index(name) if name in SETS else len(SETS), name)


def featured(sets: Mapping[str, Sequence[BenchmarkImage]], count: int) -> set[tuple[str, str]]:
    """Return the (set, name) of `count` images to show: well-known ones first, then one of each set in turn."""
    images = [image for turn in zip_longest(*sets.values()) for image in turn if image]
    images.sort(key=lambda image: image.name not in WELL_KNOWN)
    return {(image.set, image.name) for image in images[:count]}


def image_key(path: Path, scale: int) -> str:
    """Return the part of a file name that the HR, LR and SR versions of an image share.

    Example:
        >>> image_key(Path("0801x4.png"), 4), image_key(Path("img_001_SRF_4_HR.png"), 4)
        ('0801', 'img_001')
    """
    return re.sub(rf"(_SRF_{scale})?(_(HR|LR|SR))?$|_?x{scale}$", "", path.stem, count=1) or path.stem


def index_images(folder: Path, scale: int, *, recursive: bool = False) -> dict[str, Path]:
    """Return the images in `folder` by their `image_key`, sorted.

    Args:
        folder: Folder of images.
        scale: Upscaling factor, which names may end in.
        recursive: Include subfolders, whose names begin the keys: `sub/zebra`.

    Raises:
        SrlibError: No image, or two images with one key.
    """
    files = list_images(folder, recursive)
    if not files:
        raise SrlibError(f"{folder}: expected images, found none")
    index: dict[str, Path] = {}
    for file in files:
        name = file.relative_to(folder)
        key = (name.parent / image_key(file, scale)).as_posix()
        if key in index:
            raise SrlibError(f"{folder}: {index[key].relative_to(folder)} and {name} are versions of {key}; rename one")
        index[key] = file
    return index


def cropped_size(path: Path, scale: int) -> tuple[int, int]:
    """Return (height, width) of an HR image after the crop to a multiple of `scale`."""
    height, width = image_size(path)
    return height - height % scale, width - width % scale


def shown(path: Path) -> str:
    r"""Return a path as text for one line of a terminal: `\xNN` for bytes that are not UTF-8, `\n` for line breaks.

    Example:
        >>> print(shown(Path("sets/a\udcff.png")), shown(Path("two\nlines.png")))
        sets/a\xff.png two\nlines.png
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(repr(c)[1:-1] if unicodedata.category(c) in _CONTROL else c for c in text)


def name_problem(name: str, suffix: str = "") -> str:
    r"""Return why files or folders cannot be named `name + suffix`, or an empty string if they can.

    Example:
        >>> name_problem("zebra", ".png")
        ''
        >>> name_problem("two\nlines")
        'expected a name without line breaks and other control characters'
    """
    try:
        size = len(f"{name}{suffix}".encode())
    except UnicodeEncodeError:
        return "expected a name in UTF-8"
    if not name or any(unicodedata.category(letter) in _CONTROL for letter in name):
        return "expected a name without line breaks and other control characters"
    if size > LONGEST_NAME:
        return f"expected a name of at most {LONGEST_NAME - len(suffix)} bytes, got {size - len(suffix)}"
    return ""


def _images(folder: Path, name: str, scale: int) -> list[BenchmarkImage]:
    hr = index_images(folder / "HR" if (folder / "HR").is_dir() else folder, scale)
    if not (folder / "LR").is_dir():
        return [BenchmarkImage(name, key, path) for key, path in hr.items()]
    lr = index_images(folder / "LR", scale)
    if missing := [path.name for key, path in hr.items() if key not in lr]:
        raise SrlibError(f"{folder / 'LR'}: no LR image for {', '.join(missing)}; add them, or remove the folder")
    return [BenchmarkImage(name, key, path, lr[key]) for key, path in hr.items()]


def _name_problems(image: BenchmarkImage) -> Iterator[str]:
    """Yield why the names of the image's output files, `<name>.png` and `<set>_<name>.png`, are impossible."""
    names = (name_problem(f"{image.set}_{part}", ".png") for part in image.name.split("/"))
    if problem := next(filter(None, names), ""):
        yield f"{shown(image.hr)}: outputs are named {image.set}_<name>.png: {problem}; rename the image"


def _size_problems(image: BenchmarkImage, scale: int) -> Iterator[str]:
    height, width = cropped_size(image.hr, scale)
    try:
        metrics.check_size(height, width, scale=scale)
    except SrlibError as error:
        yield f"{image.hr}: {error}"
    if image.lr and (lr := image_size(image.lr)) != (height // scale, width // scale):
        yield f"{image.lr}: expected {width // scale}×{height // scale} (its HR / {scale}), got {lr[1]}×{lr[0]}"


def check_folders(sr: Path, hr: Path, scale: int) -> dict[BenchmarkImage, Path]:
    """Return the images below `hr`, each with its upscaled version of the same name and the right size below `sr`.

    Raises:
        SrlibError: One line per mistake: images that are missing on one side, too small, or of another size.
    """
    for folder in (sr, hr):
        if not folder.is_dir():
            raise SrlibError(f"{folder}: no such folder of images")
    originals, versions = (index_images(folder, scale, recursive=True) for folder in (hr, sr))
    if hr.resolve() in sr.resolve().parents:  # the results lie within the originals' folder
        originals = {key: path for key, path in originals.items() if not path.resolve().is_relative_to(sr.resolve())}
    # Maps may lie within the results' folder.
    folders = {PurePosixPath(key).parent for key in originals}
    versions = {key: path for key, path in versions.items() if PurePosixPath(key).parent in folders}
    problems = [f"{sr}: no image for {path}" for key, path in originals.items() if key not in versions]
    problems += [f"{hr}: no original for {path}" for key, path in versions.items() if key not in originals]
    for key in originals.keys() & versions.keys():
        problems += version_problems(versions[key], originals[key], scale)
    name = "HR" if name_problem(hr.name) else hr.name
    images = [BenchmarkImage(name, key, path) for key, path in originals.items()]
    problems += [problem for image in images for problem in (*_name_problems(image), *_size_problems(image, scale))]
    if problems:
        raise SrlibError("\n".join(sorted(problems)))
    return {image: versions[image.name] for image in images}


def find_versions(
    folder: Path, sets: Mapping[str, Sequence[BenchmarkImage]], scale: int
) -> dict[tuple[str, str], Path]:
    """Return (set, name) → the finished image in `<folder>/<Set>/`, or in `folder` itself where there is one set.

    Raises:
        SrlibError: One line per image that is missing or has another size than its HR image.
    """
    versions, problems = {}, []
    for name, images in sets.items():
        below = folder / name
        files = index_images(below if below.is_dir() or len(sets) > 1 else folder, scale)
        for image in images:
            file = files.get(image.name)
            if file is None:
                problems.append(f"{folder}: no image for {name}/{image.name}; expected {image.name}.png")
            elif mistakes := version_problems(file, image.hr, scale):
                problems += mistakes
            else:
                versions[name, image.name] = file
    if problems:
        raise SrlibError("\n".join(problems))
    return versions


def version_problems(sr: Path, hr: Path, scale: int) -> list[str]:
    """Return a line if `sr` has neither the size of `hr` nor that of `hr` cropped to a multiple of `scale`."""
    size, expected = image_size(sr), cropped_size(hr, scale)
    if size in (expected, image_size(hr)):
        return []
    return [f"{sr}: {size[1]}×{size[0]} pixels, expected {expected[1]}×{expected[0]} as its HR image"]
