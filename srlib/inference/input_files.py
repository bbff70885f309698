"""Which files the inputs of a command stand for: files, folders and patterns, and what of them cannot be read."""

import glob
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from srlib.errors import SrlibError, printable
from srlib.formats.decode import begins_as_image
from srlib.formats.suffixes import FILM_SUFFIXES, suffix_of
from srlib.imaging.folders import list_images

STREAM = "-"
"""Standard input or output."""


@dataclass(frozen=True)
class InputFile:
    """An input file, and the relative path of its result before the ending is set."""

    source: Path
    name: Path


@dataclass
class Inputs:
    """The files that a command's inputs stand for.

    Attributes:
        files: Images, and films where asked for.
        problems: Entries of folders that cannot be read, one line each; they do not prevent the other files.
        left_out: What a user should know of files that are left out, one line each.
    """

    files: list[InputFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find_inputs(names: Sequence[str], out: str, suffixes: frozenset[str]) -> Inputs:
    """Find the files of all inputs.

    Args:
        names: Files, folders and patterns.
        out: The output; results of an earlier run below a folder of `names` are left out.
        suffixes: Endings that folders and patterns stand for.

    Raises:
        SrlibError: One line per input that gives no file.
    """
    inputs = Inputs()
    mistakes: list[str] = []
    for name in names:
        try:
            inputs.files += _find_in(name, out, suffixes, inputs)
        except SrlibError as error:
            mistakes.append(str(error))
    if mistakes:
        raise SrlibError("\n".join([*inputs.problems, *mistakes]))
    inputs.files = list(dict.fromkeys(inputs.files))
    return inputs


def _find_in(text: str, out: str, suffixes: frozenset[str], inputs: Inputs) -> list[InputFile]:
    """Find the files of one input; add to `inputs` what cannot be read and what a name hides."""
    problems, left_out = inputs.problems, inputs.left_out
    path = Path(text)
    if path.is_dir():
        if out != STREAM and real_path(out) == real_path(path):
            raise SrlibError(f"{text}: expected another output folder than the input folder itself")
        unreadable, others = len(problems), list[Path]()
        images = _outside(list_images(path, problems=problems, others=others, suffixes=suffixes), path, out)
        left_out += _hidden_by_names(_outside(others, path, out))
        if not images and len(problems) == unreadable:
            kinds = "images or films" if suffixes >= FILM_SUFFIXES else "images"
            raise SrlibError("\n".join([f"{text}: no {kinds} in it", *left_out]))
        return [InputFile(image, image.relative_to(path)) for image in _regular(images, problems)]
    if path.exists():
        if not path.is_file():
            raise SrlibError(_irregular(path))
        return [InputFile(path, Path(path.name))]
    if not glob.has_magic(text):
        raise SrlibError(f"{text}: no such file or folder")
    matches = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
    images = [p for p in matches if not p.is_dir() and suffix_of(p) in suffixes]
    base = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    images = _outside(images, base, out)
    if not images:
        raise SrlibError(f"{text}: matches no image{' or film' if suffixes >= FILM_SUFFIXES else ''}")
    return [InputFile(image, Path(image.name)) for image in _regular(images, problems)]


def _hidden_by_names(files: list[Path]) -> list[str]:
    """Return the line about the files of a folder that are images by their content alone, if there are any."""
    images = [path for path in files if begins_as_image(path)]
    if not images:
        return []
    more = f" and {len(images) - 1} more" if len(images) > 1 else ""
    name = f"{printable(min(images))}{more}"
    return [f"{name}: left out; an image whose name has no image's ending: rename it, or name it as IN"]


def _regular(images: list[Path], problems: list[str]) -> list[Path]:
    """Drop pipes and devices, naming them in `problems`."""
    irregular = [image for image in images if image.exists() and not image.is_file()]
    problems += [_irregular(image) for image in irregular]
    return [image for image in images if image not in irregular]


def _irregular(path: Path) -> str:
    name = printable(path)
    return f"{name}: expected an image file, got a pipe or device; to read a pipe: srlib upscale - -o OUT < {name}"


def is_open_pipe(path: Path) -> bool:
    """Return whether a path is an open file descriptor of this process, as process substitution gives, on a pipe."""
    is_descriptor = path.parent.name == "fd" and path.parts[:2] in (("/", "dev"), ("/", "proc"))
    return (is_descriptor or str(path) == "/dev/stdin") and path.is_fifo()


def real_path(path: str | Path) -> Path:
    """Return a path with all links resolved, whether or not it exists."""
    return Path(os.path.realpath(path))


def _outside(images: list[Path], base: Path, out: str) -> list[Path]:
    """Drop results of an earlier run, where the output folder lies inside the input folder `base`."""
    folder = real_path(out)
    if out == STREAM or real_path(base) not in folder.parents:
        return images
    return [image for image in images if folder not in real_path(image).parents]
