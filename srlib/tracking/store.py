"""Where runs are recorded: a database in the repository, or a tracking server. And the UI over it."""

import contextlib
import logging
import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from srlib.errors import SrlibError
from srlib.pipeline.dvc import root
from srlib.tracking.outbox import one_line

EXPERIMENT = "srlib"
DATABASE = "mlflow.db"
ARTIFACTS = "mlartifacts"
# MLflow's own patience is minutes per request; here a thread tries again.
_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would show a password in the address
}


@dataclass(frozen=True)
class Store:
    """The tracking store in use: an `mlflow.MlflowClient` and the id of the experiment."""

    client: Any
    experiment: str

    @property
    def address(self) -> str:
        """The store's address as it may be shown: without a password."""
        return without_password(self.client.tracking_uri)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Turns what goes wrong with the store, before work has begun, into one line."""
        with _usable(self.address):
            yield


def connect(folder: Path) -> Store:
    """Opens `<folder>/mlflow.db`, or what MLFLOW_TRACKING_URI names, and makes the experiment where it is missing.

    Raises:
        SrlibError: The server does not answer or the store cannot be used.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / DATABASE).resolve()}"
    shown = without_password(uri)
    local = not _is_server(uri)
    if not local:
        _check_server(uri, shown)

    import mlflow
    from mlflow.exceptions import MlflowException

    for logger in ("alembic", "mlflow"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    # An environment without pip is no matter; of each attempt to connect an outbox tells, once.
    for logger in ("mlflow.utils.environment", "urllib3.connectionpool"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    with _usable(shown):
        with _environment_kept():
            mlflow.set_tracking_uri(uri)
        with _made_quickly(uri):
            client = mlflow.MlflowClient()
            experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                artifacts = (folder / ARTIFACTS).resolve().as_posix() if local else None
                client.create_experiment(name, artifacts, {"mlflow.experimentKind": "custom_model_development"})
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # made by another process meanwhile
                    raise
            experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise SrlibError(
            f"MLflow at {shown}: the experiment {name} was deleted; restore it with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
        )
    with _environment_kept(), _usable(shown):
        mlflow.set_experiment(experiment_id=experiment.experiment_id)  # models go there, whatever run they name
    return Store(client, experiment.experiment_id)


@contextlib.contextmanager
def _made_quickly(uri: str) -> Iterator[None]:
    """Where MLflow makes a new SQLite database, its 400 statements do not each wait for the disk.

    The first commit afterwards waits for all of it. On a busy disk that is 1 second instead of 5.
    """
    if not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).exists():
        yield
        return
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    opened: list[sqlite3.Connection] = []

    def hasten(connection: sqlite3.Connection, record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        opened.append(connection)

    event.listen(Engine, "connect", hasten)
    try:
        yield
    finally:
        event.remove(Engine, "connect", hasten)
        for connection in opened:
            with contextlib.suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.execute("PRAGMA synchronous = FULL")


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undoes that MLflow writes what it is told into the environment, where the next call would take it for a wish."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)


@contextlib.contextmanager
def _usable(shown: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise SrlibError(f"MLflow at {shown} cannot be used: {one_line(error)}") from error


def _is_server(uri: str) -> bool:
    return urlsplit(uri).scheme in ("http", "https")


def _check_server(uri: str, shown: str) -> None:
    """Any answer will do, also that of a proxy that wants a password; MLflow itself finds out the rest."""
    import requests

    try:
        requests.get(uri, timeout=10, allow_redirects=False)
    except requests.RequestException as error:
        raise SrlibError(
            f"the MLflow server {shown} does not answer ({type(error).__name__}); start it, or unset "
            "MLFLOW_TRACKING_URI to record in mlflow.db"
        ) from None


def without_password(uri: str) -> str:
    """`http://name:secret@host` → `http://host`."""
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2]) if "@" in parts.netloc else uri


def serve_ui(port: int) -> None:
    """Replaces this process by the MLflow UI on 127.0.0.1, over the runs recorded in this folder.

    Raises:
        SrlibError: The port is taken, or the runs are on a server with a UI of its own.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if _is_server(uri):
        raise SrlibError(f"MLFLOW_TRACKING_URI is set: the runs are shown at {without_password(uri)}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise SrlibError(f"port {port} is taken ({error.strerror}); choose another with --port") from None
    store = connect(root())
    page = f"http://127.0.0.1:{port}/#/experiments/{store.experiment}/runs?workflowType=machine_learning"
    print(f"MLflow UI: {page} (Ctrl-C stops it)", file=sys.stderr)
    options = ["--backend-store-uri", store.client.tracking_uri, "--host", "127.0.0.1", "--port", str(port)]
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", *options, "--workers", "1"])  # noqa: S606
