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
import json, sys
from pathlib import Path
from srlib.engine import pin_threads
pin_threads()
from srlib.params import Params
from srlib.training import checkpoint
from srlib.training.metric_log import MetricLog
checkpoint.TIME_SHARE = 1e9  # the state is saved after every step

stage, recipe, patches, folder, start, kill_at = json.loads(sys.argv[1])
params, folder, patches = Params.model_validate(recipe), Path(folder), Path(patches)

def report(record, step):
    if step == kill_at:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)

options = {"resume": folder / "resume", "log": MetricLog(folder / "log", report)}
if stage == "pretrain":
    from srlib.training.pretrain import pretrain
    pretrain(params, patches, folder / "model", **options)
else:
    from srlib.training.gan.trainer import FinetuneInputs, finetune
    finetune(params, FinetuneInputs(patches, folder, Path(start)), folder / "model", **options)
"""


def train(backend: str, stage: str, params, patches: Path, folder: Path, start: Path, kill_at: int = -1) -> int:
    """Run one stage to its end, or to the record of a step at which it kills itself; return its status."""
    arguments = [stage, params.model_dump(mode="json"), *map(str, (patches, folder, start)), kill_at]
    # A killed run and the process that goes on with it share what XLA compiled. The whole run compiles pre-training for
    # itself; the SRGAN's 400 computations take over a minute, and are compiled once.
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str((folder.parent if stage == "finetune" else folder) / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        env=os.environ | {"KERAS_BACKEND": backend} | compiled,
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert kill_at > 0 or done.returncode == 0, done.stderr[-4000:]
    return done.returncode


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Initial weights that both backends begin with; the same seed gives other weights on another backend."""
    folder = tmp_path_factory.mktemp("start") / "model"
    config = model_config(recipe())
    save_model(build(config), config, folder)
    return folder


def losses(folder: Path) -> np.ndarray:
    return np.genfromtxt(folder / "log/loss.csv", delimiter=",", names=True)["loss"]


def test_both_backends_learn_alike(patches: Path, start: Path, tmp_path: Path) -> None:
    params = recipe(
        pretrain={
            "start_from": {"folder": str(start), "sha256": file_hash(start / WEIGHTS)},
            "steps": 50, "log_every": 1, "validate_every": 50,
        }
    )  # fmt: skip
    for backend in ("tensorflow", "jax"):
        train(backend, "pretrain", params, patches, tmp_path / backend, start)
    ours, theirs = losses(tmp_path / "tensorflow"), losses(tmp_path / "jax")
    assert len(ours) == 50
    assert ours[-1] < 0.8 * ours[0], "it has to learn something for this to mean anything"
    np.testing.assert_allclose(theirs, ours, rtol=1e-3)


@pytest.mark.parametrize(("stage", "kill_at"), [("pretrain", 6), ("finetune", 4)])
def test_killed_jax_training_resumes_to_the_same_bytes(
    stage: str, kill_at: int, patches: Path, start: Path, tmp_path: Path
) -> None:
    params = recipe(pretrain={"optimizer": "muon", "equivariant": True})
    for name in ("whole", "killed"):
        if name == "killed":
            assert train("jax", stage, params, patches, tmp_path / name, start, kill_at=kill_at) == -9
            assert not (tmp_path / name / "model").exists()
        train("jax", stage, params, patches, tmp_path / name, start)
    for part in ("model", "log"):
        assert tree_hash(tmp_path / "whole" / part) == tree_hash(tmp_path / "killed" / part)


STEPS = """
import json, sys
import numpy as np
from srlib.params import Params
from srlib.training.pretrain import pixel_trainer
from srlib.training.session import copy_weights
from srlib.training.steps import JaxStepRunner, StepRunner, step_runner

params = Params.model_validate(json.loads(sys.argv[1]))
random = np.random.default_rng(0)
lr = random.integers(0, 256, (3, 4, 12, 12, 3), np.uint8)
hr = lr.repeat(4, 2).repeat(4, 3)
results = []
for make_runner in (StepRunner, step_runner):
    take_step = make_runner(pixel_trainer(params))
    losses = [take_step(*batch, [rate])["loss"] for *batch, rate in zip(lr, hr, (1e-3, 1e-2, 1e-3))]
    with take_step.variables():
        trainer = take_step.trainer
        results.append((losses, copy_weights(trainer.network), int(trainer.optimizer.iterations)))
assert type(take_step) is JaxStepRunner
(kerass, their_weights, count), (ours, weights, our_count) = results
assert count == our_count == 3
np.testing.assert_allclose(ours, kerass, rtol=1e-5)
for one, other in zip(weights, their_weights):
    np.testing.assert_allclose(one, other, atol=1e-4)
take_step(lr[0], hr[0], [1e-3])
with take_step.variables():
    assert any((a != b).any() for a, b in zip(weights, copy_weights(take_step.trainer.network)))
"""


def test_jax_steps_equal_those_of_keras() -> None:
    params = recipe(pretrain={"optimizer": "muon", "learning_rate": {"peak": 1e-3}})
    done = subprocess.run(
        [sys.executable, "-c", STEPS, json.dumps(params.model_dump(mode="json"))],
        env=os.environ | {"KERAS_BACKEND": "jax"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
