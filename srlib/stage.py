"""`with stage_run("pretrain", inputs={…}) as run:` is what each stage script does its work in.

It checks the recipe, opens the MLflow run, finds the resume state, and ends all of it properly, however the work ends.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srlib.engine import lacks_bfloat16, pin_threads
from srlib.errors import SrlibError, one_line
from srlib.files import tree_hash
from srlib.params import Params, load_params
from srlib.pipeline.dvc import PipelineStage, read_stage, recorded_outputs, root
from srlib.pipeline.resume import ResumeState, clean, fingerprint
from srlib.signals import Stopped, stoppable
from srlib.tracking import TrackedRun, Verdict, connect, tracked_run

if TYPE_CHECKING:
    from srlib.evaluation.champions import Candidate

__all__ = ["StageRun", "pin_threads", "stage_run"]

SLOW_BFLOAT16 = (
    "mixed_bfloat16 takes many times as long as float32 on this processor, which has neither AVX512-BF16 nor AMX; "
    "set it to float32"
)


class StageRun:
    """A stage at work.

    Attributes:
        params: The whole recipe, checked.
        tracked: The MLflow run.
    """

    def __init__(self, params: Params, stage: PipelineStage, tracked: TrackedRun, state: ResumeState) -> None:
        self.params, self.tracked = params, tracked
        self._stage, self._state = stage, state

    @property
    def resume(self) -> Path:
        """The folder for the state that a killed run goes on from; this process alone has it.

        It outlives the process and is removed at a later start, once dvc.lock records the outputs given to `done`.

        Raises:
            SrlibError: Another process works on the same state.
        """
        first = not self._state.is_open
        folder = self._state.open(self.tracked.id)
        if first and self._state.resumed_from:
            self.tracked.set_tags({"resumed_from": self._state.resumed_from})
        return folder

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Adds a point to each curve, while the stage runs. Without `step`: results, also shown by the parent run."""
        self.tracked.log_metrics(metrics, step)

    def log_image(self, name: str, image: np.ndarray | Path, step: int | None = None) -> None:
        """Records a picture: uint8 [H, W, 3] or [H, W], or a file. With `step` it is one of a series."""
        self.tracked.log_image(name, image, step)

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """Records a file, or a whole folder, which must stay as it is until the stage ends."""
        self.tracked.log_artifact(path, folder)

    def log_model(self, model: Any, name: str, folder: Path | None = None) -> None:
        """Records a Keras model with signature and input example; with the `folder` that holds it, `pretrained` and
        `gan` become versions in the registry, under their names in params.yaml.
        """
        names = self.params.registry.names(self.params.scale)
        self.tracked.log_model(model, name, folder=folder, register_as=names.get(name))

    def elect(self, candidates: "Iterable[Candidate]") -> None:
        """Decides by the rules of `evaluate.champion` whether models become champions; a line says what and why.

        The decision is MLflow's alone: no output depends on it.
        """
        names = self.params.registry.names(self.params.scale)
        for one in candidates:
            rule = self.params.evaluate.champion[one.name]
            if one.value is not None:
                pictures = tree_hash(one.images)
                verdict = Verdict(rule.set, rule.metric, one.value, one.better, rule.margin, pictures)
                self.tracked.elect(names[one.name], one.folder, verdict)

    @contextlib.contextmanager
    def timing(self, name: str) -> Iterator[None]:
        """Measures the block as the metric `seconds_<name>`."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.log_metrics({f"seconds_{name}": time.monotonic() - begun})

    def done(self, outputs: Iterable[str | Path]) -> None:
        """Says that these outputs are written whole. Their hashes become tags, and tell when the state may go.

        Raises:
            SrlibError: An output is not there.
        """
        hashes = {os.path.normpath(path): self._stage.output_hash(path) for path in outputs}
        self._state.done(hashes)
        self.tracked.set_tags({f"dvc.out.{path}": digest for path, digest in hashes.items()})


@contextlib.contextmanager
def stage_run(name: str, inputs: Mapping[str, Path] | None = None, *, keras: bool = False) -> Iterator[StageRun]:
    """Everything around a stage's work.

    Before it: params.yaml is checked as a whole, the dependencies are looked up, the MLflow run is opened. After it:
    bad input and a failing disk end in one line on stderr and status 1, Ctrl-C in 130, SIGTERM in 143; anything else
    is a bug and keeps its traceback. The MLflow run ends FINISHED, FAILED or KILLED accordingly.

    Args:
        name: The stage's name and its section in params.yaml.
        inputs: What it reads: name → path, as given to the script.
        keras: The stage computes with Keras: threads are pinned first, versions and processor enter the fingerprint.
    """
    inputs = inputs or {}
    with _in_one_line(name), stoppable():
        params = load_params(stage=name)
        store = connect(root())
        stage = read_stage(name, inputs)
        recipe = params.model_dump(mode="json")
        facts = {
            "params": {key: recipe[key] for key in (name, "scale", "seed")},
            "dependencies": stage.dependencies,
            "engine": pin_threads() if keras else {},
        }
        if keras and recipe[name].get("precision") == "mixed_bfloat16" and lacks_bfloat16():
            print(f"warning: {name}.precision: {SLOW_BFLOAT16}", file=sys.stderr)
        state = ResumeState(root(), stage.address, facts)
        clean(root(), recorded_outputs(), state)
        with tracked_run(store, stage, name, recipe, inputs, fingerprint(facts), _status_of) as tracked:
            try:
                yield StageRun(params, stage, tracked, state)
            except (KeyboardInterrupt, Stopped) as error:
                if state.is_open and not (isinstance(error, Stopped) and error.note):
                    print(f"{name}: run it again to go on from the last saved state", file=sys.stderr)
                raise
            finally:
                state.close()


def _status_of(error: BaseException) -> str:
    return "KILLED" if isinstance(error, (KeyboardInterrupt, Stopped)) else "FAILED"


@contextlib.contextmanager
def _in_one_line(name: str) -> Iterator[None]:
    try:
        yield
    except SrlibError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {name}: {_system_message(error)}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, Stopped) as error:
        signum = error.signum if isinstance(error, Stopped) else signal.SIGINT
        note = f"; {error.note}" if isinstance(error, Stopped) and error.note else ""
        print(f"error: {name}: stopped by {signal.Signals(signum).name}{note}", file=sys.stderr)
        sys.exit(128 + signum)


def _system_message(error: OSError) -> str:
    """`No space left on device: models/x` for the operating system's and HDF5's errors alike."""
    if error.errno is None:
        # NumPy counts what it wrote and does not say why.
        short = re.fullmatch(r"\d+ requested and \d+ written", str(error))
        return "could not write all of an array; is the disk full?" if short else one_line(error)
    named = re.search(r"filename = '([^']*)'", str(error))
    where = error.filename or (named.group(1) if named else None)
    return f"{os.strerror(error.errno)}: {where}" if where else os.strerror(error.errno)
