"""Upscale the images of a plan one after the other: files and streams."""

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path

from srlib.atomic import atomic_path
from srlib.errors import SrlibError, failure_line, printable, problems_kept
from srlib.files import read_regular
from srlib.formats.decode import LARGEST_FILE
from srlib.formats.encoders import FORMATS
from srlib.imaging.image_file import QUALITY, ImageFile, encode_image_file, read_image_file
from srlib.imaging.read import image_size
from srlib.inference.choice import AutoModel
from srlib.inference.inspection import Look, look_at
from srlib.inference.jobs import ImageJob, JobPlan
from srlib.inference.limits import Extra, Samples, Stopwatch, check_image, file_bytes, prepare_folder
from srlib.inference.notes import Notes, size_notes
from srlib.inference.output_size import MODEL_SCALE, OutputSize, Target, is_smaller, size_of
from srlib.inference.records import Records, Scores
from srlib.inference.streams import check_terminals, stream_content, write_stream
from srlib.inference.upscale import RgbModel, pixels_to_process, upscale_image
from srlib.progress import Advance, progress

_ANNOUNCED = 2**24
"""Runs of at least this many LR pixels print their size and estimated time first."""


@dataclass(frozen=True)
class Summary:
    """Result of a run over files.

    Attributes:
        done: Number of images that were upscaled.
        existing: Number of results that existed already and were left as they are.
        notes: What was printed about the results, such as what a format could not hold; one line each.
    """

    done: int
    existing: int
    notes: tuple[str, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class ImageOptions:
    """How images are upscaled.

    Attributes:
        size: How large each result becomes.
        quality: JPEG and WebP quality, 1 to 100.
        allow_large: Whether to upscale images of more than `LARGE_IMAGE` pixels.
        consistent: Whether to make each result consistent with its LR image.
    """

    size: OutputSize = MODEL_SCALE
    quality: int = QUALITY
    allow_large: bool = False
    consistent: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.quality, Integral) or not 1 <= self.quality <= 100:
            raise SrlibError(f"quality: expected a whole number from 1 to 100, got {self.quality}")
        object.__setattr__(self, "quality", int(self.quality))  # encoders do not take NumPy's integers


def run_jobs(
    plan: JobPlan,
    open_model: Callable[[], RgbModel],
    options: ImageOptions = ImageOptions(),
    records: Records | None = None,
) -> Summary:
    """Upscale the images of a plan, one after the other.

    Args:
        plan: Images to upscale; see `srlib.inference.jobs.plan_jobs`.
        open_model: Function that opens the model; called only if there is something to do.
        options: How images are upscaled.
        records: Where scores and maps go (default: nowhere).

    Returns:
        How many images were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per image that was left out.
    """
    problems = list(plan.problems)
    if not plan.jobs:
        return finish(plan, 0, problems, ())
    run: Run | None = None

    def stopped() -> str:
        done = run.done if run else 0
        again = "; run it again to continue" if len(plan.jobs) > 1 else ""
        return f"stopped: {done} images are done, {len(plan.jobs) - done} are not{again}"

    with problems_kept(problems, stopped):
        check_terminals(plan.jobs)
        records = records or Records()
        records.check(plan.jobs)
        model = open_model()
        records.check_model(model, options.size, consistent=options.consistent)
        run = Run(model, options, records, problems)
        try:
            run.process(plan.jobs)
        finally:
            notes = run.notes.print()
    return finish(plan, run.done, problems, notes)


def finish(plan: JobPlan, done: int, problems: Sequence[str], notes: tuple[str, ...]) -> Summary:
    """Return the result of a run.

    Args:
        plan: The images that were to be upscaled.
        done: How many were.
        problems: One line for each input that was left out, those of the plan among them.
        notes: What was printed about the results.

    Raises:
        SrlibError: All problems.
    """
    for line in plan.left_out:
        print(line, file=sys.stderr)
    if problems:
        if len(plan.jobs) > 1:
            inputs = len(plan.jobs) + len(plan.problems) + plan.existing
            problems = [*problems, f"{len(problems)} of {inputs} inputs were left out"]
        raise SrlibError("\n".join(problems))
    return Summary(done, plan.existing, (*notes, *plan.left_out))


class _ImageProgress:
    """Progress of one image: the model's pixel counts, scaled to the pixels that were announced for the image."""

    def __init__(self, advance: Advance, announced: int) -> None:
        self._advance = advance
        self._announced = announced
        self._reported = 0
        self._processed = 0
        self.to_process = announced

    def add(self, pixels: int) -> None:
        """Count LR pixels that the model has processed."""
        self._processed += pixels
        self._report(round(self._processed / self.to_process * self._announced))

    def finish(self) -> None:
        """Count the image as done, whether it succeeded or not."""
        self._report(self._announced)

    def _report(self, total: int) -> None:
        self._advance(total - self._reported)
        self._reported = total


class Run:
    """One run over images.

    Attributes:
        done: Number of images that were upscaled.
        problems: One line for each image that was left out.
        notes: What a format could not hold, and the like.

    Args:
        model: Upscales RGB arrays.
        options: How images are upscaled.
        records: Where scores and maps go.
        problems: List that the lines are added to (default: a new one).
    """

    def __init__(
        self, model: RgbModel, options: ImageOptions, records: Records, problems: list[str] | None = None
    ) -> None:
        self.done = 0
        self.problems = [] if problems is None else problems
        self.notes = Notes()
        self._model = model
        self._options = options
        self._records = records
        self._stopwatch = Stopwatch(model)
        self._extras: list[Extra] = ["consistent"] if options.consistent else []
        self._extras += ["map"] if records.maps is not None else []
        self._extras += ["uncertainty"] if records.bands is not None else []
        self._is_single = False
        self._result_pixels = 0

    def process(self, jobs: Sequence[ImageJob]) -> None:
        """Read the header of every image, then upscale those that can be."""
        self._is_single = len(jobs) == 1
        pixels = self._survey(jobs)
        if not pixels:
            return
        total = sum(pixels.values())
        if total >= _ANNOUNCED:
            images = "1 image" if len(pixels) == 1 else f"{len(pixels)} images"
            print(
                f"upscaling {images}: {total / 1e6:,.0f} to {self._result_pixels / 1e6:,.0f} megapixels, "
                f"about {self._stopwatch.time_for(total)}",
                file=sys.stderr,
            )
        with progress(total, "upscaling", "pixels") as advance:
            for number, (job, announced) in enumerate(pixels.items(), 1):
                if len(pixels) > 1:
                    advance(0, images=f"{number} of {len(pixels)}")
                self.upscale_one(job, advance, announced)

    def upscale_one(self, job: ImageJob, advance: Advance, announced: int = 1) -> None:
        """Upscale one image, which counts as `announced` units of the progress."""
        image_progress = _ImageProgress(advance, announced)
        self._attempt(job, functools.partial(self._upscale, image_progress=image_progress))
        image_progress.finish()

    def _survey(self, jobs: Sequence[ImageJob]) -> dict[ImageJob, int]:
        """Return the LR pixels of each image that can be upscaled, by its header; a stream counts as one."""
        pixels: dict[ImageJob, int] = {}
        expected_bytes = 0.0

        def look(job: ImageJob) -> None:
            nonlocal expected_bytes
            if job.source is None or job.is_stream:
                pixels[job] = 1
                return
            height, width = image_size(job.source)
            target = self._target(job, height, width)
            scale = None if isinstance(self._model, AutoModel) else self._model.scale
            self._check(job, height, width, target, model_scale=scale)
            pixels[job] = height * width
            self._result_pixels += math.prod(size_of(height, width, target))
            expected_bytes += file_bytes(height, width, target, job.format)

        for job in jobs:
            self._attempt(job, look)
        first = next((job.target for job in pixels if job.target), None)
        if first is not None:
            prepare_folder(first, expected_bytes)
        return pixels

    def _target(self, job: ImageJob, height: int, width: int) -> Target:
        """Return what an image is brought to."""
        try:
            return self._options.size.target(height, width, self._model.scale)
        except SrlibError as error:
            raise SrlibError(f"{job.name}: {error}") from error

    def _check(
        self,
        job: ImageJob,
        height: int,
        width: int,
        target: Target,
        *,
        model_scale: int | None,
        samples: Samples | None = None,
    ) -> None:
        """Refuse an image whose result would be too large, as far as is known."""
        check_image(
            job.name,
            height,
            width,
            target,
            format=job.format,
            stopwatch=self._stopwatch,
            model_scale=model_scale,
            allow_large=self._options.allow_large,
            extras=self._extras,
            samples=samples,
        )

    def _attempt(self, job: ImageJob, action: Callable[[ImageJob], None]) -> None:
        """Run one step for one image; a failure becomes the image's line, except a full disk or a closed output.

        Raises:
            SrlibError: The disk is full.
            BrokenPipeError: Nobody reads standard output any more.
        """
        try:
            action(job)
        except Exception as error:
            self.problems.append(failure_line(error, job.name, job.target, "image", done=self.done))

    def _upscale(self, job: ImageJob, image_progress: _ImageProgress) -> None:
        """Read one image, upscale it, and write the result with its scores, maps and notes."""
        image, target, look = self._open(job)
        image_progress.to_process = pixels_to_process(image)
        result, seconds = self._timed_result(job, image, target, look.model, image_progress)
        name = printable(job.target or job.name)
        content, losses = encode_image_file(result, _format(job, image), quality=self._options.quality, name=name)
        certainty, scores = None, None
        height, width = image.rgb.shape[:2]
        has_shrunk = result.rgb.shape[0] < height or result.rgb.shape[1] < width
        if not has_shrunk:
            certainty = self._records.draw(job, image, result, look.model)
            scores = self._records.score(job, image, result, model=look.model, traces=look.traces, seconds=seconds)
        self._write(job, content, scores)
        notes = [*look.notes, *image.notes, *size_notes(height, width, target, look.model.scale)]
        if has_shrunk and (options := self._records.options):
            notes.append(f"no larger than before, so {' and '.join(options)} wrote nothing for it")
        notes += losses
        if certainty and self._is_single:
            notes.append(certainty)
        for note in notes:
            self.notes.add(note, job.name)
        self.done += 1

    def _open(self, job: ImageJob) -> tuple[ImageFile, Target, Look]:
        """Read one image and refuse a result that is too large; return it with its target, and the model that fits."""
        source = job.source
        file = stream_content(job) if source is None or job.is_stream else read_regular(source, limit=LARGEST_FILE)
        image = read_image_file(source or Path(job.name), file)
        height, width = image.rgb.shape[:2]
        target = self._target(job, height, width)
        look = Look(self._model)
        if not is_smaller(height, width, target):
            look = look_at(image, file, self._model, target, estimate=self._records.need_traces)
        job = dataclasses.replace(job, format=_format(job, image))
        self._check(job, height, width, target, model_scale=look.model.scale, samples=Samples.of(image))
        return image, target, look

    def _timed_result(
        self, job: ImageJob, image: ImageFile, target: Target, model: RgbModel, image_progress: _ImageProgress
    ) -> tuple[ImageFile, float]:
        """Return the upscaled image and the seconds that it took."""
        start = time.perf_counter()
        try:
            result = upscale_image(
                image, model, target, consistent=self._options.consistent, on_pixels=image_progress.add
            )
        except SrlibError as error:
            raise SrlibError(f"{job.name}: {error}") from error
        return result, time.perf_counter() - start

    def _write(self, job: ImageJob, content: bytes, scores: Scores | None) -> None:
        """Write a result and its line of scores; a process that is killed may leave a line too many, never one too few.

        A result that exists is not made again: without a line, it would never get one.
        """
        if job.target is None:
            write_stream(content)
            self._records.add(scores)
            return
        with atomic_path(job.target) as temporary:
            temporary.write_bytes(content)
            self._records.add(scores)


def _format(job: ImageJob, image: ImageFile) -> str:
    """Return the format to write: the one asked for, else that of the input, PNG where it cannot be written."""
    return job.format or (image.format if image.format in FORMATS else "png")
