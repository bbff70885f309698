"""Compare a training by `pretrain.epochs` with the images that its patches will be cut from."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from srlib.data.pairs import ImagePair, find_pairs
from srlib.data.patch_plan import all_corners
from srlib.errors import SrlibError
from srlib.imaging.read import image_size
from srlib.params import Params


def check_epochs(params: Params, folder: Path) -> None:
    """Check before patches are cut that a training by epochs reaches the end of its warm-up and its milestones.

    Args:
        params: The recipe.
        folder: Folder of training images.

    Raises:
        SrlibError: It does not, however many patches are kept; or the folder holds no images.
    """
    if mistakes := folder_epoch_mistakes(params, folder):
        raise SrlibError("\n".join(f"params.yaml: {key}: {text}" for key, text in mistakes))


def folder_epoch_mistakes(params: Params, folder: Path) -> list[tuple[str, str]]:
    """Return `epoch_mistakes` for the images of a folder; raise an SrlibError if it holds none."""
    if not params.pretrain.epochs:
        return []
    pairs, _ = find_pairs(folder, given_lr=params.prepare.lr == "given", scale=params.scale)
    return epoch_mistakes(params, pairs)


def epoch_mistakes(params: Params, pairs: Sequence[ImagePair]) -> list[tuple[str, str]]:
    """Return what a training by epochs never reaches, even with all patches of all images, as (key, message).

    Only heads of files are read, and no more of them than needed. The exact number of patches, without the flat and the
    held-out ones, is known when the training starts.

    Args:
        params: The recipe.
        pairs: Its training images.
    """
    patches = 0
    mistakes = list(params.pretrain.epoch_mistakes(patches, at_most=True))
    for pair in pairs:
        if not mistakes:
            return []
        with contextlib.suppress(SrlibError):  # the prepare stage names it
            height, width = (side // params.scale for side in image_size(pair.hr))
            patches += len(all_corners(height, width, params.prepare))
            mistakes = list(params.pretrain.epoch_mistakes(patches, at_most=True))
    return [(f"pretrain.{key}", text) for key, text in mistakes] if patches else []
