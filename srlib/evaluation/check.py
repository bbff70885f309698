"""Check before the first stage that the test sets, methods and metrics of a recipe can be used."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from srlib.engine import pin_threads
from srlib.errors import SrlibError
from srlib.evaluation.benchmark import Sets, check_metrics
from srlib.evaluation.sets import find_sets, find_versions
from srlib.params import OtherMethod, Params
from srlib.params.mistakes import Mistake, attempt, error_mistakes, no_folder

_TRIAL = (24, 32, 3)
"""Shape of the LR image that a network from a file is tried on."""


def find_test_sets(params: Params, downloaded: Path) -> tuple[Sets | None, list[Mistake]]:
    """Return the test sets, None for those that will be downloaded, and what is wrong with them.

    Args:
        params: The recipe.
        downloaded: Folder that the download stage makes for test sets.
    """
    section = params.evaluate
    folder = Path(section.images)
    sets: Sets | None = None
    if folder.resolve().is_relative_to(downloaded.resolve()):
        names = params.download.test_sets
    elif not folder.is_dir():
        return None, [no_folder("evaluate.images", folder)]
    else:
        try:
            sets = find_sets(folder, params.scale)
        except SrlibError as error:
            return None, list(error_mistakes("evaluate.images", error))
        names = list(sets)
    mistakes = [
        (f"evaluate.champion.{model}.set", f"expected one of {', '.join(names)}, got {rule.set}")
        for model, rule in section.champion.items()
        if rule.set not in names
    ]
    return sets, mistakes


def method_mistakes(params: Params, sets: Sets | None) -> Iterator[Mistake]:
    """Yield why the weights of LPIPS, or networks and finished images from files, cannot be used.

    Keras is imported only where the recipe names any of them.

    Args:
        params: The recipe.
        sets: The test sets, where they are here already.
    """
    section = params.evaluate
    if not (section.methods or section.lpips):
        return
    pin_threads()
    if section.lpips:
        yield from attempt("evaluate.lpips", lambda: _check_metrics(params, sets))
    for index, item in enumerate(section.methods):
        yield from attempt(f"evaluate.methods[{index}]", functools.partial(_try_method, item, params.scale, sets))


def _check_metrics(params: Params, sets: Sets | None) -> None:
    """Open the weights of LPIPS, and compare the sizes of the images of your own with what it needs."""
    from srlib.evaluation.methods import recipe_metrics

    check_metrics(sets or {}, recipe_metrics(params.evaluate), params.scale)


def _try_method(item: OtherMethod, scale: int, sets: Sets | None) -> None:
    """Open a method from a file or folder; run a network on a small image, compare finished images with the sets."""
    from srlib.evaluation.methods import from_file

    file = Path(item.file)
    method = from_file(item.name, file, scale, sha256=item.sha256, channels=item.channels, value_range=item.value_range)
    if method.upscale:
        shape = method.upscale(np.full(_TRIAL, 128, np.uint8), scale).shape
        expected = (_TRIAL[0] * scale, _TRIAL[1] * scale, 3)
        if shape != expected:
            raise SrlibError(
                f"{file}: returned {shape} for an image of {_TRIAL}, expected {expected} for scale {scale}"
            )
    elif sets is not None:
        find_versions(file, sets, scale)
