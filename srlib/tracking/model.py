"""A trained model in MLflow: a Python function that takes an image and gives one, with its code and its environment.

Beside the model's folder, as the pipeline wrote it, lies the part of srlib that runs it. So the model loads where srlib
is not installed, from the packages in its requirements.txt.
"""

import base64
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.imaging.write import encode_png
from srlib.pipeline.dependencies import imported_files
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking.changes import flatten
from srlib.tracking.keys import score_text
from srlib.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

FOLDER = "srlib"
"""The folder below a recorded model that holds config.json and model.weights.h5."""

LOADER = "srlib.inference.served"
"""The module that loads a recorded model; it comes with the model."""

_NOT_NEEDED = ("srlib/tracking/", "srlib/inference/cache.py")
"""What that module's imports would reach, but a recorded model never runs."""

PACKAGES = ("h5py", "keras", "numpy", "opencv-python-headless", "pillow", "pydantic", "tifffile")
"""What that module needs, beside MLflow and Keras' backend."""


@dataclass(frozen=True)
class RecordedModel:
    """A logged model.

    Attributes:
        id: MLflow's id.
        uri: Its address.
        facts: Facts about the network, such as `network`, `scale` and `training`.
        scores: `held-out patches` → text of its scores.
        dataset: Name and digest of the data that these were measured on; empty where it is not known.
    """

    id: str
    uri: str
    facts: Mapping[str, str]
    scores: Mapping[str, str]
    dataset: tuple[str, str] = ("", "")


def record_model(store: Store, run: str, name: str, folder: Path, results: Mapping[str, float]) -> RecordedModel:
    """Record a trained model as a Python function, with signature, input example, code and requirements.

    Args:
        store: The tracking store.
        run: Id of the run that made the model.
        name: Name of the model in that run.
        folder: The model as `srlib.models.save_model` wrote it.
        results: Its scores on held-out patches, which the logged model shows.

    Returns:
        The logged model.
    """
    import mlflow.pyfunc
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    facts = network_facts(folder)
    logged = store.client.create_logged_model(
        store.experiment, name=name, source_run_id=run, params=facts, model_type="super-resolution"
    )
    about = Model(logged.artifact_location, run, model_uuid=logged.model_id, model_id=logged.model_id)
    status = "FAILED"
    try:
        with tempfile.TemporaryDirectory(prefix="srlib-model-") as temporary:
            path, code = Path(temporary, "model"), Path(temporary, "code")
            path.mkdir()  # `save_model` writes its input example before it makes the folder
            _copy_code(code)
            mlflow.pyfunc.save_model(
                str(path),
                loader_module=LOADER,
                code_paths=[str(code / "srlib")],
                mlflow_model=about,
                signature=_signature(),
                input_example=[base64.b64encode(encode_png(_example())).decode()],
                pip_requirements=requirements(),
            )
            shutil.copytree(folder, path / FOLDER)
            about.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.DATA] = FOLDER
            about.model_size_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            about.save(str(path / "MLmodel"))
            store.client.log_model_artifacts(logged.model_id, str(path))
        status = "READY"
    finally:
        store.client.finalize_logged_model(logged.model_id, status)
    store.client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
    return RecordedModel(logged.model_id, logged.model_uri, facts, _scores(results), _patches(store, run))


def network_facts(folder: Path) -> dict[str, str]:
    """Return what a model's config.json says about the network, one level deep.

    Args:
        folder: A model folder of the pipeline.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    options = config.pop("options", {})
    return {"network": config.pop("name"), **flatten(config), **flatten(options)}


def requirements() -> list[str]:
    """Return the packages that a recorded model needs, with the versions of this environment."""
    import keras

    return [f"{package}=={version(package)}" for package in sorted((*PACKAGES, keras.backend.backend()))]


def _copy_code(folder: Path) -> None:
    """Copy the modules that run a model to `folder`, as a package `srlib`."""
    package = Path(__file__).parents[2]
    for file in imported_files(f"{LOADER.replace('.', '/')}.py", package, _NOT_NEEDED):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / file, folder / file)


def _example() -> np.ndarray:
    """Return a small gray ramp, uint8 [16, 16, 3]."""
    ramp = np.linspace(0, 255, 16).astype(np.uint8)
    return np.broadcast_to(ramp[:, None, None], (16, 16, 3)).copy()


def _signature() -> "ModelSignature":
    """Return the signature: an image file in Base64, as JSON carries it, and one in return.

    Bytes and arrays are accepted too. MLflow compares the input example with the signature, so it names one type.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    schema = Schema([ColSpec(DataType.string)])
    return compat.unchecked(ModelSignature(inputs=schema, outputs=schema))


def _patches(store: Store, run: str) -> tuple[str, str]:
    """Return name and digest of the patches that a run read; empty where it read none."""
    datasets = [entry.dataset for entry in store.client.get_run(run).inputs.dataset_inputs]
    return next(((one.name, one.digest) for one in datasets if one.name == "patches"), ("", ""))


def _scores(results: Mapping[str, float]) -> dict[str, str]:
    psnr = results.get("result/validation_psnr_y")
    return {} if psnr is None else {"held-out patches": score_text(psnr, results.get("result/validation_ssim_y"))}
