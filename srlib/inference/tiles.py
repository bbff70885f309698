"""Cut an image into overlapping tiles of one shape: bounded memory, and the result of the whole image.

A network with zero padding sees zeros beyond the image's border. Tiles therefore lie inside the image and are never
padded: the first begins at the border, the last ends at the other, and what a tile computes within the overlap of a cut
is discarded. With an overlap of the receptive field, every pixel that is kept depends on the same pixels as in the
whole image.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from srlib.errors import SrlibError

Window = tuple[slice, slice]
"""Rows and columns of an image."""

_SMALLEST_GAIN = 16
"""LR pixels per axis that a tile must keep to be worth its overlap."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis in LR pixels: [start, stop) is computed, [keep_start, keep_stop) of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    def inner(self, scale: int) -> slice:
        """Return the part of the upscaled tile that is kept."""
        return slice((self.keep_start - self.start) * scale, (self.keep_stop - self.start) * scale)

    def target(self, scale: int) -> slice:
        """Return the place of that part in the upscaled image."""
        return slice(self.keep_start * scale, self.keep_stop * scale)


@dataclass(frozen=True)
class Grid:
    """All tiles of an image: each row combined with each column."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every tile."""
        return self.rows[0].stop, self.columns[0].stop

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def tiles(self, scale: int) -> Iterator[tuple[Window, Window, Window]]:
        """Yield of each tile its LR pixels, the part of the upscaled tile that is kept, and the place of that part."""
        for row, column in itertools.product(self.rows, self.columns):
            lr = slice(row.start, row.stop), slice(column.start, column.stop)
            yield lr, (row.inner(scale), column.inner(scale)), (row.target(scale), column.target(scale))


def grid(height: int, width: int, *, overlap: int, largest: int, side: int | None = None) -> Grid:
    """Return the tiles of an image.

    Args:
        height: Height of the LR image.
        width: Width of the LR image.
        overlap: Pixels on each side of a cut that are computed twice and discarded: the receptive field.
        largest: Most pixels of one tile. The grid with the least to compute within this limit is chosen; if the overlap
            alone exceeds it, the smallest tiles that are worth their overlap.
        side: Most pixels along either axis that a tile contributes (it computes up to 2·overlap more); then `largest`
            is ignored.

    Returns:
        The grid; every LR pixel is kept by exactly one tile.

    Raises:
        SrlibError: `side` is not positive.
    """
    if side is not None:
        if side < 1:
            raise SrlibError(f"tile: expected a side from 1 pixel, got {side}")
        counts = [_count(length, side + 2 * overlap, overlap) for length in (height, width)]
        return Grid(_spans(height, counts[0], overlap), _spans(width, counts[1], overlap))
    candidates: list[tuple[int, int, int]] = []
    for rows in range(1, _most(height, overlap) + 1):
        tile_height = _size(height, rows, overlap)
        columns = _count(width, largest // tile_height, overlap)
        if columns <= _most(width, overlap):
            candidates.append((rows * columns * tile_height * _size(width, columns, overlap), rows, columns))
    _, rows, columns = min(candidates, default=(0, _most(height, overlap), _most(width, overlap)))
    return Grid(_spans(height, rows, overlap), _spans(width, columns, overlap))


def windows(height: int, width: int, *, overlap: int, size: tuple[int, int]) -> Grid:
    """Return tiles of one given size, for a network that takes no other.

    Args:
        height: Height of the LR image, at least that of a tile.
        width: Width of the LR image, at least that of a tile.
        overlap: See `grid`; less than half a tile.
        size: (height, width) of a tile.

    Returns:
        The grid; every LR pixel is kept by exactly one tile.
    """
    rows, columns = (
        _evenly(length, _count(length, side, overlap), side) for length, side in zip((height, width), size, strict=True)
    )
    return Grid(rows, columns)


def _spans(length: int, count: int, overlap: int) -> tuple[Span, ...]:
    """Cut an axis into `count` tiles, whose neighbors share at least 2·overlap pixels."""
    return _evenly(length, count, _size(length, count, overlap))


def _evenly(length: int, count: int, size: int) -> tuple[Span, ...]:
    """Spread `count` tiles of one size evenly; neighbors are separated in the middle of the pixels that they share."""
    starts = [round(index * (length - size) / max(count - 1, 1)) for index in range(count)]
    cuts = [0, *((left + size + right) // 2 for left, right in itertools.pairwise(starts)), length]
    return tuple(Span(start, start + size, *cuts[index : index + 2]) for index, start in enumerate(starts))


def _size(length: int, count: int, overlap: int) -> int:
    """Return the side of each of `count` tiles that cover `length` pixels."""
    return length if count == 1 else math.ceil((length - 2 * overlap) / count) + 2 * overlap


def _count(length: int, size: int, overlap: int) -> int:
    """Return how many tiles of at most `size` cover `length` pixels; more than `length` if none can."""
    if length <= size:
        return 1
    return math.ceil((length - 2 * overlap) / (size - 2 * overlap)) if size > 2 * overlap else length + 1


def _most(length: int, overlap: int) -> int:
    """Return the most tiles along an axis that are worth their overlap: each keeps about half of what it computes."""
    return max(1, (length - 2 * overlap) // max(overlap, _SMALLEST_GAIN))
