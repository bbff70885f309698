"""The models that the page offers: shipped ones, the champions of MLflow's registry, and those of a folder."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from srlib.errors import SrlibError
from srlib.files import sampled_hash
from srlib.imaging.input_range import CLEAN
from srlib.inference.exported import is_exported, read_exported
from srlib.inference.model_file import SUFFIXES
from srlib.inference.shipped import (
    AUTO,
    CLEAN_MODEL,
    FAST_MODEL,
    PAIRS,
    PHOTO_MODEL,
    SHIPPED,
    auto_can_blend,
    shipped_models,
)
from srlib.models import CONFIG, WEIGHTS

_CHARACTER = {"pixel": "faithful", "gan": "sharp, some detail invented"}


@dataclass(frozen=True)
class ModelChoice:
    """One entry of the list of models.

    Attributes:
        label: What the page shows.
        model: What `srlib.open_model` takes, or `auto`.
        gan: GAN counterpart of `model`, where `open_model` does not know it.
        fidelity: The fidelity at which the blend with its counterpart is the model itself; None without a counterpart.
    """

    label: str
    model: str
    gan: str | None = None
    fidelity: float | None = None


def model_choices(models: Path, others: Sequence[str] = ()) -> list[ModelChoice]:
    """Return the models to choose from; the first is the default.

    Args:
        models: Folder of model folders and model files; it need not exist.
        others: Further models, as `srlib.open_model` takes them; they come first.
    """
    return [
        *(ModelChoice(name, name) for name in others),
        *_shipped(),
        *(ModelChoice(f"{uri.removeprefix('models:/')} – from MLflow", uri) for uri in _champions()),
        *_in_folder(models),
    ]


def _shipped() -> Iterator[ModelChoice]:
    """Yield the default of `srlib upscale`, then each shipped model."""
    names = sorted(shipped_models(), key=lambda name: name != CLEAN_MODEL)
    if PHOTO_MODEL in names:
        yield ModelChoice(
            f"{AUTO} – the model that fits the image and the size", AUTO, fidelity=1.0 if auto_can_blend() else None
        )
    in_pairs = {name for pair in PAIRS if {pair.psnr, pair.gan} <= set(names) for name in (pair.psnr, pair.gan)}
    for name in names:
        config = read_exported(SHIPPED / name).config
        fidelity = float(config.training == "pixel") if name in in_pairs else None
        speed = ", fast" if name == FAST_MODEL else ""
        purpose = "" if config.inputs == CLEAN else ", for noisy images and JPEGs"
        yield ModelChoice(f"{name} – {_CHARACTER[config.training]}{speed}{purpose}", name, fidelity=fidelity)


def _champions() -> list[str]:
    if find_spec("mlflow") is None:
        return []
    from srlib.tracking.registry import champions

    try:
        return champions()
    except SrlibError as error:
        print(f"warning: {error}", file=sys.stderr)
        return []


def _in_folder(models: Path) -> Iterator[ModelChoice]:
    if not models.is_dir():
        return
    for path in sorted(models.iterdir()):
        is_folder = is_exported(path) or all((path / name).is_file() for name in (CONFIG, WEIGHTS))
        if is_folder or path.suffix.lower() in SUFFIXES:
            pair = models / "gan"
            has_pair = is_folder and path.name == "pretrained" and pair.is_dir()
            yield ModelChoice(
                str(path), str(path), gan=str(pair) if has_pair else None, fidelity=1.0 if has_pair else None
            )


def version_of(model: str) -> str:
    """Return what changes when a name comes to mean another model: the version of an alias, or a digest of the files.

    Args:
        model: A model as `srlib.open_model` takes it.

    Raises:
        SrlibError: MLflow cannot be reached, or has no such alias.
    """
    if model.startswith("models:/") and find_spec("mlflow"):
        return _version_of_alias(model)
    try:
        return sampled_hash(Path(model))
    except OSError:  # opening the model says what is wrong with it
        return ""


def _version_of_alias(uri: str) -> str:
    """Return the version to which an alias points; nothing for other addresses, which name one model for ever."""
    from srlib.pipeline.dvc import root
    from srlib.tracking.store import DATABASE, connect

    name, _, alias = uri.removeprefix("models:/").partition("@")
    if not alias or not (os.environ.get("MLFLOW_TRACKING_URI") or (root() / DATABASE).exists()):
        return ""
    store = connect(root())
    with store.in_use():
        return str(store.client.get_model_version_by_alias(name, alias).version)
