"""What DVC and git know about the running stage: hashes of its dependencies, recorded outputs, its execution.

DVC hashed the dependencies just before it started the stage and keeps the hashes, so nothing is read twice.
"""

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from srlib.errors import SrlibError, one_line
from srlib.files import tree_hash

if TYPE_CHECKING:
    import psutil
    from dvc.dependency import Dependency
    from dvc.output import Output
    from dvc.stage import PipelineStage as DvcStage

EXECUTION = "SRLIB_EXECUTION"
"""Environment variable with the key of the execution, for processes that a launcher started, perhaps elsewhere."""

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "nice", "time", "timeout"})


def root() -> Path:
    """Return the repository that runs and checkpoints belong to.

    That is the one DVC names (for `dvc exp run --temp` the parent, not the copy), or the nearest one at or above the
    working folder; outside any repository, the working folder.
    """
    if folder := os.environ.get("DVC_ROOT"):
        return Path(folder)
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if _is_repository(folder)), here)


def _is_repository(folder: Path) -> bool:
    return (folder / "dvc.yaml").is_file() and (folder / ".dvc").is_dir()


@dataclass(frozen=True)
class PipelineStage:
    """A stage as dvc.yaml has it.

    Attributes:
        address: Its name in DVC, such as `pretrain` or `download@train`.
        dependencies: Path as written in dvc.yaml → hash of the content (DVC's MD5, `….dir` for a folder).
    """

    address: str
    dependencies: dict[str, str]
    _outputs: Mapping[str, "Output"] = field(default_factory=dict, repr=False)

    def output_hash(self, path: str | Path) -> str:
        """Return DVC's hash of an output as it is on disk now; for a path that DVC does not track, `tree_hash`.

        Raises:
            SrlibError: There is no such output.
        """
        name = os.path.normpath(path)
        if not Path(name).exists():
            raise SrlibError(f"{name}: stage {self.address} should have written this but did not")
        return str(self._outputs[name].get_hash().value) if name in self._outputs else tree_hash(Path(name))


def read_stage(name: str, inputs: Mapping[str, Path]) -> PipelineStage:
    """Look up the running stage in dvc.yaml. Outside DVC its dependencies are its inputs, hashed by their content.

    Args:
        name: The stage's name, without the `@…` of a matrix.
        inputs: Paths that the stage reads, by name.

    Returns:
        The stage.

    Raises:
        SrlibError: A dependency does not exist.
    """
    address = os.environ.get("DVC_STAGE", name)
    if address.partition("@")[0] != name:
        address = name
    stage = _dvc_stage(address)
    paths = [str(path) for path in inputs.values()] if stage is None else [d.def_path for d in _files(stage)]
    for path in paths:
        if not Path(path).exists():
            raise SrlibError(f"{path}: no such file or folder; stage {address} needs it, `dvc repro` makes it")
    if stage is None:
        return PipelineStage(address, {os.path.normpath(p): tree_hash(Path(p)) for p in paths})
    return PipelineStage(
        address,
        {os.path.normpath(d.def_path): str(d.get_hash().value) for d in _files(stage)},
        {os.path.normpath(o.def_path): o for o in stage.outs},
    )


def _dvc_stage(address: str) -> "DvcStage | None":
    """Return DVC's own object for a stage; None outside DVC."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageNotFound

    if not Path("dvc.yaml").exists():
        return None
    try:
        return Repo().stage.load_one(name=address)
    except (NotDvcRepoError, StageNotFound):
        return None


def _files(stage: "DvcStage") -> "list[Dependency]":
    """Return the dependencies that are files or folders, not parameters."""
    from dvc.dependency.param import ParamsDependency

    return [d for d in stage.deps if not isinstance(d, ParamsDependency)]


def recorded_outputs(lock: Path = Path("dvc.lock")) -> dict[str, dict[str, str]]:
    """Return stage → output path → hash, as dvc.lock records them; empty without dvc.lock.

    Raises:
        SrlibError: dvc.lock is damaged, such as by a merge conflict.
    """
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8")) or {}
        return {
            str(address): {os.path.normpath(out["path"]): out["md5"] for out in stage.get("outs", []) if "md5" in out}
            for address, stage in content.get("stages", {}).items()
        }
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SrlibError(f"{lock}: not valid YAML: {one_line(error)}; remove it, or restore it from git") from None
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        raise SrlibError(f"{lock}: not a lock file of DVC ({one_line(error)}); remove it, or restore it") from None


def git_state() -> dict[str, str]:
    """Return the tags `git.commit` and `git.dirty`; empty outside git.

    What DVC itself writes (dvc.lock, outputs that git tracks) does not make a working folder dirty: it changes with
    each stage that runs.
    """
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return {}
    written = {"dvc.lock"}.union(*(outputs.keys() for outputs in recorded_outputs().values()))
    changed = set((_git("diff", "HEAD", "--name-only", "--relative", "-z") or "").split("\0")) - {""}
    dirty = any(not any(path == w or path.startswith(f"{w}/") for w in written) for path in changed)
    return {"git.commit": commit.strip(), "git.dirty": str(dirty).lower()}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return os.fsdecode(result.stdout)  # names of files need not be UTF-8


@dataclass(frozen=True)
class ProcessId:
    """A process, distinct from a later one with the same number and from those in other containers."""

    host: str
    namespace: str
    pid: int
    created: int

    @classmethod
    def of(cls, process: "psutil.Process | None" = None) -> "ProcessId":
        """Return the identity of a process (default: this one)."""
        import psutil

        process = process or psutil.Process()
        namespace = "0"
        if platform.system() == "Linux":
            namespace = Path("/proc/self/ns/pid").readlink().name.strip("pid:[]")
        return cls(socket.gethostname(), namespace, process.pid, round(process.create_time()))

    def __str__(self) -> str:
        return f"{self.pid}@{self.created} in {self.namespace}"

    @classmethod
    def parse(cls, host: str, text: str) -> "ProcessId":
        """Return the process on `host` whose `str` is `text`."""
        pid, created, namespace = text.replace("@", " ").replace(" in ", " ").split()
        return cls(host, namespace, int(pid), int(created))

    def is_dead(self) -> bool:
        """Return True if it ran on this machine and has exited; False where this cannot be known."""
        import psutil

        own = ProcessId.of()
        if (self.host, self.namespace) != (own.host, own.namespace):
            return False
        try:
            process = psutil.Process(self.pid)
            # Two seconds: the time of creation is computed from the clock, which may be corrected meanwhile.
            return abs(process.create_time() - self.created) > 2 or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def execution() -> str | None:
    """Return a key shared by the stages of one `dvc repro`, and by no others; None for a stage started by hand.

    DVC passes no id for it. Its process is an ancestor of the stage, so that process and the experiment's name (a
    queue's worker may run several) make the key.
    """
    import psutil

    if "DVC_STAGE" not in os.environ:
        return None
    if key := os.environ.get(EXECUTION):
        return key
    ancestors = psutil.Process().parents()
    # Without a process named dvc, a program that calls DVC as a library: the one that started the stage's shell.
    callers = [p for p in ancestors if _dvc_command(p) is not None] or [p for p in ancestors if p.name() not in SHELLS]
    if not callers:
        return None
    process = ProcessId.of(callers[0])
    facts = [process.host, str(process), os.environ.get("DVC_EXP_NAME", "")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def runs_finetune() -> bool:
    """Return whether the command of DVC that started this stage will run the fine-tuning too.

    False where this cannot be known: a stage started by hand, a queue's worker, a program that calls DVC as a library.
    """
    import psutil

    if "DVC_STAGE" not in os.environ:
        return False
    commands = [command for p in psutil.Process().parents() if (command := _dvc_command(p)) is not None]
    if not commands:
        return False
    from dvc.cli import DvcParserError, parse_args

    try:
        options = vars(parse_args(commands[0]))
    except DvcParserError:
        return False
    if options["func"].__name__ not in ("CmdRepro", "CmdExperimentsRun"):
        return False
    names = {target.rpartition(":")[2] for target in options["targets"]}
    is_widened = any(options[name] for name in ("pipeline", "all_pipelines", "downstream", "force_downstream"))
    return not names or is_widened or bool(names & {"dvc.yaml", "finetune", "evaluate"})


def _dvc_command(process: "psutil.Process") -> list[str] | None:
    """Return the arguments of `dvc …`, `python …/dvc …` and `python [options] -m dvc …`; None of another process."""
    import psutil

    try:
        arguments = process.cmdline()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    names = [Path(a).name for a in arguments]
    if "-m" in names and names[(module := names.index("-m") + 1) :][:1] == ["dvc"]:
        return arguments[module + 1 :]
    return arguments[names.index("dvc") + 1 :] if "dvc" in names[:2] else None
