"""The MLflow run of a batch of images that a model upscales."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from srlib.errors import SrlibError, one_line
from srlib.pipeline.dvc import root
from srlib.signals import Stopped
from srlib.tracking._mlflow_compat import RUN_NAME
from srlib.tracking.parent import log_params
from srlib.tracking.provenance import common_tags
from srlib.tracking.run import close_dead_runs
from srlib.tracking.store import Store, connect

FOLDER_OF_TABLE = "scores.csv"


@dataclass(frozen=True)
class BatchResult:
    """What a batch gave.

    Attributes:
        metrics: Name → value.
        name: The run's name.
        table: One line per image, as CSV.
        params: What is known only at the end.
    """

    metrics: Mapping[str, float]
    name: str
    table: str
    params: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def batch_run(params: Mapping[str, str], result: Callable[[], BatchResult]) -> Iterator[None]:
    """Record the block as one run, in the store that `connect` opens for the working folder; print where it went.

    Args:
        params: How the images are upscaled.
        result: Function that returns what the batch gave; called after the block, also if it fails or is stopped.

    Raises:
        SrlibError: The store cannot be used; before the block is run.
    """
    store = connect(root())
    with store.in_use():
        close_dead_runs(store)
        run = store.client.create_run(store.experiment, tags=common_tags() | {"kind": "upscale"}, run_name="upscale")
        log_params(store.client, run.info.run_id, params)
    status = "FINISHED"
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        status = "KILLED"
        raise
    except BaseException:
        status = "FAILED"
        raise
    finally:
        _finish(store, run.info.run_id, status, result())


def _finish(store: Store, run: str, status: str, result: BatchResult) -> None:
    """Record the result; a failure is one line, since the images are there."""
    try:
        with store.in_use():
            log_params(store.client, run, result.params)
            for name, value in result.metrics.items():
                store.client.log_metric(run, name, value)
            store.client.set_tag(run, RUN_NAME, result.name)
            _send_table(store, run, result.table)
            store.client.set_terminated(run, status)
    except SrlibError as error:
        print(f"warning: the run was not recorded: {one_line(error)}", file=sys.stderr)
        return
    print(f"MLflow: {result.name}, in {store.address}", file=sys.stderr)


def _send_table(store: Store, run: str, table: str) -> None:
    """Send the table; a failure is one line. Files may lie in another place than runs, with errors of its own."""
    try:
        store.client.log_text(run, table, FOLDER_OF_TABLE)
    except Exception as error:
        print(f"warning: {FOLDER_OF_TABLE} was not sent to MLflow: {one_line(error)}", file=sys.stderr)
