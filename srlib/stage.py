"""The frame of a stage script: `with stage_run("pretrain", inputs={…}, keras=True) as run:`.

It validates the recipe, opens the MLflow run, finds the resume state, and closes all of it, however the work ends.
"""

import contextlib
import os
import platform
import re
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.engine import keep_freed_memory, lacks_bfloat16, pin_threads
from srlib.errors import SrlibError, one_line, printable
from srlib.files import sampled_hash, tree_hash
from srlib.params import Params, load_params
from srlib.pipeline.dvc import EXECUTION, PipelineStage, execution, read_stage, recorded_outputs, root, runs_finetune
from srlib.pipeline.resume import ResumeState, clean, differences, fingerprint
from srlib.signals import Stopped, stoppable
from srlib.tracking import SetScores, TrackedRun, Verdict, connect, tracked_run
from srlib.training import distributed

if TYPE_CHECKING:
    from srlib.evaluation.champions import Candidate, ModelScores
    from srlib.training.metric_log import MetricLog

SLOW_BFLOAT16 = (
    "mixed_bfloat16 takes many times as long as float32 on this processor, which has neither AVX512-BF16 nor AMX; "
    "set it to float32"
)

_FROM_THE_BEGINNING = "the next run does this stage from its beginning"
_IF_ANY = "run it again to continue from the last checkpoint, if there is one"
_AFTER_A_STOP = {
    "download": "run it again to continue; what was fetched is kept",
    "pretrain": _IF_ANY,
    "finetune": _IF_ANY,
}
"""Stage that continues by itself → what to do where it is interrupted without a checkpoint that is open."""


@dataclass(frozen=True)
class StageRun:
    """A running stage.

    Attributes:
        params: The whole recipe, validated.
        tracking: The MLflow run: `log_curve`, `log_results`, `log_image`, `log_artifact`, `log_model`.
        stage: The stage as DVC knows it.
        state: The resume state; `resume` opens it.
    """

    params: Params
    tracking: TrackedRun
    stage: PipelineStage
    state: ResumeState

    @property
    def resume(self) -> Path:
        """The folder of the checkpoint from which a killed run continues, locked for this process.

        It outlives the process; a later stage removes it once dvc.lock records the outputs given to `done`.

        Raises:
            SrlibError: Another process works on the same checkpoint.
        """
        is_new = not self.state.is_open
        folder = self.state.open(self.tracking.id)
        if is_new and self.state.resumed_from:
            self.tracking.set_tags({"resumed_from": self.state.resumed_from})
        return folder

    def metric_log(self, folder: Path) -> "MetricLog":
        """Return a log of a training that writes to `folder` and shows its curves and samples in MLflow."""
        from srlib.report.samples import sheet
        from srlib.training.metric_log import MetricLog

        tracking = self.tracking
        return MetricLog(
            folder,
            tracking.log_curve,
            lambda sample, step: tracking.log_image("samples/held-out patches", partial(sheet, sample, step), step),
        )

    def elect(self, candidates: "Iterable[Candidate]") -> None:
        """Decide by the rules of `evaluate.champion` which models become champions in MLflow, and print why.

        Args:
            candidates: Trained models with their scores. No output of the stage depends on the decision.
        """
        for candidate in candidates:
            rule = self.params.evaluate.champion[candidate.name]
            if candidate.value is not None:
                images = tree_hash(candidate.images)
                verdict = Verdict(rule.set, rule.metric, candidate.value, candidate.better, rule.margin, images)
                self.tracking.elect(candidate.name, candidate.folder, verdict)

    def score(self, scores: Mapping[str, float], models: "Iterable[ModelScores]") -> None:
        """Record scores on test sets in MLflow: of all methods at this run, of trained models at their versions.

        Args:
            scores: `<set>/<method>/<metric>` → mean.
            models: Trained models with their scores.
        """
        from srlib.evaluation.champions import headline

        models = list(models)
        results = {f"test/{name}": value for name, value in scores.items()}
        self.tracking.log_results(results, [f"test/{name}" for name in headline(models)])
        for model in models:
            means = {name: SetScores(values, tree_hash(model.images[name])) for name, values in model.values.items()}
            self.tracking.score_model(model.name, model.folder, means)

    def done(self, outputs: Iterable[str | Path]) -> None:
        """Declare outputs complete. Their hashes become tags; once dvc.lock records them, the checkpoint is removed.

        Raises:
            SrlibError: An output does not exist.
        """
        hashes = {os.path.normpath(path): self.stage.output_hash(path) for path in outputs}
        self.state.done(hashes)
        self.tracking.set_tags({f"dvc.out.{path}": digest for path, digest in hashes.items()})


class ComputingRun(StageRun):
    """A running stage in a process that only computes: the main process records and writes. It has `params` alone."""

    def __init__(self, params: Params) -> None:
        object.__setattr__(self, "params", params)

    @property
    def resume(self) -> Path:
        """No folder; the main process has the checkpoint."""
        return Path(os.devnull)

    def metric_log(self, folder: Path) -> "MetricLog":
        """Return a log that never gets a record."""
        from srlib.training.metric_log import MetricLog

        return MetricLog(folder)


@contextlib.contextmanager
def stage_run(
    name: str, inputs: Mapping[str, Path] | None = None, *, keras: bool = False, processes: bool = False
) -> Iterator[StageRun]:
    """Run the block as a stage of the pipeline.

    Before the block, params.yaml is validated as a whole, the dependencies are looked up and the MLflow run is opened.
    After it, bad input and a failing disk end in one line on stderr and status 1, Ctrl-C in status 130, SIGTERM in 143;
    any other exception is a bug and keeps its traceback. The MLflow run ends FINISHED, FAILED or KILLED accordingly.

    Args:
        name: Name of the stage and of its section in params.yaml.
        inputs: Paths that the stage reads, by name. The folder that the key `images` of the section names is added as
            `images`.
        keras: Whether the stage computes with Keras: if so, the engine is pinned and is part of the fingerprint.
        processes: Whether the stage may run as several processes; see `srlib.training.distributed`.

    Yields:
        The running stage.
    """
    with distributed.ended_at_once(), errors_in_one_line(name), stoppable():
        keep_freed_memory()
        if processes:
            distributed.join()
        params = load_params(stage=name)
        is_earlier = name not in ("finetune", "evaluate")
        if is_earlier and params.finetune is None and runs_finetune():
            load_params(stage="finetune")  # raises: the check stage is skipped where params.yaml did not change
        inputs = _images_of(name, params) | dict(inputs or {})
        if processes:
            distributed.launch({EXECUTION: execution() or ""})
        facts = _facts(name, params, keras=keras)
        _check_agreement(facts, inputs)
        if not distributed.is_main():
            yield ComputingRun(params)
            return
        store = connect(root())
        stage = read_stage(name, inputs)
        facts = {**facts, "dependencies": stage.dependencies}
        state = ResumeState(root(), stage.address, facts)
        clean(root(), recorded_outputs(), state)
        with (
            tracked_run(store, stage, name, params, inputs, fingerprint(facts)) as tracking,
            _closed_at_the_end(state),
        ):
            yield StageRun(params, tracking, stage, state)


def _images_of(name: str, params: Params) -> dict[str, Path]:
    """Return the folder of images that the stage's section names, as an input, or nothing."""
    images = getattr(getattr(params, name), "images", None)
    return {"images": Path(images)} if images else {}


def _facts(name: str, params: Params, *, keras: bool) -> dict[str, object]:
    """Return what may change the outputs, dependencies excluded; the engine of a stage that uses Keras is pinned."""
    recipe = params.model_dump(mode="json")
    engine: dict[str, object] = {**pin_threads()} if keras else {}
    if keras and recipe[name].get("precision") == "mixed_bfloat16" and lacks_bfloat16() and distributed.is_main():
        print(f"warning: {name}.precision: {SLOW_BFLOAT16}", file=sys.stderr)
    if keras and recipe[name].get("micro_batches", 1) > 1:  # then the number of devices changes no bytes
        engine["devices"] = sorted(set(pin_threads()["devices"]))
    elif distributed.world() > 1:
        engine["processes"] = distributed.world()
    relevant = {key: recipe[key] for key in (name, "scale", "seed")}
    return {"params": relevant, "engine": engine}


def _check_agreement(facts: Mapping[str, object], inputs: Mapping[str, Path]) -> None:
    """Check that the processes of a training have the same recipe, code, packages, type of processor and inputs.

    Raises:
        SrlibError: They differ; each process raises the same.
    """
    if distributed.world() == 1:
        return
    files = {"the code of srlib": sampled_hash(Path(__file__).parent, "*.py")}
    files |= {name: sampled_hash(path) for name, path in inputs.items()}
    first, *others = distributed.gather({**facts, "dependencies": files, "python": platform.python_version()})
    for number, other in enumerate(others, start=1):
        if changes := differences(first, other):
            distributed.expect_end()
            raise SrlibError(
                f"process {number} differs from process 0 in {'; '.join(changes[:3])}; start all of them with the same "
                "recipe, code, packages and patches, on hosts of one type"
            )


@contextlib.contextmanager
def _closed_at_the_end(state: ResumeState) -> Iterator[None]:
    """Release the resume state after the block; after an interruption, add what the next run does to its line.

    Raises:
        Stopped: SIGINT, SIGTERM or SIGHUP came in the block.
    """
    try:
        yield
    except (KeyboardInterrupt, Stopped) as error:
        stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
        note = "run it again to continue from the last checkpoint" if state.is_open else ""
        raise Stopped(stopped.signum, stopped.note or note) from None
    finally:
        state.close()


@contextlib.contextmanager
def errors_in_one_line(name: str) -> Iterator[None]:
    """End the process with one line on stderr for each error that is not a bug, and with the matching exit status.

    Args:
        name: Name of the stage, shown in messages that come from the system.
    """
    try:
        yield
    except SrlibError as error:
        _print_errors(*str(error).splitlines())
        sys.exit(1)
    except OSError as error:
        _print_errors(f"{name}: {_system_message(error)}")
        sys.exit(1)
    except (KeyboardInterrupt, Stopped) as error:
        signum = error.signum if isinstance(error, Stopped) else signal.SIGINT
        note = (isinstance(error, Stopped) and error.note) or _AFTER_A_STOP.get(name, _FROM_THE_BEGINNING)
        _print_errors(f"{name}: stopped by {signal.Signals(signum).name}; {note}")
        sys.exit(128 + signum)


def _print_errors(*lines: str) -> None:
    """Print errors; what all processes of a training report is printed by the main one."""
    if not distributed.is_reported_by_main():
        for line in lines:
            print(f"error: {printable(line)}", file=sys.stderr)


def _system_message(error: OSError) -> str:
    """Return `No space left on device: models/x` for errors of the operating system and of HDF5 alike."""
    if error.errno is None:
        # NumPy reports how much it wrote, but not why it stopped.
        is_short = re.fullmatch(r"\d+ requested and \d+ written", str(error))
        return "could not write all of an array; is the disk full?" if is_short else one_line(error)
    name_in_text = re.search(r"filename = '([^']*)'", str(error))
    path = error.filename or (name_in_text.group(1) if name_in_text else None)
    return f"{os.strerror(error.errno)}: {path}" if path else os.strerror(error.errno)
