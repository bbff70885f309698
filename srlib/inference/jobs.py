"""Which image files and films to upscale and where each result goes: decided for all of them before any work."""

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srlib.atomic import LONGEST_NAME, link_mistake
from srlib.errors import SrlibError, printable
from srlib.formats.encoders import FORMATS
from srlib.formats.suffixes import FILM_SUFFIXES, OTHER_SUFFIXES, READ_SUFFIXES, suffix_of
from srlib.imaging.folders import IMAGE_SUFFIXES
from srlib.imaging.image_file import format_of
from srlib.inference.input_files import STREAM, InputFile, find_inputs, is_open_pipe, real_path
from srlib.parts import Part

_FILM_FORMATS = tuple(sorted(suffix.removeprefix(".") for suffix in FILM_SUFFIXES))

_UNWRITABLE = frozenset(
    {".apng", ".dds", ".eps", ".hdr", ".icns", ".ico", ".mng", ".pcx", ".pdf", ".ps", ".sgi"}
    | {".avi", ".mkv", ".mov", ".mp4", ".webm", ".zip"}
)
"""Further endings of files that are not written here: a folder of such a name would be a surprise."""


@dataclass(frozen=True)
class ImageJob:
    """One image or film to upscale.

    Attributes:
        source: The file to read; None is standard input.
        target: The file to write; None is standard output.
        format: A key of `FORMATS`, or a film's ending without its dot; None is the input's own format, known only
            after reading.
    """

    source: Path | None
    target: Path | None
    format: str | None

    @property
    def name(self) -> str:
        """Name of the input in messages."""
        return "standard input" if self.source is None else printable(self.source)

    @property
    def is_stream(self) -> bool:
        """Whether the input can be read only once: standard input or process substitution."""
        return self.source is None or is_open_pipe(self.source)


@dataclass(frozen=True)
class JobPlan:
    """The images and films to upscale.

    Attributes:
        jobs: Images to upscale, with their targets.
        existing: Number of results that exist already and are left as they are.
        problems: Inputs that cannot be read, one line each; they do not prevent the other jobs.
        films: Films to upscale, with their targets.
        left_out: What a user should know of files that are left out, one line each.
    """

    jobs: tuple[ImageJob, ...]
    existing: int = 0
    problems: tuple[str, ...] = ()
    films: tuple[ImageJob, ...] = ()
    left_out: tuple[str, ...] = ()


def plan_jobs(
    inputs: Sequence[str],
    out: str,
    *,
    format: str | None = None,
    force: bool = False,
    films: bool = False,
    part: Part | None = None,
) -> JobPlan:
    """Find the images, and the films where asked for, and name their results.

    A folder stands for all images below it and keeps its structure; a pattern (`*`, `?`, `[…]`, `**`) for the images
    that match. A single input becomes the file `out` if that has an image's ending; everything else goes into the
    folder `out` under its own name with the format's ending. Results that exist in a folder are left out unless
    `force`, so that an interrupted run continues.

    Args:
        inputs: Files, folders and patterns, or `-` alone.
        out: A file, a folder, or `-`.
        format: A key of `FORMATS`, or a film's ending without its dot, which applies to images or to films. None uses
            the ending of `out`, else the input's own format, else PNG.
        force: Whether to overwrite existing results.
        films: Whether folders and patterns stand for films too.
        part: Plan only this part of the files, while all of them are checked (default: all).

    Returns:
        The jobs, and what cannot be read.

    Raises:
        SrlibError: One line per mistake: a missing input, two results of one name, a result that exists (as a single
            file) or that is itself an input.
    """
    formats = [*FORMATS, *(_FILM_FORMATS if films else ())]
    if format is not None and format not in formats:
        raise SrlibError(f"--format: expected {', '.join(formats)}, got {format}")
    if part is not None and (out == STREAM or _as_file(out, films) is not None):
        raise SrlibError(f"--part {part}: divides the files of a folder, and {out} is a single result; name a folder")
    if STREAM in inputs or any(is_open_pipe(Path(text)) for text in inputs):
        if films and (format in _FILM_FORMATS or _is_film(Path(out))):
            raise SrlibError(f"{out}: a film cannot be read from a stream; name its file")
        return JobPlan((_stream_job(inputs, out, format, force),))
    entries = find_inputs(inputs, out, IMAGE_SUFFIXES | FILM_SUFFIXES if films else IMAGE_SUFFIXES)
    files = entries.files
    is_single = len(inputs) == len(files) == 1 and not Path(inputs[0]).is_dir()
    if out == STREAM:
        if not is_single:
            raise SrlibError(f"-o -: expected one image for standard output, got {len(files)}; name a folder")
        source = files[0].source
        if films and _is_film(source):
            raise SrlibError(f"{source}: a film cannot be written to a stream; name a file such as big.mp4")
        return JobPlan((ImageJob(source, None, format or _own_format(source)),))
    if (file := _as_file(out, films)) is not None:
        if not is_single:
            raise SrlibError(f"{out}: one file for {len(files)} images of {', '.join(inputs)}; name a folder")
        job = _single_job(files[0].source, file, format, force)
        return JobPlan((), films=(job,)) if _is_film(file) and films else JobPlan((job,))
    jobs, existing = _folder_jobs(files, Path(out), format, force, part)
    images = tuple(job for job in jobs if job.format not in _FILM_FORMATS)
    film_jobs = tuple(job for job in jobs if job.format in _FILM_FORMATS)
    return JobPlan(images, existing, tuple(entries.problems), film_jobs, tuple(entries.left_out))


def _is_film(path: Path) -> bool:
    return suffix_of(path) in FILM_SUFFIXES


def _as_file(out: str, films: bool = False) -> Path | None:
    """Return `out` as a file, or None where it is a folder that exists or is to be made."""
    path = Path(out)
    if path.is_dir() or out.endswith(("/", "\\")):
        return None
    writable = [suffix for kind in FORMATS.values() for suffix in kind.suffixes]
    writable += sorted(FILM_SUFFIXES) if films else []
    suffix = path.suffix.lower()
    if suffix in writable:
        return path
    if path.exists() or suffix in READ_SUFFIXES | OTHER_SUFFIXES | _UNWRITABLE:
        format_of(path)  # raises: such a file cannot be written
    if similar := difflib.get_close_matches(suffix, writable, 1, cutoff=0.7):
        raise SrlibError(
            f"{out}: unknown ending; did you mean {path.with_suffix(similar[0])}? For a folder, write {out}/"
        )
    return None


def _single_job(source: Path | None, target: Path, format: str | None, force: bool) -> ImageJob:
    is_film = _is_film(target)
    from_ending = _film_format(target) if is_film else format_of(target)
    if source is not None and is_film != _is_film(source) and suffix_of(source) in IMAGE_SUFFIXES | FILM_SUFFIXES:
        kinds = ("an image", "a film")
        raise SrlibError(f"{target}: {kinds[not is_film]} does not become {kinds[is_film]}; choose another ending")
    if mistake := _name_mistake(target) or link_mistake(target):
        raise SrlibError(mistake)
    if format not in (None, from_ending):
        raise SrlibError(f"{target}: its ending says {from_ending}, --format says {format}; leave one out")
    if source is not None and real_path(target) == real_path(source):
        raise SrlibError(f"{target}: would overwrite the image that it is made from; name another file")
    if target.exists() and not target.is_file():
        raise SrlibError(f"{target}: expected a file to write, got a pipe or device; for a pipe: -o - > {target}")
    if target.exists() and not force:
        raise SrlibError(f"{target}: exists; use --force to overwrite")
    return ImageJob(source, target, from_ending)


def _stream_job(inputs: Sequence[str], out: str, format: str | None, force: bool) -> ImageJob:
    source = None if inputs[0] == STREAM else Path(inputs[0])
    if len(inputs) > 1:
        raise SrlibError(f"{STREAM if STREAM in inputs else inputs[0]}: a stream is one image; name no other input")
    if out == STREAM:
        return ImageJob(source, None, format)
    if (file := _as_file(out)) is None:
        raise SrlibError(f"{out}: an image from a stream has no name; name a file such as {out.rstrip('/')}.png")
    return _single_job(source, file, format, force)


def _folder_jobs(
    files: list[InputFile], out: Path, format: str | None, force: bool, part: Part | None
) -> tuple[tuple[ImageJob, ...], int]:
    """Return the jobs to do and the number of results that exist."""
    if os.path.lexists(out) and not out.is_dir():
        raise SrlibError(link_mistake(out) or f"{out}: expected a folder, got a file")
    jobs: dict[Path, ImageJob] = {}
    names: dict[Path, str] = {}
    mistakes = []
    sources = {real_path(file.source) for file in files}
    for file in files:
        kind = _film_format(file.source) if _is_film(file.source) else _own_format(file.source)
        kind = format if format is not None and (format in FORMATS) == (kind in FORMATS) else kind
        target = out / _named(file.name, kind)
        if mistake := _target_mistake(target, file.source, jobs, sources):
            mistakes.append(mistake)
        jobs[target] = ImageJob(file.source, target, kind)
        names[target] = file.name.as_posix()
    if mistakes:
        raise SrlibError("\n".join(mistakes))
    targets = list(jobs) if part is None else part.of(jobs, names.__getitem__)
    pending = tuple(jobs[target] for target in targets if force or not target.exists())
    return pending, len(targets) - len(pending)


def _named(name: Path, format: str) -> Path:
    """Give a name the ending of a format. A dot in a name without an image's ending is part of the name."""
    suffix = name.suffix.lower()
    if format in _FILM_FORMATS:
        return name if suffix == f".{format}" else name.with_suffix(f".{format}")
    if suffix in FORMATS[format].suffixes:
        return name
    ending = FORMATS[format].suffixes[0]
    is_image = suffix in READ_SUFFIXES | OTHER_SUFFIXES
    return name.with_suffix(ending) if is_image else name.with_name(name.name + ending)


def _target_mistake(target: Path, source: Path, jobs: dict[Path, ImageJob], sources: set[Path]) -> str | None:
    """Return why a result in a folder cannot get its name, or None."""
    if mistake := _name_mistake(target) or link_mistake(target):
        return mistake
    if target in jobs:
        first, second = printable(source), jobs[target].name
        return f"{first} and {second} would both become {printable(target)}; rename one"
    if real_path(target) in sources:
        return f"{printable(target)}: would overwrite an image that is to be upscaled; name another folder"
    if target.is_dir():
        return f"{printable(target)}: is a folder; {printable(source)} cannot be written there"
    return None


def _name_mistake(target: Path) -> str | None:
    size = len(os.fsencode(target.name))
    if size <= LONGEST_NAME:
        return None
    return f"{printable(target)}: the name has {size} bytes, and file systems allow {LONGEST_NAME}; rename the input"


def _film_format(path: Path) -> str:
    return suffix_of(path).removeprefix(".")


def _own_format(source: Path) -> str:
    """Return the format that a file's name says, PNG for formats that are only read."""
    suffix = suffix_of(source)
    return next((name for name, kind in FORMATS.items() if suffix in kind.suffixes), "png")
