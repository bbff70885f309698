"""Upscale image files one after the other: files, folders and streams."""

import contextlib
import errno
import functools
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from srlib.errors import SrlibError, one_line
from srlib.files import write_bytes
from srlib.imaging.formats.encoders import FORMATS
from srlib.imaging.image_file import QUALITY, check_size, encode_image_file, read_image_file
from srlib.imaging.read import image_size
from srlib.inference.jobs import ImageJob, JobPlan, plan_jobs
from srlib.inference.memory import free_memory
from srlib.inference.upscale import RgbModel, pixels_to_process, to_factor, upscale_image, upscaled_size
from srlib.inference.upscaler import DEFAULT_MODEL, Upscaler, open_model
from srlib.progress import Advance, progress
from srlib.signals import Stopped

LARGEST_STREAM = 2**31
"""Most bytes that are read from standard input."""

LARGE_IMAGE = 2**26
"""LR pixels (67 million) of an image that is upscaled only on request: by ×4 it gives more than a gigapixel."""

_ANNOUNCED = 2**24
"""Runs of at least this many LR pixels print their size and estimated time first."""

_TRIAL_SIDE = 128
"""Side in LR pixels of the image on which the speed is measured."""

# Bytes of a file per byte of its pixels, for photographs: to warn beforehand of a disk that is too small.
_TYPICAL = {"png": 0.6, "tiff": 0.7, "jpeg": 0.25, "webp": 0.2}


@dataclass(frozen=True)
class Summary:
    """Result of a run over files.

    Attributes:
        done: Number of images that were upscaled.
        existing: Number of results that existed already and were left as they are.
    """

    done: int
    existing: int


def upscale_files(
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Upscaler = DEFAULT_MODEL,
    scale: float | Fraction | None = None,
    format: str | None = None,
    quality: int = QUALITY,
    force: bool = False,
    allow_large: bool = False,
) -> Summary:
    """Upscale image files, keeping color profile, EXIF, transparency and bit depth.

    Each result is written whole or not at all. A bad image does not stop the others. In a folder, results that exist
    are left out, so that an interrupted run continues when it is started again.

    Args:
        inputs: One or several files, folders or patterns such as `scans/*.tif`.
        out: A file for a single image (its ending gives the format), else a folder.
        model: A model that `open_model` accepts by name or folder, or an opened one.
        scale: Factor from 1 to 16 (default: the model's own).
        format: `png`, `jpeg`, `tiff` or `webp` (default: by the ending of `out`, else the input's format).
        quality: JPEG and WebP quality, 1 to 100; 100 is lossless in WebP.
        force: Overwrite results that exist.
        allow_large: Also upscale images of more than 67 megapixels.

    Returns:
        How many images were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per image that was left out.

    Example:
        >>> import numpy as np, srlib, tempfile
        >>> folder = tempfile.mkdtemp()
        >>> srlib.write_image(f"{folder}/small.png", np.zeros((8, 8, 3), np.uint8))
        >>> srlib.upscale_files(f"{folder}/small.png", f"{folder}/big.png")
        Summary(done=1, existing=0)
    """
    names = [inputs] if isinstance(inputs, str | Path) else inputs
    plan = plan_jobs([str(name) for name in names], str(out), format=format, force=force)
    return run_jobs(
        plan,
        lambda: model if isinstance(model, Upscaler) else open_model(model),
        factor=None if scale is None else to_factor(scale),
        quality=quality,
        allow_large=allow_large,
    )


def run_jobs(
    plan: JobPlan,
    open_model: Callable[[], RgbModel],
    *,
    factor: Fraction | None = None,
    quality: int = QUALITY,
    allow_large: bool = False,
) -> Summary:
    """Upscale the images of a plan.

    Args:
        plan: Images to upscale; see `srlib.inference.jobs.plan_jobs`.
        open_model: Function that opens the model; called only if there is something to do.
        factor: Upscaling factor (default: the model's own).
        quality: JPEG and WebP quality, 1 to 100.
        allow_large: Whether to upscale images of more than `LARGE_IMAGE` pixels.

    Returns:
        How many images were upscaled, and how many results existed already.

    Raises:
        SrlibError: Nothing could be done at all, or at the end one line per image that was left out.
    """
    if not 1 <= quality <= 100:
        raise SrlibError(f"quality: expected a number from 1 to 100, got {quality}")
    problems = list(plan.problems)
    done = 0
    if plan.jobs:
        _check_terminals(plan.jobs)
        model = open_model()
        run = _Run(model, Fraction(model.scale) if factor is None else factor, quality, allow_large)
        try:
            run.process(plan.jobs)
        except (KeyboardInterrupt, Stopped):
            again = "; run it again to continue" if len(plan.jobs) > 1 else ""
            rest = len(plan.jobs) - run.done
            print(f"stopped: {run.done} images are done, {rest} are not{again}", file=sys.stderr)
            raise
        finally:
            run.print_notes()
        done = run.done
        problems += run.problems
    if problems:
        if len(plan.jobs) > 1:
            problems.append(f"{len(problems)} of {len(plan.jobs) + len(plan.problems)} inputs were left out")
        raise SrlibError("\n".join(problems))
    return Summary(done, plan.existing)


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


class _Run:
    """One run: the number of images done, one line per problem, and notes on what a format could not hold."""

    def __init__(self, model: RgbModel, factor: Fraction, quality: int, allow_large: bool) -> None:
        self.done = 0
        self.problems: list[str] = []
        self._model = model
        self._factor = factor
        self._quality = quality
        self._allow_large = allow_large
        self._notes: dict[str, list[str]] = {}
        self._seconds_per_pixel: float | None = None

    def process(self, jobs: Sequence[ImageJob]) -> None:
        """Read the header of every image, then upscale those that can be."""
        sizes = self._survey(jobs)
        if not sizes:
            return
        total = sum(sizes.values())
        if total >= _ANNOUNCED:
            images = "1 image" if len(sizes) == 1 else f"{len(sizes)} images"
            result = total * float(self._factor) ** 2
            print(
                f"upscaling {images}: {total / 1e6:,.0f} to {result / 1e6:,.0f} megapixels, about {self._time(total)}",
                file=sys.stderr,
            )
        with progress(total, "upscaling", "pixels") as advance:
            for number, (job, pixels) in enumerate(sizes.items(), 1):
                if len(sizes) > 1:
                    advance(0, images=f"{number} of {len(sizes)}")
                image_progress = _ImageProgress(advance, pixels)
                self._attempt(job, functools.partial(self._upscale, image_progress=image_progress))
                image_progress.finish()

    def _survey(self, jobs: Sequence[ImageJob]) -> dict[ImageJob, int]:
        """Return the LR pixels of each image that can be upscaled, by its header; a stream counts as one."""
        sizes: dict[ImageJob, int] = {}
        file_bytes = 0.0

        def look(job: ImageJob) -> None:
            nonlocal file_bytes
            height, width = (1, 1) if job.source is None or job.is_stream else image_size(job.source)
            self._check(job, height, width)
            sizes[job] = height * width
            file_bytes += _result_bytes(height, width, self._factor) * _TYPICAL[job.format or "png"]

        for job in jobs:
            self._attempt(job, look)
        _prepare_folder(next((job.target for job in sizes if job.target), None), file_bytes)
        return sizes

    def _check(self, job: ImageJob, height: int, width: int) -> None:
        """Refuse an image whose result is too large for its format, the free memory or a run without `allow_large`."""
        new_height, new_width = upscaled_size(height, width, self._factor)
        if job.format is not None:
            check_size(new_height, new_width, job.format, job.name)
        result = f"{job.name}: ×{float(self._factor):g} gives {new_width}×{new_height} pixels"
        needed, free = 2 * _result_bytes(height, width, self._factor), free_memory()
        if free is not None and needed > free:
            raise SrlibError(
                f"{result}, which need about {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; "
                "cut the image, or use a smaller --scale"
            )
        if height * width > LARGE_IMAGE and not self._allow_large:
            raise SrlibError(f"{result} and takes about {self._time(height * width)}; give --allow-large to do it")

    def _time(self, pixels: int) -> str:
        """Estimate the time for so many LR pixels, by a trial on a small image."""
        if self._seconds_per_pixel is None:
            trial = np.zeros((_TRIAL_SIDE, _TRIAL_SIDE, 3), np.uint8)
            self._model(trial)  # the first call prepares the network for this size
            start = time.perf_counter()
            self._model(trial)
            self._seconds_per_pixel = (time.perf_counter() - start) / _TRIAL_SIDE**2
        minutes = pixels * self._seconds_per_pixel / 60
        return f"{minutes / 60:.1f} hours" if minutes >= 90 else f"{max(1, round(minutes))} min"

    def _attempt(self, job: ImageJob, action: Callable[[ImageJob], None]) -> None:
        """Run one step for one image; a failure becomes the image's line, except a full disk or a closed output.

        Raises:
            SrlibError: The disk is full.
            BrokenPipeError: Nobody reads standard output any more.
        """
        try:
            action(job)
        except SrlibError as error:
            self.problems.append(str(error))
        except MemoryError:
            self.problems.append(f"{job.name}: not enough memory; cut the image, or use a smaller --scale")
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = f"{error.filename or job.target or job.name}: {error.strerror or one_line(error)}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SrlibError(f"{reason}; {self.done} images are done, run it again to continue") from error
            self.problems.append(reason)
        except Exception as error:
            kind = type(error).__name__
            self.problems.append(f"{job.name}: unexpected {kind} ({one_line(error)}); please report this image")

    def _upscale(self, job: ImageJob, image_progress: _ImageProgress) -> None:
        image = read_image_file(job.source or Path(job.name), _stream_content(job) if job.is_stream else None)
        format = job.format or (image.format if image.format in FORMATS else "png")
        self._check(ImageJob(job.source, job.target, format), *image.rgb.shape[:2])
        image_progress.to_process = pixels_to_process(image)
        try:
            result = upscale_image(image, self._model, self._factor, on_pixels=image_progress.add)
        except SrlibError as error:
            raise SrlibError(f"{job.name}: {error}") from error
        content, notes = encode_image_file(result, format, quality=self._quality, name=str(job.target or job.name))
        if job.target is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_bytes(job.target, content)
        for note in (*image.notes, *notes):
            self._notes.setdefault(note, []).append(job.name)
        self.done += 1

    def print_notes(self) -> None:
        """Print the notes, such as what a format could not hold, each once for all images that it applies to."""
        for note, names in self._notes.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            print(f"{names[0]}{others}: {note}", file=sys.stderr)


def _result_bytes(height: int, width: int, factor: Fraction) -> int:
    """Return the size of the upscaled image in memory, 8 bits per channel."""
    new_height, new_width = upscaled_size(height, width, factor)
    return 3 * new_height * new_width


def _stream_content(job: ImageJob) -> bytes:
    """Read standard input, or the pipe of a process substitution, to its end."""
    if job.source is None:
        content = sys.stdin.buffer.read(LARGEST_STREAM + 1)
    else:
        with job.source.open("rb") as file:
            content = file.read(LARGEST_STREAM + 1)
    if len(content) > LARGEST_STREAM:
        raise SrlibError(f"{job.name}: refused, more than {LARGEST_STREAM / 1e9:.1f} GB")
    return content


def _check_terminals(jobs: Sequence[ImageJob]) -> None:
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise SrlibError("-: expected an image on standard input, got a terminal; try `srlib upscale - … < a.png`")
    if any(job.target is None for job in jobs) and sys.stdout.isatty():
        raise SrlibError("-o -: an image cannot be shown by a terminal; redirect it, as in `-o - > big.png`")


def _prepare_folder(target: Path | None, file_bytes: float) -> None:
    """Make the folder of the results, and warn of a disk that looks too small."""
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise SrlibError(f"{target.parent}: cannot be written to; name another place")
    with contextlib.suppress(OSError):  # a file system that does not report its free space
        free = shutil.disk_usage(target.parent).free
        if file_bytes > free:
            print(
                f"warning: {target.parent}: about {file_bytes / 1e9:.1f} GB will be written, {free / 1e9:.1f} GB are "
                "free; what fits is written",
                file=sys.stderr,
            )
