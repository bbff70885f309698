"""What a person sees first in MLflow: names, descriptions, groups of charts, the parent, models with their scores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from srlib.evaluation.champions import ModelScores
from srlib.files import tree_hash, write_json
from srlib.stage import stage_run
from srlib.tracking import Store, connect, parent
from srlib.tracking.descriptions import EXPERIMENT_NOTE, with_scores

NOTE = "mlflow.note.content"
RESULTS = {"result/validation_psnr_y": 29.5, "result/validation_ssim_y": 0.85, "result/step": 80.0}


def change(**values: object) -> None:
    """Set keys of the section finetune in params.yaml; None removes one."""
    recipe = yaml.safe_load(Path("params.yaml").read_text())
    recipe["finetune"] |= values
    recipe["finetune"] = {key: value for key, value in recipe["finetune"].items() if value is not None}
    Path("params.yaml").write_text(yaml.safe_dump(recipe))


def finetune(score: float) -> None:
    """A stage that trains nothing."""
    with stage_run("finetune", inputs={"images": Path("images")}) as run:
        run.tracking.log_curve({"step": 10, "loss": 1.5, "checkerboard": 0.25, "learning_rate": 1e-4}, 10)
        run.tracking.log_curve({"validation_psnr_y": 29.0, "validation_checkerboard": 2.0}, 10)
        run.tracking.log_results({**RESULTS, "result/validation_psnr_y": score}, ["result/validation_psnr_y"])


def test_a_run_is_named_and_described_by_what_changed(folder: Path, runs: Callable[..., list[Any]]) -> None:
    change(adversarial_weight=0.001, clip_norm=None)
    finetune(29.5)
    change(adversarial_weight=0.005, clip_norm=1.0)
    finetune(29.25)
    finetune(29.25)
    Path("images", "b").write_text("2")
    finetune(29.0)
    first, changed, same, other = runs()
    assert [run.info.run_name for run in (first, changed, same, other)] == [
        "finetune: first run · 29.50 dB on held-out patches",
        "finetune: clip_norm 0.0 → 1.0, adversarial_weight 0.001 → 0.005 · 29.25 dB on held-out patches",
        "finetune: same parameters · 29.25 dB on held-out patches",
        "finetune: new images · 29.00 dB on held-out patches",
    ]
    note = changed.data.tags[NOTE]
    assert f"](#/experiments/{first.info.experiment_id}/runs/{first.info.run_id}):" in note
    assert "| `finetune.clip_norm` | `0.0` | `1.0` |\n| `finetune.adversarial_weight` | `0.001` | `0.005` |" in note
    assert "**Held-out patches**, PSNR-Y in dB / SSIM-Y: 29.25 / .8500, weights of step 80." in note
    assert "the same parameters, data and code" in same.data.tags[NOTE]


def test_a_curve_and_a_result_never_share_a_name(folder: Path, runs: Callable[..., list[Any]]) -> None:
    finetune(29.5)
    (run,) = runs()
    client = MlflowClient()
    histories = {key: client.get_metric_history(run.info.run_id, key) for key in run.data.metrics}
    curves = {key for key in histories if key.startswith(("train/", "validation/", "gan/"))}
    assert curves == {
        "train/loss",
        "train/learning_rate",
        "gan/checkerboard_loss",
        "validation/psnr_y",
        "validation/checkerboard",
    }
    assert {point.step for key in curves for point in histories[key]} == {10}, "no false point at step 0"
    others = histories.keys() - curves - {key for key in histories if key.startswith("system/")}
    assert others == {*RESULTS, "time/seconds"}
    assert all(len(histories[key]) == 1 for key in others)


def test_parameters_are_those_that_the_file_names(folder: Path, runs: Callable[..., list[Any]]) -> None:
    change(clip_norm=None)
    finetune(29.5)
    (run,) = runs()
    recipe = yaml.safe_load(Path("params.yaml").read_text())
    assert {key.split(".")[1] for key in run.data.params if key.startswith("finetune.")} == recipe["finetune"].keys()
    assert run.data.params["seed"] == str(recipe["seed"])
    text = MlflowClient().list_artifacts(run.info.run_id)
    assert {file.path for file in text} == {"recipe.yaml", "dependencies.json"}
    assert len(run.data.tags) < 25, "the hashes of the code are one tag"


def test_an_experiment_is_described_and_its_kind_is_set(folder: Path) -> None:
    store = connect(folder)
    experiment = store.client.get_experiment(store.experiment)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert experiment.tags[NOTE] == EXPERIMENT_NOTE
    store.client.set_experiment_tag(store.experiment, NOTE, "ours")
    connect(folder)
    assert store.client.get_experiment(store.experiment).tags[NOTE] == "ours", "a person's description stays"


@pytest.fixture
def model(folder: Path) -> Path:
    """The folder of a trained model, as far as MLflow is concerned; its name in the registry is the test's own."""
    text = Path("params.yaml").read_text().replace("srlib-x{scale}-gan", f"look {folder.name}"[:60])
    Path("params.yaml").write_text(text)
    network = {"name": "edsr", "scale": 4, "options": {"blocks": 2}, "channels": "rgb", "training": "gan"}
    write_json(Path("gan/config.json"), network)
    Path("gan/model.weights.h5").write_bytes(b"weights")
    return Path("gan")


def evaluate(model: Path) -> None:
    """A stage that scores nothing."""
    scores = {"sample/bicubic/psnr_y": 29.59, "sample/SRGAN/psnr_y": 30.25, "sample/SRGAN/ssim_y": 0.8332}
    values = {"sample": {"psnr_y": 30.25, "ssim_y": 0.8332, "color_error": 0.5}}
    Path("report.html").write_text("<p>")
    with stage_run("evaluate", inputs={"gan": model}) as run:
        run.tracking.log_artifact("report.html", on_parent=True)
        run.score(scores, [ModelScores("gan", "SRGAN", model, values, {"sample": Path("images")})])


def test_the_parent_has_the_headline_scores_and_the_report(
    model: Path, runs: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    executions = iter("aab")
    monkeypatch.setattr(parent, "execution", lambda: next(executions))
    finetune(29.5)
    evaluate(model)
    change(adversarial_weight=0.005)
    evaluate(model)
    first, trained, evaluated, second, again = runs()
    assert first.info.run_name == "first run · SRGAN 30.25 dB on sample"
    assert second.info.run_name == "finetune.adversarial_weight 0.001 → 0.005 · SRGAN 30.25 dB on sample"
    assert evaluated.info.run_name == "evaluate: first run · SRGAN 30.25 dB on sample"
    assert first.data.metrics == {
        "finetune/validation_psnr_y": 29.5,
        "test/sample/SRGAN/psnr_y": 30.25,
        "test/sample/SRGAN/ssim_y": 0.8332,
    }
    assert "| SRGAN | 30.25 / .8332 |" in first.data.tags[NOTE]
    assert "| bicubic | 29.59 |" in evaluated.data.tags[NOTE]
    for child, owner in ((trained, first), (evaluated, first), (again, second)):
        assert child.data.tags["mlflow.parentRunId"] == owner.info.run_id
        assert f"runs/{child.info.run_id})" in owner.data.tags[NOTE]
    client = MlflowClient()
    assert {file.path for file in client.list_artifacts(first.info.run_id)} == {"recipe.yaml", "report.html"}


def test_a_model_is_linked_described_and_scored(model: Path, runs: Callable[..., list[Any]]) -> None:
    Path("patches").mkdir()
    with stage_run("finetune", inputs={"patches": Path("patches")}) as run:
        run.tracking.log_model("gan", model, RESULTS)
    evaluate(model)
    trained, _ = runs()
    client = MlflowClient()
    (logged,) = client.search_logged_models([trained.info.experiment_id])
    name = run.tracking.registered_names["gan"]
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": name, "version": 1}]
    assert (version.source, version.run_id) == (logged.model_uri, trained.info.run_id)
    assert {key: logged.params[key] for key in ("network", "scale", "blocks")} == {
        "network": "edsr",
        "scale": "4",
        "blocks": "2",
    }
    assert logged.tags[NOTE] == version.description
    measured = {metric.key: (metric.value, metric.dataset_name, metric.dataset_digest) for metric in logged.metrics}
    images = tree_hash(Path("images"))[:36]
    assert measured["result/validation_psnr_y"] == (29.5, "patches", tree_hash(Path("patches"))[:36])
    assert measured["test/sample/psnr_y"] == (30.25, "sample", images)
    matches = client.search_runs([trained.info.experiment_id], 'metrics."test/sample/psnr_y" > 30')
    assert [run.info.run_id for run in matches] == [trained.info.run_id]
    described = client.get_registered_model(name).description
    assert described.startswith("Super-resolution ×4 for sharp detail (SRGAN)")
    assert f'mlflow.pyfunc.load_model("models:/{name}@champion")' in described
    assert "| held-out patches | 29.50 / .8500 |\n| sample | 30.25 / .8332 |" in version.description
    assert f'mlflow.pyfunc.load_model("models:/{name}/1")' in version.description
    assert with_scores(version.description, {"sample": "30.30 / .8400"}) == version.description.replace(
        "30.25 / .8332", "30.30 / .8400"
    )


def test_the_same_weights_again_are_linked_to_their_version(folder: Path, model: Path) -> None:
    for _ in range(2):
        with stage_run("finetune") as run:
            run.tracking.log_model("gan", model, RESULTS)
    store: Store = connect(folder)
    models = store.client.search_logged_models([store.experiment])
    assert [json.loads(one.tags["mlflow.modelVersions"])[0]["version"] for one in models] == [1, 1]
    assert len(store.client.search_model_versions(f"name = '{run.tracking.registered_names['gan']}'")) == 1
