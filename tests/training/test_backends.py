"""The same code under KERAS_BACKEND=jax, in processes of their own: a process has one backend."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srlib.files import file_hash, tree_hash
from srlib.models import WEIGHTS, build, save_model
from srlib.training.pretrain import model_config

from .conftest import recipe

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.jax,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX, a package of the extra `dev`"),
]

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
sys.modules |= dict.fromkeys(["mlflow", "dvc"])  # training needs neither
from srlib.engine import pin_threads
pin_threads()
import numpy as np
from srlib.params import Params
from srlib.training import checkpoint
from srlib.training.gan.trainer import FinetuneInputs, finetune
from srlib.training.metric_log import MetricLog
from srlib.training.pretrain import pixel_trainer, pretrain
from srlib.training.session import copy_weights
from srlib.training.steps import JaxStepRunner, StepRunner, step_runner
checkpoint.TIME_SHARE = 1e9  # the state is saved after every step

def train(folder, stage, recipe, patches, start, kill_at):
    folder, patches, params = Path(folder), Path(patches), Params.model_validate(recipe)

    def report(record, step):
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    options = {"resume": folder / "resume", "log": MetricLog(folder / "log", report)}
    if stage == "pretrain":
        pretrain(params, patches, folder / "model", **options)
    else:
        finetune(params, FinetuneInputs(patches, folder, Path(start)), folder / "model", **options)

def take_steps(folder, recipe):
    random = np.random.default_rng(0)
    lr = random.integers(0, 256, (3, 4, 12, 12, 3), np.uint8)
    hr = lr.repeat(4, 2).repeat(4, 3)
    results = {}
    for make_runner in (StepRunner, step_runner):
        take_step = make_runner(pixel_trainer(Params.model_validate(recipe)))
        losses = [take_step(*batch, [rate])["loss"] for *batch, rate in zip(lr, hr, (1e-3, 1e-2, 1e-3))]
        with take_step.variables():
            weights = np.concatenate([values.ravel() for values in copy_weights(take_step.trainer.network)])
        results[type(take_step).__name__] = [losses, int(take_step.trainer.optimizer.iterations), weights.tolist()]
    take_step(lr[0], hr[0], [1e-3])
    with take_step.variables():
        weights = np.concatenate([values.ravel() for values in copy_weights(take_step.trainer.network)])
    results["another step"] = weights.tolist()
    Path(folder, "steps.json").write_text(json.dumps(results))

for name, *arguments in json.loads(sys.argv[1]):
    {"train": train, "take_steps": take_steps}[name](*arguments)
assert ("tensorflow" in sys.modules) == (pin_threads()["backend"].startswith("tensorflow")), "seconds for nothing"
"""

KILLED_AT = {"pretrain": 6, "finetune": 4}


def run(backend: str, folder: Path, *calls: tuple) -> subprocess.CompletedProcess[str]:
    """Call functions of the program in one process."""
    compiled = {  # processes share what XLA compiled: the 400 computations of an SRGAN take most of the time
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(calls)],
        env=os.environ | {"KERAS_BACKEND": backend} | compiled,
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Initial weights that both backends begin with; the same seed gives other weights on another backend."""
    folder = tmp_path_factory.mktemp("start") / "model"
    config = model_config(recipe())
    save_model(build(config), config, folder)
    return folder


def muon() -> dict:
    return recipe(pretrain={"optimizer": "muon", "equivariant": True}).model_dump(mode="json")


def from_a_start(start: Path) -> dict:
    chosen = {"folder": str(start), "sha256": file_hash(start / WEIGHTS)}
    params = recipe(pretrain={"start_from": chosen, "steps": 50, "log_every": 1, "validate_every": 50})
    return params.model_dump(mode="json")


@pytest.fixture(scope="module")
def trained(patches: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all trainings on JAX: two processes that were killed, and one that does everything else."""
    folder = tmp_path_factory.mktemp("jax")

    def train(name: str, stage: str, params: dict, kill_at: int = -1) -> tuple:
        return ("train", str(folder / name), stage, params, str(patches), str(start), kill_at)

    calls = [train("alike", "pretrain", from_a_start(start)), ("take_steps", str(folder), steps_recipe())]
    for stage, kill_at in KILLED_AT.items():
        killed = run("jax", folder, train(f"{stage}/killed", stage, muon(), kill_at))
        assert killed.returncode == -9, killed.stderr[-4000:]
        assert not (folder / stage / "killed/model").exists()
        calls += [train(f"{stage}/{name}", stage, muon()) for name in ("killed", "whole")]
    done = run("jax", folder, *calls)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def losses(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "log/loss.csv", delimiter=",", names=True)["loss"]


def test_both_backends_learn_alike(trained: Path, patches: Path, start: Path, tmp_path: Path) -> None:
    call = ("train", str(tmp_path / "alike"), "pretrain", from_a_start(start), str(patches), str(start), -1)
    done = run("tensorflow", tmp_path, call)
    assert done.returncode == 0, done.stderr[-4000:]
    ours, theirs = losses(tmp_path / "alike"), losses(trained / "alike")
    assert len(ours) == 50
    assert ours[-1] < 0.8 * ours[0], "it has to learn something for this to mean anything"
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)


@pytest.mark.parametrize("stage", KILLED_AT)
def test_killed_jax_training_resumes_to_the_same_bytes(stage: str, trained: Path) -> None:
    for part in ("model", "log"):
        assert tree_hash(trained / stage / "whole" / part) == tree_hash(trained / stage / "killed" / part)


def steps_recipe() -> dict:
    return recipe(pretrain={"optimizer": "muon", "learning_rate": {"peak": 1e-3}}).model_dump(mode="json")


def test_jax_steps_equal_those_of_keras(trained: Path) -> None:
    results = json.loads((trained / "steps.json").read_text())
    (kerass, count, weights), (ours, our_count, our_weights) = results["StepRunner"], results["JaxStepRunner"]
    assert count == our_count == 3
    np.testing.assert_allclose(ours, kerass, rtol=1e-5)
    np.testing.assert_allclose(our_weights, weights, atol=1e-4)
    assert results["another step"] != our_weights
