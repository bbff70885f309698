"""MLflow's models: what training records and registers, which version is the champion, and how a model is fetched.

A registered model is a name; each set of weights that training produced is a version of it. Beside Keras' own form a
version holds the model's folder as the pipeline wrote it, which is what `fetched` yields. The alias `champion` moves to
a version once the evaluate stage has found it better than the present champion, by the rule in params.yaml.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from srlib.errors import SrlibError
from srlib.pipeline.dvc import root
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking.outbox import one_line
from srlib.tracking.store import DATABASE, Store, connect

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

CHAMPION = "champion"
FOLDER = "srlib"
"""The folder below a recorded model that holds config.json and model.weights.h5."""

FILES = ("config.json", "model.weights.h5")
_WEIGHTS = "weights.sha256"
_MODEL = re.compile(r"models:/(?:(?P<id>m-[0-9a-f]{32})|(?P<name>[^/@]+)(?:@(?P<alias>.+)|/(?P<version>\d+)))")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<name>[^/']+)")


@dataclass(frozen=True)
class Verdict:
    """An evaluation's result for a model, and the margin by which it must beat the champion.

    Attributes:
        set: The test set.
        metric: The metric that is compared.
        value: Its mean over the set.
        better: Direction that is better.
        margin: The champion is replaced only by a difference above this.
        images: Hash of the set's images: figures on other images cannot be compared.
    """

    set: str
    metric: str
    value: float
    better: Literal["higher", "lower"]
    margin: float
    images: str


def record_model(store: Store, run: str, name: str, model: "keras.Model", folder: Path | None) -> "LoggedModel":
    """Record a Keras model with its signature, an input example and the versions that it needs.

    Args:
        store: The tracking store.
        run: Id of the run that made the model.
        name: Name of the model in that run.
        model: An image-to-image network, NHWC, float32 in [0, 1].
        folder: The model as `srlib.models.save_model` wrote it, which is recorded with it.

    Returns:
        The logged model.
    """
    import mlflow.keras
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    backend = _backend()
    example = _example(model)
    logged = store.client.create_logged_model(store.experiment, name=name, source_run_id=run)
    about = Model(logged.artifact_location, run, model_uuid=logged.model_id, model_id=logged.model_id)
    status = "FAILED"
    try:
        with tempfile.TemporaryDirectory(prefix="srlib-model-") as temporary:
            path = Path(temporary, "model")
            path.mkdir()  # `save_model` writes its input example before it makes the folder
            mlflow.keras.save_model(
                model,
                str(path),
                mlflow_model=about,
                signature=_signature(model, example),
                input_example=example,
                pip_requirements=[f"{package}=={version(package)}" for package in ("keras", backend, "numpy")],
            )
            if folder:
                shutil.copytree(folder, path / FOLDER)
            store.client.log_model_artifacts(logged.model_id, str(path))
        status = "READY"
    finally:
        store.client.finalize_logged_model(logged.model_id, status)
    store.client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
    return logged


def _backend() -> str:
    import keras

    return str(keras.backend.backend())


def _example(model: "keras.Model") -> np.ndarray:
    """Return a small gray ramp, float32 [1, 16, 16, C] in [0, 1]."""
    ramp = np.linspace(0, 1, 16, dtype=np.float32)
    return np.broadcast_to(ramp[:, None], (1, 16, 16, model.input_shape[-1])).copy()


def _signature(model: "keras.Model", example: np.ndarray) -> "ModelSignature":
    """Return the model's signature: batch, height and width are open, since the networks are convolutional."""
    import keras
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    output = keras.ops.convert_to_numpy(model(example))
    inputs, outputs = (
        Schema([TensorSpec(np.dtype(array.dtype), (-1, -1, -1, array.shape[-1]))]) for array in (example, output)
    )
    return ModelSignature(inputs=inputs, outputs=outputs)


def register(client: "MlflowClient", name: str, model: "LoggedModel", run: str, weights: str) -> None:
    """Make a logged model the newest version of a registered model, unless a version holds the same weights.

    Args:
        client: A client of the store.
        name: Name of the registered model, which is created if missing.
        model: The logged model.
        run: Id of the run that made it.
        weights: SHA-256 of its model.weights.h5.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if not _versions(client, name, weights):
        tags = {_WEIGHTS: weights}
        client.create_model_version(
            name, model.model_uri, run_id=run, tags=tags, model_id=model.model_id, await_creation_for=0
        )


def elect(client: "MlflowClient", name: str, weights: str, verdict: Verdict) -> str:
    """Move the alias `champion` to the version with these weights if the verdict says so.

    The figures and the reason become tags of the version. A second call changes nothing.

    Args:
        client: A client of the store.
        name: Name of the registered model.
        weights: SHA-256 of the model.weights.h5 that was evaluated.
        verdict: The result of the evaluation, and the rule.

    Returns:
        One line with the decision and its reason.
    """
    versions = _versions(client, name, weights)
    if not versions:
        return f"{name}: these weights are not in MLflow's registry (trained elsewhere, or in an outage): no champion"
    holder = _holder(client, name)
    is_champion = holder is not None and holder.version in [version.version for version in versions]
    own = holder if is_champion and holder else versions[0]
    result = f"{verdict.metric} {verdict.value:.4f} on {verdict.set}"
    client.set_model_version_tag(name, own.version, f"{verdict.set}/{verdict.metric}", repr(verdict.value))
    client.set_model_version_tag(name, own.version, f"{verdict.set}/images", verdict.images)
    if is_champion:
        return f"{name}: version {own.version} stays {CHAMPION}: it is this model, {result}"
    is_better, reason = _compare(holder, verdict)
    if is_better:
        client.set_registered_model_alias(name, CHAMPION, own.version)
    client.set_model_version_tag(name, own.version, CHAMPION, f"{'yes' if is_better else 'no'}: {result}, {reason}")
    verb = "becomes" if is_better else "does not become"
    return f"{name}: version {own.version} {verb} {CHAMPION}: {result}, {reason}"


def _compare(holder: "ModelVersion | None", verdict: Verdict) -> tuple[bool, str]:
    """Return whether the verdict beats the champion's recorded figure, and why."""
    if holder is None:
        return True, "the first"
    figure = f"version {holder.version}'s"
    recorded = holder.tags.get(f"{verdict.set}/{verdict.metric}")
    if recorded is None:
        return False, f"{figure} is not known; evaluate that one on {verdict.set}, or set the alias yourself"
    if holder.tags.get(f"{verdict.set}/images") != verdict.images:
        return False, f"{figure} was measured on other images; evaluate that one again, or set the alias yourself"
    champion = float(recorded)
    gain = verdict.value - champion if verdict.better == "higher" else champion - verdict.value
    is_better = gain > verdict.margin
    margin = f" by more than {verdict.margin:g}" if verdict.margin else ""
    return is_better, f"{'' if is_better else 'not '}better than {figure} {champion:.4f}{margin}"


def _holder(client: "MlflowClient", name: str) -> "ModelVersion | None":
    """Return the present champion, if there is one."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):  # no alias, or no such model
            return None
        raise


def _versions(client: "MlflowClient", name: str, weights: str) -> "list[ModelVersion]":
    """Return the versions of a registered model that hold these weights, the newest first."""
    versions = client.search_model_versions(f"name = '{name}' and tags.`{_WEIGHTS}` = '{weights}'")
    return sorted(versions, key=lambda version: -int(version.version))


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """Fetch a model from MLflow into a folder (config.json, model.weights.h5) that lasts for the block.

    Args:
        uri: `models:/NAME@champion`, `models:/NAME/VERSION`, or `runs:/RUN/NAME`; looked up where MLFLOW_TRACKING_URI
            points, else in the repository's mlflow.db.

    Yields:
        The folder.

    Raises:
        SrlibError: MLflow cannot be reached, there is no such model, or it holds no such files.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root() / DATABASE).exists():
        raise SrlibError(f"{uri}: no {DATABASE} here; go to the repository, or set MLFLOW_TRACKING_URI")
    store = connect(root())
    with tempfile.TemporaryDirectory(prefix="srlib-model-") as temporary:
        try:
            compat.fetch_files(
                _location(store.client, uri), tuple(f"{FOLDER}/{name}" for name in FILES), Path(temporary)
            )
        except Exception as error:  # whatever a server answers, and each kind of store with a library of its own
            raise SrlibError(
                f"{uri}: not found in MLflow at {store.address}, or not recorded by pretrain or finetune: "
                f"{one_line(error)}"
            ) from error
        yield Path(temporary)


def _location(client: "MlflowClient", uri: str) -> str:
    """Return the address of a model's files, after a fixed number of requests.

    Raises:
        ValueError: The address has none of the known forms.
    """
    if run := _RUN.fullmatch(uri):
        experiment = client.get_run(run["run"]).info.experiment_id
        query = f"source_run_id = '{run['run']}' AND name = '{run['name']}'"
        models = client.search_logged_models([experiment], query, max_results=1)
        if not models:
            raise ValueError(f"the run {run['run']} has no model {run['name']}")
        return str(models[0].artifact_location)
    model = _MODEL.fullmatch(uri)
    if not model:
        raise ValueError("expected models:/NAME@ALIAS, models:/NAME/VERSION or runs:/RUN/NAME")
    location = uri
    if model["name"]:
        by_alias, name = model["alias"], model["name"]
        number = client.get_model_version_by_alias(name, by_alias).version if by_alias else model["version"]
        location = client.get_model_version_download_uri(name, str(number))
    recorded = _MODEL.fullmatch(location)
    return str(client.get_logged_model(recorded["id"]).artifact_location) if recorded and recorded["id"] else location
