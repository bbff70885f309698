"""Notes on results: what a format could not hold, and what a size did to an image."""

import sys
from typing import NamedTuple

from srlib.inference.output_size import Target, factor_of, is_smaller, size_of


class Note(NamedTuple):
    """A note on an image.

    Attributes:
        text: What many images can share, such as ranges.
        alone: The same with the image's own figures, for a note that applies to one image.
    """

    text: str
    alone: str


class Notes:
    """The notes of a run, such as what a format could not hold, each with the images that it applies to."""

    def __init__(self) -> None:
        self._notes: dict[str, tuple[Note, list[str]]] = {}

    def add(self, note: Note | str, name: str) -> None:
        """Note something on the image of this name."""
        note = note if isinstance(note, Note) else Note(note, note)
        self._notes.setdefault(note.text, (note, []))[1].append(name)

    def all(self) -> tuple[Note, ...]:
        """Return each note, with the figures of its first image."""
        return tuple(note for note, _ in self._notes.values())

    def print(self) -> tuple[str, ...]:
        """Print each note once for all images that it applies to; return the lines."""
        lines = tuple(
            f"{names[0]} and {len(names) - 1} more: {note.text}" if len(names) > 1 else f"{names[0]}: {note.alone}"
            for note, names in self._notes.values()
        )
        for line in lines:
            print(line, file=sys.stderr)
        return lines


def size_notes(height: int, width: int, target: Target, model_scale: int) -> tuple[str, ...]:
    """Return what a size did to the image beyond upscaling it by the network's factor.

    Example:
        >>> size_notes(30, 40, (300, 400), 4)
        ('the network upscales by 4, the rest is bicubic',)
    """
    notes: tuple[str, ...] = ()
    if factor_of(height, width, target) > model_scale:
        notes += (f"the network upscales by {model_scale}, the rest is bicubic",)
    if is_smaller(height, width, target):
        notes += ("already as large as the requested size: resized by bicubic, without the network",)
    new_height, new_width = size_of(height, width, target)
    # A side rounded to whole pixels may differ from the proportions by half a pixel.
    if abs(new_width * height - new_height * width) > max(height, width):
        notes += ("stretched: the requested width and height have other proportions than the image",)
    return notes
