"""Check before the first stage that patches can be cut from the training images of a recipe."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from srlib.data.epochs import epoch_mistakes, folder_epoch_mistakes
from srlib.data.local import local_path
from srlib.data.pairs import ImagePair, check_pair, find_pairs, validation_names
from srlib.data.sources import plan
from srlib.errors import SrlibError
from srlib.params import Params
from srlib.params.mistakes import Mistake, attempt, no_folder


def training_image_mistakes(params: Params, downloaded: Path) -> Iterator[Mistake]:
    """Yield why no patches can be cut, as far as the images are here before the download stage.

    Reading ends at two usable images; the rest is for the prepare stage.

    Args:
        params: The recipe.
        downloaded: Folder that the download stage makes for training images.
    """
    section, source = params.prepare, params.download.train
    folder = Path(section.images)
    if not folder.resolve().is_relative_to(downloaded.resolve()):
        if not folder.is_dir():
            yield no_folder("prepare.images", folder)
            return
        yield from attempt("prepare.images", lambda: _check_folder(folder, params))
        with contextlib.suppress(SrlibError):  # yielded above
            yield from folder_epoch_mistakes(params, folder)
    elif source == "none":
        yield "prepare.images", f"expected a folder of your own with `download.train: none`, got {folder}"
    elif source in ("sample", "free-photos") and section.lr == "given":
        yield "prepare.lr", f"expected make with `download.train: {source}`, which has no LR images, got given"
    elif source == "sample":
        files = [local_path(item.source) for item in plan("train", params.download, params.scale)]
        pairs = [ImagePair(file.name, file) for file in files]
        yield from attempt("prepare.patch", lambda: _check_pairs(pairs, params))
        yield from epoch_mistakes(params, pairs)


def _check_folder(folder: Path, params: Params) -> None:
    section = params.prepare
    pairs, mistakes = find_pairs(folder, given_lr=section.lr == "given", scale=params.scale)
    if mistakes and section.unusable == "stop":
        raise SrlibError("\n".join(mistakes))
    _check_pairs(pairs, params)
    validation_names(pairs, section.validation, params.seed)


def _check_pairs(pairs: Sequence[ImagePair], params: Params) -> None:
    """Raise an SrlibError unless two of the images can be used."""
    patch = math.ceil(params.prepare.patch / max(params.prepare.sizes))
    usable, problems = 0, []
    for pair in pairs:
        try:
            check_pair(pair, scale=params.scale, patch=patch)
            usable += 1
        except SrlibError as error:
            problems.append(str(error))
        if usable == 2:
            return
    head = f"expected at least two images that patches can be cut from, got {usable}"
    raise SrlibError("\n".join([head, *problems]))
