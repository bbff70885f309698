"""srlib.stage against a real store in SQLite: what a run holds, and how it ends."""

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from srlib.errors import SrlibError
from srlib.files import tree_hash
from srlib.pipeline.dvc import PipelineStage
from srlib.stage import stage_run
from srlib.tracking.model import PACKAGES
from srlib.tracking.provenance import log_inputs
from srlib.tracking.store import connect

WAITS = """
import sys, time
from pathlib import Path
from srlib.stage import stage_run
with stage_run(sys.argv[1], inputs={"images": Path("images")}) as run:
    (run.resume / "state").write_text(sys.argv[1])
    run.tracking.log_curve({"loss": 0.5}, step=1)
    print("at work", flush=True)
    time.sleep(600)
"""

TRAINS = """
import os
from pathlib import Path
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from srlib.stage import stage_run
with stage_run("pretrain", keras=True) as run:
    import tensorflow as tf
    from tensorflow.python.framework.config import is_op_determinism_enabled
    threads = tf.config.threading
    intra, inter = threads.get_intra_op_parallelism_threads(), threads.get_inter_op_parallelism_threads()
    print(intra, inter, is_op_determinism_enabled())
    from srlib.models import ModelConfig, build, save_model
    config = ModelConfig("edsr", 4, {"blocks": 1, "filters": 8})
    save_model(build(config), config, Path("model"))
    run.tracking.log_model("small", Path("model"), {"result/validation_psnr_y": 29.5})
"""


def test_a_run_holds_what_the_stage_was_and_did(folder: Path, own_store: str, runs: Callable) -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with stage_run("pretrain", inputs={"images": Path("images/")}) as run:
        for step in (10, 20):
            run.tracking.log_curve({"step": step, "loss": 1 / step}, step)
        run.tracking.log_results({"result/validation_psnr_y": 28.43}, ["result/validation_psnr_y"])
        run.tracking.log_image("samples ×4", lambda: image, step=20)
        run.tracking.log_artifact("images", "data")
        Path("model").write_text("weights")
        run.done(["model"])
    (record,) = runs(own_store, "srlib")
    client = MlflowClient(own_store)
    assert (record.info.run_name, record.info.status) == (
        "pretrain: first run · 28.43 dB on held-out patches",
        "FINISHED",
    )
    recipe = yaml.safe_load(Path("params.yaml").read_text())
    assert record.data.params["scale"] == str(recipe["scale"])
    assert float(record.data.params["pretrain.learning_rate.peak"]) == recipe["pretrain"]["learning_rate"]["peak"]
    assert {key.split(".")[0] for key in record.data.params} == {"scale", "seed", "pretrain"}
    assert [(m.step, m.value) for m in client.get_metric_history(record.info.run_id, "train/loss")] == [
        (10, 0.1),
        (20, 0.05),
    ]
    assert record.data.metrics["result/validation_psnr_y"] == 28.43
    assert record.data.metrics["time/seconds"] >= 0
    assert not {"step", "train/step"} & record.data.metrics.keys()
    (data,) = record.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("images", tree_hash(Path("images"))[:36])
    tags = record.data.tags
    assert tags["dvc.stage"] == "pretrain"
    assert tags["dvc.dep.images"] == tree_hash(Path("images"))
    assert tags["dvc.out.model"] == tree_hash(Path("model"))
    assert len(tags["fingerprint"]) == 16
    assert str(folder) not in " ".join([*tags.values(), *record.data.params.values(), data.dataset.source])
    assert tree_hash(Path(download_artifacts(run_id=record.info.run_id, artifact_path="data/images"))) == tree_hash(
        Path("images")
    )
    assert any("samples _4+step+20" in str(path) for path in Path("mlartifacts").rglob("*.png"))
    whole = yaml.safe_load(Path(download_artifacts(run_id=record.info.run_id, artifact_path="recipe.yaml")).read_text())
    assert whole["finetune"]["pixel_weight"] == recipe["finetune"]["pixel_weight"]
    assert whole["evaluate"]["strips"] == 8, "defaults too"


def test_a_later_stage_names_the_run_that_made_its_input(folder: Path, runs: Callable) -> None:
    with stage_run("prepare", inputs={"images": Path("images")}) as run:
        Path("patches").write_text("1")
        run.done(["patches"])
    with stage_run("pretrain", inputs={"patches": Path("patches"), "images": Path("images")}):
        pass
    prepare, pretrain = runs()
    assert pretrain.data.tags["made_by.patches"] == prepare.info.run_id
    assert "made_by.images" not in pretrain.data.tags


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (SrlibError("a.png: not an image\nb.png: not an image"), "error: a.png: not an image\nerror: b.png: not a"),
        (OSError(28, "No space left on device", "models/x"), "error: prepare: No space left on device: models/x\n"),
        (
            OSError(28, "Can't write data (file write failed: filename = 'models/w.h5', errno = 28, total = 7)"),
            "error: prepare: No space left on device: models/w.h5\n",
        ),
        (OSError("1000000 requested and 25072 written"), "error: prepare: could not write all of an array; is the"),
    ],
)
def test_bad_input_and_a_failing_disk_end_in_one_line(
    folder: Path, runs: Callable, capsys: pytest.CaptureFixture[str], failure: Exception, line: str
) -> None:
    with pytest.raises(SystemExit) as ended, stage_run("prepare"):
        raise failure
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(line)
    (run,) = runs()
    assert run.info.status == "FAILED"
    assert run.data.tags["error"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk(folder: Path, runs: Callable, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), stage_run("prepare"), open("/dev/full", "w") as file:
        file.write("x")
    assert capsys.readouterr().err == "error: prepare: No space left on device\n"
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_a_bug_keeps_its_traceback(folder: Path, runs: Callable) -> None:
    with pytest.raises(ZeroDivisionError), stage_run("prepare"):
        1 / 0  # noqa: B018
    assert [(run.info.status, run.data.tags["error"]) for run in runs()] == [("FAILED", "division by zero")]


def test_stages_that_start_together_record_the_same_input(folder: Path, runs: Callable) -> None:
    store = connect(folder)
    stage = PipelineStage("prepare", {"images": "0" * 32})
    ids = [store.client.create_run(store.experiment).info.run_id for _ in range(8)]
    for round_ in range(3):
        together = threading.Barrier(len(ids))

        def record(run: str, together: threading.Barrier = together, name: str = f"images {round_}") -> None:
            together.wait()
            log_inputs(store.client, run, stage, {name: Path("images")})

        with ThreadPoolExecutor(len(ids)) as pool:
            list(pool.map(record, ids))
    assert all(len(run.inputs.dataset_inputs) == 3 for run in runs())


def test_a_mistake_in_another_section_shows_before_any_work(
    folder: Path, own_store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("adversarial_weight:", "adversarial_wieght:"))
    with pytest.raises(SystemExit), stage_run("prepare"):
        raise AssertionError("the stage ran")
    assert "finetune.adversarial_wieght" in capsys.readouterr().err
    assert not Path("mlflow.db").exists()


@pytest.mark.slow
def test_a_stopped_stage_ends_killed_and_a_killed_one_is_closed(
    folder: Path,
    runs: Callable,
    start: Callable[..., subprocess.Popen[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with stage_run("evaluate"):
        pass
    ends = {"download": signal.SIGHUP, "prepare": signal.SIGTERM, "pretrain": signal.SIGINT, "finetune": signal.SIGKILL}
    working = {name: start(WAITS, name) for name in ends}
    for process in working.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n", process.communicate()[1]
    assert {run.data.tags["dvc.stage"]: run.info.status for run in runs()} == {"evaluate": "FINISHED"} | dict.fromkeys(
        ends, "RUNNING"
    )
    with stage_run("evaluate"):
        assert {r.data.tags["dvc.stage"]: r.info.status for r in runs()}["finetune"] == "RUNNING", "it is alive"
    with pytest.raises(SystemExit), stage_run("pretrain", inputs={"images": Path("images")}) as run:
        run.resume  # noqa: B018
    line = f"error: pretrain: process {working['pretrain'].pid} works on the same checkpoint"
    assert line in capsys.readouterr().err
    for name, process in working.items():
        process.send_signal(ends[name])
    message = {name: process.communicate(timeout=300)[1] for name, process in working.items()}
    codes = {name: process.returncode for name, process in working.items()}
    assert codes == {"download": 129, "prepare": 143, "pretrain": 130, "finetune": -9}
    assert {name: text.splitlines()[-1] for name, text in message.items() if name != "finetune"} == {
        name: f"error: {name}: stopped by {signal}; run it again to continue from the last checkpoint"
        for name, signal in (("download", "SIGHUP"), ("prepare", "SIGTERM"), ("pretrain", "SIGINT"))
    }
    alive = [run for run in runs() if run.info.status != "FAILED"]
    assert {run.data.tags["dvc.stage"]: run.info.status for run in alive} == {
        "evaluate": "FINISHED",
        "download": "KILLED",
        "prepare": "KILLED",
        "pretrain": "KILLED",
        "finetune": "RUNNING",
    }
    assert next(run for run in alive if run.data.tags["dvc.stage"] == "pretrain").data.metrics["train/loss"] == 0.5

    with stage_run("finetune", inputs={"images": Path("images")}) as run:
        assert (run.resume / "state").read_text() == "finetune"
    first, second = (r for r in runs() if r.data.tags["dvc.stage"] == "finetune")
    assert (first.info.status, second.info.status) == ("KILLED", "FINISHED")
    assert second.data.tags["resumed_from"] == first.info.run_id
    assert second.data.tags["fingerprint"] == first.data.tags["fingerprint"]


def test_an_unusable_store_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for uri, message in (
        (f"sqlite:///{folder}/params.yaml/mlflow.db", "params.yaml"),
        ("nonsense://x", "nonsense"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(SystemExit), stage_run("prepare"):
            raise AssertionError("the stage ran")
        printed = capsys.readouterr().err
        assert printed.startswith("error: MLflow at ") and message in printed and printed.count("\n") == 1


def test_the_training_package_needs_neither_mlflow_nor_dvc(start: Callable[..., subprocess.Popen[str]]) -> None:
    code = (
        "import sys, srlib.engine, srlib.progress, srlib.params, srlib.pipeline.resume, srlib.stage\n"
        "assert not {'mlflow', 'dvc', 'tensorflow', 'keras', 'psutil'} & set(sys.modules)"
    )
    process = start(code)
    assert process.wait() == 0, process.communicate()[1]
    process.communicate()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize(
    ("flags", "lacking"), [("sse2 avx2", 1), ("sse2 avx512_bf16", 0), ("sse2 amx_bf16", 0), ("", 0)]
)
def test_bfloat16_where_it_is_slow_is_said(
    flags: str, lacking: int, precision: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("srlib.engine._cpuinfo", lambda: {"flags": flags})
    recipe = yaml.safe_load(Path("params.yaml").read_text())
    recipe["pretrain"]["precision"] = precision
    Path("params.yaml").write_text(yaml.safe_dump(recipe))
    with stage_run("pretrain", keras=True):
        pass
    printed = capsys.readouterr().err
    assert printed.count("warning: pretrain.precision: mixed_bfloat16 takes many times") == (
        lacking if precision == "mixed_bfloat16" else 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_a_stage_pins_its_threads_and_records_its_model(
    folder: Path,
    database: str,
    runs: Callable,
    start: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = start(TRAINS)
    output, message = process.communicate(timeout=120)
    assert process.returncode == 0, message
    assert output.splitlines() == ["1 1 True"], "one core, one thread"
    assert message == "", "TensorFlow's greeting is suppressed, and MLflow has no warning"
    import mlflow

    mlflow.set_tracking_uri(database)
    (run,) = runs()
    (model,) = run.outputs.model_outputs
    info = mlflow.models.get_model_info(f"models:/{model.model_id}")
    assert [
        [str(column.type) for column in side.inputs] for side in (info.signature.inputs, info.signature.outputs)
    ] == [
        ["DataType.string"],
        ["DataType.string"],
    ]
    # MLflow puts the model's code in front of all: processes that later tests start would import it.
    monkeypatch.setattr(sys, "path", sys.path.copy())
    served = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
    (answer,) = served.predict(served.input_example)
    assert base64.b64decode(answer).startswith(b"\x89PNG")
    assert served.predict(np.ones((2, 5, 7, 3), np.uint8)).shape == (2, 20, 28, 3), "any size can be served"
    location = mlflow.get_logged_model(model.model_id).artifact_location
    requirements = Path(download_artifacts(f"{location}/requirements.txt")).read_text()
    packages = [line.split("==")[0] for line in requirements.split()]
    assert packages == ["mlflow", *sorted([*PACKAGES, "tensorflow"])] and "://" not in requirements
