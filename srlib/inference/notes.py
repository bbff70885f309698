"""Notes on results: what a format could not hold, and what a size did to an image."""

import sys
from collections.abc import Mapping, Sequence

from srlib.inference.output_size import Target, factor_of, is_smaller, size_of


def print_notes(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Print notes, such as what a format could not hold, each once for all images that it applies to.

    Args:
        notes: Note → names of the images that it applies to.

    Returns:
        The lines.
    """
    lines = tuple(
        f"{names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}: {note}" for note, names in notes.items()
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
