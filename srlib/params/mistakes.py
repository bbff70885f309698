"""Mistakes of a recipe: pairs of a key and a line, collected so that all of them are reported at once."""

from collections.abc import Callable, Iterator
from pathlib import Path

from srlib.errors import SrlibError

Mistake = tuple[str, str]
"""A key of params.yaml, and what is wrong with it."""

_MOST_LINES = 10


def attempt(key: str, action: Callable[[], object]) -> Iterator[Mistake]:
    """Yield the lines of an SrlibError that `action` raises; nothing if it succeeds."""
    try:
        action()
    except SrlibError as error:
        yield from error_mistakes(key, error)


def error_mistakes(key: str, error: SrlibError) -> Iterator[Mistake]:
    """Yield the first lines of an error, without the key that some begin with, and how many more there are."""
    lines = str(error).splitlines()
    yield from ((key, line.removeprefix(f"{key}: ")) for line in lines[:_MOST_LINES])
    if len(lines) > _MOST_LINES:
        yield key, f"and {len(lines) - _MOST_LINES} more lines like these"


def no_folder(key: str, folder: Path) -> Mistake:
    """Return the mistake of a folder of images that is a file or missing."""
    reason = "is none" if folder.exists() else "does not exist"
    return key, f"expected a folder of images, got {folder}, which {reason}"
