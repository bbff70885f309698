"""Whole stages in two processes: `dvc repro` behind a launcher, how it ends when a process ends, and what is refused.

    python benchmarks/launched_stages.py [--only whole,pretrain,finetune,variables,mistakes]
    python benchmarks/launched_stages.py --only finetune --pretrain-steps 60 --finetune-steps 30   # some minutes

A copy of the working tree, with a miniature of the quick start as params.yaml, runs with KERAS_BACKEND=jax and
benchmarks/srun.py in place of srun. The pieces, each a few minutes on two cores:

- whole: `dvc repro` to its end. One MLflow run per stage, one progress bar, no file besides DVC's outputs; evaluate and
  all other stages that do not train run once.
- pretrain, finetune: one after the other, signals to one of the processes in the middle of the training, each followed
  by the next `dvc repro`. Every one has to end all processes within the heartbeat (10 s) and ten seconds more, with a
  status other than 0; MLflow has to record it as KILLED or FAILED; the last run has to give the bytes of an undisturbed
  one.
- variables: pre-training as pods of Kubernetes run it, each started by itself with JAX's variables.
- mistakes: process 1 with another recipe, other patches, other code or another version of NumPy; TensorFlow; a batch
  that cannot be divided. One line, before the first step.

Without `whole`, the undisturbed run that the others are compared with is `dvc repro finetune` (or pretrain, where that
is enough): nothing is evaluated. Exits with 1 if something is not as it has to be.
"""

import argparse
import contextlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import yaml
from resume_kills import BIN, ROOT, environment, hashes, new_repository

HEARTBEAT, GRACE = 10, 10
OUTPUTS = {
    "pretrain": ("models/pretrained", "results/pretrain/loss.csv", "results/pretrain/validation.csv"),
    "finetune": ("models/gan", "results/finetune/loss.csv", "results/finetune/validation.csv"),
}
PROCESSES = 2
SRUN = [sys.executable, str(ROOT / "benchmarks/srun.py"), str(PROCESSES)]
EVENTS: dict[str, tuple[int | None, signal.Signals, set[str]]] = {
    "SIGKILL of process 1": (1, signal.SIGKILL, {"FAILED", "KILLED"}),
    "SIGKILL of process 0": (0, signal.SIGKILL, {"KILLED"}),
    "exception in process 1": (1, signal.SIGUSR1, {"FAILED", "KILLED"}),
    "exception in process 0": (0, signal.SIGUSR1, {"FAILED"}),
    "SIGTERM of process 1": (1, signal.SIGTERM, {"KILLED"}),
    "SIGTERM of both": (None, signal.SIGTERM, {"KILLED"}),
    "SIGSTOP of process 1": (1, signal.SIGSTOP, {"FAILED", "KILLED"}),
    "SIGSTOP of process 0": (0, signal.SIGSTOP, {"KILLED"}),
}
START_UP = """
import os, signal
rank = os.environ.get("SLURM_PROCID")
if rank is not None:
    def fail(signum, frame):
        raise RuntimeError("an exception")
    signal.signal(signal.SIGUSR1, fail)
if rank == "1" and "OTHER_VERSION" in os.environ:
    import importlib.metadata
    version = importlib.metadata.version
    importlib.metadata.version = lambda name: "9.9" if name == "numpy" else version(name)
"""
"""Python imports a module of the name `sitecustomize` at each start."""


class Stage:
    """A `dvc repro` behind the launcher, in a copy of the repository.

    Args:
        repository: The copy.
        target: The stage to reproduce, or None for all.
        launcher: The command of SRLIB_LAUNCHER.
        variables: Further environment variables.
    """

    def __init__(self, repository: Path, target: str | None, launcher: list[str] = SRUN, **variables: str) -> None:
        self.log = repository.parent / f"{repository.name}.log"
        sitecustomize = repository.parent / "sitecustomize.py"
        sitecustomize.write_text(START_UP)
        variables = {
            "KERAS_BACKEND": "jax",
            "SRLIB_LAUNCHER": shlex.join(launcher),
            "SRLIB_HEARTBEAT": str(HEARTBEAT),
            "SRUN_PATIENCE": "2",
            "PYTHONPATH": str(sitecustomize.parent),
        } | variables
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [BIN / "dvc", "repro", *filter(None, [target])],
                cwd=repository, env=environment() | variables, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> int:
        """Wait for the end of `dvc repro`; return its status."""
        return self.process.wait()

    def messages(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace")

    def ranks(self) -> dict[int, psutil.Process]:
        """Return the training processes by their index."""
        processes = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                variables = child.environ()
                if "SLURM_PROCID" in variables and "python" in child.name():
                    processes[int(variables["SLURM_PROCID"])] = child
        return processes


def runs(repository: Path) -> list[tuple[str, str]]:
    """Return (stage, status) of every stage's run in MLflow, oldest first."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{repository / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    entries = sorted(client.search_runs(experiments, max_results=1000), key=lambda run: run.info.start_time)
    return [(run.data.tags["dvc.stage"], run.info.status) for run in entries if "dvc.stage" in run.data.tags]


def check_whole(prepared: Path, whole: Path) -> bool:
    """Run the whole chain; print what was seen, and return whether it is as it has to be."""
    counter = prepared.parent / "starts"
    script = f'echo "$DVC_STAGE" >> {shlex.quote(str(counter))}; exec "$@"'
    stage = Stage(whole, None, ["sh", "-c", script, "sh", *SRUN])
    status, text = stage.wait(), stage.messages()
    stages = [line.split("'")[1] for line in text.splitlines() if line.startswith("Running stage")]
    launched = counter.read_text().split()
    recorded = runs(whole)
    bars = re.findall(r"(?:pretrain|finetune|evaluate|scoring)[^\n:]*: [\d,]+/[\d,]+ \w+", text)
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"], cwd=whole, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    print(f"dvc repro: status {status}, stages {', '.join(stages)}")
    print(f"launched: {', '.join(launched)}; MLflow: {', '.join(f'{name} {state}' for name, state in recorded)}")
    print(f"progress lines: {len(bars)}, of these different: {len(set(bars))}; git status: {[c for c in changed if c]}")
    files = [path for path in ("results/report.html", "results/metrics.json") if (whole / path).exists()]
    print(f"files: {', '.join(files)}; PSNR-Y: {json.loads((whole / 'results/metrics.json').read_text())}"[:300])
    return (
        status == 0
        and launched == ["pretrain", "finetune"]
        and all(state == "FINISHED" for _, state in recorded)
        and len(recorded) == len({name for name, _ in recorded})
        and len(bars) == len(set(bars)) > 0
        and [line[3:] for line in changed if line] == ["dvc.lock"]
    )


def check_ends(target: str, events: list[str], prepared: Path, whole: Path) -> bool:
    """Disturb a training by one event after another, let it finish, and compare; return whether all is as expected."""
    copy = prepared.with_name(f"disturbed-{target}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(prepared if target == "pretrain" else whole, copy, symlinks=True)
    if target == "finetune":
        forget(copy, target)
    measured = []
    for name in events:
        status, seconds, line = disturb(copy, target, *EVENTS[name][:2])
        measured.append((status, seconds))
        print(f"{name:24} status {status}, all ended after {seconds:5.1f} s  {line}", flush=True)
    is_good = Stage(copy, target).wait() == 0
    states = [state for name, state in runs(copy) if name == target]
    for name, (status, seconds), state in zip(events, measured, states, strict=False):
        good = status != 0 and seconds < HEARTBEAT + GRACE and state in EVENTS[name][2]
        is_good &= good
        print(f"{name:24} MLflow: {state:10}{'' if good else 'WRONG'}")
    same = all(hashes(copy)[path] == hashes(whole)[path] for path in OUTPUTS[target])
    print(f"runs: {', '.join(states)}; the result has {'the same bytes' if same else 'OTHER BYTES'} as undisturbed")
    return is_good and same and states[-1] == "FINISHED" and len(states) == len(events) + 1


def train_undisturbed(prepared: Path, whole: Path, pieces: list[str]) -> bool:
    """Make the copy that the pieces are compared with, up to the last stage that they need; return its success."""
    shutil.copytree(prepared, whole, symlinks=True)
    if "whole" in pieces:
        return check_whole(prepared, whole)
    target = "finetune" if "finetune" in pieces else "pretrain"
    stage = Stage(whole, target)
    if status := stage.wait():
        sys.exit(f"dvc repro {target}: status {status}\n{stage.messages()[-3000:]}")
    return True


def forget(repository: Path, target: str) -> None:
    """Let a stage that has run be trained anew."""
    lock = yaml.safe_load((repository / "dvc.lock").read_text())
    del lock["stages"][target]
    (repository / "dvc.lock").write_text(yaml.safe_dump(lock))
    (repository / "mlflow.db").unlink()
    for folder in (".resume", ".dvc/cache/runs"):
        shutil.rmtree(repository / folder, ignore_errors=True)


def disturb(copy: Path, target: str, rank: int | None, signum: signal.Signals) -> tuple[int, float, str]:
    """Start a stage, send a signal once it trains; return (status, seconds until all have ended, its first error)."""

    def saved() -> set[float]:
        times = set()
        for path in copy.glob(f".resume/{target}/*/state.npz"):
            with contextlib.suppress(FileNotFoundError):
                times.add(path.stat().st_mtime)
        return times

    before = saved()
    stage = Stage(copy, target)
    while saved() <= before:
        if stage.process.poll() is not None:
            sys.exit(f"{target} ended before its first checkpoint:\n{stage.messages()[-3000:]}")
        time.sleep(0.02)
    time.sleep(0.3)
    ranks = stage.ranks()
    assert sorted(ranks) == list(range(PROCESSES)), ranks
    begun = time.monotonic()
    for number, process in ranks.items():
        if rank in (number, None):
            process.send_signal(signum)
    psutil.wait_procs(ranks.values())
    seconds = time.monotonic() - begun
    status = stage.wait()
    lines = [line for line in stage.messages().splitlines() if line.startswith("error: ")]
    return status, seconds, lines[0][:100] if lines else ""


def check_variables(prepared: Path, whole: Path) -> bool:
    """Run pre-training as pods of Kubernetes would, each by JAX's variables; return whether the bytes are the same."""
    copy = prepared.with_name("pods")
    shutil.copytree(prepared, copy, symlinks=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    variables = {"KERAS_BACKEND": "jax", "JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(PROCESSES)}
    command = ["stages/python", "stages/pretrain.py", "data/patches", "models/pretrained", "results/pretrain"]
    commands = [[str(BIN / "dvc"), "repro", "-s", "pretrain"], *[command] * (PROCESSES - 1)]
    own = environment() | variables | {"VIRTUAL_ENV": sys.prefix}
    pods = [
        subprocess.Popen(
            command,
            cwd=copy,
            env=own | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for index, command in enumerate(commands)
    ]
    statuses = [pod.wait() for pod in pods]
    same = statuses == [0] * PROCESSES and all(
        hashes(copy)[path] == hashes(whole)[path] for path in OUTPUTS["pretrain"]
    )
    print(f"pods: statuses {statuses}, {'the same bytes as behind the launcher' if same else 'OTHER BYTES'}")
    return same


def check_mistakes(prepared: Path, whole: Path) -> bool:
    """Print the line of each mistake; return whether there was one line, and no step."""
    other, mine = prepared.with_name("other"), prepared.with_name("mine")
    run_1_there = [*SRUN, "sh", "-c", f'[ "$SLURM_PROCID" = 0 ] || cd {shlex.quote(str(other))}; exec "$@"', "sh"]
    patches = next((prepared / "data/patches").glob("train_hr*.npy")).name

    def recipe(folder: Path, batch: int) -> None:
        content = yaml.safe_load((folder / "params.yaml").read_text())
        content["pretrain"]["batch"] = batch
        (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def append(path: Path, content: bytes) -> None:
        data = path.read_bytes()
        path.unlink()  # it may be a link into DVC's cache
        path.write_bytes(data + content)

    cases: dict[str, tuple[Callable[[], object], dict[str, str], list[str]]] = {
        "batch": (lambda: recipe(other, 4), {}, run_1_there),
        "patches": (lambda: append(other / "data/patches" / patches, b"0"), {}, run_1_there),
        "the code of srlib": (lambda: append(other / "srlib/training/losses.py", b"# other\n"), {}, run_1_there),
        "numpy": (lambda: None, {"OTHER_VERSION": "1"}, run_1_there),
        "KERAS_BACKEND=jax": (lambda: None, {"KERAS_BACKEND": "tensorflow"}, SRUN),
        "pretrain.batch: expected a multiple of the number of devices (2), got 7": (
            lambda: recipe(mine, 7),
            {},
            SRUN,
        ),
    }
    is_good = True
    for text, (change, variables, launcher) in cases.items():
        for folder in (other, mine):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(prepared, folder, symlinks=True)
        change()
        stage = Stage(mine, "pretrain", launcher, **variables)
        status = stage.wait()
        lines = [line for line in stage.messages().splitlines() if line.startswith("error: ")]
        good = status != 0 and len(lines) == 1 and text in lines[0] and " steps" not in stage.messages()
        is_good &= good
        print(f"{'' if good else 'WRONG: '}{lines or stage.messages()[-2000:]}", flush=True)
    return is_good


def main() -> None:
    """Run the pieces."""
    pieces = ("whole", "pretrain", "finetune", "variables", "mistakes")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(pieces), help="pieces, separated by commas")
    parser.add_argument("--events", default=",".join(EVENTS), help="signals, separated by commas")
    parser.add_argument("--pretrain-steps", type=int, default=400)
    parser.add_argument("--finetune-steps", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="folder for the copies, which stay (default: a temporary one)")
    options = parser.parse_args()
    chosen = options.only.split(",")
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepared, whole = folder / "prepared", folder / "whole"
        is_good = True
        if not prepared.exists():
            new_repository(prepared, options.pretrain_steps, options.finetune_steps)
            subprocess.run(
                [BIN / "dvc", "repro", "prepare"],
                cwd=prepared,
                env=environment(),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        if not whole.exists() and chosen != ["mistakes"]:
            begun = time.monotonic()
            is_good &= train_undisturbed(prepared, whole, chosen)
            print(f"undisturbed: {time.monotonic() - begun:.0f} s\n", flush=True)
        for piece in chosen:
            begun = time.monotonic()
            if piece in ("variables", "mistakes"):
                is_good &= {"variables": check_variables, "mistakes": check_mistakes}[piece](prepared, whole)
            elif piece != "whole":
                is_good &= check_ends(piece, options.events.split(","), prepared, whole)
            print(f"{piece}: {time.monotonic() - begun:.0f} s\n" if piece != "whole" else "", flush=True, end="")
    print("all as it has to be" if is_good else "SOMETHING IS WRONG")
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
