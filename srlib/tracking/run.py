"""The MLflow run of a stage: opened under its parent, filled while the stage works, ended however the stage ends."""

import contextlib
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from srlib.errors import SrlibError
from srlib.files import file_hash
from srlib.models import WEIGHTS
from srlib.params import Params
from srlib.pipeline.dvc import PipelineStage, ProcessId, root
from srlib.signals import Stopped
from srlib.tracking import registry
from srlib.tracking._mlflow_compat import NOTE, RUN_NAME, system_metrics
from srlib.tracking.changes import belongs, changes, parameters_in_file
from srlib.tracking.descriptions import Comparison, headline, run_name, run_note
from srlib.tracking.keys import HEADLINE, accepted, curve_key, parent_key
from srlib.tracking.model import RecordedModel, record_model
from srlib.tracking.outbox import UNSENT, Outbox, one_line, send_unsent
from srlib.tracking.parent import Parent, describe, log_params, open_parent
from srlib.tracking.provenance import common_tags, log_inputs, stage_tags
from srlib.tracking.store import Store

if TYPE_CHECKING:
    pass

PATIENCE = {"FINISHED": 60.0, "FAILED": 10.0, "KILLED": 5.0}
"""Status of a run → seconds that its end waits for a server that does not answer."""

Drawing = np.ndarray | Callable[[], np.ndarray]
"""An image, uint8 [H, W, 3] or [H, W], or a function that draws it; the thread that sends calls it."""


@dataclass(frozen=True)
class TrackedRun:
    """The MLflow run of one stage. Its methods return at once, except `log_model`; a thread sends.

    Attributes:
        id: MLflow's id of the run.
        stage: Name of the stage.
        parent: Id of the parent run, if there is one.
        store: The tracking store.
        outbox: The queue of what is to be sent.
        registered_names: Name of a model → its name in the model registry.
        results: The results so far.
        headline: Those of them that the parent shows too.
    """

    id: str
    stage: str
    parent: str | None
    store: Store
    outbox: Outbox
    registered_names: Mapping[str, str]
    results: dict[str, float] = field(default_factory=dict)
    headline: dict[str, float] = field(default_factory=dict)

    def log_curve(self, record: Mapping[str, float], step: int) -> None:
        """Add a record of the training log to the curves, under the names of `srlib.tracking.keys`.

        Args:
            record: Column → value.
            step: The step of the record.
        """
        values = {curve_key(accepted(name)): float(value) for name, value in record.items() if name != "step"}
        self.outbox.add_metrics(self.id, values, step)

    def log_results(
        self, metrics: Mapping[str, float], headline: Collection[str] = (), model: RecordedModel | None = None
    ) -> None:
        """Add single values; none of their names may be the name of a curve.

        Args:
            metrics: Name → value, with the group before the last slash. Characters that MLflow does not accept in a
                name become `_`.
            headline: Names of those that the parent run and the names of both runs show too.
            model: The logged model whose scores on held-out patches they are.
        """
        values = {accepted(name): float(value) for name, value in metrics.items()}
        owner = (model.id, model.dataset) if model else ("", ("", ""))
        self.outbox.add_metrics(self.id, values, 0, *owner)
        self.results.update(values)
        scores = {name: values[name] for name in map(accepted, headline)}
        self.headline.update(scores)
        if self.parent is not None:
            self.outbox.add_metrics(self.parent, {parent_key(self.stage, name): v for name, v in scores.items()}, 0)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self.outbox.add_tags(self.id, dict(tags))

    def log_image(self, name: str, image: Drawing, step: int) -> None:
        """Add an image to a series that the UI shows beside the curves.

        Args:
            name: Name of the series.
            image: The image, or a function that draws it.
            step: Its step.
        """
        key, client = re.sub(r"[^A-Za-z0-9_./ -]", "_", name), self.store.client
        drawing = image if callable(image) else image.copy()
        self.outbox.add_file(
            lambda: client.log_image(self.id, drawing() if callable(drawing) else drawing, key=key, step=step)
        )

    def log_artifact(self, path: str | Path, folder: str | None = None, *, on_parent: bool = False) -> None:
        """Add a file, or all files of a folder. It must not change until the stage ends.

        Args:
            path: The file or folder.
            folder: The folder of the run that receives it.
            on_parent: Whether the parent run receives it too.

        Raises:
            SrlibError: There is no such file or folder.
        """
        source, client = Path(path), self.store.client
        if not source.exists():
            raise SrlibError(f"{source}: no such file or folder; it was to be recorded in MLflow")
        target = "/".join(part for part in (folder, source.name) if part)
        for run in (self.id, self.parent) if on_parent and self.parent else (self.id,):
            if source.is_dir():
                self.outbox.add_file(partial(client.log_artifacts, run, str(source), target))
            else:
                self.outbox.add_file(partial(client.log_artifact, run, str(source), folder))

    def log_model(self, name: str, folder: Path, results: Mapping[str, float]) -> None:
        """Record a trained model and its results, and register it under the name that params.yaml gives it.

        A failure of MLflow is one line on stderr: the weights are an output of the stage as well.

        Args:
            name: Its name in MLflow; `pretrained` and `gan` are registered.
            folder: The model as `srlib.models.save_model` wrote it.
            results: Its results, as `srlib.tracking.keys.result_keys` names them.
        """
        from mlflow.exceptions import MlflowException

        logged = None
        try:
            logged = record_model(self.store, self.id, name, folder, results)
            if name in self.registered_names:
                weights = file_hash(folder / WEIGHTS)
                registry.register(self.store, self.registered_names[name], logged, self.id, weights)
        except (MlflowException, OSError, PackageNotFoundError) as error:
            print(f"warning: MLflow: the model {name} was not recorded: {one_line(error)}", file=sys.stderr)
        self.log_results(results, results.keys() & set(HEADLINE), logged)

    def score_model(self, name: str, folder: Path, scores: Mapping[str, registry.SetScores]) -> None:
        """Record the scores of a trained model, once MLflow answers, at its version, logged model and training run.

        Args:
            name: Name of the model, as passed to `log_model`.
            folder: The model's folder, as passed to `log_model`.
            scores: Test set → scores.
        """
        weights, store = file_hash(folder / WEIGHTS), self.store
        registered = self.registered_names[name]
        self.outbox.add_file(lambda: registry.record_scores(store, registered, weights, scores))

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
    start, label = time.monotonic(), stage.address.replace("@", " ")
    with store.in_use():
        send_unsent(store.client, root())
        close_dead_runs(store)
        common = common_tags()
        parent = open_parent(store, params, common)
        tags = common | stage_tags(store, stage, inputs, fingerprint)
        tags |= {"mlflow.parentRunId": parent.id} if parent else {}
        comparison = _comparison(store, inputs, section, params, tags)
        name = run_name(label, comparison, section, "")
        run = store.client.create_run(store.experiment, tags=tags, run_name=name).info.run_id

    outbox = Outbox(store.client, run, root() / UNSENT / f"{run}.json", system_metrics(run))
    names = params.registry.names(params.scale)
    tracked = TrackedRun(run, label, parent.id if parent else None, store, outbox, names)
    status = "FINISHED"
    try:
        with store.in_use():
            own = {key: value for key, value in parameters_in_file(params).items() if belongs(key, section)}
            log_params(store.client, run, own)
            log_inputs(store.client, run, stage, inputs)
        _attach_recipe(tracked, parent, params, stage)
        yield tracked
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    except BaseException as error:
        status = "FAILED"
        tracked.set_tags({"error": one_line(error)})
        raise
    finally:
        tracked.log_results({"time/seconds": time.monotonic() - start})
        _describe(tracked, comparison, section, parent)
        ends = {run: status}
        if parent:
            ends[parent.id] = parent.status if status == "FINISHED" and parent.status else status
        outbox.close(PATIENCE[status], ends)


def _attach_recipe(tracked: TrackedRun, parent: Parent | None, params: Params, stage: PipelineStage) -> None:
    """Add the whole recipe, with defaults, once for an execution; and the hashes of all that the stage read."""
    client, recipe = tracked.store.client, yaml.safe_dump(params.model_dump(mode="json"), sort_keys=False)
    tracked.outbox.add_file(lambda: client.log_dict(tracked.id, stage.dependencies, "dependencies.json"))
    if parent is None or parent.is_new:
        owner = parent.id if parent else tracked.id
        tracked.outbox.add_file(lambda: client.log_text(owner, recipe, "recipe.yaml"))


def _describe(tracked: TrackedRun, comparison: Comparison, section: str, parent: Parent | None) -> None:
    """Queue the run's final name and its description, and those of the parent run."""
    note = run_note(comparison, tracked.results, tracked.store.experiment)
    name = run_name(tracked.stage, comparison, section, headline(tracked.headline))
    tracked.set_tags({RUN_NAME: name, NOTE: note})
    if parent:
        tracked.outbox.add_file(lambda: describe(tracked.store, parent))


def _comparison(
    store: Store, inputs: Mapping[str, Path], section: str, params: Params, tags: Mapping[str, str]
) -> Comparison:
    """Return what changed against the latest finished run of the same stage."""
    before = store.latest_finished(f"tags.`dvc.stage` = '{tags['dvc.stage']}'")
    if before is None:
        return Comparison()
    old = before.data.tags
    keys = {name: f"dvc.dep.{os.path.normpath(path)}" for name, path in inputs.items()}
    news = [f"new {name}" for name, key in keys.items() if old.get(key) != tags.get(key)]
    news += ["new code"] if old.get("code") != tags["code"] else []
    return Comparison(before.info.run_id, before.info.run_name, changes(before.data.params, params, section), news)


def close_dead_runs(store: Store) -> None:
    """Set to KILLED the runs that dead processes of this machine left RUNNING: nothing can catch SIGKILL."""
    for run in store.search(f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"):
        process = run.data.tags.get("process")
        if process and ProcessId.parse(run.data.tags["host"], process).is_dead():
            store.client.set_terminated(run.info.run_id, "KILLED")
