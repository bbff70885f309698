import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

MINIATURE = {
    "prepare": {"patch": 16, "stride": 64},
    "pretrain": {
        "model": {"name": "edsr", "blocks": 1, "filters": 8},
        "lr_patch": 12,
        "batch": 4,
        "steps": 60,
        "learning_rate": {"peak": 1e-3},
        "ema_decay": 0.0,
        "log_every": 20,
        "validate_every": 30,
    },
    "finetune": {
        "lr_patch": 12,
        "batch": 2,
        "steps": 20,
        "features": {"network": "vgg19", "weights": "random", "layer": "block1_conv1"},
        "discriminator_filters": 4,
        "ema_decay": 0.0,
        "log_every": 5,
        "validate_every": 10,
    },
    "evaluate": {"strips": 1},
}


RECORDER = """
import atexit, os, sys
from pathlib import Path

def record():
    modules = [module for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
    files = {Path(module.__file__).resolve() for module in modules}
    here = Path.cwd().resolve()
    names = [file.relative_to(here).as_posix() for file in files if file.is_relative_to(here)]
    Path(os.environ["LOADED"], os.environ["DVC_STAGE"]).write_text("\\n".join(sorted(names)))

if "DVC_STAGE" in os.environ:
    atexit.register(record)
"""
"""Python imports a module of the name `sitecustomize` at each start."""


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The stages that a command of dvc ran, in order."""
    return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage '")]


@dataclass
class Repository:
    """A git and DVC repository of this project in a folder of its own."""

    path: Path
    ran: list[str] = field(default_factory=list)
    """The stages of the first `dvc repro`."""
    hashes: dict[str, dict[str, str]] = field(default_factory=dict)
    """The outputs that they made."""

    @property
    def loaded(self) -> Path:
        """A folder with one file per stage of the first `dvc repro`: the project's files that it had loaded."""
        return self.path.parent / "loaded"

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a program of this environment, without activating it, in the repository."""
        return (
            subprocess.run(
                [str(BIN / command[0]) if (BIN / command[0]).exists() else command[0], *command[1:]],
                cwd=self.path,
                env=self.environment | environment,
                text=True,
                capture_output=True,
                check=False,
                timeout=1800,
            )
            if not check
            else self._checked(command, environment)
        )

    def _checked(self, command: tuple[str, ...], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        done = self.run(*command, check=False, **environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done

    @property
    def environment(self) -> dict[str, str]:
        """This environment without what the caller's shell would add: no activated environment, no other store."""
        dropped = ("VIRTUAL_ENV", "MLFLOW", "DVC", "SRLIB", "PYTEST", "KERAS_BACKEND")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        own = {"PATH": "/usr/local/bin:/usr/bin:/bin", "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        return inherited | own

    def repro(self, *options: str) -> list[str]:
        """`dvc repro`: the stages that it ran, in order."""
        return ran(self.run("dvc", "repro", *options))

    def change(self, key: str, value: Any) -> None:
        """Sets one key of params.yaml."""
        path = self.path / "params.yaml"
        content = yaml.safe_load(path.read_text())
        *sections, last = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[last] = value
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def lock(self) -> dict[str, dict[str, str]]:
        """dvc.lock's outputs: stage → path → hash."""
        content = yaml.safe_load((self.path / "dvc.lock").read_text())
        return {
            name: {out["path"]: out["md5"] for out in stage.get("outs", [])}
            for name, stage in content["stages"].items()
        }

    def changed(self) -> set[str]:
        """The stages that `dvc status` names, by the function behind it: the command takes seconds to start."""
        from dvc.repo import Repo

        with contextlib.chdir(self.path), Repo() as repo:  # elsewhere, stages have the path to dvc.yaml in their names
            return set(repo.status())

    @property
    def mlflow(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.path / 'mlflow.db'}")

    def runs(self) -> list[Any]:
        """Every MLflow run of the repository, oldest first."""
        experiments = [experiment.experiment_id for experiment in self.mlflow.search_experiments()]
        return sorted(self.mlflow.search_runs(experiments, max_results=1000), key=lambda run: run.info.start_time)


@pytest.fixture(scope="session")
def new_repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Repository]:
    """Makes a fresh repository of the working tree, with a miniature of the quick start as params.yaml."""

    def make(name: str) -> Repository:
        path = tmp_path_factory.mktemp(name) / "repository"
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for file in filter(None, listed.split("\0")):
            if (ROOT / file).is_file() and file != "dvc.lock":
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, path / file)
        content = yaml.safe_load((path / "tests/recipe.yaml").read_text())
        for section, keys in MINIATURE.items():
            content[section] |= keys
        (path / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        repository = Repository(path)
        repository.run("git", "init", "-q")
        repository.run("git", "config", "user.email", "someone@example.org")
        repository.run("git", "config", "user.name", "Someone")
        repository.run("git", "add", "-A")
        repository.run("git", "commit", "-q", "-m", "A copy")
        return repository

    return make


@pytest.fixture(scope="session")
def repository(new_repository: Callable[[str], Repository]) -> Repository:
    """The repository that the tests of this package share, with the whole chain run once."""
    repository = new_repository("shared")
    repository.loaded.mkdir()
    (repository.loaded / "sitecustomize.py").write_text(RECORDER)
    recording = {"LOADED": str(repository.loaded), "PYTHONPATH": str(repository.loaded)}
    repository.ran = ran(repository.run("dvc", "repro", **recording))
    repository.hashes = repository.lock()
    repository.run("git", "add", "-A")
    repository.run("git", "commit", "-q", "-m", "The first results")
    return repository
