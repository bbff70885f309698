"""Several processes on this machine's processor: their losses, bytes and speed beside one process, and how they end.

    python benchmarks/distributed.py [--steps 30] [--cases edsr,muon,srresnet,srgan] [--events all] [--folder FOLDER]

Starts groups of processes by benchmarks/srun.py on 127.0.0.1 (JAX, Gloo) and prints two tables. Exits with 1 if losses
differ by more than 1e-5 (EDSR) or 1e-3 (with batch normalization), if two equal jobs or, with micro-batches, one and
two processes differ in a byte, or if an event does not end all processes within the heartbeat plus ten seconds.
"""

import argparse
import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
HEARTBEAT = 10
EDSR = {"model": {"name": "edsr", "blocks": 4, "filters": 32}}
CASES = {
    "edsr": (EDSR, 1e-5),
    "muon": ({**EDSR, "optimizer": "muon", "equivariant": True}, 1e-5),
    "srresnet": ({"model": {"name": "srresnet", "blocks": 2, "filters": 16}}, 1e-3),
    "srgan": ({**EDSR}, 1e-3),
}
EVENTS = {
    "SIGKILL of process 1": (1, signal.SIGKILL),
    "SIGKILL of process 0": (0, signal.SIGKILL),
    "SIGTERM of process 1": (1, signal.SIGTERM),
    "exception in process 1": (1, None),
    "SIGSTOP of process 1": (1, signal.SIGSTOP),
}


def recipe(case: str, micro_batches: int) -> dict:
    """A recipe with few steps; only its trainings matter."""
    training = {
        "lr_patch": 24,
        "batch": 16,
        "steps": 1000,
        "micro_batches": micro_batches,
        "learning_rate": {"peak": 1e-3},
    }
    random = {"features": {"weights": "random", "layer": "block2_conv2"}, "perceptual_scale": 1e-5}
    return {
        "scale": 4,
        "seed": 1,
        "download": {"train": "sample", "test": ["sample"], "features": "none"},
        "prepare": {"images": "images"},
        "pretrain": training | CASES[case][0] | {"ema_decay": 0.99, "clip_norm": 1.0},
        "finetune": training | random | {"discriminator_filters": 8},
        "evaluate": {"images": "images"},
    }


def work(task: dict) -> None:
    """Take the steps of one task in this process, as one of several or alone."""
    from srlib import distributed
    from srlib.engine import pin_threads
    from srlib.signals import Stopped, deferred_stop, stoppable
    from srlib.stage import errors_in_one_line

    with distributed.ended_at_once(), errors_in_one_line("benchmark"), stoppable(), deferred_stop() as stop:
        distributed.join()
        pin_threads()
        distributed.gather(0)
        take_step = runner(task)
        random = np.random.default_rng(0)
        rows = slice(*(16 * edge // distributed.world() for edge in (distributed.rank(), distributed.rank() + 1)))
        losses, times = [], []
        for step in range(task["steps"]):
            hr = random.integers(0, 256, (16, 96, 96, 3), np.uint8) // 2 + 60
            lr = hr[:, 1::4, 1::4]
            if task["event"] and step == 5:
                print("event", flush=True)
                happen(*task["event"])
            start = time.perf_counter()
            losses.append(take_step(np.ascontiguousarray(lr[rows]), hr[rows], [1e-3, 1e-3][: task["networks"]])["loss"])
            times.append(time.perf_counter() - start)
            if signum := distributed.agreed_signal(stop.signum):
                raise Stopped(signum)
        with take_step.variables():
            weights = [np.asarray(variable.value).tobytes() for variable in take_step.trainer.step_variables]
        if distributed.is_main():
            digest = hashlib.sha256(b"".join(weights)).hexdigest()
            result = {"losses": losses, "digest": digest, "seconds": statistics.median(times[len(times) // 3 :])}
            Path(task["result"]).write_text(json.dumps(result))
        distributed.leave()


def happen(rank: int, signum: int | None) -> None:
    """Let an event happen to one process: a signal, or an exception without one."""
    from srlib import distributed

    if distributed.rank() == rank:
        if signum is None:
            raise KeyError("an exception")
        os.kill(os.getpid(), signum)


def runner(task: dict):
    """Return the step runner of a task."""
    import keras

    from srlib.models import build
    from srlib.params import Params
    from srlib.training.gan.trainer import gan_trainer
    from srlib.training.pretrain import model_config, pixel_trainer
    from srlib.training.steps import step_runner

    params = Params.model_validate(task["recipe"])
    keras.utils.set_random_seed(1)
    if task["networks"] == 2:
        return step_runner(gan_trainer(params, build(model_config(params)), Path()), params.finetune.micro_batches)
    return step_runner(pixel_trainer(params), params.pretrain.micro_batches)


def run(case: str, processes: int, steps: int, folder: Path, micro_batches: int = 1, event: tuple | None = None):
    """Run a group; return (its result, exit status, seconds from the event to the end of all that can end)."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    task = {
        "recipe": recipe(case, micro_batches), "networks": 1 + (case == "srgan"), "steps": steps, "event": event,
        "result": str(result),
    }  # fmt: skip
    program = [sys.executable, __file__, "--work", json.dumps(task)]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "SRLIB_HEARTBEAT": str(HEARTBEAT), "PYTHONPATH": str(ROOT)}
    if processes > 1:
        program = [sys.executable, str(ROOT / "benchmarks/srun.py"), str(processes), *program]
        environment |= {"SRLIB_LAUNCHED": "1", "SRUN_PATIENCE": str(HEARTBEAT + 10)}
    with (folder / "messages").open("w") as messages:
        group = subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True)
        begin = next((time.monotonic() for line in group.stdout if line == "event\n"), 0.0)
        status = group.wait()
        seconds = time.monotonic() - begin
    if event is None and status:
        raise SystemExit((folder / "messages").read_text()[-3000:])
    return json.loads(result.read_text()) if result.exists() else {}, status, seconds


def compare(case: str, steps: int, folder: Path) -> bool:
    """Print a row of the first table; return whether all is as it should be."""
    one, two, again = (run(case, processes, steps, folder)[0] for processes in (1, 2, 2))
    small, small_too = (run(case, processes, steps, folder, micro_batches=4)[0] for processes in (1, 2))
    difference = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], two["losses"], strict=True))
    is_same, is_equal = two["digest"] == again["digest"], small["digest"] == small_too["digest"]
    words = [{True: "same bytes", False: "DIFFERENT"}[flag] for flag in (is_same, is_equal)]
    rates = [16 / result["seconds"] for result in (one, two, small, small_too)]
    print(
        f"{case:10}{difference:12.1e}   {words[0]:12}{words[1]:12}" + "".join(f"{rate:9.1f}" for rate in rates),
        flush=True,
    )
    return difference <= CASES[case][1] and is_same and is_equal


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cases", default=",".join(CASES), help="rows of the first table")
    parser.add_argument("--events", choices=("all", "none"), default="all")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    is_good = True
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        print("Two processes beside one; patches per second of 1 and 2 processes, and of both with 4 micro-batches")
        print(f"{'case':10}{'losses':>12}   {'two jobs':12}{'micro':12}{'1':>9}{'2':>9}{'1 micro':>9}{'2 micro':>9}")
        for case in filter(None, options.cases.split(",")):
            is_good &= compare(case, options.steps, Path(scratch))
        for name, event in EVENTS.items() if options.events == "all" else ():
            _, status, seconds = run("edsr", 2, 10**6, Path(scratch), event=event)
            print(f"{name:26} status {status:4}, all ended after {seconds:5.1f} s", flush=True)
            # A stopped process ends only by the launcher, which waits as long as the other may take.
            is_good &= status != 0 and seconds < (2 if event[1] == signal.SIGSTOP else 1) * (HEARTBEAT + 10)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
