"""Which models the page offers."""

import shutil
from pathlib import Path

import pytest

import srlib
from srlib.demo import choices
from srlib.demo.choices import ModelChoice, model_choices, version_of
from srlib.errors import SrlibError
from srlib.inference.shipped import SHIPPED


@pytest.fixture(autouse=True)
def no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "_champions", lambda: [])


def test_shipped_models_appear_by_themselves(tmp_path: Path) -> None:
    offered = model_choices(tmp_path / "missing")
    assert sorted(choice.model for choice in offered) == sorted([*srlib.shipped_models(), "auto"])
    assert offered[0] == ModelChoice("auto – the model that fits the image and the size", "auto", fidelity=1.0)
    assert offered[1] == ModelChoice("free-x4 – faithful", "free-x4", fidelity=1.0)
    assert ModelChoice("psnr-x2 – faithful", "psnr-x2") in offered
    assert ModelChoice("fast-x4 – faithful, fast", "fast-x4") in offered
    assert ModelChoice("photo-x4 – faithful, for noisy images and JPEGs", "photo-x4", fidelity=1.0) in offered
    assert ModelChoice("gan-x4 – sharp, some detail invented", "gan-x4", fidelity=0.0) in offered


def test_a_folder_of_models_and_models_of_the_command_line(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED / "psnr-x4", tmp_path / "exported")
    for name in ("pretrained", "gan"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
        (tmp_path / name / "model.weights.h5").touch()
    (tmp_path / "other.onnx").touch()
    (tmp_path / "notes.txt").touch()
    offered = model_choices(tmp_path, ["models:/x/1"])
    assert offered[0] == ModelChoice("models:/x/1", "models:/x/1")
    own = {Path(choice.model).name: choice for choice in offered[1:] if choice.model.startswith(str(tmp_path))}
    assert set(own) == {"exported", "gan", "other.onnx", "pretrained"}
    assert own["pretrained"].gan == str(tmp_path / "gan") and own["pretrained"].fidelity == 1.0
    assert own["exported"].fidelity is None


def test_champions_of_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "_champions", lambda: ["models:/srlib-x4@champion"])
    assert ModelChoice("srlib-x4@champion – from MLflow", "models:/srlib-x4@champion") in model_choices(tmp_path)


def test_the_version_follows_an_election(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    assert version_of("models:/x4@champion") == "" and not list(tmp_path.iterdir())
    uri = f"sqlite:///{tmp_path}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    client = mlflow.MlflowClient(uri)
    client.create_registered_model("x4")
    for number in "12":
        client.create_model_version("x4", str(tmp_path))
        client.set_registered_model_alias("x4", "champion", number)
        assert version_of("models:/x4@champion") == number and version_of("models:/x4/1") == ""
    with pytest.raises(SrlibError, match="alias other"):
        version_of("models:/x4@other")
