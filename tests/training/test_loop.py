import json
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from srlib.errors import SrlibError
from srlib.files import file_hash, tree_hash
from srlib.models import WEIGHTS, ModelConfig, build, load_model, save_model
from srlib.training import state
from srlib.training.pretrain import model_config

from .conftest import KilledError, killer, recipe, run_finetune, run_pretrain


@pytest.mark.parametrize(
    ("run", "steps", "optimizer"),
    [(run_pretrain, (3, 9), "adam"), (run_pretrain, (3, 9), "muon"), (run_finetune, (2, 4), "adam")],
)
def test_a_killed_run_ends_in_the_bytes_of_an_undisturbed_one(
    run, steps, optimizer, patches: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(state, "SAVING_SHARE", 1e9)  # after every step
    params = recipe(pretrain={"optimizer": optimizer})
    run(tmp_path / "whole", patches, params)
    for at in steps:
        with pytest.raises(KilledError):
            run(tmp_path / "killed", patches, params, killer(at))
    assert not (tmp_path / "killed/model").exists()
    run(tmp_path / "killed", patches, params)
    for name in ("model", "curves"):
        assert tree_hash(tmp_path / "whole" / name) == tree_hash(tmp_path / "killed" / name)


def test_a_finished_state_gives_the_outputs_again_without_training(patches: Path, tmp_path: Path) -> None:
    run_pretrain(tmp_path, patches, recipe())
    first = tree_hash(tmp_path / "model")
    rows = []
    run_pretrain(tmp_path, patches, recipe(), report=lambda row, step: rows.append(step))
    assert tree_hash(tmp_path / "model") == first
    assert rows == [3, 6, 9, 12], "the curve is told again, nothing is trained again"


def test_another_seed_gives_other_weights(patches: Path, tmp_path: Path) -> None:
    run_pretrain(tmp_path / "a", patches, recipe())
    run_pretrain(tmp_path / "b", patches, recipe().model_copy(update={"seed": 6}))
    assert tree_hash(tmp_path / "a/model") != tree_hash(tmp_path / "b/model")


def test_the_curve_falls_and_the_best_weights_are_kept(patches: Path, tmp_path: Path) -> None:
    rows = {}
    params = recipe(pretrain={"steps": 60, "log_every": 20})
    _, result = run_pretrain(tmp_path, patches, params, lambda row, step: rows.setdefault(step, row))
    losses = np.genfromtxt(tmp_path / "curves/loss.csv", delimiter=",", names=True)
    scores = np.genfromtxt(tmp_path / "curves/validation.csv", delimiter=",", names=True)
    assert losses["loss"][-1] < 0.7 * losses["loss"][0]
    assert list(losses["step"][-1:]) == [60]
    assert result.metrics["psnr_y"] == pytest.approx(scores["psnr_y"].max(), rel=1e-5)
    assert set(rows) >= {20, 40, 60}


def test_weights_on_disk_are_those_that_were_scored(patches: Path, tmp_path: Path) -> None:
    _, result = run_pretrain(tmp_path, patches, recipe())
    loaded, config = load_model(tmp_path / "model")
    assert config == model_config(recipe())
    for a, b in zip(loaded.variables, result.weights, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(a), b)


@pytest.mark.parametrize("interpolation", [0.0, 1.0])
def test_the_fidelity_knob_ends_at_the_pre_trained_weights(interpolation, patches: Path, tmp_path: Path) -> None:
    run_finetune(tmp_path / "gan", patches, recipe(finetune={"interpolation": interpolation}))
    same = file_hash(tmp_path / "start" / WEIGHTS) == file_hash(tmp_path / "gan/model" / WEIGHTS)
    assert same == (interpolation == 0)
    assert json.loads((tmp_path / "gan/model/config.json").read_text())["training"] == "gan"


def test_a_damaged_state_is_named(patches: Path, tmp_path: Path) -> None:
    run_pretrain(tmp_path, patches, recipe())
    path = tmp_path / "state/state.npz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SrlibError, match="not a usable resume state"):
        run_pretrain(tmp_path, patches, recipe())


def test_training_may_start_from_earlier_weights(patches: Path, tmp_path: Path) -> None:
    run_pretrain(tmp_path / "a", patches, recipe())
    start = {"folder": str(tmp_path / "a/model"), "sha256": file_hash(tmp_path / "a/model" / WEIGHTS)}
    again = recipe(pretrain={"start_from": start, "steps": 1, "learning_rate": {"peak": 1e-9}, "ema_decay": 0.0})
    network, _ = run_pretrain(tmp_path / "b", patches, again)
    for a, b in zip(load_model(tmp_path / "a/model")[0].variables, network.variables, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(a), ops.convert_to_numpy(b), atol=1e-7)
    wrong = recipe(pretrain={"start_from": start | {"sha256": "0" * 64}})
    with pytest.raises(SrlibError, match=r"pretrain.start_from: .* has the SHA-256 .*; write that if"):
        run_pretrain(tmp_path / "c", patches, wrong)
    other = recipe(pretrain={"start_from": start, "model": {"name": "edsr", "blocks": 2, "filters": 8}})
    with pytest.raises(SrlibError, match=r"pretrain.start_from"):
        run_pretrain(tmp_path / "d", patches, other)


def test_fine_tuning_refuses_another_scale(patches: Path, tmp_path: Path) -> None:
    config = ModelConfig("edsr", 2, {"blocks": 1, "filters": 8})
    save_model(build(config), config, tmp_path / "start")
    with pytest.raises(SrlibError, match="expected a model for ×4, got one for ×2"):
        run_finetune(tmp_path / "gan", patches, recipe())


def test_training_needs_neither_mlflow_nor_dvc() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules |= dict.fromkeys(['mlflow', 'dvc'])\n"
        "import srlib.training.pretrain, srlib.training.gan.trainer"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
