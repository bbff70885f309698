"""What is enlarged, and where each result goes: decided as a whole before any work."""

import glob
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from srlib.errors import SrlibError
from srlib.imaging.encoders import FORMATS
from srlib.imaging.folders import OTHER_SUFFIXES, READ_SUFFIXES, list_images
from srlib.imaging.image_file import format_of

STREAM = "-"
"""Standard input or output."""


@dataclass(frozen=True)
class Job:
    """One picture: from a file (None is standard input) to a file (None is standard output).

    `format` is a key of `FORMATS`; None is that of the input, which only reading tells.
    """

    source: Path | None
    target: Path | None
    format: str | None

    @property
    def name(self) -> str:
        """For messages."""
        return "standard input" if self.source is None else str(self.source)


@dataclass(frozen=True)
class Plan:
    """What is to be done, and how many results were there already."""

    jobs: tuple[Job, ...]
    skipped: int


def plan(inputs: Sequence[str], out: str, *, format: str | None = None, force: bool = False) -> Plan:
    """Finds the pictures and names their results.

    A folder stands for all pictures below it, whose structure is kept; a pattern (`*`, `?`, `[…]`, `**`) for what it
    matches. One input becomes the file `out` where that ends as a picture does; everything else goes into the folder
    `out`, under its own name with the format's ending. In a folder, what is there already is left out unless `force`,
    so that a run which was interrupted goes on.

    Args:
        inputs: Files, folders, patterns, or `-` alone.
        out: A file, a folder, or `-`.
        format: A key of `FORMATS`; None takes what `out` says, else the input's own, else PNG.
        force: Whether to overwrite.

    Raises:
        SrlibError: One line per mistake: an input that is not there, two results of one name, a result that is there
            (as a single file) or that is itself an input.
    """
    if format is not None and format not in FORMATS:
        raise SrlibError(f"--format: expected {', '.join(FORMATS)}, got {format}")
    if STREAM in inputs:
        return Plan((_from_stream(inputs, out, format, force),), 0)
    found, mistakes = _find(inputs, out)
    if mistakes:
        raise SrlibError("\n".join(mistakes))
    single = len(inputs) == len(found) == 1 and not Path(inputs[0]).is_dir()
    if out == STREAM:
        if not single:
            raise SrlibError(f"-o -: expected one picture for standard output, got {len(found)}; name a folder")
        return Plan((Job(found[0][0], None, format or _own(found[0][0])),), 0)
    if (file := _as_file(out)) is not None:
        if not single:
            raise SrlibError(f"{out}: one file for {len(found)} pictures of {', '.join(inputs)}; name a folder")
        return Plan((_to_file(found[0][0], file, format, force),), 0)
    return _into_folder(found, Path(out), format, force)


def _find(inputs: Sequence[str], out: str) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Each picture with its name below the output folder; and what is wrong."""
    found: list[tuple[Path, Path]] = []
    mistakes = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            if out != STREAM and Path(out).resolve() == path.resolve():
                mistakes.append(f"{text}: expected another output folder than the input folder itself")
                continue
            pictures = _outside(list_images(path), path, out)
            found += [(picture, picture.relative_to(path)) for picture in pictures]
            if not pictures:
                mistakes.append(f"{text}: no pictures in it")
        elif path.exists():
            found.append((path, Path(path.name)))
        elif glob.has_magic(text):
            matched = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
            pictures = [p for p in matched if p.is_file() and p.suffix.lower() in READ_SUFFIXES | OTHER_SUFFIXES]
            base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
            pictures = _outside(pictures, base, out)
            found += [(picture, Path(picture.name)) for picture in pictures]
            if not pictures:
                mistakes.append(f"{text}: matches no picture")
        else:
            mistakes.append(f"{text}: no such file or folder")
    return list(dict.fromkeys(found)), mistakes


def _outside(pictures: list[Path], base: Path, out: str) -> list[Path]:
    """Those that are not results of an earlier run, where the output folder lies inside the input folder `base`."""
    folder = Path(out).resolve()
    if out == STREAM or base.resolve() not in folder.parents:
        return pictures
    return [picture for picture in pictures if folder not in picture.resolve().parents]


def _as_file(out: str) -> Path | None:
    """`out` as a file, or None where it is a folder, there or to be made."""
    path = Path(out)
    if path.is_dir() or out.endswith(("/", "\\")):
        return None
    if path.suffix.lower() in {suffix for kind in FORMATS.values() for suffix in kind.suffixes}:
        return path
    if path.exists() or path.suffix.lower() in READ_SUFFIXES | OTHER_SUFFIXES:
        format_of(path)  # raises: such a file cannot be written
    return None


def _to_file(source: Path | None, target: Path, format: str | None, force: bool) -> Job:
    said = format_of(target)
    if format not in (None, said):
        raise SrlibError(f"{target}: its ending says {said}, --format says {format}; leave one out")
    if source is not None and target.resolve() == source.resolve():
        raise SrlibError(f"{target}: would overwrite the picture that it is made from; name another file")
    if target.exists() and not force:
        raise SrlibError(f"{target}: exists; give --force to overwrite")
    return Job(source, target, said)


def _from_stream(inputs: Sequence[str], out: str, format: str | None, force: bool) -> Job:
    if len(inputs) > 1:
        raise SrlibError("-: standard input is one picture; give it alone")
    if out == STREAM:
        return Job(None, None, format)
    if (file := _as_file(out)) is None:
        raise SrlibError(f"{out}: a picture from standard input has no name; name a file such as {out.rstrip('/')}.png")
    return _to_file(None, file, format, force)


def _into_folder(found: list[tuple[Path, Path]], out: Path, format: str | None, force: bool) -> Plan:
    if out.exists() and not out.is_dir():
        raise SrlibError(f"{out}: expected a folder, found a file")
    jobs: dict[Path, Job] = {}
    mistakes = []
    sources = {source.resolve() for source, _ in found}
    for source, name in found:
        kind = format or _own(source)
        suffix = source.suffix if source.suffix.lower() in FORMATS[kind].suffixes else FORMATS[kind].suffixes[0]
        target = out / name.with_suffix(suffix)
        if target in jobs:
            mistakes.append(f"{source} and {jobs[target].source} would both become {target}; rename one")
        elif target.resolve() in sources:
            mistakes.append(f"{target}: would overwrite a picture that is to be enlarged; name another folder")
        elif target.is_dir():
            mistakes.append(f"{target}: is a folder; {source} cannot be written there")
        jobs[target] = Job(source, target, kind)
    if mistakes:
        raise SrlibError("\n".join(mistakes))
    todo = tuple(job for target, job in jobs.items() if force or not target.exists())
    return Plan(todo, len(jobs) - len(todo))


def _own(source: Path) -> str:
    """The format that a picture's name says, PNG for what is only read."""
    names: Iterator[str] = (name for name, kind in FORMATS.items() if source.suffix.lower() in kind.suffixes)
    return next(names, "png")
