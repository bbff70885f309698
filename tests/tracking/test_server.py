"""Against a real `mlflow server`: what reaches it, what an outage does, what happens where there is none."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from srlib.errors import SrlibError
from srlib.evaluation.champions import Candidate
from srlib.files import file_hash
from srlib.stage import stage_run
from srlib.tracking import connect, outbox, serve_ui
from srlib.tracking import run as tracking_run
from srlib.tracking.model import RecordedModel
from srlib.tracking.registry import register


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an MLflow server on 127.0.0.1 that keeps artifacts itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    store = ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command + store, cwd=folder, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True
        )
        try:
            for _ in range(1800):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    if answer.status == 200:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


class Line:
    """A line to the server that can be cut: while it is, connections are refused as by a server that is down."""

    def __init__(self, server: int) -> None:
        self.server, self.port = server, free_port()
        self._cut = threading.Event()
        self._listener: threading.Thread | None = None

    def connect(self) -> None:
        self._cut.clear()
        listening = socket.create_server(("127.0.0.1", self.port))
        self._listener = threading.Thread(target=self._listen, args=(listening,))
        self._listener.start()

    def cut(self) -> None:
        self._cut.set()
        if self._listener is not None:
            self._listener.join()

    def _listen(self, listening: socket.socket) -> None:
        workers = []
        with listening:
            while not self._cut.is_set():
                if select.select([listening], [], [], 0.05)[0]:
                    workers.append(threading.Thread(target=self._carry, args=(listening.accept()[0],)))
                    workers[-1].start()
        for worker in workers:
            worker.join()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self.server)) as far:
            other = {near: far, far: near}
            while not self._cut.is_set():
                for end in select.select([near, far], [], [], 0.05)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    other[end].sendall(data)


@pytest.fixture
def line(server: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    monkeypatch.setattr(outbox, "SEND_SECONDS", 0.2)
    line = Line(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{line.port}")
    line.connect()
    yield line
    line.cut()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about within two minutes")


def address(server: int) -> str:
    return f"http://127.0.0.1:{server}"


def test_metrics_arrive_during_the_stage_and_artifacts_too(
    folder: Path, line: Line, server: int, runs: Callable
) -> None:
    with stage_run("pretrain", inputs={"images": Path("images")}) as run:
        run.tracking.log_curve({"loss": 0.25}, step=3)
        wait_for(lambda: runs(address(server))[0].data.metrics.get("train/loss") == 0.25)
        assert runs(address(server))[0].info.status == "RUNNING"
        wait_for(lambda: "system/cpu_utilization_percentage" in runs(address(server))[0].data.metrics)
        run.tracking.log_image("samples", np.zeros((4, 4, 3), np.uint8), step=3)
        run.tracking.log_artifact("params.yaml")
    (record,) = runs(address(server))
    assert record.info.status == "FINISHED"
    assert record.info.artifact_uri.startswith("mlflow-artifacts:/")
    from mlflow import MlflowClient

    names = {file.path for file in MlflowClient().list_artifacts(record.info.run_id)}
    assert names == {"images", "params.yaml", "recipe.yaml", "dependencies.json"}
    assert not Path("mlflow.db").exists()
    assert not Path("mlartifacts").exists()


def test_an_outage_neither_stops_the_stage_nor_loses_a_row(
    folder: Path, line: Line, server: int, runs: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    printed_text = ""

    def printed(words: str) -> bool:
        nonlocal printed_text
        printed_text += capsys.readouterr().err
        return words in printed_text

    with stage_run("pretrain") as run:
        line.cut()
        for step in range(1500):
            run.tracking.log_curve({"loss": float(step)}, step)
        wait_for(lambda: printed("warning: MLflow"))
        run.tracking.log_results({"result/validation_psnr_y": 28.43})
        line.connect()
        wait_for(lambda: printed("MLflow answers again"))
    (record,) = runs(address(server))
    from mlflow import MlflowClient

    history = MlflowClient().get_metric_history(record.info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(step, float(step)) for step in range(1500)]
    assert (record.info.status, record.data.metrics["result/validation_psnr_y"]) == ("FINISHED", 28.43)
    assert printed_text.splitlines() == [
        "warning: MLflow: the tracking server does not answer; records are kept and sent later",
        "MLflow answers again; everything was sent",
    ]


def test_a_champion_is_decided_once_the_server_answers_again(
    folder: Path, line: Line, server: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("srlib-x{scale}-gan", "outage"))
    Path("gan").mkdir()
    Path("gan/model.weights.h5").write_bytes(b"weights")
    store = connect(folder)
    client, made_by = store.client, store.client.create_run(store.experiment).info.run_id

    logged = client.create_logged_model(store.experiment, name="gan", source_run_id=made_by)
    model = RecordedModel(logged.model_id, logged.model_uri, {"network": "edsr", "scale": "4"}, {})
    register(store, "outage", model, made_by, file_hash(Path("gan/model.weights.h5")))
    printed_text = ""

    def printed(words: str) -> bool:
        nonlocal printed_text
        printed_text += "".join(capsys.readouterr())
        return words in printed_text

    with stage_run("evaluate") as run:
        line.cut()
        run.elect([Candidate("gan", Path("gan"), 28.43, "higher", Path("images"))])
        wait_for(lambda: printed("warning: MLflow"))
        line.connect()
        wait_for(lambda: printed("champion: outage: version 1 becomes champion: psnr_y 28.4300 on sample, the first"))
    assert client.get_model_version_by_alias("outage", "champion").tags["champion"].startswith("yes: ")


def test_what_could_not_be_sent_is_sent_by_the_next_stage(
    folder: Path,
    line: Line,
    server: int,
    runs: Callable,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch, stage_run("pretrain") as run:
        patch.setitem(tracking_run.PATIENCE, "FINISHED", 1.0)
        line.cut()
        run.tracking.log_curve({"loss": 0.5}, step=7)
        Path("model").write_text("1")
        run.done(["model"])
    printed_text = capsys.readouterr().err
    assert "records and the end of the run will be sent by the next stage" in printed_text
    assert "Traceback" not in printed_text
    (queue,) = Path(".resume/.unsent").iterdir()
    assert "127.0.0.1" not in queue.read_text(), "an address may hold a password"
    assert runs(address(server))[0].info.status == "RUNNING"
    line.connect()
    with stage_run("finetune"):
        pass
    first, _ = runs(address(server))
    assert (first.info.status, first.data.metrics["train/loss"]) == ("FINISHED", 0.5)
    assert "dvc.out.model" in first.data.tags
    assert not queue.exists()


def test_refused_records_are_named_and_the_rest_is_sent(
    folder: Path, line: Line, server: int, runs: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    with stage_run("pretrain") as run:
        run.tracking.log_results({"test/a/EDSR/psnr_y": 28.43, "n" * 300: 1.0, "test/a/ESPCN (×4)/psnr_y": 2.0})
        run.tracking.log_curve({"loss": 0.5}, step=1)
    (record,) = runs(address(server))
    assert record.info.status == "FINISHED"
    assert {
        name: value for name, value in record.data.metrics.items() if not name.startswith(("system/", "time/"))
    } == {
        "test/a/EDSR/psnr_y": 28.43,
        "test/a/ESPCN __4_/psnr_y": 2.0,
        "train/loss": 0.5,
    }
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: MLflow refuses a record or a file: ")


def test_a_server_that_is_not_there_is_one_line_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(SystemExit) as ended, stage_run("pretrain"):
        raise AssertionError("the stage ran")
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"error: the MLflow server http://127.0.0.1:{port} does not answer (ConnectionError); start it, or unset "
        "MLFLOW_TRACKING_URI to record in mlflow.db\n"
    )


def test_a_deleted_experiment_is_one_line(folder: Path, line: Line) -> None:
    store = connect(folder)
    store.client.delete_experiment(store.experiment)
    with pytest.raises(
        SrlibError, match=rf"was deleted; restore it with `mlflow .* --experiment-id {store.experiment}`"
    ):
        connect(folder)


@pytest.mark.slow
def test_the_ui_names_a_used_port_and_the_address_of_a_server(
    folder: Path, server: int, own_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(folder)
    with pytest.raises(SrlibError, match=f"port {server} is taken"):
        serve_ui(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@example.org/mlflow")
    with pytest.raises(SrlibError, match=r"the runs are at https://example\.org/mlflow$"):
        serve_ui(free_port())
