"""Upscale the images of a plan on the workers of a Dask cluster."""

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srlib.cluster import connected
from srlib.cluster_worker import stop_if_cancelled
from srlib.errors import SrlibError, problems_kept
from srlib.inference.batch import ImageOptions, Run, Summary, finish
from srlib.inference.jobs import ImageJob, JobPlan
from srlib.inference.notes import Note, Notes
from srlib.inference.records import Records, Scores
from srlib.inference.shipped import AUTO, shipped_models
from srlib.inference.upscale import RgbModel


@dataclass(frozen=True)
class _Task:
    """What the images of a run have in common.

    Attributes:
        open_model: Function that opens the model.
        fingerprint: Fingerprint of the model that the client has opened.
        options: How images are upscaled.
        records: Where maps go. Scores are returned to the client, which writes them: hosts must not append to one file.
    """

    open_model: Callable[[], RgbModel]
    fingerprint: str
    options: ImageOptions
    records: Records

    def __call__(self, job: ImageJob) -> "_Outcome":
        """Upscale one image in a worker."""
        with _one_at_a_time:  # a model takes all cores that it may use
            model = _opened(self)
            records = dataclasses.replace(self.records, lines=[], fingerprints={})
            run = Run(model, self.options, records)
            run.upscale_one(job, _stop_between_tiles)
        return _Outcome(run.done, tuple(run.problems), run.notes.all(), tuple(records.lines), records.fingerprints)


@dataclass(frozen=True)
class _Outcome:
    done: int
    problems: tuple[str, ...]
    notes: tuple[Note, ...]
    scores: tuple[Scores, ...]
    fingerprints: dict[str, str]


_one_at_a_time = threading.Lock()
_models: dict[str, RgbModel] = {}
"""The model that this worker process has opened, by its fingerprint."""


def _opened(task: _Task) -> RgbModel:
    """Return the model, opened by the first task of a worker process."""
    if task.fingerprint not in _models:
        try:
            model = task.open_model()
        except SrlibError as error:
            raise SrlibError(f"a worker of the cluster cannot open the model: {error}") from None
        if _fingerprint(model) != task.fingerprint:
            raise SrlibError(
                f"{model.name}: a worker of the cluster has another model of this name than this machine, or another "
                "processor chooses another precision; try --precision float32"
            )
        _models.clear()
        _models[task.fingerprint] = model
    return _models[task.fingerprint]


def _fingerprint(model: RgbModel) -> str:
    return str(getattr(model, "fingerprint", model.name))


def _stop_between_tiles(n: int = 1, **status: object) -> None:
    stop_if_cancelled()


def run_on_cluster(
    plan: JobPlan,
    open_model: Callable[[], RgbModel],
    options: ImageOptions,
    records: Records | None = None,
    *,
    scheduler: str,
) -> Summary:
    """Upscale the images of a plan, which are files, on a cluster; see `srlib.inference.batch.run_jobs`.

    Args:
        plan: Images to upscale.
        open_model: Function that opens the model, pickled with each task. Paths in it must be absolute.
        options: See `run_jobs`.
        records: See `run_jobs`.
        scheduler: Address of the Dask scheduler.

    Raises:
        SrlibError: As `run_jobs`, and what `srlib.cluster` names.
    """
    records = records or Records()
    done, problems, notes = 0, list(plan.problems), Notes()

    def keep(position: int, outcome: _Outcome) -> None:
        nonlocal done
        job = plan.jobs[position]
        done += outcome.done
        problems.extend(outcome.problems)
        for note in outcome.notes:
            notes.add(note, job.name)
        records.fingerprints.update(outcome.fingerprints)
        for scores in outcome.scores:
            records.add(dataclasses.replace(scores, image=str(job.source), result=str(job.target)))

    # With scores a task is one image: those of a task that ends after this process was killed are lost.
    per_task = 1 if records.need_traces else None
    with problems_kept(problems, lambda: "stopped: results that are complete stay; run it again to continue"):
        records.check(plan.jobs)
        model = open_model()
        records.check_model(model, options.size, consistent=options.consistent)
        maps, bands = (None if path is None else path.absolute() for path in (records.maps, records.bands))
        collected = Records(
            None, maps, records.out.absolute(), tracked=records.need_traces, bands=bands, model=records.model
        )
        task = _Task(open_model, _fingerprint(model), options, collected)
        jobs = [
            dataclasses.replace(job, source=_absolute(job.source), target=_absolute(job.target)) for job in plan.jobs
        ]
        inputs, outputs = [_absolute(jobs[0].source)], _outputs(jobs, maps, bands)
        try:
            with connected(scheduler, inputs=inputs, outputs=outputs) as cluster:
                assert cluster
                cluster.for_each(task, jobs, label="upscaling", unit="images", task=per_task, on_result=keep)
        finally:
            lines = notes.print()
    return finish(plan, done, problems, lines)


def model_for_workers(model: str) -> str:
    """Return the absolute path of a model's file or folder, since workers have another working folder.

    A name or an address stays as it is.
    """
    is_name = model in (AUTO, *shipped_models())
    return str(Path(model).absolute()) if not is_name and Path(model).exists() else model


def _absolute(path: Path | None) -> Path:
    """Return the absolute path of a file; workers have another working folder."""
    assert path is not None
    return path.absolute()


def _outputs(jobs: list[ImageJob], *sides: Path | None) -> list[Path]:
    """Return the folder of the first result, and those of the maps."""
    return [_absolute(jobs[0].target).parent, *(path for path in sides if path is not None)]
