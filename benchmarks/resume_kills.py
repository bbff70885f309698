"""SIGKILLs at random moments over a real pretrain and finetune: the final bytes are those of an undisturbed run.

    python benchmarks/resume_kills.py [--kills 30] [--seed 0] [--pretrain-steps 600] [--finetune-steps 200]

A copy of the working tree, with a miniature of the quick start as params.yaml, runs `dvc repro finetune` once without
disturbance. A second copy is started again and again, each time until a moment drawn at random, when dvc, the stage and
all they started are killed: one in five within seconds of the start, the others within seconds of the first new row or
state of a training. If it gets to the end before enough kills have been made, a further copy goes on. Prints a
row per kill and exits with 1 where a hash in dvc.lock differs or a run in MLflow stays RUNNING.
"""

import argparse
import contextlib
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
START_UP, TRAINING = 15.0, 6.0  # seconds within which a kill falls, after the start or the first new row or state
EARLY = 0.2  # share of the kills that count from the start


def main() -> int:
    """Runs both; 0 if the bytes agree."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pretrain-steps", type=int, default=600)
    parser.add_argument("--finetune-steps", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = new_repository(Path(folder) / "whole", options.pretrain_steps, options.finetune_steps)
        dvc(whole, "repro", "prepare")
        prepared = Path(folder) / "prepared"
        shutil.copytree(whole, prepared, symlinks=True)
        begun = time.monotonic()
        dvc(whole, "repro", "finetune")
        expected = hashes(whole)
        print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
        return disturbed(Path(folder), prepared, expected, options.kills, random.Random(options.seed))


def disturbed(folder: Path, prepared: Path, expected: dict[str, str], kills: int, moments: random.Random) -> int:
    """Kill runs `kills` times, let the last copy finish, and compare every result."""
    made, ends, wrong = 0, 0, 0
    where: Counter[str] = Counter()
    print("kill  seconds  after  in         last row of the loss curve", flush=True)
    while made < kills:
        copy = folder / f"killed{ends}"
        shutil.copytree(prepared, copy, symlinks=True)
        finished = False
        while not finished:
            early = moments.random() < EARLY
            after = moments.uniform(0, START_UP if early else TRAINING) if made < kills else None
            finished = run_until(copy, after, wait=not early)
            if not finished:
                made += 1
                stage, row = position(copy)
                where[stage] += 1
                print(f"{made:4}  {after:7.1f}  {'start' if early else 'row':5}  {stage:9}  {row}", flush=True)
        ends += 1
        actual = hashes(copy)
        different = sorted(path for path in expected if actual.get(path) != expected[path])
        running = runs_left_running(copy)
        wrong += bool(different) or running > 0
        print(f"end {ends}: {'differs in ' + ', '.join(different) if different else 'the same bytes'}", flush=True)
        print(f"end {ends}: {running} runs left RUNNING", flush=True)
    print(f"{made} kills ({', '.join(f'{n} in {stage}' for stage, n in where.items())}), {ends} ends, {wrong} wrong")
    return int(wrong > 0)


def new_repository(path: Path, pretrain_steps: int, finetune_steps: int) -> Path:
    """Make a git and DVC repository of the working tree with a miniature recipe."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).is_file():
            (path / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, path / file)
    recipe = yaml.safe_load((path / "recipes/quickstart.yaml").read_text())
    often = {"log_every": 20, "validate_every": 100, "lr_patch": 12}
    recipe["prepare"] |= {"patch": 24, "stride": 24}
    recipe["pretrain"] |= often | {"steps": pretrain_steps, "batch": 8}
    recipe["pretrain"]["model"] |= {"blocks": 2, "filters": 16}
    recipe["finetune"] |= often | {"steps": finetune_steps, "batch": 4, "discriminator_filters": 4}
    recipe["finetune"]["features"] |= {"layer": "block1_conv2"}
    (path / "params.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=Someone", "-c", "user.email=someone@example.org", "commit", "-q", "-m", "A copy"],
    ):
        subprocess.run(["git", *command], cwd=path, check=True)
    return path


def environment() -> dict[str, str]:
    """Return the environment without variables that point to another store or another srlib."""
    dropped = ("VIRTUAL_ENV", "MLFLOW", "DVC", "SRLIB", "PYTHONPATH")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {"DVC_NO_ANALYTICS": "1"}


def dvc(path: Path, *command: str) -> None:
    """Run dvc to its end."""
    done = subprocess.run(
        [BIN / "dvc", *command], cwd=path, env=environment(), text=True, capture_output=True, check=False
    )
    if done.returncode:
        sys.exit(f"dvc {' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def run_until(path: Path, after: float | None, *, wait: bool) -> bool:
    """Start `dvc repro finetune` and kill it `after` seconds later; return True if it finished before.

    With `wait` the seconds count from the first sign of a training. Without `after` nothing is killed.
    """
    before = signs(path)
    with (path / "repro.log").open("w") as log:
        process = subprocess.Popen(
            [BIN / "dvc", "repro", "finetune"],
            cwd=path, env=environment(), stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    while wait and after is not None and process.poll() is None and signs(path) == before:
        time.sleep(0.02)
    try:
        if process.wait(timeout=after) != 0:
            sys.exit(f"dvc repro failed:\n{(path / 'repro.log').read_text()[-3000:]}")
        return True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return False


def signs(path: Path) -> set[tuple[str, int]]:
    """Return the files that a training writes while it runs, with their times."""
    files = [*path.glob(".resume/*/*/state.npz"), *path.glob("results/*/loss.csv")]
    times = set()
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # replaced at this moment
            times.add((str(file), file.stat().st_mtime_ns))
    return times


def position(path: Path) -> tuple[str, str]:
    """The stage that the last start was in, and the step of the last row that it wrote."""
    stages = [
        line.split("'")[1] for line in (path / "repro.log").read_text().splitlines() if line.startswith("Running")
    ]
    stage = stages[-1] if stages else "start-up"
    curve = path / "results" / stage / "loss.csv"
    rows = list(csv.DictReader(curve.open())) if curve.exists() else []
    return stage, rows[-1]["step"] if rows else "none yet"


def hashes(path: Path) -> dict[str, str]:
    """Output → hash, of all stages in dvc.lock."""
    lock = yaml.safe_load((path / "dvc.lock").read_text())
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}


def runs_left_running(path: Path) -> int:
    """Runs in the copy's MLflow store that nobody closed."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{path / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(experiments, "attributes.status = 'RUNNING'"))


if __name__ == "__main__":
    sys.exit(main())
