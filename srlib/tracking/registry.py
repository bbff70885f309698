"""MLflow's models: what training records and registers, which version is the champion, and how a model is fetched.

A registered model is a name; each set of weights that training produced is a version of it. Beside Keras' own form a
version holds the model's folder as the pipeline wrote it, which is what `fetched` yields. The alias `champion` moves to
a version once the evaluate stage has found it better than the present champion, by the rule in params.yaml.
"""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from srlib.errors import SrlibError
from srlib.models import CONFIG, WEIGHTS
from srlib.pipeline.dvc import root
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking.descriptions import model_note, run_link, version_note, with_scores
from srlib.tracking.keys import accepted, score_text
from srlib.tracking.model import FOLDER, RecordedModel
from srlib.tracking.outbox import one_line
from srlib.tracking.store import DATABASE, Store, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
FILES = (CONFIG, WEIGHTS)
_WEIGHTS_TAG = "weights.sha256"
_MODEL = re.compile(r"models:/(?:(?P<id>m-[0-9a-f]{32})|(?P<name>[^/@]+)(?:@(?P<alias>.+)|/(?P<version>\d+)))")
_RUN = re.compile(r"runs:/(?P<run>[^/]+)/(?P<name>[^/']+)")


@dataclass(frozen=True)
class SetScores:
    """A model's mean scores on one test set: metric → value, and the hash of the set's images."""

    values: Mapping[str, float]
    images: str


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


def register(store: Store, name: str, model: RecordedModel, run: str, weights: str) -> None:
    """Make a logged model the newest version of a registered model, unless a version holds the same weights.

    Args:
        store: The tracking store.
        name: Name of the registered model, which is created if missing.
        model: The logged model.
        run: Id of the run that made it.
        weights: SHA-256 of its model.weights.h5.
    """
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        client.create_registered_model(name, description=model_note(model.facts, name))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if versions := _versions(client, name, weights):
        number = versions[0].version
    else:
        tags = {_WEIGHTS_TAG: weights}
        number = client.create_model_version(
            name, model.uri, run_id=run, tags=tags, model_id=model.id, await_creation_for=0
        ).version
        origin = f"Trained by the run [{run[:8]}]({run_link(store.experiment, run)})."
        note = version_note(f"models:/{name}/{number}", model.facts, origin, model.scores)
        client.update_model_version(name, str(number), description=note)
    compat.link_version(client, model.id, name, str(number))
    note = client.get_model_version(name, str(number)).description
    client.set_logged_model_tags(model.id, {compat.NOTE: note or ""})


def record_scores(store: Store, name: str, weights: str, scores: Mapping[str, SetScores]) -> None:
    """Record a model's scores on test sets at its logged model, at the run that trained it, and in its description.

    Args:
        store: The tracking store.
        name: Name of the registered model.
        weights: SHA-256 of the model.weights.h5 that was evaluated.
        scores: Test set → scores.
    """
    from mlflow.entities import Metric

    client, now = store.client, time.time_ns() // 1_000_000
    for version in _versions(client, name, weights)[:1]:
        logged = _MODEL.fullmatch(version.source or "")  # what a search returns has no `model_id`
        model = logged["id"] if logged else None
        metrics = [
            Metric(f"test/{accepted(test_set)}/{key}", value, now, 0, model, test_set, entry.images[:36])
            for test_set, entry in scores.items()
            for key, value in entry.values.items()
        ]
        if version.run_id and model:
            client.log_batch(version.run_id, metrics=metrics)
        rows = {
            test_set: score_text(entry.values["psnr_y"], entry.values.get("ssim_y"))
            for test_set, entry in scores.items()
            if "psnr_y" in entry.values
        }
        note = with_scores(version.description or "", rows)
        if note:
            client.update_model_version(name, version.version, description=note)
        if note and model:
            client.set_logged_model_tags(model, {compat.NOTE: note})


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
    versions = client.search_model_versions(f"name = '{name}' and tags.`{_WEIGHTS_TAG}` = '{weights}'")
    return sorted(versions, key=lambda version: -int(version.version))


def champions() -> list[str]:
    """Return the addresses of the champions in the repository's mlflow.db, or where MLFLOW_TRACKING_URI points.

    Returns:
        `models:/NAME@champion` for each registered model that has one, by name; none where nothing was recorded.

    Raises:
        SrlibError: MLflow cannot be reached.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI") and not (root() / DATABASE).exists():
        return []
    store = connect(root())
    with store.in_use():
        names = sorted(model.name for model in store.client.search_registered_models())
        return [f"models:/{name}@{CHAMPION}" for name in names if _holder(store.client, name)]


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
