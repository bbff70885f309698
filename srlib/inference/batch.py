"""`srlib upscale`: pictures in files, folders and streams, one after the other."""

import contextlib
import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from srlib.errors import SrlibError
from srlib.files import write_bytes
from srlib.imaging.encoders import FORMATS
from srlib.imaging.image_file import QUALITY, check_size, encode_image_file, read_image_file
from srlib.imaging.read import image_size
from srlib.inference.plan import Job, Plan, plan
from srlib.inference.tiles import free_memory
from srlib.inference.upscale import Upscaler, enlarge, enlarged_size, work
from srlib.progress import progress
from srlib.signals import Stopped, stoppable

if TYPE_CHECKING:
    from srlib.progress import Advance

LARGEST_STREAM = 2**31
"""Bytes that are read from standard input at most."""

# Bytes of a file per byte of its pixels, of photographs: to say beforehand that a disk is too small.
_TYPICAL = {"png": 0.6, "tiff": 0.7, "jpeg": 0.25, "webp": 0.2}


@dataclass(frozen=True)
class Summary:
    """How many pictures were enlarged, and how many were there already."""

    done: int
    skipped: int


def upscale_files(
    inputs: Sequence[str],
    out: str,
    open_model: Callable[[], Upscaler],
    *,
    factor: Fraction | None = None,
    format: str | None = None,
    quality: int = QUALITY,
    force: bool = False,
) -> Summary:
    """Enlarges pictures. Each result is written whole or not at all; a bad picture does not stop the others.

    Args:
        inputs: Files, folders, patterns, or `-`; see `srlib.inference.plan.plan`.
        out: A file, a folder, or `-`.
        open_model: Makes the network ready; called once it is known that there is something to do.
        factor: Of enlargement; the network's own by default.
        format: A key of `FORMATS`.
        quality: 1 to 100, of JPEG and WebP.
        force: Whether to overwrite. Otherwise a folder run does what is missing.

    Raises:
        SrlibError: What cannot be done at all, before any work; or at the end the pictures that were left out, one line
            each.
        SystemExit: It was interrupted (130, or 128 and the signal's number).
    """
    todo = plan(inputs, out, format=format, force=force)
    if not todo.jobs:
        return Summary(0, todo.skipped)
    _check_terminals(todo.jobs)
    model = open_model()
    factor = Fraction(model.scale) if factor is None else factor
    run = _Run(model, factor, quality)
    try:
        with stoppable():
            run.all(todo)
    except (KeyboardInterrupt, Stopped) as error:
        rest = len(todo.jobs) - run.done
        again = "; run it again to go on" if len(todo.jobs) > 1 else ""
        print(f"stopped: {run.done} pictures are done, {rest} are not{again}", file=sys.stderr)
        sys.exit(128 + (error.signum if isinstance(error, Stopped) else signal.SIGINT))
    finally:
        run.tell_notes()
    if run.mistakes:
        if len(todo.jobs) > 1:
            run.mistakes.append(f"{len(run.mistakes)} of {len(todo.jobs)} pictures were left out")
        raise SrlibError("\n".join(run.mistakes))
    return Summary(run.done, todo.skipped)


class _Run:
    """The state of one call: what is done, what went wrong, what is to be said."""

    def __init__(self, model: Upscaler, factor: Fraction, quality: int) -> None:
        self._model, self._factor, self._quality = model, factor, quality
        self.done = 0
        self.mistakes: list[str] = []
        self._notes: dict[str, list[str]] = {}

    def all(self, todo: Plan) -> None:
        """Looks at the head of every picture, then enlarges those that can be."""
        sizes: dict[Job, int] = {}
        expected = 0.0
        for job in todo.jobs:
            try:
                height, width = (1, 1) if job.source is None else image_size(job.source)
                self._check(job, height, width)
            except SrlibError as error:
                self.mistakes.append(str(error))
                continue
            sizes[job] = height * width
            expected += _bytes(height, width, self._factor) * _TYPICAL[job.format or "png"]
        _check_disk(next((job.target for job in sizes if job.target), None), expected)
        with progress(sum(sizes.values()), "upscaling", "pixels") as advance:
            for number, (job, pixels) in enumerate(sizes.items(), 1):
                if len(sizes) > 1:
                    advance(0, pictures=f"{number} of {len(sizes)}")
                self._one(job, pixels, advance)

    def _check(self, job: Job, height: int, width: int) -> None:
        new_height, new_width = enlarged_size(height, width, self._factor)
        if job.format is not None:
            check_size(new_height, new_width, job.format, job.name)
        needed, free = 2 * _bytes(height, width, self._factor), free_memory()
        if free is not None and needed > free:
            raise SrlibError(
                f"{job.name}: ×{float(self._factor):g} gives {new_width}×{new_height} pixels, which need about "
                f"{needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free; cut it, or use a smaller --scale"
            )

    def _one(self, job: Job, pixels: int, advance: "Advance") -> None:
        told = 0

        def tell(share: float) -> None:
            nonlocal told
            advance(round(share * pixels) - told)
            told = round(share * pixels)

        try:
            self._enlarge(job, tell)
            self.done += 1
        except SrlibError as error:
            self.mistakes.append(str(error))
        except MemoryError:
            self.mistakes.append(f"{job.name}: not enough memory; cut it, or use a smaller --scale")
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = f"{error.filename or job.target or job.name}: {error.strerror or error}"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SrlibError(f"{reason}; {self.done} pictures are done, run it again to go on") from error
            self.mistakes.append(reason)
        finally:
            tell(1)

    def _enlarge(self, job: Job, tell: Callable[[float], None]) -> None:
        source = job.source or Path(job.name)
        picture = read_image_file(source, _standard_input() if job.source is None else None)
        format = job.format or (picture.format if picture.format in FORMATS else "png")
        self._check(Job(source, job.target, format), *picture.rgb.shape[:2])
        total, passed = work(picture), 0

        def advance(pixels: int) -> None:
            nonlocal passed
            passed += pixels
            tell(passed / total)

        result = enlarge(picture, self._model, self._factor, advance=advance)
        content, notes = encode_image_file(result, format, quality=self._quality, name=str(job.target or job.name))
        if job.target is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            write_bytes(job.target, content)
        for note in (*picture.notes, *notes):
            self._notes.setdefault(note, []).append(job.name)

    def tell_notes(self) -> None:
        """Says what a format could not hold and the like, one line for all pictures that it is true of."""
        for note, names in self._notes.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            print(f"{names[0]}{others}: {note}", file=sys.stderr)


def _bytes(height: int, width: int, factor: Fraction) -> int:
    """Of the enlarged picture in memory, 8 bits per channel."""
    high, wide = enlarged_size(height, width, factor)
    return 3 * high * wide


def _standard_input() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STREAM + 1)
    if len(content) > LARGEST_STREAM:
        raise SrlibError(f"standard input: refused, more than {LARGEST_STREAM / 1e9:.1f} GB")
    return content


def _check_terminals(jobs: tuple[Job, ...]) -> None:
    if any(job.source is None for job in jobs) and sys.stdin.isatty():
        raise SrlibError("-: expected a picture on standard input, found a terminal; try `srlib upscale - … < a.png`")
    if any(job.target is None for job in jobs) and sys.stdout.isatty():
        raise SrlibError("-o -: a picture is not for a terminal; send it on, as in `-o - > big.png`")


def _check_disk(target: Path | None, expected: float) -> None:
    """Makes the folder of the results, and warns of a disk that looks too small."""
    if target is None:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(target.parent, os.W_OK):
        raise SrlibError(f"{target.parent}: cannot be written to; name another place")
    with contextlib.suppress(OSError):  # a file system that does not tell
        free = shutil.disk_usage(target.parent).free
        if expected > free:
            print(
                f"warning: {target.parent}: about {expected / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are "
                "free; what fits is written",
                file=sys.stderr,
            )
