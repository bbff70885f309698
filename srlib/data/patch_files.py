"""Files of patches that many workers write at once."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from srlib.errors import SrlibError


@dataclass(frozen=True)
class PatchFiles:
    """Patches, uint8 [count, side, side, 3], in .npy files of `part` patches, written in any order by many workers.

    Attributes:
        path: The first file.
        count: Number of patches.
        side: Their side in pixels.
        part: Patches per file.
        first: Row of the first patch.
    """

    path: Path
    count: int
    side: int
    part: int
    first: int = 0

    def create(self) -> None:
        """Create the files with their full size."""
        for first in range(0, max(self.count, 1), self.part):
            rows = min(self.count - first, self.part)
            file = self.file(first // self.part)
            with _named(file), file.open("xb") as out:
                out.write(self._head(rows))
                out.truncate(out.tell() + rows * self._row_bytes)

    def write(self, row: int, patches: np.ndarray) -> None:
        """Write contiguous patches, uint8 [n, side, side, 3], to the rows from `row`."""
        row -= self.first
        while len(patches):
            number, inside = divmod(row, self.part)
            here = patches[: self.part - inside]
            file, rows = self.file(number), min(self.count - number * self.part, self.part)
            with _named(file), file.open("r+b", buffering=0) as out:
                out.seek(len(self._head(rows)) + inside * self._row_bytes)
                content = here.reshape(-1).data
                while len(content):
                    content = content[out.write(content) :]
            row, patches = row + len(here), patches[len(here) :]

    @property
    def _row_bytes(self) -> int:
        return self.side * self.side * 3

    def file(self, number: int) -> Path:
        """Return the file of this number, from 0."""
        return self.path.with_name(f"{self.path.stem}.{number}.npy") if number else self.path

    def _head(self, rows: int) -> bytes:
        head = io.BytesIO()
        shape = (rows, self.side, self.side, 3)
        np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return head.getvalue()


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    """Turn an OSError into one line that names the file."""
    try:
        yield
    except OSError as error:
        raise SrlibError(f"{file}: cannot be written ({error.strerror})") from error
