"""Which images and methods a survey shows: what is in the folder, a fair draw, and the examples."""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import ORIGINAL
from srlib.evaluation.sets import index_images, name_problem, shown
from srlib.imaging.folders import list_images

ImageName = tuple[str, str]
"""(set, image)"""
Versions = dict[ImageName, dict[str, Path]]
"""Image → method → file, always with the original."""

NOT_BY_DEFAULT = frozenset({"nearest", "bilinear"})
"""Methods that are shown only on request: everybody rates them lowest, and each method makes the survey longer."""


def default_methods(images: Path, sets: Sequence[str]) -> list[str]:
    """Return the methods to compare: those in every set, without `NOT_BY_DEFAULT` and self-ensembles (EDSR+).

    Args:
        images: `<Set>/<method>/<name>.png`.
        sets: Sets to draw from; empty for all.

    Returns:
        bicubic first, then the others by name, and the original last.
    """
    folders = [_folders(images / name) for name in sets or _folders(images)]
    common = set.intersection(*map(set, folders)) if folders else set()
    ensembles = {name for name in common if name.endswith("+") and name[:-1] in common}
    methods = common - NOT_BY_DEFAULT - ensembles
    return sorted(methods, key=lambda name: (name == ORIGINAL, name != "bicubic", name))


def find_images(images: Path, methods: Sequence[str], sets: Sequence[str], scale: int) -> Versions:
    """Return every image that has a version of each method.

    Args:
        images: `<Set>/<method>/<name>.png`.
        methods: Methods to compare.
        sets: Sets to draw from; empty for all.
        scale: Upscaling factor, which may be part of file names.

    Raises:
        SrlibError: One line per folder or version that is missing.
    """
    if not images.is_dir():
        raise SrlibError(f"{images}: no such folder; expected <Set>/<method>/<name>.png as the evaluate stage writes")
    needed = dict.fromkeys([*methods, ORIGINAL])
    versions: Versions = {}
    problems = []
    if not sets and not any((images / name / ORIGINAL).is_dir() for name in _folders(images)):
        inside = f"; try {images / 'images'}" if (images / "images").is_dir() else ""
        raise SrlibError(
            f"{images}: expected <Set>/<method>/<name>.png with the originals as the method {ORIGINAL!r}, as the "
            f"evaluate stage writes, found the folders {', '.join(_folders(images)) or 'none'}{inside}"
        )
    for name in sets or _folders(images):
        present = _folders(images / name)
        if absent := [method for method in needed if method not in present]:
            problems.append(
                f"{images / name}: expected a folder {', '.join(absent)} with the images of that method, "
                f"found {', '.join(present) or 'none'}"
            )
            continue
        files = {method: index_images(images / name / method, scale) for method in needed}
        for image in sorted(set().union(*files.values())):
            if problem := name_problem(f"{name}/{image}"):
                problems.append(f"{shown(images / name)}: {shown(Path(image))}: {problem}; rename it")
            elif missing := [method for method in needed if image not in files[method]]:
                problems.append(f"{images / name}: {image} is missing in {', '.join(missing)}")
            else:
                versions[name, image] = {method: files[method][image] for method in needed}
    if problems:
        raise SrlibError("\n".join(problems))
    if not versions:
        raise SrlibError(f"{images}: no images; expected <Set>/<method>/<name>.png as the evaluate stage writes")
    return versions


def draw(names: Iterable[ImageName], seed: int) -> list[ImageName]:
    """Return all images in random order, the sets in turn, so that the first n are spread evenly over the sets."""
    by_set: dict[str, list[ImageName]] = {}
    for name in sorted(names, key=lambda name: _random_rank(seed, *name)):
        by_set.setdefault(name[0], []).append(name)
    turns = zip_longest(*(by_set[name] for name in sorted(by_set)))
    return [name for turn in turns for name in turn if name is not None]


def draw_examples(folder: Path, count: int, seed: int) -> list[Path]:
    """Return `count` random images of a folder.

    Raises:
        SrlibError: The folder holds fewer.
    """
    files = sorted(list_images(folder), key=lambda path: _random_rank(seed, path.name))
    if len(files) < count:
        raise SrlibError(f"{folder}: expected {count} images for the examples, found {len(files)}")
    return files[:count]


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def _random_rank(seed: int, *parts: str) -> str:
    return hashlib.sha256("/".join([str(seed), *parts]).encode()).hexdigest()
