"""A folder to run stages in, with a real store, and scripts that do."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CLEARED = ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store that the tests share, each with an experiment of its own: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Path:
    """The working folder: the quick start's recipe, and a folder of images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tmp_path.name)
    recipe = (ROOT / "tests" / "recipe.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"images: data/raw/\w+", "images: images", recipe))
    Path("images").mkdir()
    Path("images", "a").write_text("1")
    return tmp_path


@pytest.fixture
def own_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The store that is used where nothing is set: mlflow.db in the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


@pytest.fixture
def runs(folder: Path, database: str) -> Callable[..., list[Any]]:
    """The test's runs as MLflow gives them, oldest first: `runs(uri, experiment)`."""

    def search(uri: str = database, experiment: str = folder.name) -> list[Any]:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        record = client.get_experiment_by_name(experiment)
        assert record is not None
        return list(client.search_runs([record.experiment_id], order_by=["attributes.start_time ASC"]))

    return search


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code in a process of its own, in the working folder: `start(code, *arguments)`."""
    with contextlib.ExitStack() as stack:

        def process(code: str, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code, *arguments]
            known = {**os.environ, "PYTHONPATH": str(ROOT)}
            child = subprocess.Popen(command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.enter_context(child)
            stack.callback(child.kill)
            return child

        yield process
