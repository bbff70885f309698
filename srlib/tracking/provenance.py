"""What a run was made from: tags of the code and the process, and the inputs of a stage as tags and as datasets."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.pipeline.dvc import PipelineStage, ProcessId, git_state
from srlib.tracking.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATASET_ATTEMPTS = 5
"""Attempts to record the inputs before a failure counts."""

_CODE = ("srlib/", "stages/")
"""Dependencies that are code: one digest stands for all of them."""


def common_tags() -> dict[str, str]:
    """Return the tags of a stage's run and of its parent: the user, the code, the process."""
    from mlflow.tracking.context.registry import resolve_tags

    process = ProcessId.of()
    tags: dict[str, str] = resolve_tags({"host": process.host, "process": str(process), **git_state()})
    return tags


def stage_tags(store: Store, stage: PipelineStage, inputs: Mapping[str, Path], fingerprint: str) -> dict[str, str]:
    """Return the tags that tell what a stage read, and which runs wrote exactly that (`made_by.<input>`)."""
    code = {path: digest for path, digest in stage.dependencies.items() if path.startswith(_CODE)}
    digest_of_code = hashlib.sha256(json.dumps(code, sort_keys=True).encode()).hexdigest()[:16]
    tags = {"dvc.stage": stage.address, "fingerprint": fingerprint, "code": digest_of_code}
    tags |= {f"dvc.dep.{path}": digest for path, digest in stage.dependencies.items() if path not in code}
    for name, path in inputs.items():
        place = os.path.normpath(path)
        if digest := stage.dependencies.get(place):
            query = f"tags.`dvc.out.{place}` = '{digest}'"
            makers = store.search(query) if not set("`'\"") & set(place) else []  # MLflow cannot quote these
            tags |= {f"made_by.{name}": maker.info.run_id for maker in makers[:1]}
    return tags


def log_inputs(client: "MlflowClient", run: str, stage: PipelineStage, inputs: Mapping[str, Path]) -> None:
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
