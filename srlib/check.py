"""Find what is wrong with a recipe before the first stage runs, beyond what its sections tell by themselves.

Training takes hours, and DVC removes the outputs of a stage before it starts. So the images and networks that a recipe
names are opened here as the stages will open them; each package checks what it works on, in its module `check`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from srlib.data.check import training_image_mistakes
from srlib.data.local import own_image_mistakes
from srlib.engine import check_backend
from srlib.errors import SrlibError, printable
from srlib.evaluation.check import find_test_sets, method_mistakes
from srlib.evaluation.opinions import read_opinions
from srlib.params import Params
from srlib.params.mistakes import attempt
from srlib.pipeline.dvc import runs_finetune
from srlib.training.check import memory_mistakes, micro_batch_mistakes, weight_mistakes
from srlib.training.distributed import launcher_command


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
    sets, mistakes = find_test_sets(params, test)
    mistakes += [("prepare.images", line) for line in _unusable_names(Path(params.prepare.images))]
    mistakes += [*own_image_mistakes(params.download, store), *training_image_mistakes(params, train)]
    mistakes += [*weight_mistakes(params), *method_mistakes(params, sets)]
    mistakes += [*micro_batch_mistakes(params), *memory_mistakes(params)]
    if params.finetune is None and runs_finetune():
        mistakes += attempt("finetune", params.finetune_section)
    mistakes += attempt("evaluate.survey", lambda: read_opinions(Path(params.evaluate.survey)))
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
