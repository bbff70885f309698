"""Several processes on this machine's processor beside one: losses, bytes, speed; one process beside earlier code.

    python benchmarks/distributed.py [--only losses,micro,speed,before] [--cases edsr,muon,srresnet,srgan]

Starts groups of processes by benchmarks/srun.py on 127.0.0.1 (JAX, Gloo). What happens when one of them ends, in whole
stages: benchmarks/launched_stages.py. The pieces, each a few minutes on two cores:

- losses: 30 steps of one process and of two; two equal jobs of two processes.
- micro: 30 steps of 1, 2 and 4 processes with micro-batches.
- speed: patches per second of one process on one core, of one on two cores, and of two with a core each.
- before: one process with this code and one with that of the commit `--base`, which take a step of a tiny network in
  turns: the bytes of weights and losses at the end, and the time of a step. KERAS_BACKEND is jax unless set.

Exits with 1 if losses differ by more than 1e-5 (EDSR) or 1e-3 (with batch normalization), if two equal jobs differ in a
byte, numbers of processes with micro-batches do, or this code and the earlier one.
"""

import argparse
import contextlib
import copy
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
TRAINING = {"lr_patch": 12, "batch": 16, "steps": 1000, "learning_rate": {"peak": 1e-3}}
EDSR = {"model": {"name": "edsr", "blocks": 4, "filters": 32}, "lr_patch": 24}
CASES = {
    "edsr": (EDSR, 1e-5),
    "muon": ({**EDSR, "optimizer": "muon", "equivariant": True}, 1e-5),
    "srresnet": ({"model": {"name": "srresnet", "blocks": 2, "filters": 16}}, 1e-3),
    "srgan": ({"model": {"name": "edsr", "blocks": 2, "filters": 16}}, 1e-3),
}
MICRO_BATCHES = 4


def task(case: str, steps: int, micro_batches: int = 1, *, tiny: bool = False) -> dict:
    """Return the recipe of a case, the section that trains it, and the number of steps."""
    changes = {"micro_batches": micro_batches} if micro_batches > 1 else {}
    pretrain = TRAINING | {"ema_decay": 0.99, "clip_norm": 1.0} | copy.deepcopy(CASES[case][0]) | changes
    finetune = TRAINING | changes | {"perceptual_scale": 1e-5, "discriminator_filters": 8}
    finetune["features"] = {"weights": "random", "layer": "block1_conv2"}
    if tiny:
        finetune["discriminator_filters"] = 4
        pretrain["model"] |= {"blocks": 1, "filters": 8}
        for section in (pretrain, finetune):
            section |= {"batch": 4, "lr_patch": 12}
    recipe = {
        "scale": 4,
        "seed": 1,
        "download": {"train": "sample", "test": ["sample"], "features": "none"},
        "prepare": {"images": "images"},
        "pretrain": pretrain,
        "finetune": finetune,
        "evaluate": {"images": "images"},
    }
    section, rate = ("finetune", 1e-4) if case == "srgan" else ("pretrain", 1e-3)
    return {"recipe": recipe, "section": section, "steps": steps, "rate": rate}


class Training:
    """The steps of a task in this process, on random batches.

    Args:
        task: What `task` returns.
        rank: Index of this process.
        world: Number of processes.
    """

    def __init__(self, task: dict, rank: int = 0, world: int = 1) -> None:
        import keras

        from srlib import engine
        from srlib.models import build
        from srlib.params import Params
        from srlib.training.gan.trainer import gan_trainer
        from srlib.training.pretrain import model_config, pixel_trainer
        from srlib.training.steps import step_runner

        params = Params.model_validate(task["recipe"])
        getattr(engine, "seed_all", keras.utils.set_random_seed)(1)  # earlier code has Keras' function only
        if task["section"] == "finetune":
            trainer = gan_trainer(params, build(model_config(params)), Path())
        else:
            trainer = pixel_trainer(params)
        section = task["recipe"][task["section"]]
        parts = [section["micro_batches"]] if "micro_batches" in section else []  # earlier code knows none
        self._take_step = step_runner(trainer, *parts)
        self._rates = [task.get("rate", 1e-3)] * len(trainer.optimizer.updates)
        self._random = np.random.default_rng(0)
        self._shape = (section["batch"], 4 * section["lr_patch"], 4 * section["lr_patch"], 3)
        self._rows = slice(*(section["batch"] * edge // world for edge in (rank, rank + 1)))
        self.losses: list[float] = []
        self.seconds: list[float] = []

    def step(self) -> float:
        """Take a step; return its seconds."""
        hr = self._random.integers(0, 256, self._shape, np.uint8) // 2 + 60
        lr = np.ascontiguousarray(hr[self._rows, 1::4, 1::4])
        start = time.perf_counter()
        self.losses.append(self._take_step(lr, hr[self._rows], self._rates)["loss"])
        self.seconds.append(time.perf_counter() - start)
        return self.seconds[-1]

    def digest(self) -> str:
        """Return a digest of the losses and of every variable that a step changes."""
        with self._take_step.variables():
            values = [np.asarray(variable.value).tobytes() for variable in self._take_step.trainer.step_variables]
        return hashlib.sha256(b"".join([*values, np.array(self.losses).tobytes()])).hexdigest()


def work(job: dict) -> None:
    """Take the steps of all tasks of a job in this process, as one of several or alone."""
    if job["cores"]:
        os.sched_setaffinity(0, job["cores"][int(os.environ.get("SLURM_PROCID", "0"))])
    from srlib.engine import pin_threads
    from srlib.stage import errors_in_one_line
    from srlib.training import distributed

    with distributed.ended_at_once(), errors_in_one_line("benchmark"):
        distributed.join()
        pin_threads()
        results = []
        for task in job["tasks"]:
            training = Training(task, distributed.rank(), distributed.world())
            for _ in range(task["steps"]):
                training.step()
            median = statistics.median(training.seconds[len(training.seconds) // 3 :])
            results.append({"losses": training.losses, "digest": training.digest(), "seconds": median})
        if distributed.is_main():
            Path(job["result"]).write_text(json.dumps(results))
        distributed.leave()


def run(processes: int, tasks: list[dict], folder: Path, cores: list[list[int]] | None = None) -> list[dict]:
    """Run a group of processes to its end; return the results of its tasks."""
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    job = {"tasks": tasks, "cores": cores, "result": str(result)}
    program = [sys.executable, __file__, "--work", json.dumps(job)]
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    if processes > 1:
        program = [sys.executable, str(ROOT / "benchmarks/srun.py"), str(processes), *program]
        environment |= {"SRLIB_LAUNCHED": "1"}
    done = subprocess.run(program, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    results: list[dict] = json.loads(result.read_text())
    return results


def compare_losses(cases: list[str], folder: Path, base: str, turns: int) -> bool:
    """Print how losses of one and of two processes differ, and two equal jobs; return whether all is well."""
    tasks = [task(case, 30) for case in cases]
    one, two, again = (run(processes, tasks, folder) for processes in (1, 2, 2))
    is_good = True
    print(f"{'case':10}{'losses, 2 beside 1':>20}{'two jobs of 2':>16}")
    for case, alone, pair, repeated in zip(cases, one, two, again, strict=True):
        losses = zip(alone["losses"], pair["losses"], strict=True)
        difference = max(abs(a - b) / abs(a) for a, b in losses)
        is_same = pair["digest"] == repeated["digest"]
        print(f"{case:10}{difference:20.1e}{'same bytes' if is_same else 'DIFFERENT':>16}", flush=True)
        is_good &= difference <= CASES[case][1] and is_same
    return is_good


def compare_micro_batches(cases: list[str], folder: Path, base: str, turns: int) -> bool:
    """Print whether 1, 2 and 4 processes with micro-batches give equal bytes, and return it."""
    tasks = [task(case, 30, MICRO_BATCHES) for case in cases]
    groups = [run(processes, tasks, folder) for processes in (1, 2, 4)]
    is_good = True
    print(f"{'case':10}{f'{MICRO_BATCHES} micro-batches: 1, 2, 4':>26}")
    for case, results in zip(cases, zip(*groups, strict=True), strict=True):
        is_equal = len({result["digest"] for result in results}) == 1
        print(f"{case:10}{'same bytes' if is_equal else 'DIFFERENT':>26}", flush=True)
        is_good &= is_equal
    return is_good


def compare_speed(cases: list[str], folder: Path, base: str, turns: int) -> bool:
    """Print patches per second of three ways to use two cores, the best of two rounds."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    groups = {
        "1 process, 1 core": (1, [[first]]),
        "1 process, 2 cores": (1, [[first, second]]),
        "2 processes, 1 core each": (2, [[first], [second]]),
    }
    tasks = [task(case, 15) for case in cases]
    rates: dict[str, list[float]] = {name: [0.0] * len(cases) for name in groups}
    for _ in range(2):
        for name, (processes, cores) in groups.items():
            results = run(processes, tasks, folder, cores)
            rates[name] = [
                max(TRAINING["batch"] / result["seconds"], best)
                for result, best in zip(results, rates[name], strict=True)
            ]
    print(f"{'patches per second':26}" + "".join(f"{case:>10}" for case in cases))
    for name, values in rates.items():
        print(f"{name:26}" + "".join(f"{value:10.1f}" for value in values))
    return True


@contextlib.contextmanager
def earlier_code(commit: str) -> Iterator[Path]:
    """Yield a folder with the repository as it was at a commit."""
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        yield Path(folder)


def compare_with_before(cases: list[str], folder: Path, base: str, turns: int) -> bool:
    """Print a row per case: bytes and milliseconds per step of this code and of that at `base`."""
    is_good = True
    backend = os.environ.get("KERAS_BACKEND") or "jax"
    print(f"{backend}, code of {base} beside this: {'bytes':>12}{'before':>12}{'now':>12}{'difference':>12}")
    with earlier_code(base) as tree:
        for case in cases:
            children = []
            for code in (tree, ROOT):
                environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(code)}
                command = [sys.executable, __file__, "--serve", json.dumps(task(case, 0, tiny=True))]
                children.append(
                    subprocess.Popen(
                        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=code
                    )
                )
            seconds = [[float(ask(child, "step")) for child in children] for _ in range(turns)][turns // 10 :]
            digests = {ask(child, "digest") for child in children}
            for child in children:
                child.communicate()
            before, now = (1e3 * statistics.median(column) for column in zip(*seconds, strict=True))
            difference = 1e3 * statistics.median(b - a for a, b in seconds)
            word = "same" if len(digests) == 1 else "DIFFERENT"
            print(f"{case:40}{word:>12}{before:9.3f} ms{now:9.3f} ms{difference:+9.3f} ms", flush=True)
            is_good &= len(digests) == 1
    return is_good


def ask(child: subprocess.Popen[str], question: str) -> str:
    """Ask a process of `serve`; return its answer."""
    assert child.stdin and child.stdout
    child.stdin.write(f"{question}\n")
    child.stdin.flush()
    return child.stdout.readline().strip()


def serve(task: dict) -> None:
    """Answer `step` with the seconds of a step, and `digest`, until standard input ends."""
    from srlib.engine import pin_threads

    pin_threads()
    training = Training(task)
    for line in sys.stdin:
        print(training.step() if line == "step\n" else training.digest(), flush=True)


PIECES: dict[str, Callable[[list[str], Path, str, int], bool]] = {
    "losses": compare_losses,
    "micro": compare_micro_batches,
    "speed": compare_speed,
    "before": compare_with_before,
}


def main() -> None:
    """Run the pieces."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(PIECES), help="pieces, separated by commas")
    parser.add_argument("--cases", default=",".join(CASES), help="networks, separated by commas")
    parser.add_argument("--base", default="a45f1f9", help="commit of the earlier code; a45f1f9 has one device only")
    parser.add_argument("--turns", type=int, default=200, help="steps of `before`")
    parser.add_argument("--folder", type=Path, help="folder for the files (default: a temporary one)")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--serve", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work or options.serve:
        work(options.work) if options.work else serve(options.serve)
        return
    if unknown := set(options.only.split(",")) - set(PIECES):
        parser.error(f"--only: expected some of {', '.join(PIECES)}, got {', '.join(sorted(unknown))}")
    is_good = True
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for piece in options.only.split(","):
            begun = time.monotonic()
            is_good &= PIECES[piece](options.cases.split(","), Path(scratch), options.base, options.turns)
            print(f"{piece}: {time.monotonic() - begun:.0f} s\n", flush=True)
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
