"""stages/python: the interpreter of the environment that dvc was started from, whatever PATH says."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[1] / "stages" / "python"
DVC_YAML = "stages:\n  probe:\n    cmd: stages/python stages/probe.py 'a b'\n    always_changed: true\n"
PROBE = "import sys; print('RAN', sys.executable, sys.argv[1], sys.path[1], sep='|')"
# Starts its stage as dvc does: through a shell, with DVC_STAGE set.
STAND_IN = """
import os, subprocess
os.environ["DVC_STAGE"] = "probe"
subprocess.run(["/bin/sh", "-c", "stages/python stages/probe.py 'a b'"], check=True)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a path with a space, with an environment of its own that has this one's packages."""
    folder = tmp_path_factory.mktemp("my projects") / "super resolution"
    (folder / "stages").mkdir(parents=True)
    shutil.copy(LAUNCHER, folder / "stages")
    (folder / "stages" / "probe.py").write_text(PROBE)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    make_environment(folder / ".venv", packages=True)
    return folder


def make_environment(folder: Path, *, packages: bool) -> None:
    venv.create(folder, symlinks=True)
    if packages:
        site = sysconfig.get_path("purelib", vars={"base": str(folder)})
        Path(site, "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # A path with a space cannot stand after #!: pip then writes a shell script that hands itself to Python.
    (folder / "bin" / "dvc").write_text(f"#!/bin/sh\n'''exec' \"{folder}/bin/python\" \"$0\" \"$@\"\n' '''\n{STAND_IN}")
    (folder / "bin" / "dvc").chmod(0o755)


def run(project: Path, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in the project with nothing but the system's PATH."""
    known = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "DVC_NO_ANALYTICS": "1", **environment}
    command = tuple(str(part) for part in command)
    return subprocess.run(command, cwd=project, env=known, capture_output=True, text=True, check=False)


def ran(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Interpreter, argument and the place of srlib that the probe printed."""
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("RAN|")]
    return line.split("|")[1:]


@pytest.fixture(params=["ps", "proc"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """PATH as the system has it, and with a `ps` that fails, as where it is not installed."""
    if request.param == "ps":
        if shutil.which("ps") is None:
            pytest.skip("ps is not installed")
        return "/usr/bin:/bin"
    (tmp_path / "ps").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "ps").chmod(0o755)
    return f"{tmp_path}:/usr/bin:/bin"


@pytest.mark.parametrize(
    "command",
    [
        ["{venv}/bin/dvc", "repro"],
        ["{venv}/bin/python", "-X", "utf8", "-m", "dvc", "repro"],
        [".venv/bin/dvc", "repro"],
    ],
)
def test_the_stage_runs_in_dvcs_environment(project: Path, command: list[str], path: str, tmp_path: Path) -> None:
    (tmp_path / "dvc.py").write_text(STAND_IN)
    command = [part.format(venv=project / ".venv") for part in command]
    assert ran(run(project, *command, PYTHONPATH=str(tmp_path), PATH=path)) == [
        str(project / ".venv" / "bin" / "python"),
        "a b",
        str(project),
    ]


def test_dvc_in_an_environment_elsewhere(project: Path, tmp_path: Path) -> None:
    make_environment(tmp_path / "else where", packages=True)
    assert ran(run(project, tmp_path / "else where/bin/dvc", "repro"))[0] == str(tmp_path / "else where/bin/python")


def test_the_real_dvc_and_the_copy_of_an_experiment(project: Path, tmp_path: Path) -> None:
    """In the copy, the code of the copy counts."""
    repository = tmp_path / "repository"
    shutil.copytree(project, repository, ignore=shutil.ignore_patterns(".venv"))
    dvc = [Path(sys.executable), "-m", "dvc"]
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in ([*git, "init", "-q"], [*dvc, "init", "-q"], [*git, "add", "-A"], [*git, "commit", "-qm", "one"]):
        assert run(repository, *command).returncode == 0
    assert ran(run(repository, *dvc, "repro")) == [sys.executable, "a b", str(repository)]
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    interpreter, _, place = ran(run(repository, *dvc, "exp", "run", "--temp", **identity))
    assert interpreter == sys.executable
    assert Path(place).is_relative_to(repository / ".dvc" / "tmp" / "exps")


def test_an_experiments_copy_finds_the_parents_environment(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns(".venv"))
    command = ["stages/python", "stages/probe.py", "a b"]
    interpreter, _, place = ran(run(tmp_path / "copy", *command, DVC_ROOT=str(project)))
    assert (interpreter, place) == (str(project / ".venv" / "bin" / "python"), str(tmp_path / "copy"))


def test_by_hand_the_active_environment_counts_first(project: Path, tmp_path: Path) -> None:
    active = tmp_path / "active"
    make_environment(active, packages=True)
    command = ["stages/python", "stages/probe.py", "a b"]
    assert ran(run(project, *command, VIRTUAL_ENV=str(active)))[0] == str(active / "bin" / "python")
    assert ran(run(project, *command))[0] == str(project / ".venv" / "bin" / "python")


def test_a_dvc_without_the_packages_is_replaced(project: Path, tmp_path: Path) -> None:
    make_environment(tmp_path / "tool", packages=False)
    result = run(project, tmp_path / "tool" / "bin" / "dvc", "repro")
    assert f"RAN|{project / '.venv' / 'bin' / 'python'}|" in result.stdout


def test_without_any_environment_there_is_one_clear_line(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "stages", tmp_path / "stages")
    result = run(tmp_path, "stages/python", "stages/probe.py", "a b")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: stages/python: no environment with the project's packages")
    assert result.stderr.count("\n") == 1


def test_the_exit_status_of_the_script_is_passed_on(project: Path) -> None:
    (project / "stages" / "fail.py").write_text("raise SystemExit(3)")
    assert run(project, "stages/python", "stages/fail.py").returncode == 3
