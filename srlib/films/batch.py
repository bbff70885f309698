"""Upscale the films and the images of a plan."""

import dataclasses
import functools
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from srlib.errors import SrlibError, failure_line, problems_kept
from srlib.films.containers import require_pyav
from srlib.films.options import FilmModel, FilmOptions
from srlib.imaging.image_file import QUALITY
from srlib.inference.batch import Summary
from srlib.inference.choice import AutoModel, open_any
from srlib.inference.image_files import upscale_plan
from srlib.inference.jobs import ImageJob, JobPlan, plan_jobs
from srlib.inference.output_size import factor_of, output_size
from srlib.inference.records import Records
from srlib.inference.shipped import AUTO
from srlib.inference.upscaler import Upscaler


def upscale_film(
    film: str | Path,
    out: str | Path,
    *,
    model: str | Upscaler = AUTO,
    scale: float | Fraction | None = None,
    width: int | None = None,
    height: int | None = None,
    fit: tuple[int, int] | None = None,
    megapixels: float | None = None,
    codec: str | None = None,
    quality: int = QUALITY,
    preview: float | None = None,
    force: bool = False,
    allow_large: bool = False,
    consistent: bool = False,
) -> None:
    """Upscale a film; sound, subtitles, chapters, times, rotation and color are kept. Needs the extra `films`.

    The result is written whole or not at all. A run that was interrupted continues when it is started again.

    Args:
        film: An MP4, QuickTime, Matroska or WebM file.
        out: The file to write; its ending, `.mp4`, `.m4v`, `.mov`, `.mkv` or `.webm`, gives its kind.
        model: `auto` for the shipped model that fits the film; a model that `open_model` accepts by name or folder; or
            an opened one.
        scale: Factor from 1 to 16 (default: the model's own). Odd sizes become the next smaller even ones.
        width: Pixels per row; the height follows from the proportions. With `height` too: exactly this size.
        height: Pixels per column.
        fit: (width, height): the largest size inside it with the film's proportions.
        megapixels: Millions of pixels per frame.
        codec: `h264`, `hevc`, `vp9` or `av1` (default: by the kind of file).
        quality: 1 to 100, the encoder's constant rate factor: 95 is 17 in H.264, 75 is 24.
        preview: Only the first so many seconds.
        force: Overwrite a result that exists.
        allow_large: Also upscale films that take more than a day.
        consistent: Correct each frame so that, downscaled again, it is the film's frame within about one level.

    Raises:
        SrlibError: The film is refused; or it is damaged and the result holds what could be decoded.

    Example:
        >>> import srlib
        >>> srlib.upscale_film("clip.mp4", "big.mp4")
        Traceback (most recent call last):
        srlib.errors.SrlibError: clip.mp4: no such file or folder
    """
    size = output_size(scale=scale, width=width, height=height, fit=fit, megapixels=megapixels)
    options = FilmOptions(size, quality, allow_large, consistent, codec, preview)
    plan = plan_jobs([str(film)], str(out), force=force, films=True)
    if plan.jobs:
        raise SrlibError(f"{film}: expected a film; for images: srlib.upscale_files")
    run_plan(plan, lambda: open_any(model), options)


def run_plan(
    plan: JobPlan,
    open_model: Callable[[], FilmModel | AutoModel],
    options: FilmOptions,
    *,
    records: Records | None = None,
    scheduler: str | None = None,
) -> Summary:
    """Upscale the images of a plan, then its films.

    Args:
        plan: See `srlib.inference.jobs.plan_jobs`.
        open_model: Function that opens the model; called only if there is something to do.
        options: How films are upscaled; size, quality, `consistent` and `allow_large` are those of the images too.
        records: Where scores and maps of images go (default: nowhere).
        scheduler: Address of a Dask scheduler whose workers upscale the images, if there are several (default: this
            machine). Films are upscaled on this machine.

    Returns:
        How many images and films were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per input that was left out or is incomplete.
    """
    if plan.films:
        require_pyav()
        if records is not None and (records.scores or records.maps or records.bands or records.tracked):
            raise SrlibError("--scores, --map, --uncertainty and --track are for images; leave them out for films")
    opened = functools.cache(open_model)
    problems: list[str] = []
    notes: list[str] = []
    done = 0
    try:
        opener = open_model if scheduler else opened  # an opened model cannot be sent to workers
        summary = upscale_plan(dataclasses.replace(plan, films=()), opener, options, records, scheduler)
        done, notes = summary.done, list(summary.notes)
    except SrlibError as error:
        if not plan.films:
            raise
        problems += str(error).splitlines()
    with problems_kept(problems):
        for number, job in enumerate(plan.films, 1):
            if len(plan.films) > 1:
                print(f"film {number} of {len(plan.films)}: {job.name}", file=sys.stderr)
            lines, film_notes = _run_film(job, opened, options)
            done += not lines
            problems += lines
            notes += film_notes
    if problems:
        raise SrlibError("\n".join(problems))
    return Summary(done, plan.existing, tuple(notes))


def _run_film(
    job: ImageJob, open_model: Callable[[], FilmModel | AutoModel], options: FilmOptions
) -> tuple[list[str], list[str]]:
    """Upscale one film; return its problems, and the notes that were printed, one line each.

    Raises:
        SrlibError: The disk is full.
    """
    from srlib.films.reading import describe_film  # not loaded by a run over images alone
    from srlib.films.traces import film_traces
    from srlib.films.upscaling import requested_size, upscale_one_film

    assert job.source is not None and job.target is not None
    notes = []
    try:
        model = open_model()
        if isinstance(model, AutoModel):
            film, traces = describe_film(job.source), film_traces(job.source, options.seconds)
            target = requested_size(film, options.size, model.scale)
            model = model.fitting(traces, factor_of(film.height, film.width, target))
            notes = [f"{job.name}: {model.name} ({traces.in_words()})"]
            print(notes[0], file=sys.stderr)
        outcome = upscale_one_film(job.source, job.target, model, options)
    except Exception as error:
        return [failure_line(error, job.name, job.target, "film")], []
    for note in outcome.notes:
        notes.append(f"{job.name}: {note}")
        print(notes[-1], file=sys.stderr)
    return [f"{job.name}: {problem}; the rest is in {job.target}" for problem in outcome.problems], notes
