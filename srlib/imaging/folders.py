"""Find the image files of a folder by the endings of their names."""

import os
from collections.abc import Iterator
from pathlib import Path

from srlib.errors import SrlibError, one_line, printable
from srlib.formats.suffixes import OTHER_SUFFIXES, READ_SUFFIXES, READABLE, suffix_of

IMAGE_SUFFIXES = READ_SUFFIXES | OTHER_SUFFIXES


def list_images(
    folder: Path,
    recursive: bool = True,
    *,
    problems: list[str] | None = None,
    others: list[Path] | None = None,
    suffixes: frozenset[str] = IMAGE_SUFFIXES,
) -> list[Path]:
    """List the files of a folder whose names end as those of images do, sorted by path.

    Hidden files and folders are left out. Formats that srlib cannot read, such as HEIC, are included, so that
    `read_image` can name them. Links are followed; a folder that several paths lead to is listed once, under its own
    name if that lies inside `folder`.

    Args:
        folder: Folder to search.
        recursive: Include subfolders.
        problems: List that receives one line per folder that cannot be read, instead of an exception.
        others: List that receives the files whose names end otherwise.
        suffixes: Endings of the names to list.

    Raises:
        SrlibError: The folder does not exist, or it or one of its subfolders cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SrlibError(f"{folder}: no such folder; expected a folder of images ({READABLE})")
    files: list[Path] = []
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for top in waiting:
            for entry in _walk(top, recursive, seen, links, problems):
                if suffix_of(entry.name) in suffixes:
                    files.append(Path(entry.path))
                elif others is not None:
                    others.append(Path(entry.path))
        waiting = links
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def _walk(
    top: Path, recursive: bool, seen: set[str], links: list[Path], problems: list[str] | None
) -> Iterator[os.DirEntry[str]]:
    """Yield the visible files below a folder; append linked folders to `links` instead of entering them."""
    real = os.path.realpath(top)
    if real in seen:
        return
    seen.add(real)
    try:
        with os.scandir(top) as entries:
            visible = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        line = f"{printable(top)}: this folder cannot be read ({one_line(error.strerror or error)})"
        if problems is None:
            raise SrlibError(line) from error
        problems.append(line)
        return
    for entry in visible:
        if not entry.is_dir():
            yield entry
        elif recursive and entry.is_symlink():
            links.append(Path(entry.path))
        elif recursive:
            yield from _walk(Path(entry.path), recursive, seen, links, problems)
