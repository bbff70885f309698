"""What srlib.tracking takes from MLflow's internals, held against the installed version."""

import contextlib
import getpass
import os
import pwd
import re
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from srlib.errors import SrlibError
from srlib.tracking import _mlflow_compat as compat
from srlib.tracking import connect, serve_ui

ROOT = Path(__file__).parents[2]
ODD = "50%20off what? #1 & o'brien; ü"


def test_system_metrics_have_mlflows_names(folder: Path) -> None:
    sample = compat.system_metrics("0" * 32)
    values = sample()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(values)
    assert sample().keys() == values.keys(), "a second sample begins anew"


def test_opening_a_store_leaves_the_environment_alone(own_store: str, folder: Path) -> None:
    connect(folder)
    assert "MLFLOW_TRACKING_URI" not in os.environ and "MLFLOW_EXPERIMENT_ID" not in os.environ
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_container_without_home_and_user(monkeypatch: pytest.MonkeyPatch, own_store: str, folder: Path) -> None:
    def missing(uid: int) -> None:
        raise KeyError(f"uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", missing)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    connect(folder)
    assert Path.home().is_dir()
    assert getpass.getuser() == f"uid-{os.getuid()}"


@pytest.mark.parametrize("name", ["plain", "with space", "ü", "a+b@c=d", "50%20off", "what?", "a#b", "a;b", "a:b"])
def test_database_uri_survives_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    uri = compat.database_uri(tmp_path / name / "mlflow.db")
    assert uri.startswith("sqlite:///")
    assert (tmp_path / name / uri.removeprefix("sqlite:///")).resolve() == (tmp_path / name / "mlflow.db").resolve()
    assert uri == "sqlite:///mlflow.db" or not set(uri) & set("%?#;")


RECORDS = """
import sys
from pathlib import Path
from srlib.tracking import connect
store = connect(Path.cwd())
run = store.client.create_run(store.experiment).info.run_id
store.client.log_text(run, "text", "folder/file.txt")
print(run)
"""


def record(folder: Path) -> str:
    """Record a run with an artifact in the folder's own store, by a process of its own; return the run's id."""
    cleared = ("MLFLOW", "DVC")
    known = {name: value for name, value in os.environ.items() if not name.startswith(cleared)}
    known["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", RECORDS]
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read(folder: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    uri = compat.database_uri(folder / "mlflow.db")
    return Path(download_artifacts(run_id=run, artifact_path="folder/file.txt", tracking_uri=uri)).read_text()


@pytest.mark.slow
def test_moved_and_copied_repositories_keep_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tmp_path / ODD
    first.mkdir()
    run = record(first)
    assert [path.name for path in tmp_path.iterdir()] == [ODD], "nothing lands beside it"
    files = set(first.rglob("*"))
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", first, copy], check=True)
    second = record(copy)
    assert set(first.rglob("*")) == files, "the original got nothing"
    assert read(copy, run, monkeypatch) == read(copy, second, monkeypatch) == "text"
    moved = tmp_path / "moved"
    first.rename(moved)
    third = record(moved)
    assert not first.exists()
    assert read(moved, run, monkeypatch) == read(moved, third, monkeypatch) == "text"


def test_moving_changes_addresses_below_the_folder_alone(tmp_path: Path, own_store: str, folder: Path) -> None:
    store = connect(folder)
    client: MlflowClient = store.client
    other = client.create_experiment("elsewhere", f"{tmp_path.as_uri()}/mlartifacts-2")
    run = client.create_run(store.experiment).info
    compat.move_artifacts(folder / "mlflow.db", (folder / "mlartifacts").as_uri(), "file:///new/mlartifacts")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        experiments = dict(database.execute("SELECT experiment_id, artifact_location FROM experiments"))
        (address,) = database.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", (run.run_id,)).fetchone()
    assert experiments[int(store.experiment)] == "file:///new/mlartifacts"
    assert experiments[int(other)] == f"{tmp_path.as_uri()}/mlartifacts-2"
    assert address == f"file:///new/mlartifacts/{run.run_id}/artifacts"


def test_files_are_fetched_by_name(tmp_path: Path) -> None:
    (tmp_path / "model" / "srlib").mkdir(parents=True)
    (tmp_path / "model" / "srlib" / "config.json").write_text("{}")
    (tmp_path / "target").mkdir()
    compat.fetch_files((tmp_path / "model").as_uri(), ("srlib/config.json",), tmp_path / "target")
    assert (tmp_path / "target" / "config.json").read_text() == "{}"
    for scheme in ("ftp", "dbfs", "models", "runs", "x"):
        with pytest.raises(SrlibError, match=f"artifacts at {scheme}: cannot be read"):
            compat.fetch_files(f"{scheme}:/a/b", ("config.json",), tmp_path / "target")


def test_the_ui_finds_the_repository_above_or_says_so(
    tmp_path: Path, own_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda program, arguments, environment: started.append(environment))
    inside = tmp_path / "repository" / "docs" / "pages"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    with pytest.raises(SrlibError, match=r"^no mlflow\.db in .*pages: go to the repository, or run `dvc repro`"):
        serve_ui(0)
    (tmp_path / "repository" / ".dvc").mkdir()
    (tmp_path / "repository" / "dvc.yaml").touch()
    with pytest.raises(SrlibError, match=r"^no mlflow\.db in .*/repository: go to"):
        serve_ui(0)
    assert not list(tmp_path.rglob("mlflow.db"))
    connect(tmp_path / "repository")
    serve_ui(0)
    assert f"sqlite:///{tmp_path.resolve()}/repository/mlflow.db" in started[0].values()


def test_the_ui_listens_on_this_machine_only() -> None:
    command, settings = compat.ui_command("sqlite:///mlflow.db", 5000)
    assert "127.0.0.1" in [*command, *settings.values()] and "0.0.0.0" not in [*command, *settings.values()]


def test_mlflows_pages_know_the_settings_of_a_first_visit() -> None:
    import mlflow.server

    scripts = Path(mlflow.server.__file__).parent.glob("js/build/static/js/*.js")
    code = "".join(script.read_text(encoding="utf-8") for script in scripts)
    names = re.findall(r'\["(.*)_v1",', compat._FIRST_VISIT)
    assert len(names) == 3
    for name in names:
        assert f'key:"{name}",version:1' in code
    assert 'MACHINE_LEARNING="machine_learning"' in code


def changed_scripts() -> dict[str, bytes]:
    """The scripts of MLflow that the UI changes, by name, as MLflow has them."""
    import mlflow.server

    scripts = Path(mlflow.server.__file__).parent.glob("js/build/static/js/*.js")
    codes = {script.name: script.read_bytes() for script in scripts}
    for pattern, _ in compat._SCRIPT_CHANGES:
        assert sum(len(re.findall(pattern, code)) for code in codes.values()) == 1, pattern
    patterns = [pattern for pattern, _ in compat._SCRIPT_CHANGES]
    return {name: code for name, code in codes.items() if any(re.search(pattern, code) for pattern in patterns)}


@pytest.mark.slow
def test_the_ui_opens_in_model_training(own_store: str, folder: Path) -> None:
    scripts = changed_scripts()
    connect(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command, settings = compat.ui_command(own_store, port)
    known = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=known, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
                    page = answer.read().decode()
                    break
                assert server.poll() is None
                time.sleep(0.2)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version") as answer:
                version = answer.read().decode()
            changed = {}
            for name in scripts:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/static-files/static/js/{name}") as answer:
                    changed[name] = answer.read()
        finally:
            server.terminate()
    assert page.count(compat._STYLE) == page.count(compat._FIRST_VISIT) == 1 and page.index("<script>") < page.index(
        "main."
    )
    assert "<script>" not in version, "other answers are as they were"
    assert all(changed[name] != code for name, code in scripts.items())
    whole = b"".join(changed.values())
    assert whole.count(compat._IN_ORDER.removeprefix(rb"\1")) == 2 and whole.count(b"this.showRunParams=!1") == 1
    assert b":560," in whole
