"""A real `dvc repro`: one run for each stage that executes, one parent for each execution, resume after a kill."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from srlib.pipeline.resume import fingerprint

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.dvc]
DVC_YAML = """
stages:
  prepare:
    cmd: stages/python stages/prepare.py patches
    deps: ["${prepare.images}", stages/prepare.py]
    params: [scale, seed, prepare]
    outs: [patches]
  pretrain:
    cmd: stages/python stages/pretrain.py patches model
    deps: [patches, stages/pretrain.py]
    params: [scale, seed, pretrain]
    outs: [model]
  evaluate:
    cmd: stages/python stages/evaluate.py model scores
    deps: [model, "${evaluate.images}", stages/evaluate.py]
    params: [scale, evaluate]
    outs: [scores]
"""
IMAGES = 'my R&B photo\'s $(touch ran) `touch ran` "100%" * ü'
"""A folder whose name a shell would take apart."""
STAGES = {
    "prepare": """
import sys
from pathlib import Path
from srlib.stage import stage_run
patches = Path(sys.argv[1])
with stage_run("prepare") as run:
    assert Path(run.params.prepare.images, "a").read_text() == "1"
    patches.mkdir()
    (patches / "lr").write_text("1")
    run.done([patches])
""",
    "pretrain": """
import os, signal, sys
from pathlib import Path
from srlib.stage import stage_run
patches, model = map(Path, sys.argv[1:])
with stage_run("pretrain", inputs={"patches": patches}) as run:
    resumed = (run.resume / "state").exists()
    (run.resume / "state").write_text("1")
    run.tracking.log_results({"resumed": resumed})
    model.write_text("weights")
    run.done([model])
    if Path("kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
""",
    "evaluate": """
import sys
from pathlib import Path
from srlib.stage import stage_run
model, scores = map(Path, sys.argv[1:])
with stage_run("evaluate", inputs={"model": model}) as run:
    scores.write_text("28.43")
    run.tracking.log_results({"test/a/EDSR/psnr_y": 28.43}, ["test/a/EDSR/psnr_y"])
    run.done([scores])
""",
}


@pytest.fixture
def repository(folder: Path, own_store: str) -> Path:
    (folder / "stages").mkdir()
    (folder / "stages" / "python").symlink_to(ROOT / "stages" / "python")
    for name, script in STAGES.items():
        (folder / "stages" / f"{name}.py").write_text(script)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    recipe = yaml.safe_load((folder / "params.yaml").read_text())
    recipe["prepare"]["images"] = recipe["evaluate"]["images"] = IMAGES
    (folder / "params.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "images").rename(folder / IMAGES)
    (folder / ".gitignore").write_text("mlflow.db*\nmlartifacts\n.resume\nkill\n")
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, check=True, capture_output=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"], check=True)
    return folder


def repro() -> subprocess.CompletedProcess[str]:
    # The launcher hands down the srlib beside itself, found through the link.
    known = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], capture_output=True, text=True, env=known, check=False
    )


def test_executed_stages_are_runs_and_a_killed_one_goes_on(repository: Path, own_store: str, runs: Callable) -> None:
    def recorded() -> list:
        return runs(own_store, "srlib")

    def named() -> list[tuple[str, str]]:
        return [(run.data.tags.get("dvc.stage", "parent"), run.info.status) for run in recorded()]

    Path("kill").touch()
    assert repro().returncode != 0
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    assert named() == [("parent", "RUNNING"), ("prepare", "FINISHED"), ("pretrain", "RUNNING")]
    (state,) = Path(".resume/pretrain").glob("*/")

    Path("kill").unlink()
    result = repro()
    assert result.returncode == 0, result.stderr
    assert named() == [
        ("parent", "KILLED"),
        ("prepare", "FINISHED"),
        ("pretrain", "KILLED"),
        ("parent", "FINISHED"),
        ("pretrain", "FINISHED"),
        ("evaluate", "FINISHED"),
    ]
    first, prepare, killed, second, pretrain, evaluate = recorded()
    for child, of in ((prepare, first), (killed, first), (pretrain, second), (evaluate, second)):
        assert child.data.tags["mlflow.parentRunId"] == of.info.run_id
    assert pretrain.data.tags["resumed_from"] == killed.info.run_id
    assert (killed.data.metrics.get("resumed", 0), pretrain.data.metrics["resumed"]) == (0, 1)
    assert pretrain.data.tags["git.commit"] == commit
    assert pretrain.data.tags["git.dirty"] == "false"
    assert second.data.metrics["test/a/EDSR/psnr_y"] == 28.43
    assert second.info.run_name == "first run · EDSR 28.43 dB on a", "none before it finished"
    assert second.data.params["evaluate.images"] == IMAGES
    assert not Path("ran").exists(), "the shell never saw the name"
    assert not state.exists(), "the state goes once dvc.lock records the model"

    lock = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    patches = lock["prepare"]["outs"][0]["md5"]
    assert {d["path"]: d["md5"] for d in lock["pretrain"]["deps"] if not d["path"].startswith("stages/")} == {
        key.removeprefix("dvc.dep."): value for key, value in pretrain.data.tags.items() if key.startswith("dvc.dep.")
    }
    (data,) = pretrain.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("patches", patches)
    assert json.loads(data.dataset.source) == {"uri": "patches"}
    assert pretrain.data.tags["made_by.patches"] == prepare.info.run_id
    assert evaluate.data.tags["made_by.model"] in (killed.info.run_id, pretrain.info.run_id)
    assert pretrain.data.tags["dvc.out.model"] == lock["pretrain"]["outs"][0]["md5"]
    recipe = yaml.safe_load(Path("params.yaml").read_text())
    assert len(fingerprint({"params": recipe})) == len(pretrain.data.tags["fingerprint"]) == 16

    assert "Data and pipelines are up to date." in repro().stdout
    assert len(recorded()) == 6, "what is cached makes no run"
