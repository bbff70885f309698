"""Opinion scores in MLflow: in the run of the evaluation whose images were rated, if it can be found."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError, one_line
from srlib.evaluation.opinions import ALL, Opinions
from srlib.survey.answers import read_key
from srlib.survey.score import FILES

if TYPE_CHECKING:
    from mlflow import MlflowClient


def origin(images: Path, outputs: Mapping[str, Mapping[str, str]], root: Path) -> dict[str, str]:
    """Return the tag that identifies the run that made a folder of images; empty if DVC does not record the folder.

    `srlib.stage` tags a run with DVC's hash of each of its outputs, `dvc.out.<path>`.

    Args:
        images: Folder of the images, or one of its sets.
        outputs: Stage → the hashes of its outputs, as `srlib.pipeline.dvc.recorded_outputs` returns them.
        root: Folder that the paths of the outputs refer to.
    """
    try:
        place = Path(os.path.relpath(images.resolve(), root.resolve()))
    except ValueError:  # another drive
        return {}
    for hashes in outputs.values():
        for path, digest in hashes.items():
            if Path(path) == place or Path(path) in place.parents:
                return {f"dvc.out.{path}": digest}
    return {}


def log_opinions(client: "MlflowClient", experiment: str, opinions: Opinions, out: Path, key: Path) -> str:
    """Log the scores and the files of `score_answers`, and return the id of the run.

    That is the newest run with the key's tags of origin, or else a new run named `survey`.

    Args:
        client: Client of the tracking store.
        experiment: Id of the experiment.
        opinions: The outcome of the survey.
        out: Folder that `score_answers` wrote.
        key: Key file of the survey.

    Raises:
        SrlibError: The store failed.
    """
    from mlflow import entities
    from mlflow.exceptions import MlflowException

    try:
        run = _find_run(client, experiment, read_key(key).origin)
        is_new = run is None
        if run is None:
            run = str(client.create_run(experiment, run_name="survey").info.run_id)
        client.set_tag(run, "survey", opinions.survey)
        now = int(time.time() * 1000)
        metrics = [entities.Metric(name, value, now, 0) for name, value in _metrics(opinions).items()]
        client.log_batch(run, metrics=metrics)
        for name in FILES:
            client.log_artifact(run, str(out / name), f"survey/{opinions.survey}")
        if is_new:
            client.set_terminated(run, "FINISHED")
    except MlflowException as error:
        raise SrlibError(
            f"some opinion scores could not be logged to MLflow ({one_line(error)}); they are in {out}"
        ) from error
    return run


def _find_run(client: "MlflowClient", experiment: str, tags: Mapping[str, str]) -> str | None:
    if not tags:
        return None
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    runs = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return str(runs[0].info.run_id) if runs else None


def _metrics(opinions: Opinions) -> dict[str, float]:
    whole = [row for row in opinions.rows if row.set == ALL]
    values = {
        "mos.raters": float(max(row.raters for row in whole)),
        "mos.votes": float(sum(row.votes for row in whole)),
    }
    for row in opinions.rows:
        name = f"mos.{_plain(row.set)}.{_plain(row.method)}"
        values[name] = row.mos
        if row.low is not None and row.high is not None:
            values |= {f"{name}.low": row.low, f"{name}.high": row.high}
    return values


def _plain(name: str) -> str:
    """Return a name that MLflow accepts: folders may have any name."""
    return "".join(c if c.isalnum() or c in "_- " else "_" for c in name)
