"""Find the HR and LR images of a training folder, check them before any work, and split off the validation set.

A folder holds images at any depth, or a folder `HR` with the images and, if LR images are given, a folder `LR`.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.imaging.folders import list_images
from srlib.imaging.read import image_size

# Two views of one scene: 0001_L and 0001_R, motorcycle_left and motorcycle_right; tiles of `srlib align`.
_VIEW = re.compile(r"[ _.-](left|right|l|r|tile-\d+-\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class ImagePair:
    """An HR image and, if given, its LR image.

    Attributes:
        name: Path below the HR folder with "/" as separator.
        hr: The HR file.
        lr: The LR file, or None if the LR image is to be computed.
    """

    name: str
    hr: Path
    lr: Path | None = None


def find_pairs(folder: Path, *, given_lr: bool, scale: int) -> tuple[list[ImagePair], list[str]]:
    """List the images of a training folder, sorted by name, and one line for each that lacks its LR image.

    The LR image of `HR/a/0001.png` is `LR/a/0001.png`, else `LR/a/0001.*` or, as in DIV2K, `LR/a/0001x4.*`.

    Args:
        folder: The training folder.
        given_lr: Whether LR images are given in `LR`.
        scale: Ratio of HR to LR size.

    Raises:
        SrlibError: The folder is missing or has no images, or lacks `HR` and `LR` although LR images are given.
    """
    folder = Path(folder)
    if given_lr and not ((folder / "HR").is_dir() and (folder / "LR").is_dir()):
        raise SrlibError(
            f"{folder}: expected the folder HR with images and LR with their smaller versions; add them, or, in a "
            "recipe, set prepare.lr to `make`"
        )
    root = folder / "HR" if (folder / "HR").is_dir() else folder
    images = [ImagePair(path.relative_to(root).as_posix(), path) for path in list_images(root)]
    if not images:
        raise SrlibError(f"{root}: no images found (prepare.images)")
    if not given_lr:
        return images, []
    lr_files: dict[Path, list[Path]] = defaultdict(list)
    for path in list_images(folder / "LR"):
        lr_files[path.relative_to(folder / "LR").with_suffix("")].append(path)
    pairs, mistakes = [], []
    for image in images:
        try:
            pairs.append(ImagePair(image.name, image.hr, _matching_lr(image, lr_files, folder / "LR", scale)))
        except SrlibError as error:
            mistakes.append(str(error))
    owners = Counter(pair.lr for pair in pairs)
    shared = [pair for pair in pairs if owners[pair.lr] > 1]
    mistakes += [f"{pair.hr}: {pair.lr} is the LR image of another HR image too; rename one of them" for pair in shared]
    return [pair for pair in pairs if owners[pair.lr] == 1], mistakes


def _matching_lr(image: ImagePair, lr_files: Mapping[Path, Sequence[Path]], folder: Path, scale: int) -> Path:
    stem = Path(image.name).with_suffix("")
    candidates = lr_files.get(stem) or lr_files.get(stem.with_name(f"{stem.name}x{scale}")) or ()
    same_ending = [path for path in candidates if path.suffix == image.hr.suffix]
    if len(same_ending) == 1:
        return same_ending[0]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise SrlibError(f"{image.hr}: several LR images match: {', '.join(map(str, candidates))}; keep one of them")
    raise SrlibError(f"{image.hr}: no LR image; expected {folder / stem}.* or {stem.name}x{scale}.*")


def check_pair(pair: ImagePair, *, scale: int, patch: int) -> tuple[int, int]:
    """Check that a pair is readable and large enough; return the (height, width) of its LR image.

    Args:
        pair: The files.
        scale: Ratio of HR to LR size.
        patch: Side of an LR patch in pixels.

    Raises:
        SrlibError: A file is unreadable, the image is smaller than a patch, or the LR image has the wrong size.
    """
    height, width = image_size(pair.hr, verify=True)
    size = height // scale, width // scale
    if min(size) < patch:
        raise SrlibError(f"{pair.hr}: {width}×{height} pixels; a patch needs {patch * scale}×{patch * scale}")
    if pair.lr and (lr_size := image_size(pair.lr, verify=True)) != size:
        raise SrlibError(
            f"{pair.lr}: {lr_size[1]}×{lr_size[0]} pixels; expected {size[1]}×{size[0]}, 1/{scale} of its HR image"
        )
    return size


def validation_names(pairs: Sequence[ImagePair], fraction: float, seed: int) -> set[str]:
    """Choose the images held out for validation: about `fraction` of them, by `seed`.

    Images of the same scene stay on one side of the split: files with equal content, and views whose names differ only
    in a final `_left`/`_right`, `_l`/`_r` or `_tile-0-1` (or in their suffix). Each side gets at least one image.

    Args:
        pairs: All usable images.
        fraction: Share of images to hold out, in (0, 1).
        seed: Seed of the choice.

    Raises:
        SrlibError: Fewer than two different scenes.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for pair, scene in zip(pairs, _scenes(pairs), strict=True):
        groups[scene].append(pair.name)
    if len(groups) < 2:
        raise SrlibError(
            "expected at least two usable images of different scenes, one for training and one for validation; "
            f"got {len(groups)} (prepare.images)"
        )
    # Ordered by a hash of each name: adding an image does not reorder the others.
    ordered = sorted(groups, key=lambda scene: hashlib.sha256(os.fsencode(f"{seed}/{scene}")).digest())
    target = min(max(round(fraction * len(pairs)), 1), len(pairs) - 1)
    names: list[str] = []
    for scene in ordered:
        if len(names) + len(groups[scene]) <= target:
            names += groups[scene]
    return set(names or groups[min(ordered, key=lambda scene: len(groups[scene]))])


def _scenes(pairs: Sequence[ImagePair]) -> list[str]:
    """Return for each image the name of its scene; equal content and views of one scene share a name."""
    scenes = [_VIEW.sub("", pair.name.rsplit(".", 1)[0]) for pair in pairs]
    parent = {scene: scene for scene in scenes}

    def root(scene: str) -> str:
        while parent[scene] != scene:
            scene = parent[scene]
        return scene

    sizes = [pair.hr.stat().st_size for pair in pairs]
    counts = Counter(sizes)
    first: dict[str, str] = {}
    for pair, scene, size in zip(pairs, scenes, sizes, strict=True):
        if counts[size] > 1:  # only files of equal size can have equal content
            same = first.setdefault(file_hash(pair.hr), scene)
            low, high = sorted((root(scene), root(same)))
            parent[high] = low
    return [root(scene) for scene in scenes]
