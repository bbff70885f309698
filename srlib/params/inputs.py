"""Files and folders that a recipe names, checked before a stage needs them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from srlib.errors import SrlibError, one_line
from srlib.files import file_hash
from srlib.models.checkpoint import WEIGHTS, ModelConfig, read_config
from srlib.models.features import read_weights
from srlib.params.evaluation import Evaluate
from srlib.params.mistakes import Mistake
from srlib.params.recipe import Params
from srlib.params.training import StartFrom


def input_mistakes(params: Params, stage: str) -> Iterator[Mistake]:
    """Yield the inputs that are missing or differ from the recipe, as pairs of a key and a message.

    Args:
        params: The recipe. Its paths are relative to the current folder.
        stage: The stage about to run. Files that only earlier stages read may be gone and are not checked.
    """
    if stage not in STAGES:
        raise ValueError(f"{stage}: expected one of {', '.join(STAGES)}")
    names = list(STAGES)
    for name in names[names.index(stage) :]:
        yield from STAGES[name](params)


def file_mistakes(key: str, file: str, sha256: str) -> Iterator[Mistake]:
    """Yield what is wrong with a file that a recipe names."""
    path = Path(file)
    try:
        digest = file_hash(path) if path.is_file() else None
    except OSError as error:
        yield key, f"{path}: cannot be read: {one_line(error)}"
        return
    if digest is None:
        yield (
            key,
            f"expected a file, got {file}, which " + ("is not a regular file" if path.exists() else "does not exist"),
        )
    elif digest != sha256:
        yield key, f"{file}: expected the SHA-256 {sha256}, got {digest}; write this SHA-256 if it is the file you mean"


def _download(params: Params) -> Iterator[Mistake]:
    features = params.download.features
    if isinstance(features, str):
        return
    path = Path(features.file).expanduser()
    mistakes = list(file_mistakes("download.features", str(path), features.sha256))
    yield from mistakes
    section = params.finetune
    if not mistakes and section is not None and section.features.weights == "file":
        try:
            read_weights(path, section.features.network, section.features.deepest)
        except SrlibError as error:
            yield "download.features", f"{error}; finetune.features.network is {section.features.network}"


def _prepare(params: Params) -> Iterator[Mistake]:
    images = params.prepare.images
    if params.download.train == "none" and not Path(images).is_dir():
        tracked = Path(f"{images.rstrip('/')}.dvc")
        if Path(images).exists():
            reason = "is none"
        else:
            reason = "does not exist; " + (
                f"run `dvc pull {tracked}`" if tracked.is_file() else "make it, or name another one"
            )
        yield "prepare.images", f"expected a folder of images (download.train is none), got {images}, which {reason}"


def _pretrain(params: Params) -> Iterator[Mistake]:
    if (start := params.pretrain.start_from) is None:
        return
    try:
        config = read_config(Path(start.folder))
    except (SrlibError, OSError) as error:
        yield "pretrain.start_from", one_line(error)
        return
    yield from _start_mistakes(params, start, config)


def _start_mistakes(params: Params, start: StartFrom, config: ModelConfig) -> Iterator[Mistake]:
    model = params.pretrain.model
    if not model.extends(config.network):
        yield (
            "pretrain.start_from",
            f"expected a model like pretrain.model, {model.name} {model.options}, got {config.name} "
            f"{dict(config.options)} in {start.folder}",
        )
    yield from file_mistakes("pretrain.start_from", str(Path(start.folder) / WEIGHTS), start.sha256)


def _finetune(params: Params) -> Iterator[Mistake]:
    yield from ()


def _evaluate(params: Params) -> Iterator[Mistake]:
    section = params.evaluate
    if section.survey != Evaluate.model_fields["survey"].default and not Path(section.survey).is_dir():
        yield (
            "evaluate.survey",
            f"expected a folder that `srlib survey score` wrote, got {section.survey}, which does not exist",
        )
    if section.lpips is not None:
        for name, file in section.lpips:
            yield from file_mistakes(f"evaluate.lpips.{name}", file.file, file.sha256)
    for index, method in enumerate(section.methods):
        path = Path(method.file)
        # A folder may hold many images; it is hashed when it is used, as is the second file of a .xml.
        if path.is_dir() or (path.suffix == ".xml" and path.is_file()):
            continue
        yield from file_mistakes(f"evaluate.methods[{index}]", method.file, method.sha256)
    for model, rule in section.champion.items():
        if rule.set not in params.download.test_sets and not (Path(section.images) / rule.set).is_dir():
            sets = ", ".join(params.download.test_sets)
            yield (
                f"evaluate.champion.{model}.set",
                f"expected a set of download.test ({sets}) or a folder in {section.images}, got {rule.set}",
            )


STAGES: dict[str, Callable[[Params], Iterator[Mistake]]] = {
    "download": _download,
    "prepare": _prepare,
    "pretrain": _pretrain,
    "finetune": _finetune,
    "evaluate": _evaluate,
}
"""Stage, in the order of the pipeline → what is wrong with the files that it reads."""
