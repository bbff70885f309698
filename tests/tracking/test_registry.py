"""What training registers and which version evaluation makes the champion, against a real store in SQLite."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from PIL import Image

from srlib.errors import SrlibError
from srlib.evaluation.benchmark import METRICS, Score
from srlib.evaluation.champions import Candidate, candidates, check
from srlib.files import file_hash, write_json
from srlib.inference import upscaler as upscale
from srlib.models import ModelConfig
from srlib.params import Champion
from srlib.stage import stage_run
from srlib.tracking import Store, Verdict, connect
from srlib.tracking.model import RecordedModel
from srlib.tracking.registry import champions, elect, fetched, register

ROOT = Path(__file__).parents[2]
RULE = Verdict("Set5", "psnr_y", 30.0, "higher", 0.0, "the images")

TRAIN = """
import sys
from pathlib import Path
from srlib.stage import stage_run
stage, key, seed = sys.argv[1:]
with stage_run(stage, keras=True) as run:
    import keras
    from srlib.models import ModelConfig, build, save_model
    keras.utils.set_random_seed(int(seed))
    config = ModelConfig("edsr", 4, {"blocks": 1, "filters": 8}, training="gan" if key == "gan" else "pixel")
    model = build(config)
    save_model(model, config, Path("models", key))
    scores = {"result/validation_psnr_y": 29.5, "result/validation_ssim_y": 0.85}
    run.tracking.log_model(key, Path("models", key), scores)
    run.done([Path("models", key)])
"""


@pytest.fixture
def name(folder: Path) -> str:
    """A name in the registry that the test has for itself."""
    return f"x4 {folder.name}"[:60]


@pytest.fixture
def client(database: str) -> MlflowClient:
    return MlflowClient(database)


@pytest.fixture
def store(folder: Path) -> Store:
    return connect(folder)


def versions(store: Store, name: str, *weights: str) -> None:
    """Makes a version for each of these."""
    for each in weights:
        run = store.client.create_run(store.experiment).info.run_id
        logged = store.client.create_logged_model(store.experiment, name=name, source_run_id=run)
        model = RecordedModel(logged.model_id, logged.model_uri, {"network": "edsr", "scale": "4"}, {})
        register(store, name, model, run, each)


def champion(client: MlflowClient, name: str) -> str:
    return str(client.get_model_version_by_alias(name, "champion").version)


def better(value: float, **other: object) -> Verdict:
    return dataclasses.replace(RULE, value=value, **other)


def test_the_first_is_champion_until_a_better_one_comes(store: Store, client: MlflowClient, name: str) -> None:
    versions(store, name, "a", "b", "c")
    assert elect(client, name, "a", RULE) == f"{name}: version 1 becomes champion: psnr_y 30.0000 on Set5, the first"
    assert champion(client, name) == "1"
    message = elect(client, name, "b", RULE)
    assert message == (
        f"{name}: version 2 does not become champion: psnr_y 30.0000 on Set5, not better than version 1's 30.0000"
    ), "a tie moves nothing"
    assert champion(client, name) == "1"
    assert elect(client, name, "c", better(30.01)).endswith("psnr_y 30.0100 on Set5, better than version 1's 30.0000")
    assert champion(client, name) == "3"
    tags = [client.get_model_version(name, str(number)).tags for number in (1, 2, 3)]
    assert [tag["champion"].split(":")[0] for tag in tags] == ["yes", "no", "yes"]
    assert [tag["Set5/psnr_y"] for tag in tags] == ["30.0", "30.0", "30.01"]
    assert "is this model" in elect(client, name, "c", better(29)), "the same weights, evaluated again"
    assert client.get_model_version(name, "3").tags["Set5/psnr_y"] == "29"
    assert champion(client, name) == "3"


@pytest.mark.parametrize(
    ("verdict", "moves", "reason"),
    [
        (better(30.1, margin=0.2), False, "not better than version 1's 30.0000 by more than 0.2"),
        (better(30.3, margin=0.2), True, "better than version 1's 30.0000 by more than 0.2"),
        (better(29.0, better="lower"), True, "better than version 1's 30.0000"),
        (better(31.0, better="lower"), False, "not better than version 1's 30.0000"),
        (better(40.0, metric="ssim_y"), False, "version 1's is not known"),
        (better(40.0, set="Set14"), False, "version 1's is not known; evaluate that one on Set14"),
        (better(40.0, images="others"), False, "version 1's was measured on other images"),
    ],
)
def test_the_rule(store: Store, client: MlflowClient, name: str, verdict: Verdict, moves: bool, reason: str) -> None:
    versions(store, name, "a", "b")
    elect(client, name, "a", RULE)
    assert reason in elect(client, name, "b", verdict)
    assert champion(client, name) == ("2" if moves else "1")


def test_unregistered_weights_move_nothing(store: Store, client: MlflowClient, name: str) -> None:
    assert "not in MLflow's registry" in elect(client, name, "a", RULE)
    with pytest.raises(MlflowException):
        champion(client, name)
    versions(store, name, "a", "a", "b", "a")
    assert [v.version for v in client.search_model_versions(f"name='{name}'")] in (["2", "1"], [2, 1])


@pytest.fixture
def named(folder: Path, name: str) -> str:
    text = Path("params.yaml").read_text()
    own = text.replace("srlib-x{scale}-gan", f"{name} gan").replace("srlib-x{scale}", name)
    Path("params.yaml").write_text(own)
    return name


def train(stage: str, key: str, seed: int) -> str:
    known = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TRAIN, stage, key, str(seed)]
    result = subprocess.run(command, env=known, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stderr


@pytest.mark.slow
def test_a_trained_model_is_registered_elected_and_comes_back(
    folder: Path,
    database: str,
    named: str,
    client: MlflowClient,
    runs: Callable,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    pytest.importorskip("openvino")
    Path("models").mkdir()
    message = train("pretrain", "pretrained", 1)
    assert message == "", "registering prints nothing"
    (run,) = runs()
    (version,) = client.search_model_versions(f"name='{named}'")
    weights = file_hash(Path("models/pretrained/model.weights.h5"))
    assert version.tags["weights.sha256"] == weights and version.run_id == run.info.run_id
    with stage_run("evaluate") as stage:
        stage.elect([Candidate("pretrained", Path("models/pretrained"), 30.5, "higher", Path("images"))])
        stage.elect([Candidate("gan", Path("models/pretrained"), 28.0, "higher", Path("images"))])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"champion: {named}: version 1 becomes champion: psnr_y 30.5000 on sample, the first",
        f"champion: {named} gan: these weights are not in MLflow's registry (trained elsewhere, or in an outage): "
        "no champion",
    ]
    for uri in (f"models:/{named}@champion", f"models:/{named}/1", f"runs:/{run.info.run_id}/pretrained"):
        with fetched(uri) as folder_of_model:
            assert file_hash(folder_of_model / "model.weights.h5") == weights
            assert (folder_of_model / "config.json").read_bytes() == Path("models/pretrained/config.json").read_bytes()
        assert not folder_of_model.exists()
    assert f"models:/{named}@champion" in champions()
    check_upscaling(f"models:/{named}@champion", tmp_path / "cache")


def check_upscaling(model: str, cache: Path) -> None:
    """Upscale by the command with a registered model."""
    Image.fromarray(np.full((5, 7, 3), 99, np.uint8)).save("a.png")
    arguments = ["upscale", "a.png", "-o", "b.png", "--model", model]
    known = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache)}
    result = subprocess.run(
        [sys.executable, "-m", "srlib.cli", *arguments], env=known, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    with Image.open("b.png") as image:
        assert image.size == (28, 20)


def test_the_rules_take_their_figures_from_the_scores(folder: Path) -> None:
    for key in ("pretrained", "gan"):
        config = ModelConfig("edsr", 4, training="gan" if key == "gan" else "pixel")
        write_json(Path(key, "config.json"), dataclasses.asdict(config))
    scores = [
        Score("Set5", str(number), method, {"psnr_y": base + number, "color_error": 3.0})
        for method, base in (("EDSR", 30.0), ("SRGAN", 27.0))
        for number in range(3)
    ]
    measures = {name: METRICS[name] for name in ("psnr_y", "color_error")}
    rules = {
        "pretrained": Champion(set="Set5", metric="psnr_y"),
        "gan": Champion(set="Set5", metric="color_error", margin=0.1),
    }
    models = {"pretrained": Path("pretrained"), "gan": Path("gan")}
    assert candidates(rules, scores, measures, Path("sets"), models) == [
        Candidate("pretrained", Path("pretrained"), 31.0, "higher", Path("sets/Set5")),
        Candidate("gan", Path("gan"), 3.0, "lower", Path("sets/Set5")),
    ]
    assert candidates({}, scores, measures, Path("sets"), models) == []
    check(rules, {"Set5": []})
    with pytest.raises(SrlibError, match=r"evaluate\.champion\.pretrained\.set: expected one of Set14, got Set5"):
        check(rules, {"Set14": []})


def test_models_that_cannot_be_had_are_one_line(
    folder: Path, database: str, monkeypatch: pytest.MonkeyPatch, client: MlflowClient, name: str
) -> None:
    for uri, message in [
        ("models:/nobody@champion", "models:/nobody@champion: not found in MLflow at sqlite:///"),
        ("models:/nobody/3", "not found in MLflow"),
        ("runs:/0123456789abcdef0123456789abcdef/gan", "not found in MLflow"),
        ("models:/nonsense", "not found in MLflow"),
    ]:
        with pytest.raises(SrlibError, match=message) as error, fetched(uri):
            pass
        assert "\n" not in str(error.value)
    monkeypatch.setattr(upscale, "find_spec", lambda name: None)
    with pytest.raises(SrlibError, match=r"^models:/a/1: needs MLflow: \S+ -m pip install 'srlib\[pipeline\]'"):
        upscale.open_model("models:/a/1")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(SrlibError, match=r"models:/a/1: no mlflow\.db here"), fetched("models:/a/1"):
        pass
    assert champions() == []
    assert not Path("mlflow.db").exists(), "asking makes no store"
