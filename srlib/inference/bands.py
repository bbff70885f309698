"""Where the bands of uncertainty of a model are kept, and for which results they hold."""

from fractions import Fraction
from pathlib import Path

from srlib.errors import SrlibError
from srlib.imaging.uncertainty import Bands, read_bands
from srlib.inference.output_size import OutputSize
from srlib.inference.shipped import AUTO, CLEAN_MODEL, CLEAN_MODELS, PHOTO_MODEL, SHIPPED, shipped_models

BANDS = "bands.json"
"""File with the bands, in the folder of the model."""

_MLFLOW = "models:/", "runs:/"


def bands_file(model: str) -> Path:
    """Return where the bands of a model are kept: in its folder; for a file, beside it under its name.

    Args:
        model: As for `open_model`, but not from MLflow.

    Raises:
        SrlibError: The model has no place of its own: `auto`, or one from MLflow.
    """
    if model == AUTO:
        raise SrlibError(
            f"{AUTO}: stands for several models; name the one that made the result, as `upscale` printed it"
        )
    if model.startswith(_MLFLOW):
        raise SrlibError(f"{model}: bands are kept beside a model's files; download it and name its folder")
    folder = SHIPPED / model if model in shipped_models() else Path(model)
    return folder / BANDS if folder.is_dir() else folder.with_name(f"{folder.name}.{BANDS}")


def load_bands(model: str) -> Bands:
    """Read the bands of a model.

    Raises:
        SrlibError: There are none, or the file is damaged.
    """
    path = bands_file(model)
    if not path.is_file():
        raise SrlibError(
            f"{path}: not there; measure the bands of {model} first: srlib uncertainty calibrate {model} HR_DIR"
        )
    return read_bands(path)


def check_bands(model: str, size: OutputSize, model_scale: int, *, consistent: bool) -> None:
    """Check before any work that a model has bands and that they hold for the results of a run.

    Args:
        model: As for `open_model`, or `auto`.
        size: How large each result becomes.
        model_scale: The model's own factor.
        consistent: Whether results are corrected.

    Raises:
        SrlibError: The model has no bands, or they were measured on other results.
    """
    for name in (CLEAN_MODEL, PHOTO_MODEL) if model == AUTO else (model,):
        load_bands(name)
    if size not in (OutputSize(), OutputSize(scale=Fraction(model_scale))):
        fitting = [name for scale, name in CLEAN_MODELS.items() if model == AUTO and scale == size.scale]
        remedy = f"for clean images take --model {fitting[0]}" if fitting else "leave out the option for another size"
        raise SrlibError(f"bands hold at the model's own size, ×{model_scale}; {remedy}")
    if consistent:
        raise SrlibError("bands were measured without corrections; leave out --consistent")
