"""srlib.pipeline.dvc: what DVC and git say of a stage. (`read_stage` against a real dvc.lock: tests/tracking.)"""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from srlib.errors import SrlibError
from srlib.files import file_hash, tree_hash
from srlib.pipeline import dvc as pipeline
from srlib.pipeline.dvc import ProcessId, git_state, read_stage, recorded_outputs

LOCK = """
schema: '2.0'
stages:
  pretrain:
    cmd: x
    deps: [{path: data/patches, hash: md5, md5: 0c.dir, size: 1, nfiles: 1}]
    outs:
    - {path: models/pretrained, hash: md5, md5: 0a.dir, size: 1, nfiles: 2}
    - {path: results/loss.csv, hash: md5, md5: 0b, size: 1}
  report:
    cmd: y
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_recorded_outputs(folder: Path) -> None:
    assert recorded_outputs() == {}
    (folder / "dvc.lock").write_text(LOCK)
    assert recorded_outputs() == {
        "pretrain": {"models/pretrained": "0a.dir", "results/loss.csv": "0b"},
        "report": {},
    }


def test_a_merge_conflict_in_dvc_lock_is_one_line(folder: Path) -> None:
    (folder / "dvc.lock").write_text("a: 1\n<<<<<<< HEAD\n")
    with pytest.raises(SrlibError, match=r"^dvc.lock: not valid YAML: [^\n]*$"):
        recorded_outputs()


def test_files_of_dvc_do_not_make_a_folder_dirty(folder: Path) -> None:
    assert git_state() == {}

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    (folder / "dvc.lock").write_text(LOCK)
    (folder / "results").mkdir()
    (folder / "results" / "loss.csv").write_text("1")
    (folder / "code.py").write_text("1")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "one")
    clean = {"git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}
    assert git_state() == clean
    (folder / "dvc.lock").write_text(LOCK + "\n")
    (folder / "results" / "loss.csv").write_text("2")
    (folder / "notes.txt").write_text("untracked")
    assert git_state() == clean
    (folder / "code.py").write_text("2")
    assert git_state() == clean | {"git.dirty": "true"}
    name = os.fsdecode(b"\xfe.py")
    (folder / name).write_text("not UTF-8")
    git("add", name)
    assert git_state() == clean | {"git.dirty": "true"}


def test_outside_dvc_inputs_are_known_by_their_content(folder: Path) -> None:
    (folder / "patches").mkdir()
    (folder / "patches" / "a").write_text("1")
    stage = read_stage("pretrain", {"patches": Path("patches/")})
    assert (stage.address, stage.dependencies) == ("pretrain", {"patches": tree_hash(Path("patches"))})
    (folder / "model").write_text("w")
    assert stage.output_hash("./model") == file_hash(Path("model"))
    with pytest.raises(SrlibError, match=r"^nothing: stage pretrain should have written this"):
        stage.output_hash("nothing")


def test_a_missing_dependency_is_one_line(folder: Path) -> None:
    with pytest.raises(SrlibError, match=r"^data/patches: no such file or folder; stage pretrain needs it"):
        read_stage("pretrain", {"patches": Path("data/patches")})


def test_root_is_the_parent_repository_of_an_experiment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pipeline.root() == folder
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert pipeline.root() == Path("/elsewhere")


@given(st.builds(ProcessId, st.text(), st.integers(0).map(str), st.integers(1), st.integers(0)))
def test_a_process_id_reads_back_what_it_wrote(process: ProcessId) -> None:
    assert ProcessId.parse(process.host, str(process)) == process


def test_dead_is_only_who_surely_is() -> None:
    own = ProcessId.of()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        alive = ProcessId.of(psutil.Process(child.pid))
        assert not alive.is_dead()
        child.kill()
        child.wait()
    assert alive.is_dead()
    assert not own.is_dead()
    assert replace(own, created=own.created - 60).is_dead(), "a later process got the number"
    assert not replace(own, created=own.created - 1).is_dead(), "the clock was corrected"
    assert not replace(alive, host="elsewhere").is_dead(), "nothing is known of other machines"
    assert not replace(alive, namespace="1").is_dead(), "nor of other containers"


def test_a_stage_started_by_hand_is_in_no_execution(folder: Path) -> None:
    assert pipeline.execution() is None


def test_an_execution_is_the_dvc_process_and_the_experiment(folder: Path) -> None:
    """Two stages under one process named dvc share the key, another process or experiment has another."""
    stage = f"{sys.executable} -c 'from srlib.pipeline.dvc import execution; print(execution())'"
    dvc = folder / "dvc"
    dvc.write_text(
        f"import subprocess\nfor _ in range(2): print(subprocess.check_output(['sh', '-c', {stage!r}], text=True))"
    )

    def keys(**environment: str) -> list[str]:
        known = {**os.environ, "DVC_STAGE": "a", "PYTHONPATH": str(Path(pipeline.__file__).parents[2]), **environment}
        return subprocess.check_output([sys.executable, str(dvc)], text=True, env=known).split()

    first, second, third = keys(), keys(), keys(DVC_EXP_NAME="puffy-fish")
    assert first[0] == first[1] and second[0] == second[1]
    assert len({first[0], second[0], third[0]}) == 3
    assert "None" not in first + third


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["dvc", "repro"], True),
        ([sys.executable, "-m", "dvc", "exp", "run", "-S", "seed=pretrain"], True),
        ([sys.executable, "/v/bin/dvc", "repro", "dvc.yaml:evaluate"], True),
        (["dvc", "repro", "--downstream", "prepare"], True),
        (["dvc", "repro", "-f", "pretrain"], False),
        (["dvc", "experiments", "run", "-S", "seed=2", "dvc.yaml:pretrain", "check"], False),
        (["dvc", "queue", "start"], False),
        (["python", "program.py", "repro"], False),
    ],
)
def test_whether_a_command_of_dvc_runs_the_fine_tuning(
    command: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = [["/bin/sh", "-c", "stages/python stages/check.py dvc"], command, ["make", "repro"]]
    processes = [SimpleNamespace(cmdline=lambda arguments=arguments: arguments) for arguments in parents]
    monkeypatch.setattr(psutil.Process, "parents", lambda process: processes)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert not pipeline.runs_finetune(), "a stage started by hand"
    monkeypatch.setenv("DVC_STAGE", "check")
    assert pipeline.runs_finetune() == expected
