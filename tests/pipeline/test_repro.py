"""The real `dvc repro` on a miniature of the quick start, in a temporary repository."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import BIN, Repository, ran

DOWNLOADS = ["download@train", "download@test", "download@features"]
TRAINING = ["prepare", "pretrain", "finetune", "evaluate"]
MODELS = {"srlib-x4": "pretrain", "srlib-x4-gan": "finetune"}


def tags(run) -> dict[str, str]:
    return run.data.tags


def test_the_whole_chain_runs(repository: Repository) -> None:
    assert repository.ran[0] == "check"
    assert sorted(repository.ran[1:4]) == sorted(DOWNLOADS)
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
    assert {tags(run)["dvc.stage"] for run in children} == {*repository.ran} - {"check"}
    assert len(children) == len(repository.ran) - 1 == len(runs) - 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    stages = {run.info.run_id: tags(run)["dvc.stage"] for run in children}
    champions = {name: repository.mlflow.get_model_version_by_alias(name, "champion") for name in MODELS}
    assert {name: stages[version.run_id] for name, version in champions.items()} == MODELS


def test_a_second_repro_runs_nothing_and_records_nothing(repository: Repository) -> None:
    before = len(repository.runs())
    assert repository.repro() == []
    assert len(repository.runs()) == before
    assert "up to date" in repository.run("dvc", "status").stdout


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("scale", 2, {*DOWNLOADS, *TRAINING}),
        ("seed", 7, {*TRAINING}),
        ("download.test", ["sample", "Set5"], {"download@test", "evaluate"}),
        ("prepare.validation", 0.3, {"prepare", "evaluate"}),
        ("pretrain.learning_rate.peak", 2e-3, {"pretrain", "evaluate"}),
        ("finetune.adversarial_weight", 0.005, {"finetune", "evaluate"}),
        ("evaluate.strips", 0, {"evaluate"}),
        ("registry.gan", "another-name", set()),
    ],
)
def test_a_changed_key_concerns_its_stage_and_the_report(repository: Repository, key, value, expected: set) -> None:
    original = (repository.path / "params.yaml").read_text()
    repository.change(key, value)
    changed = repository.changed()
    (repository.path / "params.yaml").write_text(original)
    assert changed == {"check"} | expected


def test_another_test_set_fetches_that_alone(repository: Repository, shared: Path) -> None:
    original = (repository.path / "params.yaml").read_text()
    repository.change("download.test", ["sample", "Set5"])
    done = repository.run("dvc", "repro", SRLIB_MIRROR=str(shared / "mirror"))
    assert ran(done) == ["check", "download@test", "evaluate"]
    assert "Set5" in (repository.path / "results/table.md").read_text()
    (repository.path / "params.yaml").write_text(original)
    assert repository.repro() == []


def test_dvc_has_something_to_say(repository: Repository) -> None:
    assert "finetune" in repository.run("dvc", "dag").stdout
    output = repository.run("dvc", "metrics", "show").stdout
    assert "psnr_y" in output
    assert "results/metrics.json" in output


def test_an_experiment_runs_what_a_changed_key_concerns(repository: Repository) -> None:
    """Without an experiment, by `dvc repro`: test_documented_commands.py."""
    lock = (repository.path / "dvc.lock").read_text()
    done = repository.run("dvc", "exp", "run", "-n", "held-out", "-S", "prepare.validation=0.3")
    assert ran(done) == ["check", *TRAINING]
    assert (repository.path / "dvc.lock").read_text() != lock
    output = repository.run("dvc", "exp", "show", "--csv").stdout
    assert "held-out" in output
    assert "psnr_y" in output
    assert any(run.info.run_name.startswith("exp held-out: ") for run in repository.runs())
    repository.run("git", "checkout", "--", "params.yaml")
    assert repository.repro() == [], "going back is served from the run cache"
    assert (repository.path / "dvc.lock").read_text() == lock


def test_a_fresh_clone_pulls_and_trains_nothing(repository: Repository, tmp_path: Path) -> None:
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-q", "--allow-empty", "-m", "results")
    repository.run("dvc", "push")
    clone = Repository(repository.path.parent / "clone")
    subprocess.run(["git", "clone", "-q", repository.path, clone.path], check=True)
    clone.run("dvc", "pull", "--allow-missing")
    for path in ("models/gan/model.weights.h5", "results/metrics.json", "data/patches/train_hr.npy"):
        assert (clone.path / path).read_bytes() == (repository.path / path).read_bytes()
    assert set(clone.repro("--pull")) <= set(DOWNLOADS)
    assert clone.lock() == repository.lock()


def wait_for(condition: Callable[[], bool], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "this did not happen in time"
        time.sleep(0.01)


FEATURES = {"file": "none.h5", "sha256": "0" * 64}
MISTAKES = (
    (
        ("pretrain.model.name", "edrs", "pretrain.model: expected `name` to be one of"),
        ("finetune.adverserial_weight", 0.005, "finetune.adverserial_weight: unknown key"),
    ),
    (("download.features", FEATURES, "download.features: expected a file, got none.h5"),),
)
"""Mistakes that are made together: key, value, message."""


def test_a_mistake_costs_no_earlier_output(repository: Repository) -> None:
    original = (repository.path / "params.yaml").read_text()
    lock = (repository.path / "dvc.lock").read_text()
    for mistakes in MISTAKES:
        for key, value, _ in mistakes:
            repository.change(key, value)
        repository.change("pretrain.learning_rate.peak", 2e-3)
        repository.change("prepare.validation", 0.31)
        done = repository.run("dvc", "repro", check=False)
        (repository.path / "params.yaml").write_text(original)
        assert done.returncode != 0
        assert all(message in done.stderr for *_, message in mistakes)
        assert "Traceback" not in done.stderr
        assert ran(done) == ["check"]
        assert (repository.path / "dvc.lock").read_text() == lock
    for path in ("models/pretrained/model.weights.h5", "models/gan", "data/patches", "results/report.html"):
        assert (repository.path / path).exists(), path
    assert repository.repro() == [], "once it is mended, nothing runs again"


def test_without_an_srgan_the_whole_pipeline_is_refused_at_once(new_repository) -> None:
    other = new_repository("without")
    other.change("finetune", None)
    line = "params.yaml: finetune: expected the parameters of an SRGAN, got null; copy them from a recipe, or run"
    done = other.run("dvc", "repro", check=False)
    assert (ran(done), done.returncode) == (["check"], 255)
    assert f"error: {line} `dvc repro pretrain`\n" in done.stderr
    assert other.repro("check") == ["check"], "which DVC skips from now on"
    (stage,) = ran(done := other.run("dvc", "repro", check=False))
    assert stage in DOWNLOADS and line in done.stderr


def test_a_copy_killed_in_both_trainings_has_the_same_hashes(repository: Repository, new_repository) -> None:
    other = new_repository("second")
    for stage, how in (("pretrain", signal.SIGKILL), ("finetune", signal.SIGINT)):
        with (other.path / "killed.log").open("w") as log:
            process = subprocess.Popen(
                [BIN / "dvc", "repro"],
                cwd=other.path,
                env=other.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(lambda stage=stage: bool(list((other.path / ".resume" / stage).rglob("state.npz"))))
        os.killpg(process.pid, how)
        assert process.wait(timeout=600) != 0
    assert other.repro() == ["finetune", "evaluate"]
    assert other.lock() == repository.hashes
    runs = other.runs()
    for stage in ("pretrain", "finetune"):
        killed, finished = (run for run in runs if tags(run).get("dvc.stage") == stage)
        assert (killed.info.status, finished.info.status) == ("KILLED", "FINISHED")
        assert tags(finished)["resumed_from"] == killed.info.run_id
    assert "RUNNING" not in {run.info.status for run in runs}
