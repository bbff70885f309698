"""The parent run: one execution of the pipeline, which its first stage creates and each later one opens again."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from srlib.params import Params
from srlib.pipeline.dvc import execution
from srlib.tracking._mlflow_compat import NOTE, RUN_NAME
from srlib.tracking.changes import changes, parameters_in_file
from srlib.tracking.descriptions import Comparison, headline, literal, run_link, run_name, run_note
from srlib.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_BEFORE = "compared_with"
"""Tag of a parent run: the run that its description compares it with."""


@dataclass(frozen=True)
class Parent:
    """The run of this execution of the pipeline.

    Attributes:
        id: MLflow's id.
        status: The status that it keeps although a stage succeeds: FAILED or KILLED by an earlier one.
        comparison: What changed against the execution before.
        is_new: Whether this stage created it.
    """

    id: str
    status: str | None
    comparison: Comparison
    is_new: bool


def open_parent(store: Store, params: Params, tags: dict[str, str]) -> Parent | None:
    """Open the run of this execution; None for a stage that was started by hand.

    Args:
        store: The tracking store.
        params: The recipe.
        tags: Tags of a stage's run and of its parent.
    """
    key = execution()
    if key is None:
        return None
    if runs := store.search(f"tags.execution = '{key}'"):
        run = runs[0]
        store.client.update_run(run.info.run_id, status="RUNNING")
        store.client.set_tag(run.info.run_id, "process", tags["process"])
        before = run.data.tags.get(_BEFORE)
        comparison = _comparison(store.client.get_run(before), params, tags) if before else Comparison()
        status = run.info.status if run.info.status in ("FAILED", "KILLED") else None
        return Parent(run.info.run_id, status, comparison, is_new=False)
    earlier = store.latest_finished("tags.execution != ''")
    comparison = _comparison(earlier, params, tags) if earlier else Comparison()
    tags = {**tags, "execution": key, "mlflow.source.name": "dvc.yaml"}
    tags |= {_BEFORE: earlier.info.run_id} if earlier else {}
    name = run_name(_experiment(), comparison, None, "")
    created = store.client.create_run(store.experiment, tags=tags, run_name=name).info.run_id
    log_params(store.client, created, parameters_in_file(params))
    return Parent(created, None, comparison, is_new=True)


def _experiment() -> str:
    name = os.environ.get("DVC_EXP_NAME")
    return f"exp {name}" if name else ""


def _comparison(before: "Run", params: Params, tags: Mapping[str, str]) -> Comparison:
    old, new = (entry.get("git.commit", "")[:7] for entry in (before.data.tags, tags))
    news = [f"code {old} → {new}"] if old != new and old and new else []
    return Comparison(before.info.run_id, before.info.run_name, changes(before.data.params, params), news)


def describe(store: Store, parent: Parent) -> None:
    """Write name and description of the parent run, from what its stages have recorded so far."""
    run = store.client.get_run(parent.id)
    stages = sorted(store.search(f"tags.mlflow.parentRunId = '{parent.id}'"), key=lambda stage: stage.info.start_time)
    lines = [f"- [{literal(stage.info.run_name)}]({run_link(store.experiment, stage.info.run_id)})" for stage in stages]
    text = "**Stages that executed**:\n\n" + "\n".join(lines)
    note = run_note(parent.comparison, run.data.metrics, store.experiment, [text])
    name = run_name(_experiment(), parent.comparison, None, headline(run.data.metrics))
    store.client.set_tag(parent.id, NOTE, note)
    store.client.set_tag(parent.id, RUN_NAME, name)


def log_params(client: "MlflowClient", run: str, params: Mapping[str, str]) -> None:
    """Record parameters, at most 100 per request."""
    from mlflow.entities import Param

    entities = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(entities), 100):
        client.log_batch(run, params=entities[start : start + 100])
