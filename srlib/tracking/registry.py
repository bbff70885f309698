"""MLflow's model registry: what training registers, which version is the champion, and how a model comes back.

A registered model is a name; each set of weights that training gave is a version of it. Beside Keras' own form a
version holds the model's folder as the pipeline wrote it, which is what comes back. The alias `champion` moves to a
version once the evaluate stage found it better than the one that has it, by the rule in params.yaml.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from srlib.errors import SrlibError
from srlib.pipeline.dvc import root
from srlib.tracking.outbox import one_line
from srlib.tracking.store import DATABASE, connect

CHAMPION = "champion"
FOLDER = "srlib"
"""The folder below a recorded model that holds config.json and model.weights.h5."""

SCHEMES = ("models:/", "runs:/")
_WEIGHTS = "weights.sha256"


@dataclass(frozen=True)
class Verdict:
    """What an evaluation found of a model, and by how much it must beat the champion.

    Attributes:
        set: The test set.
        metric: The figure of merit.
        value: Its mean over the set.
        better: Which way it is better.
        margin: A champion is only beaten by more than this.
        pictures: The hash of the set's pictures: figures on others cannot be compared.
    """

    set: str
    metric: str
    value: float
    better: Literal["higher", "lower"]
    margin: float
    pictures: str


def register(client: Any, name: str, model: Any, run: str, weights: str) -> None:
    """Makes a logged model the newest version of `name`, unless a version holds the same weights.

    Args:
        client: An `mlflow.MlflowClient`.
        name: Of the registered model, which is made where it is missing.
        model: The `ModelInfo` that MLflow gave when it was logged.
        run: The id of the run that made it.
        weights: The SHA-256 of its model.weights.h5.
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


def elect(client: Any, name: str, weights: str, verdict: Verdict) -> str:
    """Moves the alias `champion` to the version with these weights if the verdict says so; calling it twice is once.

    The figures become tags of the version, and so does the reason.

    Returns:
        One line that says what was decided and why.
    """
    versions = _versions(client, name, weights)
    if not versions:
        return f"{name}: these weights are not in MLflow's registry (trained elsewhere, or in an outage): no champion"
    holder = _holder(client, name)
    same = [version for version in versions if holder and version.version == holder.version]
    own = same[0] if same else versions[0]
    shown = f"{verdict.metric} {verdict.value:.4f} on {verdict.set}"
    client.set_model_version_tag(name, own.version, f"{verdict.set}/{verdict.metric}", repr(verdict.value))
    client.set_model_version_tag(name, own.version, f"{verdict.set}/pictures", verdict.pictures)
    if same:
        return f"{name}: version {own.version} stays {CHAMPION}: it is this model, {shown}"
    moves, reason = _compare(holder, verdict)
    if moves:
        client.set_registered_model_alias(name, CHAMPION, own.version)
    client.set_model_version_tag(name, own.version, CHAMPION, f"{'yes' if moves else 'no'}: {shown}, {reason}")
    verb = "becomes" if moves else "does not become"
    return f"{name}: version {own.version} {verb} {CHAMPION}: {shown}, {reason}"


def _compare(holder: Any, verdict: Verdict) -> tuple[bool, str]:
    """Whether the verdict beats the champion's recorded figure, and why."""
    if holder is None:
        return True, "the first"
    who = f"version {holder.version}'s"
    recorded = holder.tags.get(f"{verdict.set}/{verdict.metric}")
    if recorded is None:
        return False, f"{who} is not known; evaluate that one on {verdict.set}, or set the alias yourself"
    if holder.tags.get(f"{verdict.set}/pictures") != verdict.pictures:
        return False, f"{who} was measured on other pictures; evaluate that one again, or set the alias yourself"
    theirs = float(recorded)
    gain = verdict.value - theirs if verdict.better == "higher" else theirs - verdict.value
    margin = f" by more than {verdict.margin:g}" if verdict.margin else ""
    return gain > verdict.margin, f"{'' if gain > verdict.margin else 'not '}better than {who} {theirs:.4f}{margin}"


def _holder(client: Any, name: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"):  # no alias; nor the model
            return None
        raise


def _versions(client: Any, name: str, weights: str) -> list[Any]:
    """The versions of a name that hold these weights, the newest first."""
    found = client.search_model_versions(f"name = '{name}' and tags.`{_WEIGHTS}` = '{weights}'")
    return sorted(found, key=lambda version: -int(version.version))


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """A model from MLflow as a folder (config.json, model.weights.h5) that lasts for the block.

    Args:
        uri: `models:/NAME@champion`, `models:/NAME/VERSION`, or `runs:/RUN/NAME`; looked for where MLFLOW_TRACKING_URI
            says, else in the repository's mlflow.db.

    Raises:
        SrlibError: MLflow cannot be reached, there is no such model, or it holds no such folder.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root() / DATABASE).exists():
        raise SrlibError(f"{uri}: no {DATABASE} here; go to the repository, or set MLFLOW_TRACKING_URI")
    store = connect(root())
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="srlib-model-") as temporary:
        try:
            folder = Path(download_artifacts(artifact_uri=uri, dst_path=temporary))
        except (MlflowException, OSError) as error:
            raise SrlibError(f"{uri}: not found in MLflow at {store.address}: {one_line(error)}") from error
        folder = folder / FOLDER if (folder / FOLDER).is_dir() else folder
        if not (folder / "config.json").is_file():
            raise SrlibError(f"{uri}: no model that srlib can use; one recorded by pretrain or finetune is needed")
        yield folder
