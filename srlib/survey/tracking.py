"""Opinion scores in MLflow: in the run of the evaluation whose pictures were rated, where it can be found."""

import os
import time
from pathlib import Path
from typing import Any

from srlib.errors import SrlibError, one_line
from srlib.pipeline.dvc import recorded_outputs, root
from srlib.survey.answers import read_key
from srlib.survey.score import ALL, FILES, Opinions


def origin(pictures: Path, lock: Path = Path("dvc.lock")) -> dict[str, str]:
    """The tag by which the run that made a folder of pictures is found again; none where DVC does not record it.

    `srlib.stage` tags a run with DVC's hash of each of its outputs, `dvc.out.<path>`.
    """
    try:
        place = Path(os.path.relpath(pictures.resolve(), lock.parent.resolve()))
    except ValueError:  # another drive
        return {}
    for outputs in recorded_outputs(lock).values():
        for path, digest in outputs.items():
            if Path(path) == place or Path(path) in place.parents:
                return {f"dvc.out.{path}": digest}
    return {}


def log_to_mlflow(opinions: Opinions, out: Path, key: Path) -> str:
    """Logs the scores and the files that `score` wrote into `out`, and returns the id of the run they went to.

    That is the newest run with the key's tags of origin, or else one of its own named `survey`.

    Raises:
        SrlibError: The store cannot be used.
    """
    from srlib.tracking import connect

    store = connect(root())
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    client: Any = store.client
    try:
        run = _maker(client, store.experiment, read_key(key)[1].get("origin") or {})
        own = run is None
        if run is None:
            run = client.create_run(store.experiment, run_name="survey").info.run_id
        client.set_tag(run, "survey", opinions.survey)
        now = int(time.time() * 1000)
        client.log_batch(run, metrics=[Metric(name, value, now, 0) for name, value in _metrics(opinions).items()])
        for name in FILES:
            client.log_artifact(run, str(out / name), f"survey/{opinions.survey}")
        if own:
            client.set_terminated(run, "FINISHED")
    except MlflowException as error:
        raise SrlibError(f"MLflow took the opinion scores only in part: {one_line(error)}") from error
    return str(run)


def _maker(client: Any, experiment: str, tags: dict[str, str]) -> str | None:
    if not tags:
        return None
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found = client.search_runs([experiment], query, max_results=1, order_by=["attributes.start_time DESC"])
    return str(found[0].info.run_id) if found else None


def _metrics(opinions: Opinions) -> dict[str, float]:
    whole = [row for row in opinions.rows if row.set == ALL]
    values = {"mos.raters": float(max(row.raters for row in whole)), "mos.votes": float(sum(r.votes for r in whole))}
    for row in opinions.rows:
        name = f"mos.{_plain(row.set)}.{_plain(row.method)}"
        values[name] = row.mos
        if row.low is not None and row.high is not None:
            values |= {f"{name}.low": row.low, f"{name}.high": row.high}
    return values


def _plain(name: str) -> str:
    """A name as MLflow takes it: folders may be called anything."""
    return "".join(c if c.isalnum() or c in "_- " else "_" for c in name)
