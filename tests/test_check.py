"""What is wrong with a recipe is found before the first stage, with the images and networks that it names."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from srlib.check import check_recipe
from srlib.errors import SrlibError
from srlib.params import check_params

from .conftest import STORE, TEST, TRAIN, Lines, noise_images

ROOT = Path(__file__).parents[1]


def test_the_quick_start_has_no_mistake(check_lines: Lines) -> None:
    assert check_lines({}) == []


@pytest.mark.parametrize("key", ["prepare.images", "evaluate.images"])
def test_a_misspelled_folder(key: str, check_lines: Lines) -> None:
    expected = f"{key}: expected a folder of images, got data/raw/trian, which does not exist"
    assert check_lines({key: "data/raw/trian"}) == [expected]
    Path("a.zip").touch()
    assert check_lines({key: "a.zip"}) == [f"{key}: expected a folder of images, got a.zip, which is none"]


def test_a_name_that_is_not_in_utf_8(check_lines: Lines) -> None:
    folder = noise_images(Path("photos"))
    (folder / "0.png").rename(folder / os.fsdecode(b"\xff.png"))
    expected = "prepare.images: photos/\\udcff.png: DVC needs names in UTF-8; rename it"
    assert check_lines({"prepare.images": "photos"}) == [expected]


def test_a_survey_that_cannot_be_read(check_lines: Lines) -> None:
    Path("mine").mkdir()
    assert check_lines({"evaluate.survey": "mine"}) == []
    Path("mine/mos.json").write_text("{}")
    (line,) = check_lines({"evaluate.survey": "mine"})
    assert line.startswith(
        "evaluate.survey: mine/mos.json: expected the scores of a survey, found survey: Field required"
    )


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("{a}", "a}: DVC cannot work below a folder with { or } in its name; rename it"),
        ("a'b\"", 'b": MLflow cannot work below a folder with \' and " in its name; rename it'),
    ],
)
def test_a_repository_where_others_cannot_work(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(SrlibError, match=re.escape(line)):
        check_recipe(
            check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml"),
            train=TRAIN,
            test=TEST,
            store=STORE,
        )


def test_a_backend_that_is_not_installed(check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("srlib.engine.find_spec", lambda name: None)
    with pytest.raises(SrlibError, match=r"^KERAS_BACKEND=jax: jax is not installed in this environment$"):
        check_recipe(
            check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml"),
            train=TRAIN,
            test=TEST,
            store=STORE,
        )


@pytest.mark.parametrize(
    ("launcher", "backend", "line"),
    [
        ("srun", "tensorflow", "training in several processes needs KERAS_BACKEND=jax, got tensorflow"),
        ("no-such-launcher -n 2", "jax", "cannot run no-such-launcher: no such command"),
        ("'", "jax", "expected a command such as `srun`"),
        (" ", "tensorflow", None),
        ("sh -c", "jax", None),
    ],
)
def test_a_launcher_that_cannot_train(
    launcher: str, backend: str, line: str | None, check_lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named before images are fetched and before DVC removes what an earlier training made."""
    monkeypatch.setenv("SRLIB_LAUNCHER", launcher)
    monkeypatch.setenv("KERAS_BACKEND", backend)
    if line is None:
        assert check_lines({}) == []
        return
    recipe = check_params(yaml.safe_load((ROOT / "tests/recipe.yaml").read_text()), "params.yaml")
    with pytest.raises(SrlibError, match=f"^SRLIB_LAUNCHER: {re.escape(line)}"):
        check_recipe(recipe, train=TRAIN, test=TEST, store=STORE)


def test_no_fine_tuning_and_a_run_of_the_whole_pipeline(check_lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_lines({"finetune": None}) == []
    monkeypatch.setattr("srlib.check.runs_finetune", lambda: True)
    assert check_lines({}) == []
    assert check_lines({"finetune": None}) == [
        "finetune: expected the parameters of an SRGAN, got null; copy them from a recipe, or run `dvc repro pretrain`"
    ]


def test_the_stage_prints_a_line_per_mistake_and_writes_nothing(check_lines: Lines, tmp_path: Path) -> None:
    content = yaml.safe_load((ROOT / "tests/recipe.yaml").read_text())
    content["evaluate"]["images"] = "data/raw/tset"
    Path("params.yaml").write_text(json.dumps(content))
    places = ["data/params.checked", str(TRAIN), str(TEST), str(STORE)]
    command = [sys.executable, str(ROOT / "stages/check.py"), *places]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    expected = "evaluate.images: expected a folder of images, got data/raw/tset, which does not exist"
    assert (done.returncode, done.stderr) == (1, f"error: params.yaml: {expected}\n")
    assert os.listdir() == ["params.yaml"]
