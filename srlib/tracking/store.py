"""Where runs are recorded: a database in the repository, or a tracking server; and the UI that shows them."""

import contextlib
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from srlib.errors import SrlibError
from srlib.pipeline.dvc import root
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking.descriptions import EXPERIMENT_NOTE
from srlib.tracking.outbox import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

EXPERIMENT = "srlib"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
_REMEDIES = {
    "SQLITE_BUSY": "wait for the program that writes to it, or end it",
    "SQLITE_CANTOPEN": "expected a file that can be read and written",
}
_EXPERIMENT_TAGS = {**compat.EXPERIMENT_KIND, compat.NOTE: EXPERIMENT_NOTE}


@dataclass(frozen=True)
class Store:
    """The tracking store in use: a client of MLflow and the id of the experiment."""

    client: "MlflowClient"
    experiment: str

    @property
    def address(self) -> str:
        """Return the store's address, without a password."""
        return without_password(self.client.tracking_uri)

    def search(self, query: str) -> "list[Run]":
        """Return all runs of the experiment that match, the newest first."""
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], query, max_results=200, page_token=token)
            runs.extend(page)
            if not page.token or page.token == token or not page:
                return runs
            token = page.token

    def latest_finished(self, query: str) -> "Run | None":
        """Return the newest run that matches and has the status FINISHED, or None."""
        query = f"{query} and attributes.status = 'FINISHED'"
        runs = self.client.search_runs([self.experiment], query, max_results=1)
        return runs[0] if runs else None

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Turn a failure of the store, before work has begun, into one line."""
        with _usable(self.address):
            yield


def connect(folder: Path) -> Store:
    """Open `<folder>/mlflow.db`, or the store that MLFLOW_TRACKING_URI names, and create the experiment if missing.

    Runs in mlflow.db keep their artifacts in `<folder>/mlartifacts`; if the folder was moved or copied, the addresses
    in the database are corrected first.

    Args:
        folder: The repository.

    Raises:
        SrlibError: The server does not answer, or the store cannot be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or compat.database_uri(folder / DATABASE)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    artifacts = None if _is_server(uri) else (folder / ARTIFACTS).resolve().as_uri()
    address = without_password(uri)
    if _is_server(uri):
        _check_server(uri, address)
    elif uri == compat.database_uri(folder / DATABASE):
        _check_database(folder / DATABASE)
    with _usable(address):
        client = compat.open_client(uri)
        experiment = client.get_experiment_by_name(name) or _create_experiment(client, name, artifacts)
        if experiment.lifecycle_stage != "active":
            raise SrlibError(
                f"MLflow at {address}: the experiment {name} was deleted; restore it with "
                f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
            )
        if artifacts and uri == compat.database_uri(folder / DATABASE):
            _follow_a_move(folder / DATABASE, experiment.artifact_location, artifacts)
        compat.use_experiment(experiment.experiment_id)
        for tag, value in _EXPERIMENT_TAGS.items():
            if tag not in experiment.tags:
                client.set_experiment_tag(experiment.experiment_id, tag, value)
    return Store(client, experiment.experiment_id)


def _create_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> "Experiment":
    """Create the experiment, unless another process does so at the same time, and return it."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(name, artifacts, _EXPERIMENT_TAGS)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.get_experiment_by_name(name)


def _follow_a_move(database: Path, before: str, now: str) -> None:
    """Correct the addresses of artifacts after the repository was moved or copied."""
    if before != now and urlsplit(before).scheme in ("", "file") and before.rpartition("/")[2] == ARTIFACTS:
        compat.move_artifacts(database, before, now)


@contextlib.contextmanager
def _usable(address: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:  # such as a database's missing driver
        raise SrlibError(f"MLflow at {address} cannot be used: {one_line(error)}") from error


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _check_server(uri: str, address: str) -> None:
    """Raise if nothing answers. Any answer will do, even a proxy's request for a password; MLflow checks the rest."""
    import requests

    try:
        requests.get(uri, timeout=10, allow_redirects=False, stream=True).close()
    except requests.RequestException as error:
        raise SrlibError(
            f"the MLflow server {address} does not answer ({type(error).__name__}); start it, or unset "
            "MLFLOW_TRACKING_URI to record in mlflow.db"
        ) from None


def _check_database(path: Path) -> None:
    """Raise if a database is damaged, locked or none: MLflow would try again for minutes, and name no remedy."""
    if not path.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        remedy = _REMEDIES.get(error.sqlite_errorname, "move it away, and a new one is made, or restore a copy")
        raise SrlibError(f"{path}: MLflow cannot use it: {error}; {remedy}") from None


def without_password(uri: str) -> str:
    """Return an address without user name and password.

    Example:
        >>> without_password("http://name:secret@host/path")
        'http://host/path'
    """
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2]) if "@" in parts.netloc else uri


def serve_ui(port: int) -> None:
    """Replace this process with the MLflow UI on 127.0.0.1, for the repository at or above the working folder.

    Args:
        port: The port to listen on.

    Raises:
        SrlibError: The port is taken, nothing was recorded here, or the runs are on a server with a UI of its own.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if _is_server(uri):
        raise SrlibError(f"MLFLOW_TRACKING_URI is set: the runs are at {without_password(uri)}")
    if not uri and not (root() / DATABASE).exists():
        raise SrlibError(f"no {DATABASE} in {root()}: go to the repository, or run `dvc repro` there first")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SrlibError(f"port {port} is taken ({error.strerror}); choose another with --port") from None
    store = connect(root())
    page = f"http://127.0.0.1:{port}/#/experiments/{store.experiment}/runs?workflowType=machine_learning"
    print(f"MLflow UI: {page} (Ctrl-C stops it)", file=sys.stderr)
    command, settings = compat.ui_command(store.client.tracking_uri, port)
    os.execve(command[0], command, {**os.environ, **settings})  # noqa: S606
