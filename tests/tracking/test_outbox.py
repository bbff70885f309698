"""What the queue does with records and ends of runs that MLflow refuses, and where no server answers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from srlib.tracking import outbox
from srlib.tracking.outbox import Outbox, send_unsent, store_digest

DELETED = "deleted"


class Client:
    """A client that refuses everything for one run; it answers `answers` requests, then none."""

    tracking_uri = "sqlite:///x"

    def __init__(self, answers: int = 10_000) -> None:
        self.steps: list[int] = []
        self.ends: list[str] = []
        self.requests = 0
        self.answers = answers

    def log_batch(self, run: str, metrics: Sequence[Metric] = (), tags: Sequence[RunTag] = ()) -> None:
        self._receive(run)
        self.steps.extend(metric.step for metric in metrics)

    def set_terminated(self, run: str, status: str, end: int) -> None:
        self._receive(run)
        self.ends.append(run)

    def _receive(self, run: str) -> None:
        self.requests += 1
        if self.requests > self.answers:
            raise MlflowException("no answer")
        if run == DELETED:
            raise MlflowException("Run deleted not found", RESOURCE_DOES_NOT_EXIST)


def unsent(root: Path, client: Any, **ends: list[object]) -> Path:
    """Write 2,500 records with a refused one among them, and return the file."""
    records = [["child", "loss", float(i), 1, i, "", "", ""] for i in range(2500)]
    records.insert(700, [DELETED, "psnr", 1.0, 1, 0, "", "", ""])
    path = root / outbox.UNSENT / "r.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"store": store_digest(client), "records": records, "ends": ends}))
    return path


def test_a_refused_record_takes_no_other_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client()
    path = unsent(tmp_path, client, deleted=["FINISHED", 5], child=["FINISHED", 5])
    send_unsent(client, tmp_path)
    assert set(client.steps) == set(range(2500)) and client.ends == ["child"]
    assert client.requests < 50  # halves, not one by one
    assert not path.exists()
    line = "warning: MLflow refuses a record of an earlier stage: Run deleted not found\n"
    assert capsys.readouterr().err == line


def test_an_outage_keeps_what_is_unsent(tmp_path: Path) -> None:
    client: Any = Client(answers=20)
    path = unsent(tmp_path, client, child=["FINISHED", 5])
    before = path.read_bytes()
    with pytest.raises(MlflowException, match="no answer"):
        send_unsent(client, tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("ends", [["child"], {"child": "FINISHED"}, {"child": ["FINISHED"]}])
def test_unusable_ends_are_removed(tmp_path: Path, ends: object, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client()
    path = unsent(tmp_path, client)
    path.write_text(json.dumps({"store": store_digest(client), "records": [], "ends": ends}))
    send_unsent(client, tmp_path)
    assert not path.exists() and f"{path}: not usable, removed: " in capsys.readouterr().err


def test_a_stage_sends_all_but_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Client()
    box = Outbox(client, "child", tmp_path / "r.json", dict)
    for step in range(900):
        box.add_metrics("child", {"loss": 1.0}, step)
        if step == 500:
            box.add_metrics(DELETED, {"loss": 1.0}, step)
    box.close(10, {DELETED: "FINISHED", "child": "FINISHED"})
    assert set(client.steps) == set(range(900)) and client.ends == ["child"]
    assert client.requests < 50
    assert capsys.readouterr().err == "warning: MLflow refuses a record or a file: Run deleted not found\n"
    assert not (tmp_path / "r.json").exists()
