"""`--track`: one MLflow run for a batch of images."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from srlib.cli import app
from srlib.errors import SrlibError
from srlib.inference import track
from srlib.inference.records import Records, Scores
from srlib.inference.track import batch_metrics, tracked
from srlib.tracking.batch import BatchResult


def scores(name: str, **values: object) -> Scores:
    return Scores(name, f"{name}.png", 10, 10, 40, 40, "psnr-x4", 0.5, 40.0, 3, **values)


def test_metrics_of_a_batch() -> None:
    inside = scores("a", noise=1.0, blur=0.4, noise_outside=0.0, blur_outside=0.0)
    outside = scores("b", noise=9.0, jpeg_quality=40, noise_outside=5.0, jpeg_quality_outside=40.0)
    metrics = batch_metrics([inside, outside])
    assert (metrics["images"], metrics["input/noise"], metrics["input/jpeg_quality"]) == (2, 5.0, 40)
    assert (metrics["outside/noise"], metrics["outside/jpeg_quality"], metrics["outside/share"]) == (2.5, 40, 0.5)
    assert metrics["speed/images_per_second"] == 2 and metrics["lr_consistency/psnr"] == 40
    assert batch_metrics([]) == {"images": 0.0}


def test_without_mlflow_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    with (
        pytest.raises(SrlibError, match=r"^--track needs MLflow: \S+ -m pip"),
        tracked(Records(tracked=True), {}),
    ):
        pass


def test_names_that_are_not_utf8_can_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, str] = {}

    @contextlib.contextmanager
    def batch_run(params: Mapping[str, str], result: Callable[[], BatchResult]) -> Iterator[None]:
        yield
        sent.update(params, table=result().table)

    monkeypatch.setattr("srlib.tracking.batch.batch_run", batch_run)
    with tracked(Records(tracked=True, lines=[scores("a\udcfe é")]), {"out": "b\udcfe"}):
        pass
    assert sent["out"] == r"b\udcfe"
    line = sent["table"].encode().decode().splitlines()[1]
    assert line.startswith(r"a\udcfe é,a\udcfe é.png,10,10,40,40,psnr-x4,")


@pytest.mark.slow
def test_the_command_records_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    Path("in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.random.default_rng(0).integers(90, 160, (97, 99, 3), np.uint8)).save(f"in/{name}.png")
    Path("in/c.png").write_text("no image")
    arguments = ["upscale", "in", "-o", "out", "--model", "psnr-x4", "--track"]
    with pytest.raises(SrlibError, match=r"in/c\.png"):
        CliRunner().invoke(app, arguments, catch_exceptions=False, standalone_mode=False)
    assert Path("mlflow.db").is_file()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("srlib")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED" and run.data.metrics["images"] == 2
    assert run.data.metrics["outside/share"] == 1 and run.data.metrics["outside/noise"] > 5
    assert run.data.params["models"] == run.data.params["model"] == "psnr-x4"
    assert len(run.data.params["fingerprint.psnr-x4"]) == 64 and run.data.tags["kind"] == "upscale"
    assert run.info.run_name.startswith("upscale psnr-x4: 2 images, LR PSNR ")
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["scores.csv"]


def test_no_store_without_being_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("a.png")
    CliRunner().invoke(app, ["upscale", "a.png", "-o", "b.png"], catch_exceptions=False, standalone_mode=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
