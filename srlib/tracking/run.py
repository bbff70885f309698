"""The MLflow run of a stage: opened under its parent, filled while the stage works, ended however the stage ends."""

import contextlib
import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.params import Params
from srlib.pipeline.dvc import PipelineStage, ProcessId, execution, git_state, root
from srlib.signals import Stopped
from srlib.tracking import registry
from srlib.tracking._mlflow_compat import system_metrics
from srlib.tracking.outbox import UNSENT, Outbox, one_line, send_unsent
from srlib.tracking.store import Store

if TYPE_CHECKING:
    import keras
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE = {"FINISHED": 60.0, "FAILED": 10.0, "KILLED": 5.0}
"""Status of a run → seconds that its end waits for a server that does not answer."""

WEIGHTS = "model.weights.h5"

DATASET_ATTEMPTS = 5
"""Attempts to record the inputs before a failure counts."""


@dataclass(frozen=True)
class TrackedRun:
    """The MLflow run of one stage. Its methods return at once, except `log_model`; a thread sends.

    Attributes:
        id: MLflow's id of the run.
        stage: Name of the stage, as metrics of the parent run are prefixed with it.
        parent: Id of the parent run, if there is one.
        store: The tracking store.
        outbox: The queue of what is to be sent.
        registered_names: Name of a model → its name in the model registry.
    """

    id: str
    stage: str
    parent: str | None
    store: Store
    outbox: Outbox
    registered_names: Mapping[str, str]

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to the curve of each metric.

        Characters that MLflow does not accept in a name become `_`; a metric named `step` is left out.

        Args:
            metrics: Name → value.
            step: The step of the point. Without it the values are results, which the parent run shows as well, as
                `<stage>/<metric>`.
        """
        values = {re.sub(r"[^\w/. :-]", "_", name): float(value) for name, value in metrics.items() if name != "step"}
        self.outbox.add_metrics(self.id, values, int(step or 0))
        if step is None and self.parent is not None:
            results = {f"{self.stage}/{name}": value for name, value in values.items()}
            self.outbox.add_metrics(self.parent, results, 0)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self.outbox.add_tags(self.id, dict(tags))

    def log_image(self, name: str, image: np.ndarray | Path, step: int | None = None) -> None:
        """Add an image.

        Args:
            name: Its name. Without `step` it becomes the artifact `images/<name>.png`.
            image: uint8 [H, W, 3] or [H, W], or a file, which keeps its own name.
            step: The step, for one of a series that the UI shows beside the curves.
        """
        if not isinstance(image, np.ndarray):
            self.log_artifact(image, "images")
            return
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"{name}: expected uint8 [H, W, 3] or [H, W], got {image.dtype} {list(image.shape)}")
        pixels, client = image.copy(), self.store.client
        if step is None:
            file = f"images/{name.removesuffix('.png')}.png"
            self.outbox.add_file(lambda: client.log_image(self.id, pixels, artifact_file=file))
        else:
            key = re.sub(r"[^A-Za-z0-9_./ -]", "_", name)
            self.outbox.add_file(lambda: client.log_image(self.id, pixels, key=key, step=step))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Add a file, or all files of a folder. It must not change until the stage ends.

        Args:
            path: The file or folder.
            folder: The folder of the run that receives it.

        Raises:
            SrlibError: There is no such file or folder.
        """
        source, client = Path(path), self.store.client
        if not source.exists():
            raise SrlibError(f"{source}: no such file or folder; it was to be recorded in MLflow")
        if source.is_dir():
            target = f"{folder}/{source.name}" if folder else source.name
            self.outbox.add_file(lambda: client.log_artifacts(self.id, str(source), target))
        else:
            self.outbox.add_file(lambda: client.log_artifact(self.id, str(source), folder))

    def log_model(self, model: "keras.Model", name: str, folder: Path | None = None) -> None:
        """Record a Keras model, and register it under the name that params.yaml gives it.

        A failure of MLflow is one line on stderr: the weights are an output of the stage as well.

        Args:
            model: An image-to-image network, NHWC, float32 in [0, 1].
            name: Its name in MLflow; `pretrained` and `gan` are registered.
            folder: The model as `srlib.models.save_model` wrote it. Without it nothing is registered.
        """
        from mlflow.exceptions import MlflowException

        try:
            logged = registry.record_model(self.store, self.id, name, model, folder)
            if folder and name in self.registered_names:
                weights = file_hash(folder / WEIGHTS)
                registry.register(self.store.client, self.registered_names[name], logged, self.id, weights)
        except (MlflowException, OSError, PackageNotFoundError) as error:
            print(f"warning: MLflow: the model {name} was not recorded: {one_line(error)}", file=sys.stderr)

    def elect(self, name: str, folder: Path, verdict: registry.Verdict) -> None:
        """Decide, once MLflow answers, whether a model becomes the champion of its registered name, and print why.

        Args:
            name: Name of the model, as passed to `log_model`.
            folder: The model's folder, as passed to `log_model`.
            verdict: The measured figure, and the rule.
        """
        weights, client = file_hash(folder / WEIGHTS), self.store.client

        def decide() -> None:
            decision = registry.elect(client, self.registered_names[name], weights, verdict)
            print(f"champion: {decision}", flush=True)

        self.outbox.add_file(decide)


@contextlib.contextmanager
def tracked_run(
    store: Store, stage: PipelineStage, section: str, params: Params, inputs: Mapping[str, Path], fingerprint: str
) -> Iterator[TrackedRun]:
    """Open the MLflow run of a stage, and end it after the block as FINISHED, FAILED or KILLED.

    Args:
        store: The tracking store.
        stage: The stage as DVC has it.
        section: Its section of params.yaml.
        params: The whole recipe.
        inputs: Name → path of what the stage reads.
        fingerprint: Digest of everything that may change the outputs.

    Yields:
        The run.

    Raises:
        SrlibError: The store cannot be used; before any work is done.
    """
    start, recipe = time.monotonic(), params.model_dump(mode="json")
    with store.in_use():
        send_unsent(store.client, root())
        close_dead_runs(store)
        common = _common_tags()
        parent, parent_status = _open_parent(store, recipe, common)
        tags = common | _stage_tags(store, stage, inputs, fingerprint)
        tags |= {"mlflow.parentRunId": parent} if parent else {}
        run = store.client.create_run(store.experiment, tags=tags, run_name=stage.address).info.run_id

    outbox = Outbox(store.client, run, root() / UNSENT / f"{run}.json", system_metrics(run))
    prefix, names = stage.address.replace("@", " "), params.registry.names(params.scale)
    tracked = TrackedRun(run, prefix, parent, store, outbox, names)
    status = "FINISHED"
    try:
        with store.in_use():
            own = {key: value for key, value in recipe.items() if key == section or not isinstance(value, dict)}
            _log_params(store.client, run, flatten(own))
            _log_inputs(store.client, run, stage, inputs)
        yield tracked
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    except BaseException as error:
        status = "FAILED"
        tracked.set_tags({"error": one_line(error)})
        raise
    finally:
        tracked.log_metrics({"seconds_total": time.monotonic() - start})
        of_parent = parent_status if status == "FINISHED" and parent_status else status
        outbox.close(PATIENCE[status], {run: status} | ({parent: of_parent} if parent else {}))


def flatten(nested: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as one level of dotted names, with values as MLflow shows them.

    Example:
        >>> flatten({"a": {"b": [1]}, "c": "text"})
        {'a.b': '[1]', 'c': 'text'}
    """
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def close_dead_runs(store: Store) -> None:
    """Set to KILLED the runs that dead processes of this machine left RUNNING: nothing can catch SIGKILL."""
    for run in _search(store, f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"):
        process = run.data.tags.get("process")
        if process and ProcessId.parse(run.data.tags["host"], process).is_dead():
            store.client.set_terminated(run.info.run_id, "KILLED")


def _search(store: Store, query: str) -> "list[Run]":
    """Return all runs of the experiment that match, the newest first."""
    runs: list[Run] = []
    token = None
    while True:
        page = store.client.search_runs([store.experiment], query, max_results=200, page_token=token)
        runs.extend(page)
        if not page.token or page.token == token or not page:
            return runs
        token = page.token


def _common_tags() -> dict[str, str]:
    """Return the tags of a stage's run and of its parent: the user, the code, the process."""
    from mlflow.tracking.context.registry import resolve_tags

    process = ProcessId.of()
    tags: dict[str, str] = resolve_tags({"host": process.host, "process": str(process), **git_state()})
    return tags


def _stage_tags(store: Store, stage: PipelineStage, inputs: Mapping[str, Path], fingerprint: str) -> dict[str, str]:
    """Return the tags that tell what a stage read, and which runs wrote exactly that (`made_by.<input>`)."""
    tags = {"dvc.stage": stage.address, "fingerprint": fingerprint}
    tags |= {f"dvc.dep.{path}": digest for path, digest in stage.dependencies.items()}
    for name, path in inputs.items():
        place = os.path.normpath(path)
        if digest := stage.dependencies.get(place):
            query = f"tags.`dvc.out.{place}` = '{digest}'"
            makers = _search(store, query) if not set("`'\"") & set(place) else []  # MLflow cannot quote these
            tags |= {f"made_by.{name}": maker.info.run_id for maker in makers[:1]}
    return tags


def _open_parent(store: Store, recipe: Mapping[str, object], tags: dict[str, str]) -> tuple[str | None, str | None]:
    """Open the run of this execution of the pipeline, which its first stage creates and each later one opens again.

    Returns:
        Its id, and the status that it keeps although this stage succeeds: FAILED or KILLED by an earlier one.
    """
    key = execution()
    if key is None:
        return None, None
    if runs := _search(store, f"tags.execution = '{key}'"):
        parent = runs[0].info
        store.client.update_run(parent.run_id, status="RUNNING")
        store.client.set_tag(parent.run_id, "process", tags["process"])
        return parent.run_id, parent.status if parent.status in ("FAILED", "KILLED") else None
    experiment = os.environ.get("DVC_EXP_NAME")
    commit = tags.get("git.commit", "")[:7]
    changed = "-dirty" if tags.get("git.dirty") == "true" else ""
    name = f"exp {experiment}" if experiment else f"repro {commit}{changed}".strip()
    tags = {**tags, "execution": key, "mlflow.source.name": "dvc.yaml"}
    created = store.client.create_run(store.experiment, tags=tags, run_name=name)
    _log_params(store.client, created.info.run_id, flatten(recipe))
    return created.info.run_id, None


def _log_params(client: "MlflowClient", run: str, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    entities = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entities), 100):
        client.log_batch(run, params=entities[start : start + 100])


def _log_inputs(client: "MlflowClient", run: str, stage: PipelineStage, inputs: Mapping[str, Path]) -> None:
    """Record each input as a dataset: DVC's hash is its digest, the path in the repository its source."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    datasets = [
        DatasetInput(
            Dataset(name, stage.dependencies[place][:36], "local", json.dumps({"uri": place})),
            [InputTag("mlflow.data.context", stage.address)],
        )
        for name, path in inputs.items()
        if (place := os.path.normpath(path)) in stage.dependencies
    ]
    if not datasets:
        return
    # MLflow looks for a dataset and then adds it: if two stages do so at once in one database, the second fails.
    for attempt in range(DATASET_ATTEMPTS):
        try:
            client.log_inputs(run, datasets)
            return
        except MlflowException:
            if attempt == DATASET_ATTEMPTS - 1:
                raise
            time.sleep(0.05 * 2**attempt)
