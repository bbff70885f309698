"""The real `dvc repro` on a miniature of the quick start, in a temporary repository."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import BIN, Repository

DOWNLOADS = ["download@train", "download@test", "download@features"]
TRAINING = ["prepare", "pretrain", "finetune", "evaluate"]


def tags(run) -> dict[str, str]:
    return run.data.tags


def test_the_whole_chain_runs(repository: Repository) -> None:
    assert sorted(repository.ran[:3]) == sorted(DOWNLOADS)
    assert [stage for stage in repository.ran if stage in TRAINING] == TRAINING
    table = (repository.path / "results/table.md").read_text()
    for method in ("nearest", "bilinear", "bicubic", "EDSR", "SRGAN"):
        assert method.lower() in table.lower()
    assert list((repository.path / "results/strips").rglob("*.png"))


def test_each_executed_stage_is_one_run_below_one_parent(repository: Repository) -> None:
    runs = repository.runs()
    parents = [run for run in runs if "mlflow.parentRunId" not in tags(run)]
    assert len(parents) == 1
    children = [run for run in runs if tags(run).get("mlflow.parentRunId") == parents[0].info.run_id]
    assert len(children) == len(repository.ran) == len(runs) - 1
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_second_repro_runs_nothing_and_records_nothing(repository: Repository) -> None:
    before = len(repository.runs())
    assert repository.repro() == []
    assert len(repository.runs()) == before
    assert "up to date" in repository.run("dvc", "status").stdout


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("evaluate.strips", 0, ["evaluate"]),
        ("finetune.adversarial_weight", 0.005, ["finetune", "evaluate"]),
        ("pretrain.learning_rate.peak", 2e-3, ["pretrain", "finetune", "evaluate"]),
        ("prepare.validation", 0.3, ["prepare", "pretrain", "finetune", "evaluate"]),
    ],
)
def test_a_changed_key_runs_its_stage_and_what_follows(repository: Repository, key, value, expected) -> None:
    original = (repository.path / "params.yaml").read_text()
    lock = (repository.path / "dvc.lock").read_text()
    repository.change(key, value)
    assert repository.repro() == expected
    (repository.path / "params.yaml").write_text(original)
    assert repository.repro() == [], "going back is served from the run cache"
    assert (repository.path / "dvc.lock").read_text() == lock


def test_another_test_set_fetches_that_alone(repository: Repository, shared: Path) -> None:
    original = (repository.path / "params.yaml").read_text()
    repository.change("download.test", ["sample", "Set5"])
    done = repository.run("dvc", "repro", SRLIB_MIRROR=str(shared / "mirror"))
    ran = [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")]
    assert ran == ["download@test", "evaluate"]
    assert "Set5" in (repository.path / "results/table.md").read_text()
    (repository.path / "params.yaml").write_text(original)
    assert repository.repro() == []


def test_dvc_has_something_to_say(repository: Repository) -> None:
    assert "finetune" in repository.run("dvc", "dag").stdout
    shown = repository.run("dvc", "metrics", "show").stdout
    assert "psnr_y" in shown
    assert "results/scores.json" in shown
    page = repository.run("dvc", "plots", "show", "--out", "plots").stdout
    assert Path(page.strip().removeprefix("file://")).exists()
    repository.change("finetune.adversarial_weight", 0.01)
    assert "adversarial_weight" in repository.run("dvc", "params", "diff").stdout
    repository.change("finetune.adversarial_weight", 0.001)


def test_an_experiment_runs_with_a_changed_parameter(repository: Repository) -> None:
    repository.run("dvc", "exp", "run", "-n", "stronger", "-S", "finetune.adversarial_weight=0.006")
    shown = repository.run("dvc", "exp", "show", "--csv").stdout
    assert "stronger" in shown
    assert "psnr_y" in shown
    assert "exp stronger" in {run.info.run_name for run in repository.runs()}
    repository.run("git", "checkout", "--", ".")
    repository.run("dvc", "checkout")


def test_a_fresh_clone_pulls_and_trains_nothing(repository: Repository, tmp_path: Path) -> None:
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-q", "--allow-empty", "-m", "results")
    repository.run("dvc", "push")
    clone = Repository(repository.path.parent / "clone")
    subprocess.run(["git", "clone", "-q", repository.path, clone.path], check=True)
    clone.run("dvc", "pull", "--allow-missing")
    for path in ("models/gan/model.weights.h5", "results/scores.json", "data/patches/train_hr.npy"):
        assert (clone.path / path).read_bytes() == (repository.path / path).read_bytes()
    assert set(clone.repro("--pull")) <= set(DOWNLOADS)
    assert clone.lock() == repository.lock()


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(("stage", "how"), [("pretrain", signal.SIGKILL), ("finetune", signal.SIGINT)])
def test_a_killed_stage_goes_on_to_the_same_bytes(repository: Repository, stage: str, how: signal.Signals) -> None:
    params, lock = (repository.path / "params.yaml").read_text(), (repository.path / "dvc.lock").read_text()
    repository.change(f"{stage}.steps", 400)
    assert repository.repro("-s", stage) == [stage]
    wanted = repository.lock()
    # The same parameters again, without what dvc.lock and the run cache remember of them.
    (repository.path / "dvc.lock").write_text(lock)
    for folder in (".dvc/cache/runs", ".resume"):
        shutil.rmtree(repository.path / folder, ignore_errors=True)
    with (repository.path / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "dvc", "repro", "-s", stage],
            cwd=repository.path,
            env=repository.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    wait_for(lambda: bool(list((repository.path / ".resume").rglob("state.npz"))))
    os.killpg(process.pid, how)
    assert process.wait(timeout=120) != 0
    assert repository.repro("-s", stage) == [stage]
    assert repository.lock() == wanted
    runs = [run for run in repository.runs() if tags(run).get("mlflow.runName") == stage]
    assert "resumed_from" in tags(runs[-1])
    assert runs[-2].info.status == "KILLED"
    assert "RUNNING" not in {run.info.status for run in repository.runs()}
    (repository.path / "params.yaml").write_text(params)
    (repository.path / "dvc.lock").write_text(lock)
    repository.run("dvc", "checkout")


def test_a_mistake_in_a_late_section_stops_the_first_stage(repository: Repository) -> None:
    original = (repository.path / "params.yaml").read_text()
    repository.change("finetune.adverserial_weight", 0.005)
    repository.change("prepare.validation", 0.31)
    done = repository.run("dvc", "repro", check=False)
    (repository.path / "params.yaml").write_text(original)
    assert done.returncode != 0
    assert "finetune.adverserial_weight: unknown key" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Running stage 'pretrain'" not in done.stdout


def test_two_clones_have_the_same_hashes(repository: Repository, new_repository) -> None:
    other = new_repository("second")
    other.repro()
    assert other.lock() == repository.hashes
