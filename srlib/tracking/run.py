"""The MLflow run of a stage: opened under its parent, filled while the stage works, ended however that ends."""

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.pipeline.dvc import PipelineStage, ProcessId, execution, git_state, root
from srlib.tracking import registry
from srlib.tracking.outbox import UNSENT, Outbox, one_line, send_unsent
from srlib.tracking.store import Store

PATIENCE = {"FINISHED": 60.0, "FAILED": 10.0, "KILLED": 5.0}
"""Seconds that the end of a stage waits for a server that does not answer."""

WEIGHTS = "model.weights.h5"

DATASET_ATTEMPTS = 5
"""How often an input is recorded before its failure counts."""


class TrackedRun:
    """The MLflow run of one stage. Every call returns at once; a thread sends.

    Attributes:
        id: MLflow's id of the run.
    """

    def __init__(self, client: Any, run: str, outbox: Outbox, stage: str, parent: str | None) -> None:
        self.id, self._client, self._outbox, self._stage, self._parent = run, client, outbox, stage, parent

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a point to each curve; the key `step` of a row is left out.

        Without `step` these are results: the parent run shows them too, as `<stage>/<metric>`. Characters that MLflow
        does not take in a name become `_`.
        """
        values = {re.sub(r"[^\w/. :-]", "_", name): float(value) for name, value in metrics.items() if name != "step"}
        self._outbox.add_metrics(self.id, values, int(step or 0))
        if step is None and self._parent is not None:
            results = {f"{self._stage}/{name}": value for name, value in values.items()}
            self._outbox.add_metrics(self._parent, results, 0)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags."""
        self._outbox.add_tags(self.id, dict(tags))

    def log_image(self, name: str, image: np.ndarray | Path, step: int | None = None) -> None:
        """Adds a picture: uint8 [H, W, 3] or [H, W], or a file.

        With `step` it is one of a series that the UI shows beside the curves. Without, it is the artifact
        `pictures/<name>`, as a PNG unless it is a file.
        """
        if not isinstance(image, np.ndarray):
            self.log_artifact(image, "pictures")
            return
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"{name}: expected uint8 [H, W, 3] or [H, W], got {image.dtype} {list(image.shape)}")
        picture = image.copy()
        if step is None:
            file = f"pictures/{name.removesuffix('.png')}.png"
            self._outbox.add_file(lambda: self._client.log_image(self.id, picture, artifact_file=file))
        else:
            key = re.sub(r"[^A-Za-z0-9_./ -]", "_", name)
            self._outbox.add_file(lambda: self._client.log_image(self.id, picture, key=key, step=step))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Adds a file, or all files of a folder, below `folder`. It must stay as it is until the stage ends."""
        source = Path(path)
        if not source.exists():
            raise SrlibError(f"{source}: no such file or folder; it was to be recorded in MLflow")
        if source.is_dir():
            target = f"{folder}/{source.name}" if folder else source.name
            self._outbox.add_file(lambda: self._client.log_artifacts(self.id, str(source), target))
        else:
            self._outbox.add_file(lambda: self._client.log_artifact(self.id, str(source), folder))

    def log_model(
        self,
        model: Any,
        name: str,
        example: np.ndarray | None = None,
        *,
        folder: Path | None = None,
        register_as: str | None = None,
    ) -> None:
        """Records a Keras model with its signature, an input example and the versions that it needs.

        Should MLflow fail, that is one line on stderr: the weights are an output of the stage anyway.

        Args:
            model: A picture-to-picture network, NHWC, float32 in [0, 1].
            name: Its name in MLflow.
            example: float32 [1, h, w, C], a small LR picture; a gray ramp by default.
            folder: The model as `srlib.models.save_model` wrote it; recorded with it.
            register_as: The name in the model registry that it becomes a version of; needs `folder`.
        """
        import keras
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

        if example is None:
            ramp = np.linspace(0, 1, 16, dtype=np.float32)
            example = np.broadcast_to(ramp[:, None], (1, 16, 16, model.input_shape[-1])).copy()
        output = keras.ops.convert_to_numpy(model(example))
        # Height and width are open: the networks are convolutional.
        inputs, outputs = (
            Schema([TensorSpec(np.dtype(array.dtype), (-1, -1, -1, array.shape[-1]))]) for array in (example, output)
        )
        packages = ["keras", keras.backend.backend(), "numpy"]
        save = functools.partial(_save_keras_model, folder)
        try:
            logged = Model.log(
                artifact_path=None,
                name=name,
                flavor=SimpleNamespace(__name__="mlflow.keras", save_model=save),
                model=model,
                run_id=self.id,
                signature=ModelSignature(inputs=inputs, outputs=outputs),
                input_example=example,
                pip_requirements=[f"{package}=={version(package)}" for package in packages],
                validate_serving_input=False,
            )
            if register_as and folder:
                registry.register(self._client, register_as, logged, self.id, file_hash(folder / WEIGHTS))
        except (MlflowException, OSError, PackageNotFoundError) as error:
            print(f"warning: MLflow: the model {name} was not recorded: {one_line(error)}", file=sys.stderr)

    def elect(self, name: str, folder: Path, verdict: registry.Verdict) -> None:
        """Decides, once MLflow answers, whether the model in `folder` becomes the champion of `name`, and prints why.

        Args:
            name: Of the registered model.
            folder: The model, as `log_model` was given it.
            verdict: What was measured, and the rule.
        """
        weights = file_hash(folder / WEIGHTS)

        def decide() -> None:
            print(f"champion: {registry.elect(self._client, name, weights, verdict)}", flush=True)

        self._outbox.add_file(decide)


def _save_keras_model(folder: Path | None, path: str, validate_serving_input: bool, **options: Any) -> None:
    """What `mlflow.keras.log_model` calls, with the folder made first: its input example fails without one."""
    import mlflow.keras

    Path(path).mkdir()
    mlflow.keras.save_model(path=path, **options)
    if folder:
        shutil.copytree(folder, Path(path) / registry.FOLDER)


@contextlib.contextmanager
def tracked_run(
    store: Store,
    stage: PipelineStage,
    section: str,
    recipe: Mapping[str, Any],
    inputs: Mapping[str, Path],
    fingerprint: str,
    status_of: Callable[[BaseException], str],
) -> Iterator[TrackedRun]:
    """The MLflow run of a stage, from its start to its end.

    Args:
        store: Where it is recorded.
        stage: The stage as DVC has it.
        section: Its section of params.yaml.
        recipe: All parameters, nested.
        inputs: Name → path of what the stage reads.
        fingerprint: Names everything that may change the outputs.
        status_of: The status that an exception ends the run with.

    Raises:
        SrlibError: The store cannot be used; before any work is done.
    """
    from mlflow.tracking.context.registry import resolve_tags

    client, folder, begun = store.client, root(), time.monotonic()
    with store.in_use():
        send_unsent(client, folder)
        close_dead_runs(store)
        process = ProcessId.of()
        common = resolve_tags({"host": process.host, "process": str(process), **git_state()})
        parent, parent_status = _open_parent(store, recipe, common)
        tags = common | {"dvc.stage": stage.address, "fingerprint": fingerprint}
        tags |= {f"dvc.dep.{path}": digest for path, digest in stage.dependencies.items()}
        tags |= _producers(store, stage, inputs)
        if parent is not None:
            tags["mlflow.parentRunId"] = parent
        run = client.create_run(store.experiment, tags=tags, run_name=stage.address).info.run_id

    outbox = Outbox(client, run, folder / UNSENT / f"{run}.json", _system_metrics(run))
    tracked = TrackedRun(client, run, outbox, stage.address.replace("@", " "), parent)
    status = "FINISHED"
    try:
        with store.in_use():
            own = {key: value for key, value in recipe.items() if key == section or not isinstance(value, dict)}
            _log_params(client, run, flatten(own))
            _log_inputs(client, run, stage, inputs)
        yield tracked
    except BaseException as error:
        status = status_of(error)
        if status == "FAILED":
            tracked.set_tags({"error": one_line(error)})
        raise
    finally:
        tracked.log_metrics({"seconds_total": time.monotonic() - begun})
        ends = {run: status}
        if parent is not None:
            ends[parent] = parent_status if status == "FINISHED" and parent_status else status
        outbox.close(PATIENCE[status], ends)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": [1]}}` → `{"a.b": "[1]"}`; what is not a string is written as JSON."""
    flat: dict[str, str] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def close_dead_runs(store: Store) -> None:
    """Ends as KILLED what this machine's dead processes left RUNNING: nothing can catch SIGKILL."""
    for run in _search(store, f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"):
        process = run.data.tags.get("process")
        if process and ProcessId.parse(run.data.tags["host"], process).is_dead():
            store.client.set_terminated(run.info.run_id, "KILLED")


def _search(store: Store, query: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = store.client.search_runs([store.experiment], query, max_results=200, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _open_parent(store: Store, recipe: Mapping[str, Any], tags: dict[str, str]) -> tuple[str | None, str | None]:
    """The run of this execution of the pipeline, made by its first stage and opened again by each later one.

    Returns:
        Its id, and the status that it keeps although this stage succeeds: FAILED or KILLED by an earlier one.
    """
    key = execution()
    if key is None:
        return None, None
    found = _search(store, f"tags.execution = '{key}'")
    if found:
        parent = found[0].info
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


def _producers(store: Store, stage: PipelineStage, inputs: Mapping[str, Path]) -> dict[str, str]:
    """`made_by.<input>` → id of the run that wrote exactly this content; inputs that no run made are left out."""
    tags = {}
    for name, path in inputs.items():
        place = os.path.normpath(path)
        digest = stage.dependencies.get(place)
        makers = _search(store, f"tags.`dvc.out.{place}` = '{digest}'") if digest else []
        if makers:
            tags[f"made_by.{name}"] = makers[0].info.run_id
    return tags


def _log_params(client: Any, run: str, params: dict[str, str]) -> None:
    from mlflow.entities import Param

    entities = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entities), 100):
        client.log_batch(run, params=entities[start : start + 100])


def _log_inputs(client: Any, run: str, stage: PipelineStage, inputs: Mapping[str, Path]) -> None:
    """Each input as a dataset: DVC's hash is its digest, the path in the repository its source."""
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
    # MLflow looks for a dataset and then adds it: of two stages at once, in one database, the second to add it fails.
    for attempt in range(DATASET_ATTEMPTS):
        try:
            client.log_inputs(run, datasets)
            return
        except MlflowException:
            if attempt == DATASET_ATTEMPTS - 1:
                raise
            time.sleep(0.05 * 2**attempt)


def _system_metrics(run: str) -> Callable[[], dict[str, float]]:
    """MLflow's own measures of processor, memory, disk, network and GPUs, under its own names."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run)
    monitor.collect_metrics()  # rates count from here

    def sample() -> dict[str, float]:
        monitor.collect_metrics()
        values = monitor.aggregate_metrics()
        for part in monitor.monitors:
            part.clear_metrics()
        return {f"system/{name}": value for name, value in values.items()}

    return sample
