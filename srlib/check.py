"""Find what is wrong with a recipe before the first stage runs, beyond what its sections tell by themselves.

Training takes hours, and DVC removes the outputs of a stage before it starts. So the images and networks that a recipe
names are opened here as the stages will open them. Keras is imported only where a recipe names a network of your own.
"""

import contextlib
import functools
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from srlib.data.epochs import epoch_mistakes, folder_epoch_mistakes
from srlib.data.local import local_path, own_image_mistakes
from srlib.data.pairs import ImagePair, check_pair, find_pairs, validation_names
from srlib.data.sources import plan
from srlib.distributed import launcher_command
from srlib.engine import check_backend, pin_threads
from srlib.errors import SrlibError, printable
from srlib.evaluation.benchmark import Sets, check_metrics
from srlib.evaluation.opinions import read_opinions
from srlib.evaluation.sets import find_sets, find_versions
from srlib.memory import free_memory, total_memory
from srlib.params import OtherMethod, Params
from srlib.params.training import Training
from srlib.pipeline.dvc import runs_finetune

Mistake = tuple[str, str]
"""A key of params.yaml, and what is wrong with it."""

_MOST_LINES = 10
_TRIAL = (24, 32, 3)
"""Shape of the LR image that a network from a file is tried on."""


def check_recipe(params: Params, *, train: Path, test: Path, store: Path) -> None:
    """Check the images and networks that a recipe names.

    Args:
        params: The recipe, whose sections and files `load_params` has checked.
        train: Folder that the download stage makes for training images.
        test: Folder that it makes for test sets.
        store: Folder of finished downloads; archives in it are looked into.

    Raises:
        SrlibError: One line per mistake, or a backend or SRLIB_LAUNCHER that cannot train.
    """
    check_backend()
    launcher_command()
    _check_place(Path.cwd())
    sets, mistakes = _sets(params, test)
    mistakes += [("prepare.images", line) for line in _unusable_names(Path(params.prepare.images))]
    mistakes += [*own_image_mistakes(params.download, store), *_prepare(params, train), *_own_networks(params, sets)]
    mistakes += [*_micro_batches(params), *_memory(params)]
    if params.finetune is None and runs_finetune():
        mistakes += _attempt("finetune", params.finetune_section)
    mistakes += _attempt("evaluate.survey", lambda: read_opinions(Path(params.evaluate.survey)))
    if mistakes:
        raise SrlibError("\n".join(f"params.yaml: {key}: {message}" for key, message in mistakes))


def _check_place(folder: Path) -> None:
    if set(str(folder)) & set("{}"):  # DVC takes it for a place in a text to fill, and ends with KeyError
        raise SrlibError(f"{folder}: DVC cannot work below a folder with {{ or }} in its name; rename it")
    is_tracked_here = not os.environ.get("MLFLOW_TRACKING_URI")
    if is_tracked_here and "'" in str(folder) and '"' in str(folder):  # MLflow writes the path into SQL as it is
        raise SrlibError(f"{folder}: MLflow cannot work below a folder with ' and \" in its name; rename it")


def _unusable_names(folder: Path) -> Iterator[str]:
    """Yield a line for the first name that DVC, which hashes the folder, cannot write as UTF-8."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if any("\udc80" <= character <= "\udcff" for character in name):
                yield f"{printable(Path(place, name))}: DVC needs names in UTF-8; rename it"
                return


def _attempt(key: str, action: Callable[[], object]) -> Iterator[Mistake]:
    """Yield the lines of an SrlibError that `action` raises, without the key that some begin with."""
    try:
        action()
    except SrlibError as error:
        yield from _mistakes(key, error)


def _mistakes(key: str, error: SrlibError) -> Iterator[Mistake]:
    lines = str(error).splitlines()
    yield from ((key, line.removeprefix(f"{key}: ")) for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield key, f"and {len(lines) - _MOST_LINES} more lines like these"


def _no_folder(folder: Path) -> str:
    return f"expected a folder of images, got {folder}, which " + ("is none" if folder.exists() else "does not exist")


def _is_made(folder: Path, download: Path) -> bool:
    """Return whether a folder is, or lies in, one that the download stage makes."""
    return download.resolve() in (folder.resolve(), *folder.resolve().parents)


def _prepare(params: Params, train: Path) -> Iterator[Mistake]:
    """Yield why no patches can be cut; reading ends at two usable images, the rest is for the prepare stage."""
    section, source = params.prepare, params.download.train
    folder = Path(section.images)
    if not _is_made(folder, train):
        if not folder.is_dir():
            yield "prepare.images", _no_folder(folder)
            return
        yield from _attempt("prepare.images", lambda: _check_folder(folder, params))
        with contextlib.suppress(SrlibError):  # yielded above
            yield from folder_epoch_mistakes(params, folder)
    elif source == "none":
        yield "prepare.images", f"expected a folder of your own with `download.train: none`, got {folder}"
    elif source in ("sample", "free-photos") and section.lr == "given":
        yield "prepare.lr", f"expected make with `download.train: {source}`, which has no LR images, got given"
    elif source == "sample":
        files = [local_path(item.source) for item in plan("train", params.download, params.scale)]
        pairs = [ImagePair(file.name, file) for file in files]
        yield from _attempt("prepare.patch", lambda: _check_pairs(pairs, params))
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


def _sets(params: Params, test: Path) -> tuple[Sets | None, list[Mistake]]:
    """Return the test sets, None for those that will be downloaded, and what is wrong with them."""
    section = params.evaluate
    folder = Path(section.images)
    sets: Sets | None = None
    if _is_made(folder, test):
        names = params.download.test_sets
    elif not folder.is_dir():
        return None, [("evaluate.images", _no_folder(folder))]
    else:
        try:
            sets = find_sets(folder, params.scale)
        except SrlibError as error:
            return None, list(_mistakes("evaluate.images", error))
        names = list(sets)
    mistakes = [
        (f"evaluate.champion.{model}.set", f"expected one of {', '.join(names)}, got {rule.set}")
        for model, rule in section.champion.items()
        if rule.set not in names
    ]
    return sets, mistakes


def _own_networks(params: Params, sets: Sets | None) -> Iterator[Mistake]:
    """Yield why networks, weights or finished images of your own cannot be used."""
    section, features = params.evaluate, params.download.features
    finetune = params.finetune
    has_features = finetune is not None and finetune.features.weights == "file" and not isinstance(features, str)
    if not (section.methods or section.lpips or params.pretrain.start_from or has_features):
        return
    pin_threads()
    if params.pretrain.start_from:
        from srlib.training.pretrain import pixel_trainer

        yield from _attempt("pretrain.start_from", lambda: pixel_trainer(params))
    if finetune is not None and not isinstance(features, str) and has_features:
        from srlib.models.features import feature_network

        network, layer, file = finetune.features.network, finetune.features.deepest, Path(features.file).expanduser()
        yield from _attempt("download.features", lambda: feature_network(network, [layer], weights=file))
    if section.lpips:
        yield from _attempt("evaluate.lpips", lambda: _check_metrics(params, sets))
    for index, item in enumerate(section.methods):
        yield from _attempt(f"evaluate.methods[{index}]", functools.partial(_try_method, item, params.scale, sets))


def _trainings(params: Params) -> dict[str, Training]:
    return {"pretrain": params.pretrain} | ({"finetune": params.finetune} if params.finetune else {})


def _micro_batches(params: Params) -> Iterator[Mistake]:
    """Yield the trainings with micro-batches, unless the backend is JAX, which alone computes them."""
    sections = {name: section for name, section in _trainings(params).items() if section.micro_batches > 1}
    if not sections or check_backend() == "jax":
        return
    pin_threads()
    from srlib.training.mesh import check_division

    for name, section in sections.items():
        for key, line in _attempt(name, functools.partial(check_division, name, section)):
            yield f"{key}.micro_batches", line.removeprefix(f"{key}.micro_batches: ")


def _memory(params: Params) -> Iterator[Mistake]:
    """Yield the trainings for which this machine has too little memory, with numbers; warn where others use it."""
    total, free = total_memory(), free_memory()
    sections = _trainings(params)
    if total is None or free is None or max(_most_memory(params, section) for section in sections.values()) < free:
        return
    if pin_threads()["devices"] != ["CPU"]:  # a GPU has its own memory
        return
    from srlib.training.memory import least_memory

    for name, section in sections.items():
        try:
            memory = least_memory(params, section)
        except RecursionError:
            yield name, "the network has too many layers for Keras; lower `blocks`"
            continue
        text = (
            f"needs at least {memory.total / 1e9:.1f} GB of memory ({memory.weights / 1e9:.1f} GB for weights and "
            f"optimizer, {memory.batch / 1e9:.1f} GB for a batch of {section.batch} × {section.lr_patch}²)"
        )
        if memory.total > total:
            advice = "lower `batch` or `lr_patch`, or make the network smaller"
            yield name, f"{text}, and this machine has {total / 1e9:.1f} GB; {advice}"
        elif memory.total > free:
            print(f"warning: params.yaml: {name}: {text}, and {free / 1e9:.1f} GB are free now", file=sys.stderr)
        elif (most := _most_memory(params, section)) > free:
            text = f"may need up to {most / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free now; if it"
            print(f"warning: params.yaml: {name}: {text} is killed, lower `batch` or `lr_patch`", file=sys.stderr)


def _most_memory(params: Params, section: Training) -> int:
    """Return a generous estimate, without Keras, to leave out the least one for usual recipes.

    Most layers of a network work on LR pixels, a few on HR pixels; a discriminator works on HR pixels, real and
    generated ones, and halves their number along each side where it doubles its width.
    """
    numbers = [value for value in params.pretrain.model.options.values() if isinstance(value, int)]
    width, depth = max([*numbers, 3]), sum(numbers) + 16
    lr_pixels = section.batch * section.lr_patch**2
    hr_pixels = lr_pixels * params.scale**2
    values = width * (depth * lr_pixels + 4 * hr_pixels)
    weights = depth * (13 * width) ** 2
    if section is not params.pretrain:
        filters = params.finetune_section().discriminator_filters
        values += 2 * hr_pixels * 8 * filters
        weights += 64 * 20 * filters**2
    return 4 * (values + 5 * weights)


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
