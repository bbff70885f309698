"""What depends on MLflow's internals, defaults and database; nothing else in the project does.

The tests of this module fail where a new version of MLflow behaves differently.
"""

import contextlib
import functools
import getpass
import json
import logging
import os
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from srlib.errors import SrlibError

if TYPE_CHECKING:
    import requests
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from starlette.middleware.base import RequestResponseEndpoint

_SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # a loop of them is followed for hundreds of requests
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the default is minutes per request; here a thread tries again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it would show a password in the address
}
_QUIET = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "mlflow.utils.environment": logging.ERROR,  # an environment without pip is fine
    "urllib3.connectionpool": logging.ERROR,  # the outbox reports an outage once
}
NOTE, RUN_NAME = "mlflow.note.content", "mlflow.runName"
"""Tags that hold the description of a run or an experiment, in Markdown, and the name of a run."""

EXPERIMENT_KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Tag of an experiment that MLflow's pages open in "Model training" instead of "GenAI"."""

_VERSIONS = "mlflow.modelVersions"
_SAFE_IN_URI = frozenset("/._- +@~=,()[]")
_ARTIFACT_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_LARGEST_ANSWER = 2**26
"""Most bytes of a server's answer."""
_LARGEST_FILE = 2**30
"""Most bytes of a file that a server sends."""
_PATIENCE, _SLOWEST = 30.0, 2**10
"""Seconds after which a server must have sent this many bytes per second on average."""
_ARTIFACT_SCHEMES = ("file", "http", "https", "mlflow-artifacts", "s3", "gs", "wasbs", "abfss", "")


def open_client(uri: str) -> "MlflowClient":
    """Return a client of a store, with MLflow's settings and log levels as this project needs them."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    _name_the_user()
    import mlflow

    for logger, level in _QUIET.items():
        logging.getLogger(logger).setLevel(level)
    _bound_answers()
    with _environment_kept():
        mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient()


@functools.cache
def _bound_answers() -> None:
    """Limit the size of everything that MLflow reads from a server, and the time that a server may take to send it."""
    from mlflow.utils import rest_utils

    request = rest_utils._get_http_response_with_retries

    def bounded(*arguments: object, stream: bool = False, **options: object) -> "requests.Response":
        response: requests.Response = request(*arguments, stream=True, **options)
        if stream:
            blocks = _blocks(response, _LARGEST_FILE)
            response.iter_content = lambda *_, **__: blocks  # type: ignore[method-assign]
        else:
            response._content = b"".join(_blocks(response, _LARGEST_ANSWER))
            response._content_consumed = True  # type: ignore[attr-defined]
        return response

    rest_utils._get_http_response_with_retries = bounded


def _blocks(response: "requests.Response", limit: int) -> Iterator[bytes]:
    """Yield the content of an answer.

    Raises:
        requests.ConnectionError: It has more than `limit` bytes, comes too slowly, or ends early.
    """
    import requests
    import urllib3

    received, start = 0, time.monotonic()
    try:
        while block := response.raw.read1(2**16, decode_content=True):
            received += len(block)
            passed = time.monotonic() - start
            if received > limit:
                raise requests.ConnectionError(f"the server sent more than {limit:,} bytes")
            if passed > _PATIENCE and received < _SLOWEST * passed:
                raise requests.ConnectionError(f"the server sent only {received:,} bytes in {passed:.0f} s")
            yield block
    except urllib3.exceptions.HTTPError as error:
        raise requests.ConnectionError(error) from error
    finally:
        response.close()


def _name_the_user() -> None:
    """Name a home folder and a user where a container has neither: MLflow and DVC raise without them."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError from Python 3.13 on
        os.environ["USER"] = f"uid-{os.getuid()}"


def use_experiment(experiment: str) -> None:
    """Select, by its id, the experiment that receives logged models, whatever run they name."""
    import mlflow

    with _environment_kept():
        mlflow.set_experiment(experiment_id=experiment)


@contextlib.contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what MLflow writes into the environment, where its next call would read it as the user's setting."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def database_uri(path: Path) -> str:
    """Return the address of a SQLite database.

    MLflow decodes `%20` and cuts off at `?`, with no way to write these characters: a path that holds such a character
    is given relative to the working folder, which lies in the same repository.
    """
    absolute = str(path.resolve())
    is_safe = all(c.isalnum() or c in _SAFE_IN_URI for c in absolute)
    return f"sqlite:///{absolute if is_safe else os.path.relpath(absolute)}"


def move_artifacts(database: Path, old: str, new: str) -> None:
    """Replace a folder of artifacts in a SQLite database: MLflow stores absolute addresses, and a repository may move.

    Args:
        database: The database.
        old: The address that the folder had.
        new: The address that it has now.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        for table, column in _ARTIFACT_COLUMNS:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 (names of our own)
                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
            )


def system_metrics(run: str) -> Callable[[], dict[str, float]]:
    """Return a function that measures processor, memory, disk, network and GPUs, under MLflow's names."""
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


def link_version(client: "MlflowClient", model: str, name: str, version: str) -> None:
    """Make MLflow's pages show a logged model as a registered version; a client of a database leaves that out.

    Args:
        client: A client of the store.
        model: Id of the logged model.
        name: Name of the registered model.
        version: Number of its version.
    """
    links = json.loads(client.get_logged_model(model).tags.get(_VERSIONS, "[]"))
    link = {"name": name, "version": int(version)}
    if link not in links:
        client.set_logged_model_tags(model, {_VERSIONS: json.dumps([*links, link])})


def unchecked(signature: "ModelSignature") -> "ModelSignature":
    """Let a model check its input itself: MLflow's own check refuses all but one type, and prints the whole array.

    The flag says that the signature comes from type hints, whose check is the model's affair.
    """
    signature._is_signature_from_type_hint = True
    return signature


_FIRST_VISIT = """<script>
for (const [key, value] of [
  ["mlflow.workflowType_v1", '"machine_learning"'],
  ["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true"],
  ["_mlflow_model_registry_promo_modal_dismissed_v1", "true"],
]) if (localStorage.getItem(key) === null) localStorage.setItem(key, value);
</script>"""
"""What the switch "Model training", closing the assistant and closing an announcement in front of the model registry
store in the browser; a choice made there stays."""

_STYLE = """<style>
[data-testid="experiment-view-compare-runs-card"] div:has(> .rc-image) {
  aspect-ratio: auto !important;
  justify-content: flex-start !important;
}
</style>"""
"""Puts an image at the top left of its card. By itself it lies in the middle of a square as wide as the run's name, and
so out of sight where this name is long."""

_IN_ORDER = (
    rb'\1((a,b)=>{const name=s=>s.name??s,rank=s=>["train","validation","samples","gan"]'
    rb'.indexOf(name(s).split("/")[0])>>>0;return rank(a)-rank(b)||name(a).localeCompare(name(b))})'
)
"""JavaScript that sorts groups of charts: what was recorded over the steps, then single values, by name."""

_SCRIPT_CHANGES = (
    # The width of the column of names in the list of runs. 190 pixels show 18 letters of a name.
    (rb"(\.RUN_NAME\},cellClassRules:\{[^}]*\},initialWidth:\w\?void 0:)190\b", rb"\g<1>560"),
    # The order of the groups of charts, when a page opens and when it gets new metrics. By their names, the bars of
    # results come before the curves of the training.
    (rb"(\.\.\.Object\.keys\(\w+\)\.filter\(\w+=>\w+!==\w+\.NN&&\w+!==\w+\.rx\)\.sort)\(\)", _IN_ORDER),
    (rb"(\.name!==\w+\.rx\);\w+\.sort)\(\(\w+,\w+\)=>\w+\.name\.localeCompare\(\w+\.name\)\)", _IN_ORDER),
    # A series of images opens at its newest one, without the parameters. It opens at step 0, where there may be none.
    (rb"(this\.imageKeys=\[\],this\.step=0,this\.showRunParams=)!0", rb"\1!1"),
    (
        rb"(maxMark:(\w+),minMark:\w+\}=.{0,300}?)1===(\w+)&&\w+\.step!==(\w+)&&\((\w+)\(\4\),(\w+)\(\4\)\)\},\[[^\]]+\]",
        rb"\1\3&&(\5(\2),\6(\2))},[\2]",
    ),
)
"""Regular expressions for the scripts of MLflow's pages, with what replaces their matches."""


def ui_command(uri: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves the UI on 127.0.0.1, and the environment variables that it needs.

    It is what `mlflow server` runs, with `ui_app` in the place of MLflow's own application.

    Args:
        uri: Address of the store.
        port: The port to listen on.
    """
    from mlflow.server import _UVICORN_LOG_CONFIG
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    options = ["--host", "127.0.0.1", "--port", str(port), "--log-config", str(_UVICORN_LOG_CONFIG), "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", *options, "--factory", f"{__name__}:ui_app"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "_MLFLOW_SGI_NAME": "uvicorn"}
    return command, {BACKEND_STORE_URI_ENV_VAR: uri, **settings}


def ui_app() -> object:
    """Return MLflow's server, whose pages open in "Model training", with whole names, curves and newest samples.

    By itself a browser's first visit shows "GenAI", the list of runs cuts names after 18 letters, and the charts of a
    training begin with bars of single values and end with an empty image.
    """
    from mlflow.server.fastapi_app import app
    from starlette.requests import Request
    from starlette.responses import Response

    async def adapt(request: Request, call_next: "RequestResponseEndpoint") -> Response:
        response = await call_next(request)
        kind = response.headers.get("content-type", "")
        is_page = request.url.path == "/" and kind.startswith("text/html")
        if response.status_code != 200 or not (is_page or request.url.path.endswith(".js")):
            return response
        content = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
        if is_page:
            content = content.replace(b"<head>", f"<head>{_FIRST_VISIT}{_STYLE}".encode(), 1)
        for pattern, replacement in _SCRIPT_CHANGES:
            content = re.sub(pattern, replacement, content)
        headers = {name: value for name, value in response.headers.items() if name not in ("content-length", "etag")}
        return Response(content, headers=headers)

    app.middleware("http")(adapt)
    return app


def fetch_files(location: str, names: tuple[str, ...], folder: Path) -> None:
    """Download files from a store of artifacts, one request for each.

    The store's own listing, as `mlflow.artifacts.download_artifacts` uses it, may be endless.

    Args:
        location: Address of a folder of artifacts.
        names: Paths below it.
        folder: An existing folder that receives the files, by their last names.

    Raises:
        SrlibError: The store is of a kind that is not supported.
    """
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    scheme = urlsplit(location).scheme
    if scheme not in _ARTIFACT_SCHEMES:
        raise SrlibError(f"artifacts at {scheme}: cannot be read; expected one of {', '.join(_ARTIFACT_SCHEMES[:-1])}")
    repository = get_artifact_repository(location)
    for name in names:
        repository._download_file(name, str(folder / Path(name).name))
