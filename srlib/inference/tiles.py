"""Cutting a picture into tiles of one shape, so that memory is bounded and the result is the whole picture's.

A network with zero padding sees zeros beyond the picture's border. Tiles therefore never reach beyond it, and are never
padded: the first begins at the border, the last ends there, and what a tile computes within the overlap of a cut is
thrown away. With an overlap of the receptive field, every pixel kept has seen what it sees in the whole picture.
"""

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path

from srlib.errors import SrlibError


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels of the small picture: what is computed, and what of it is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True)
class Grid:
    """All tiles of a picture: each row with each column."""

    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width that all tiles share."""
        return self.rows[0].stop, self.columns[0].stop

    @property
    def computed(self) -> int:
        """Pixels that go through the network, those of the overlaps counted each time."""
        return len(self) * math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def grid(height: int, width: int, *, overlap: int, largest: int, side: int | None = None) -> Grid:
    """The tiles of a picture of `height` × `width` pixels.

    Args:
        height: Of the small picture.
        width: Of the small picture.
        overlap: Pixels beside a cut that are computed twice and thrown away: the receptive field.
        largest: Most pixels that one tile may have; of the grids that keep to it, the one with the least to compute is
            taken. Where the overlap alone needs more, the smallest tiles that are worth their overlap are taken.
        side: Most pixels along either axis that a tile inside the picture keeps (what it computes is longer by twice
            the overlap); then `largest` is not asked.

    Raises:
        SrlibError: `side` is not positive.
    """
    if side is not None:
        if side < 1:
            raise SrlibError(f"tile: expected a side from 1 pixel, got {side}")
        counts = [_count(length, side + 2 * overlap, overlap) for length in (height, width)]
        return Grid(_spans(height, counts[0], overlap), _spans(width, counts[1], overlap))
    fitting: list[tuple[int, int, int]] = []
    for rows in range(1, _most(height, overlap) + 1):
        high = _size(height, rows, overlap)
        columns = _count(width, largest // high, overlap)
        if columns <= _most(width, overlap):
            fitting.append((rows * columns * high * _size(width, columns, overlap), rows, columns))
    _, rows, columns = min(fitting, default=(0, _most(height, overlap), _most(width, overlap)))
    return Grid(_spans(height, rows, overlap), _spans(width, columns, overlap))


def _spans(length: int, count: int, overlap: int) -> tuple[Span, ...]:
    """Cuts an axis into `count` tiles of one size, spread evenly.

    Two neighbors share 2·overlap pixels or more and are cut apart in the middle of them.
    """
    size = _size(length, count, overlap)
    starts = [round(index * (length - size) / max(count - 1, 1)) for index in range(count)]
    cuts = [0, *((left + size + right) // 2 for left, right in itertools.pairwise(starts)), length]
    return tuple(Span(start, start + size, *cuts[index : index + 2]) for index, start in enumerate(starts))


def _size(length: int, count: int, overlap: int) -> int:
    """The side of each of `count` tiles that cover `length` pixels."""
    return length if count == 1 else math.ceil((length - 2 * overlap) / count) + 2 * overlap


def _count(length: int, size: int, overlap: int) -> int:
    """How many tiles of at most `size` cover `length` pixels; more than there are pixels where none can."""
    if length <= size:
        return 1
    return math.ceil((length - 2 * overlap) / (size - 2 * overlap)) if size > 2 * overlap else length + 1


def _most(length: int, overlap: int) -> int:
    """Most tiles along an axis that are worth their overlap: each keeps about half of it, and at least 16 pixels."""
    return max(1, (length - 2 * overlap) // max(overlap, 16))


def free_memory() -> int | None:
    """Bytes that can be taken without swapping, within the limits of a container; None where nobody tells."""
    free = []
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text(encoding="ascii").splitlines())
        free.append(int(lines["MemAvailable"].split()[0]) * 1024)
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        folder = Path("/sys/fs/cgroup") if limit == "memory.max" else Path("/sys/fs/cgroup/memory")
        with_limit = folder / limit
        if with_limit.exists() and (text := with_limit.read_text().strip()).isdigit():
            free.append(max(0, int(text) - int((folder / used).read_text())))
    if not free and "SC_PHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)  # macOS tells no more than the whole
    return min(free, default=None)
