"""The run of a batch of images ends with the batch, whatever cannot be sent."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from srlib.tracking.batch import BatchResult, batch_run


@pytest.mark.parametrize("table", ["image\na\udcfe.png\n", "image\na.png\n"])
def test_a_run_ends_without_its_table(
    folder: Path,
    runs: Callable,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    table: str,
) -> None:
    def refuse(*arguments: object) -> None:
        raise RuntimeError("Unable to locate credentials")

    if table.isascii():
        monkeypatch.setattr(MlflowClient, "log_text", refuse)
    with batch_run({"model": "psnr-x4"}, lambda: BatchResult({"images": 1.0}, "upscale: 1 image", table)):
        pass
    (run,) = runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "upscale: 1 image")
    assert run.data.metrics == {"images": 1.0}
    warning, end = capsys.readouterr().err.splitlines()
    assert warning.startswith("warning: scores.csv was not sent to MLflow: ") and end.startswith("MLflow: upscale")
