"""Training in two processes of two devices each, against one process with one device.

The group first takes a few steps with each of several recipes; then it begins a training in which process 1 kills
itself. The single process takes the same steps, continues that training, and runs it once more without interruption.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .conftest import recipe

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.jax,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs JAX, a package of the extra `dev`"),
]

SRRESNET = {"model": {"name": "srresnet", "blocks": 1, "filters": 8}}
CASES = {
    "muon": {"optimizer": "muon", "equivariant": True, "micro_batches": 4},
    "batch normalization": {**SRRESNET, "micro_batches": 4},
    "whole batch": SRRESNET,
    "whole batch, Adam": {},
}
KILLED_AT = 6

PROGRAM = """
import hashlib, json, os, signal, sys
from pathlib import Path
from srlib.training import distributed
from srlib.engine import pin_threads
from srlib.stage import errors_in_one_line

cases, training, patches, folder, killed_at = json.loads(sys.argv[1])
with distributed.ended_at_once(), errors_in_one_line("pretrain"):
    distributed.join()
    pin_threads()
    import numpy as np
    from srlib.files import tree_hash
    from srlib.params import Params
    from srlib.training import checkpoint
    from srlib.training.loop import training_batches
    from srlib.training.metric_log import MetricLog
    from srlib.training.pretrain import pixel_trainer, pretrain
    from srlib.training.session import TrainingSession
    from srlib.training.steps import step_runner

    def steps(params):
        trainer = pixel_trainer(params)
        take_step = step_runner(trainer, params.pretrain.micro_batches)
        batches = training_batches("pretrain", Path(patches), params.pretrain, 0)
        losses, statistics = [], []
        for step in range(3):
            losses.append(take_step(*batches(step), [1e-3])["loss"])
            if step == 0:
                with take_step.variables():
                    statistics = [v.numpy().ravel().tolist() for v in trainer.network.non_trainable_variables]
        with take_step.variables():
            digest = hashlib.sha256(b"".join(np.asarray(v.value).tobytes() for v in trainer.step_variables))
        return losses, statistics, digest.hexdigest()

    def train(name):
        log = MetricLog(Path(folder) / name / "log")
        params = Params.model_validate(training)
        pretrain(params, Path(patches), Path(folder) / name / "model", resume=Path(folder) / name / "resume", log=log)

    results = {name: steps(Params.model_validate(recipe)) for name, recipe in cases.items()}
    if distributed.is_main():
        Path(folder, f"{distributed.world()}.json").write_text(json.dumps(results))
    checkpoint.TIME_SHARE = 1e9  # the state is saved after every step
    if distributed.rank() == 1:
        take_step = TrainingSession.take_step

        def kill(session, lr, hr):
            if session.step == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            take_step(session, lr, hr)

        TrainingSession.take_step = kill
    train("killed")
    train("whole")
"""


@pytest.fixture(scope="module")
def outcome(patches: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of all results, and how the group ended."""
    folder = tmp_path_factory.mktemp("processes")
    cases = {name: recipe(pretrain=changes).model_dump(mode="json") for name, changes in CASES.items()}
    training = recipe(pretrain=CASES["muon"]).model_dump(mode="json")
    program = [sys.executable, "-c", PROGRAM, json.dumps([cases, training, str(patches), str(folder), KILLED_AT])]
    environment = os.environ | {
        "KERAS_BACKEND": "jax",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),  # the trainings compile the steps of the first case again
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

    def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=environment | variables, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800
        )

    devices = f"--xla_force_host_platform_device_count=2 --xla_dump_to={folder}/hlo --xla_dump_hlo_module_re=jit_step"
    group = run([sys.executable, "benchmarks/srun.py", "2", *program], SRLIB_LAUNCHED="1", XLA_FLAGS=devices)
    assert (folder / "2.json").exists(), group.stderr[-4000:]
    single = run(program)
    assert single.returncode == 0, single.stderr[-4000:]
    return folder, group


def results(folder: Path) -> tuple[dict, dict]:
    group, single = (json.loads((folder / f"{world}.json").read_text()) for world in (2, 1))
    return group, single


@pytest.mark.parametrize("name", ["muon", "batch normalization"])
def test_micro_batches_give_any_number_of_processes_equal_bytes(name: str, outcome: tuple) -> None:
    group, single = results(outcome[0])
    assert group[name] == single[name]


def test_whole_batches_give_the_losses_of_one_process(outcome: tuple) -> None:
    (losses, _, _), (their_losses, _, _) = (r["whole batch, Adam"] for r in results(outcome[0]))
    np.testing.assert_allclose(losses, their_losses, rtol=1e-5)
    programs = outcome[0].glob("hlo/*jit_step*after_optimizations.txt")
    counts = {len(re.findall(r" all-reduce(?:-start)?\(", path.read_text())) for path in programs}
    assert min(counts) == 1, counts  # the other one has batch normalization, whose statistics are added before


def test_batch_statistics_are_those_of_the_whole_batch(outcome: tuple) -> None:
    (losses, statistics, _), (their_losses, their_statistics, _) = (r["whole batch"] for r in results(outcome[0]))
    assert statistics
    for one, other in zip(statistics, their_statistics, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses, their_losses, rtol=1e-4)


def test_a_killed_process_ends_the_training(outcome: tuple) -> None:
    _, group = outcome
    assert group.returncode != 0
    assert "process 0 of 2 cannot go on" in group.stderr
    counts = re.findall(r"pretrain: (\d+/12) steps", group.stderr)
    assert counts[-1] == f"{KILLED_AT}/12"
    assert len(counts) == len(set(counts)), "the main process alone shows progress"


def test_one_process_continues_a_training_of_two(outcome: tuple) -> None:
    from srlib.files import tree_hash

    folder, _ = outcome
    for part in ("model", "log"):
        assert tree_hash(folder / "whole" / part) == tree_hash(folder / "killed" / part)
