"""The pictures of a training folder: finding HR and LR, checking all before any work, splitting off validation.

A folder holds pictures anywhere below it, or a folder `HR` with them and, where LR pictures are given, a folder `LR`.
"""

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.imaging.images import image_size, list_images

# Two views of one scene: 0001_L and 0001_R, motorcycle_left and motorcycle_right.
_VIEW = re.compile(r"[ _.-](left|right|l|r)$", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """An HR picture and, where it is given, its LR picture; `name` is its path below the HR folder, "/" between."""

    name: str
    hr: Path
    lr: Path | None = None


def find_pictures(folder: Path, *, given_lr: bool, scale: int) -> tuple[list[Picture], list[str]]:
    """All pictures of a folder sorted by name, and one line for each that has no LR picture where these are given.

    The LR picture of `HR/a/0001.png` is `LR/a/0001.*` or, as DIV2K names it, `LR/a/0001x4.*`.

    Raises:
        SrlibError: There is no such folder, no picture in it, or no `HR` and `LR` where LR pictures are given.
    """
    folder = Path(folder)
    if given_lr and not ((folder / "HR").is_dir() and (folder / "LR").is_dir()):
        raise SrlibError(
            f"{folder}: prepare.lr is `given`, which needs the folders HR and LR in it; or set it to `make`"
        )
    root = folder / "HR" if (folder / "HR").is_dir() else folder
    found = [Picture(path.relative_to(root).as_posix(), path) for path in list_images(root)]
    if not found:
        raise SrlibError(f"{root}: no pictures in it (prepare.images)")
    if not given_lr:
        return found, []
    available = {path.relative_to(folder / "LR").with_suffix(""): path for path in list_images(folder / "LR")}
    pairs, mistakes = [], []
    for picture in found:
        place = Path(picture.name).with_suffix("")
        lr = available.get(place) or available.get(place.with_name(f"{place.name}x{scale}"))
        if lr:
            pairs.append(Picture(picture.name, picture.hr, lr))
        else:
            mistakes.append(
                f"{picture.hr}: no LR picture; expected {folder / 'LR' / place}.* or {place.name}x{scale}.*"
            )
    return pairs, mistakes


def check_picture(picture: Picture, *, scale: int, patch: int) -> tuple[int, int]:
    """Checks that a picture can be read and is large enough; returns the (height, width) of its LR picture.

    Raises:
        SrlibError: It cannot be read, is smaller than a patch, or its LR picture does not have the size it should.
    """
    height, width = image_size(picture.hr, verify=True)
    size = height // scale, width // scale
    if min(size) < patch:
        raise SrlibError(f"{picture.hr}: {width}×{height} pixels; a patch needs {patch * scale}×{patch * scale}")
    if picture.lr and (found := image_size(picture.lr, verify=True)) != size:
        raise SrlibError(
            f"{picture.lr}: {found[1]}×{found[0]} pixels; expected {size[1]}×{size[0]}, 1/{scale} of its HR"
        )
    return size


def validation_part(pictures: Sequence[Picture], fraction: float, seed: int) -> set[str]:
    """The names of the pictures that are kept for validation: about `fraction` of them, chosen by `seed`.

    Pictures that show the same stay on one side: files with the same content, and views of one scene, whose names
    differ only in a last `_left`/`_right` or `_l`/`_r` (or in their suffix). Both sides get at least one picture.

    Raises:
        SrlibError: Fewer than two different pictures.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for picture, leader in zip(pictures, _leaders(pictures), strict=True):
        groups[leader].append(picture.name)
    if len(groups) < 2:
        raise SrlibError(
            f"expected at least two usable pictures that show different things, one to train on and one to validate "
            f"with; found {len(groups)} (prepare.images)"
        )
    # By a hash of each name: another picture more leaves the order of the others as it was.
    ordered = sorted(groups, key=lambda leader: hashlib.sha256(os.fsencode(f"{seed}/{leader}")).digest())
    wanted = min(max(round(fraction * len(pictures)), 1), len(pictures) - 1)
    chosen: list[str] = []
    for leader in ordered:
        if len(chosen) + len(groups[leader]) <= wanted:
            chosen += groups[leader]
    return set(chosen or groups[min(ordered, key=lambda leader: len(groups[leader]))])


def _leaders(pictures: Sequence[Picture]) -> list[str]:
    """For each picture the name that stands for all that show the same as it."""
    scenes = [_VIEW.sub("", picture.name.rsplit(".", 1)[0]) for picture in pictures]
    leader = {scene: scene for scene in scenes}

    def find(scene: str) -> str:
        while leader[scene] != scene:
            scene = leader[scene]
        return scene

    sizes = [picture.hr.stat().st_size for picture in pictures]
    counts = Counter(sizes)
    first: dict[str, str] = {}
    for picture, scene, size in zip(pictures, scenes, sizes, strict=True):
        if counts[size] > 1:  # only then can another file have the same content
            same = first.setdefault(file_hash(picture.hr), scene)
            low, high = sorted((find(scene), find(same)))
            leader[high] = low
    return [find(scene) for scene in scenes]
