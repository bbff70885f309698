"""A team's servers: MLflow on PostgreSQL and an S3 store, and ten stages at once from four clones.

    python benchmarks/team_servers.py [--megabytes 256] [--trainings 4]

Needs PostgreSQL's programs (Debian: apt-get install postgresql) and, beside this project's environment, psycopg2
(pip install psycopg2-binary). Everything is started here, listens on 127.0.0.1 only and lies in a temporary folder:
PostgreSQL (as the user `postgres` where this script runs as root, since PostgreSQL refuses to), moto's S3 server, and
`mlflow server` with the one as its database and the other for its artifacts.

Of the ten stages, `--trainings` are real `dvc repro pretrain` of a miniature recipe, with another batch in each clone.
The others use the stages' own code, `stage_run`, and record 400 points of a curve, images and a file. Checked: every
run is there and FINISHED, no point and no artifact is missing or different (for trainings: beside the clone's own
tables and weights), none of the logs speaks of locks, and what one clone pushes by `dvc push` another one pulls, byte
for byte. Then `dvc push` and `dvc pull` of random files are measured, and 100 GB are computed from that. Exits with 1
if a check fails.
"""

import argparse
import contextlib
import csv
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from srlib.files import file_hash, tree_hash

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PROJECT = Path(__file__).resolve().parents[1]
POINTS, STAGES, CLONES = 400, 10, 4
S3 = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
RECORDER = f"""
import sys
from pathlib import Path
import numpy as np
from srlib.stage import stage_run
name = sys.argv[1]
Path(name).write_text(name * 10_000)
with stage_run("pretrain") as run:
    run.tracking.set_tags({{"recorder": name}})
    for step in range({POINTS}):
        run.tracking.log_curve({{"loss": float(step), "psnr": step / 7}}, step)
    for step in range(3):
        run.tracking.log_image("samples", np.full((64, 64, 3), 80 * step, np.uint8), step=step)
    run.tracking.log_artifact(name)
    run.tracking.log_results({{"result/validation_psnr_y": 28.25}})
"""
MINIATURE = {
    "prepare": {"patch": 16, "stride": 64},
    "pretrain": {
        "model": {"name": "edsr", "blocks": 1, "filters": 8},
        **{"lr_patch": 12, "batch": 4, "steps": 40, "log_every": 2, "validate_every": 20, "ema_decay": 0.0},
        "learning_rate": {"peak": 1e-3},
    },
    "finetune": {
        **{"lr_patch": 12, "batch": 2, "steps": 20, "discriminator_filters": 4, "log_every": 5, "validate_every": 10},
        "features": {"network": "vgg19", "weights": "random", "layer": "block1_conv1"},
    },
}


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def server(name: str, command: list[str], port: int, folder: Path, user: str | None = None) -> Iterator[Path]:
    """Run a server until the block ends; yield its log once it listens."""
    log = folder / f"{name}.log"
    environment = os.environ | S3 | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=out, stderr=out, user=user, start_new_session=True
        ) as process,
    ):
        try:
            end = time.monotonic() + 180
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    sys.exit(f"{name} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.2)
            yield log
        finally:
            os.killpg(process.pid, signal.SIGINT if name == "postgresql" else signal.SIGTERM)


@contextlib.contextmanager
def postgresql(folder: Path) -> Iterator[tuple[str, Path]]:
    """Run PostgreSQL as an unprivileged user; yield the address of its database and its log."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = shutil.which("initdb") or (str(programs[-1] / "initdb") if programs else None)
    if initdb is None:
        sys.exit("initdb is not installed; Debian: apt-get install postgresql")
    data, port = folder / "postgresql", free_port()
    data.mkdir(mode=0o700)
    user = "postgres" if os.getuid() == 0 else None
    if user:
        shutil.chown(data, user)
    password = data.parent / "password"
    password.write_text("secret")
    command = [initdb, "-D", str(data), "-U", "mlflow", "-A", "scram-sha-256", "--pwfile", str(password), "--no-sync"]
    subprocess.run(command, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)
    postgres = Path(initdb).resolve().with_name("postgres")
    command = [str(postgres), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(data)]
    with server("postgresql", command, port, folder, user) as log:
        yield f"postgresql+psycopg2://mlflow:secret@127.0.0.1:{port}/postgres", log


def run(folder: Path, *command: str, **environment: str) -> float:
    """Run a command, such as `dvc …` of this environment; return its seconds."""
    if command[0] == "dvc":
        command = (sys.executable, "-m", *command)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_"))}
    own = S3 | {"VIRTUAL_ENV": sys.prefix, "DVC_NO_ANALYTICS": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=inherited | own | environment, capture_output=True, text=True, check=False
    )
    if done.returncode or "warning" in done.stderr.lower().replace("userwarning", "").replace("futurewarning", ""):
        print(f"{folder.name}: {command[-1]}\n{done.stdout[-1500:]}{done.stderr[-3000:]}", file=sys.stderr)
    if done.returncode:
        raise RuntimeError(f"{folder.name}: {command[-1]} ended with status {done.returncode}")
    return time.perf_counter() - start


def make_clones(folder: Path, endpoint: str, uri: str) -> list[Path]:
    """Make a repository of the team with a miniature recipe and an S3 remote, and clones that have its patches."""
    origin = folder / "team"
    run(folder, "git", "clone", "-q", str(PROJECT), str(origin))
    recipe = yaml.safe_load((origin / "tests" / "recipe.yaml").read_text())
    for section, keys in MINIATURE.items():
        recipe[section] |= keys
    (origin / "params.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    for key in ("user.name", "user.email"):
        run(origin, "git", "config", key, "someone@example.org")
    run(origin, "dvc", "remote", "add", "-q", "--default", "store", "s3://team/dvc")
    for key, value in (("endpointurl", endpoint), ("use_ssl", "false"), ("verify", "true")):
        run(origin, "dvc", "remote", "modify", "store", key, value)
    run(origin, "git", "commit", "-qam", "The team's recipe and remote")
    run(origin, "git", "config", "receive.denyCurrentBranch", "ignore")
    clones = [folder / f"clone{number}" for number in range(CLONES)]
    for clone in clones:
        run(folder, "git", "clone", "-q", str(origin), str(clone))
        for key in ("user.name", "user.email"):
            run(clone, "git", "config", key, "someone@example.org")
    run(clones[0], "dvc", "repro", "prepare", MLFLOW_TRACKING_URI=uri, MLFLOW_EXPERIMENT_NAME="team")
    for clone in clones[1:]:
        for name in ("data", ".dvc/cache"):
            shutil.copytree(clones[0] / name, clone / name, dirs_exist_ok=True)
        shutil.copy(clones[0] / "dvc.lock", clone)
    return clones


def run_stages(clones: list[Path], trainings: int, uri: str) -> list[str]:
    """Run ten stages at once; return what failed."""
    failed: list[str] = []
    where = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "team"}

    def stage(number: int) -> None:
        clone = clones[number % CLONES]
        try:
            if number < trainings:
                run(clone, "dvc", "repro", "pretrain", **where)
            else:
                path = f".{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
                run(clone, sys.executable, "-c", RECORDER, f"recorder{number}", PYTHONPATH=path, **where)
        except RuntimeError as error:
            failed.append(str(error))

    for number in range(trainings):  # another batch in each
        recipe = yaml.safe_load((clones[number % CLONES] / "params.yaml").read_text())
        recipe["pretrain"]["batch"] = 2 + number
        (clones[number % CLONES] / "params.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    threads = [threading.Thread(target=stage, args=(number,)) for number in range(STAGES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def check_runs(uri: str, trainings: int, clones: list[Path], folder: Path) -> list[str]:
    """Return what is missing or different on the MLflow server."""
    import mlflow

    mlflow.set_tracking_uri(uri)  # for `models:/…`, too
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("team")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    mistakes = [f"{entry.info.run_name}: {entry.info.status}" for entry in runs if entry.info.status != "FINISHED"]
    recorders = {entry.data.tags["recorder"]: entry for entry in runs if "recorder" in entry.data.tags}
    if len(recorders) != STAGES - trainings:
        mistakes.append(f"{len(recorders)} of {STAGES - trainings} recorders have a run")
    for name, entry in recorders.items():
        for key, value in (("train/loss", 1.0), ("train/psnr", 1 / 7)):
            points = [(point.step, point.value) for point in client.get_metric_history(entry.info.run_id, key)]
            if points != [(step, step if value == 1 else step / 7) for step in range(POINTS)]:
                mistakes.append(f"{name}: {len(points)} points of {key}, or others")
        file = Path(client.download_artifacts(entry.info.run_id, name, str(folder)))
        if file.read_text() != name * 10_000:
            mistakes.append(f"{name}: another file")
        if not client.list_artifacts(entry.info.run_id, "images"):
            mistakes.append(f"{name}: no images")
    trained = [entry for entry in runs if entry.data.tags.get("dvc.stage") == "pretrain"]
    trained = [entry for entry in trained if "recorder" not in entry.data.tags]
    print(f"MLflow: {len(runs)} runs, {len(recorders)} of recorders, {len(trained)} of trainings")
    for clone in clones[:trainings]:
        mistakes += [f"{clone.name}: {mistake}" for mistake in check_training(client, trained, clone)]
    return mistakes


def check_training(client: "MlflowClient", trained: list["Run"], clone: Path) -> list[str]:
    """Return what differs between the run of a clone's training and the clone's own files."""
    from mlflow.artifacts import download_artifacts

    batch = yaml.safe_load((clone / "params.yaml").read_text())["pretrain"]["batch"]
    own = [entry for entry in trained if entry.data.params["pretrain.batch"] == str(batch)]
    if len(own) != 1:
        return [f"{len(own)} runs"]
    mistakes = []
    for table, group, columns in (("loss", "train", ["loss"]), ("validation", "validation", ["psnr_y", "ssim_y"])):
        with (clone / "results" / "pretrain" / f"{table}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        for column in columns:
            points = {p.step: p.value for p in client.get_metric_history(own[0].info.run_id, f"{group}/{column}")}
            values = [(points.get(int(row["step"]), math.nan), float(row[column])) for row in rows]
            if len(points) != len(rows) or not all(math.isclose(*pair, rel_tol=1e-6) for pair in values):
                mistakes.append(f"{len(points)} points of {group}/{column} beside {len(rows)} rows, or others")
    if not client.list_artifacts(own[0].info.run_id, "images"):
        mistakes.append("no images")
    versions = [v for v in client.search_model_versions("name like 'srlib%'") if v.run_id == own[0].info.run_id]
    for version in versions:
        address = f"models:/{version.name}/{version.version}"
        model = Path(download_artifacts(address))
        hashes = {file_hash(path) for path in model.rglob("*.weights.h5")}
        if hashes != {file_hash(path) for path in (clone / "models" / "pretrained").glob("*.weights.h5")}:
            mistakes.append(f"{address}: other weights")
    return mistakes if len(versions) == 1 else [*mistakes, f"{len(versions)} registered models"]


def share(clones: list[Path], megabytes: int) -> list[str]:
    """Push from one clone and pull in a new one; measure both; return what differs."""
    first, second = clones[0], clones[0].with_name("another")
    big = first / "data" / "random"
    big.mkdir(parents=True)
    for number in range(8):
        (big / f"{number}.bin").write_bytes(os.urandom(megabytes * 2**20 // 8))
    size = megabytes * 2**20 / 1e9
    adding = run(first, "dvc", "add", "-q", "data/random")
    pushing = run(first, "dvc", "push", "-q")
    idle = run(first, "dvc", "push", "-q")  # what does not grow with the size: the start of Python, the queries
    run(first, "git", "add", "-A", ":!recorder*")
    run(first, "git", "commit", "-qm", "Results of the first clone")
    run(first, "git", "push", "-q", "origin", "HEAD")
    run(first.parent, "git", "clone", "-q", str(first.with_name("team")), str(second))
    pulling = run(second, "dvc", "pull", "-q", "--allow-missing")
    print(f"dvc, {size:.2f} GB and a trained model: add {adding:.1f} s, push {pushing:.1f} s, pull {pulling:.1f} s")
    print(f"of these, {idle:.1f} s each with nothing to do")
    for name, seconds in (("add and push", adding + pushing - 2 * idle), ("pull, verified", pulling - idle)):
        print(f"100 GB at this rate, with moto's server in Python: {name} {100 / size * seconds / 3600:.2f} h")
    for gigabits in (1, 10):
        print(f"100 GB over {gigabits} Gb/s alone: {100 * 8 / gigabits / 3600:.2f} h")
    paths = ("data/random", "data/patches", "models/pretrained")
    return [f"{path} differs" for path in paths if tree_hash(first / path) != tree_hash(second / path)]


def main() -> None:
    """Start the servers, run the stages, check and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=256, help="size of the files that are pushed and pulled")
    parser.add_argument("--trainings", type=int, default=4, choices=range(1, CLONES + 1))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(128 + signum))  # so that the servers end too
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="team-")))
        folder.chmod(0o755)
        database, database_log = stack.enter_context(postgresql(folder))
        s3, port = free_port(), free_port()
        endpoint, uri = f"http://127.0.0.1:{s3}", f"http://127.0.0.1:{port}"
        moto = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(s3)]
        stack.enter_context(server("s3", moto, s3, folder))
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/team", method="PUT")).close()
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = endpoint
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "2", "--backend-store-uri", database, "--artifacts-destination", "s3://team/mlflow"]
        mlflow_log = stack.enter_context(server("mlflow", command, port, folder))
        clones = make_clones(folder, endpoint, uri)
        start = time.perf_counter()
        failed = run_stages(clones, options.trainings, uri)
        print(f"{STAGES} stages at once from {CLONES} clones: {time.perf_counter() - start:.0f} s")
        if failed:
            sys.exit("\n".join(failed))
        mistakes = check_runs(uri, options.trainings, clones, folder)
        for log in (database_log, mlflow_log):
            lines = re.findall(
                r".*(?:deadlock|lock timeout|could not obtain lock|database is locked).*", log.read_text()
            )
            mistakes += [f"{log.name}: {line}" for line in lines]
        mistakes += share(clones, options.megabytes)
    if mistakes:
        sys.exit("\n".join(mistakes))
    print("nothing lost, no lock errors, all runs FINISHED, artifacts and pulled files complete")


if __name__ == "__main__":
    main()
