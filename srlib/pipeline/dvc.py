"""What DVC and git know of the stage that runs: its dependencies' hashes, its recorded outputs, the execution it is in.

DVC says what it hashed itself just before it started the stage, so nothing is read twice.
"""

import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from srlib.errors import SrlibError, one_line
from srlib.files import tree_hash

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "nice", "time", "timeout"})


def root() -> Path:
    """The repository that runs and resume states belong to: for `dvc exp run --temp` the parent, not the copy."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


@dataclass(frozen=True)
class PipelineStage:
    """One stage as dvc.yaml has it.

    Attributes:
        address: Its name in DVC, such as `pretrain` or `download@train`.
        dependencies: Path as written in dvc.yaml → hash of the content (DVC's MD5, `….dir` for a folder).
    """

    address: str
    dependencies: dict[str, str]
    _outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def output_hash(self, path: str | Path) -> str:
        """DVC's hash of an output as it is on disk now; of something that DVC does not track, our own."""
        name = os.path.normpath(path)
        if not Path(name).exists():
            raise SrlibError(f"{name}: stage {self.address} was to write this and did not")
        return str(self._outputs[name].get_hash().value) if name in self._outputs else tree_hash(Path(name))


def read_stage(name: str, inputs: Mapping[str, Path]) -> PipelineStage:
    """Looks the running stage up in dvc.yaml. Outside DVC its dependencies are its inputs, hashed by their content.

    Args:
        name: The stage's name, without the `@…` of a matrix.
        inputs: What the stage reads: name → path.

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


def _dvc_stage(address: str) -> Any:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageNotFound

    if not Path("dvc.yaml").exists():
        return None
    try:
        return Repo().stage.load_one(name=address)
    except (NotDvcRepoError, StageNotFound):
        return None


def _files(stage: Any) -> list[Any]:
    from dvc.dependency.param import ParamsDependency

    return [d for d in stage.deps if not isinstance(d, ParamsDependency)]


def recorded_outputs(lock: Path = Path("dvc.lock")) -> dict[str, dict[str, str]]:
    """Stage → output path → hash, as the working folder's dvc.lock records them; empty without one."""
    try:
        content = yaml.safe_load(lock.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise SrlibError(f"{lock}: not valid YAML: {one_line(error)}") from None
    return {
        address: {os.path.normpath(out["path"]): out["md5"] for out in stage.get("outs", []) if "md5" in out}
        for address, stage in content.get("stages", {}).items()
    }


def git_state() -> dict[str, str]:
    """`git.commit` and `git.dirty`; empty outside git.

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
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return result.stdout


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number, nor for one in another container."""

    host: str
    namespace: str
    pid: int
    created: int

    @classmethod
    def of(cls, process: Any = None) -> "ProcessId":
        """The identity of a `psutil.Process`; of this one by default."""
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
        """Reads back what `str` wrote."""
        pid, created, namespace = text.replace("@", " ").replace(" in ", " ").split()
        return cls(host, namespace, int(pid), int(created))

    def is_dead(self) -> bool:
        """True if it ran on this machine and does no more; False where this cannot be known."""
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
    """A key shared by the stages of one `dvc repro`, and by no others; None for a stage started by hand.

    DVC hands down no id for it. Its process is an ancestor of the stage, so that process and the experiment's name
    (a queue's worker may run several) make the key.
    """
    import psutil

    if "DVC_STAGE" not in os.environ:
        return None
    ancestors = psutil.Process().parents()
    named = [p for p in ancestors if _is_dvc(p)]
    # A program that calls DVC as a library: what started the stage's shell.
    callers = named or [p for p in ancestors if p.name() not in SHELLS]
    if not callers:
        return None
    process = ProcessId.of(callers[0])
    facts = [process.host, str(process), os.environ.get("DVC_EXP_NAME", "")]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _is_dvc(process: Any) -> bool:
    """True for `dvc …`, `python …/dvc …` and `python [options] -m dvc …`."""
    import psutil

    try:
        arguments = process.cmdline()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    names = [Path(a).name for a in arguments]
    module = "-m" in names and names[names.index("-m") + 1 :][:1] == ["dvc"]
    return module or "dvc" in names[:2]
